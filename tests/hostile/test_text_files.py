"""Hostile JSON and TOML: whatever they contain, a file is read or rejected in one line."""

import json
import math
from copy import deepcopy

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flames_cli.config import FederateConfig, load_section
from flames_cli.core.federated.reports import LastReport, State
from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.server import read_node_ids
from flames_cli.store.checkpoint import INDEX, SEAL, load_state, save_state
from flames_cli.store.client_state import load_client_state, save_client_state
from flames_cli.store.deployment.folders import Deployment, Site, read_deployment, read_site
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry, read_partition, write_partition
from flames_cli.store.runs import read_config, read_nodes, read_rounds, write_config

SETS = ("train", "val", "test")
CLIENT = ClientEntry(
    *("busi", "busi", "US", "breast", "shards/busi.h5"),
    dict.fromkeys(SETS, 1),
    {name: ["a"] for name in SETS},
)
SERVER = ServerEntry("US", "shards/server-US.h5", {"busi": "breast"}, {"busi": 1}, {"busi": ["b"]})
PARTITION = Partition(3, 64, [CLIENT], [SERVER], options={"split": {"busi": 2}})

DEEP = 100_000
ELSEWHERE = ("../x", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "\\\\host\\x", "x\0", "x\x1b[2J", "..")

ODD = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1.5, math.nan, math.inf, -math.inf, 2**70, "", "\0", "\x1b[31m", [], {}]
    ),
    st.sampled_from(ELSEWHERE),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(content, path=()):
    """Return every place in nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, dict | list) else ():
        yield (*path, key)
        yield from places(value, (*path, key)) if isinstance(value, dict | list) else ()


@st.composite
def changes(draw):
    """Draw (the place, the new value, or that the value is deleted)."""
    return draw(st.integers(0, 10_000)), draw(ODD), draw(st.booleans())


def changed(content, which, value, take_out):
    content = deepcopy(content)
    *above, last = (found := list(places(content)))[which % len(found)]
    target = content
    for key in above:
        target = target[key]
    if take_out:
        del target[last]
    else:
        target[last] = value
    return content


def refused_or_read(read, path):
    """Return what `read` returns; None if it rejects the file in one line."""
    try:
        return read(path)
    except FlamesError as error:
        problem = str(error)
    assert "\n" not in problem
    return None


def checkpoint(folder):
    state = State(2, {"US": {}}, clients={"busi": LastReport("US", 2)})
    return save_state(folder, state, keep=1) / INDEX


def partition_file(folder):
    write_partition(folder / "partition.json", PARTITION)
    return folder / "partition.json"


def memory_file(folder):
    save_client_state(folder, 1, {"control": {}})
    return folder / "round-00001" / "memory.json"


def nodes_file(folder):
    path = folder / "nodes.json"
    path.write_text(json.dumps([{"client": "busi", "shard": "a.h5"}]))
    return path


JSON = {
    "partition": (partition_file, read_partition),
    "checkpoint": (checkpoint, lambda path: load_state(path.parents[1])),
    "memory": (memory_file, lambda path: load_client_state(path.parents[1], 2)),
    "nodes": (nodes_file, read_nodes),
}

SOME = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", JSON)
@SOME
@given(change=changes())
def test_json_with_any_entry_changed_is_read_or_rejected(kind, change, tmp_path):
    write, read = JSON[kind]
    path = write(tmp_path)
    assert refused_or_read(read, path) is not None
    content = json.loads(path.read_text())
    if isinstance(content, dict):
        content.pop(SEAL, None)  # otherwise only the seal would be checked
    path.write_text(json.dumps(changed(content, *change)))
    refused_or_read(read, path)


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize(
    "content", ["[" * DEEP, '{"a":' * DEEP, "9" * 5000, "\x00", '{"a": 1, "a": 2}', "1e999"]
)
def test_senseless_json_is_rejected(kind, content, tmp_path):
    write, read = JSON[kind]
    path = write(tmp_path)
    path.write_text(content)
    assert refused_or_read(read, path) is None


@pytest.mark.parametrize("shard", ELSEWHERE)
def test_a_shard_outside_the_folder_is_rejected(shard, tmp_path):
    path = partition_file(tmp_path)
    content = json.loads(path.read_text())
    for owner in ("clients", "server"):
        moved = deepcopy(content)
        moved[owner][0]["shard"] = shard
        path.write_text(json.dumps(moved))
        with pytest.raises(FlamesError, match="is not a path inside the folder"):
            read_partition(path)


@pytest.mark.parametrize("name", ["../../x.safetensors", "/etc/passwd", "a/b"])
def test_weights_of_a_checkpoint_are_in_its_folder(name, tmp_path):
    path = checkpoint(tmp_path)
    content = json.loads(path.read_text())
    del content[SEAL]
    path.write_text(json.dumps({**content, "server": {"US": name}, "sha256": {name: "0"}}))
    with pytest.raises(FlamesError, match="which is not a file of a checkpoint"):
        load_state(tmp_path)


def test_client_state_is_inside_its_folder(tmp_path):
    path = memory_file(tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "sha256": {"../../x": "0"}}))
    with pytest.raises(FlamesError, match="is not a kind of client state"):
        load_client_state(tmp_path, 2)


def read_federate(path):
    return load_section(FederateConfig, {}, path)


TOML = {
    "deployment.toml": lambda path: read_deployment(path.parent),
    "site.toml": lambda path: read_site(path.parent),
    "config.toml": read_config,
    "flames.toml": read_federate,
}
TABLES = {
    "deployment.toml": {
        "format": "flames-deployment",
        "version": 1,
        "host": "a.org",
        "port": 9,
        "sites": ["a"],
    },
    "site.toml": {"format": "flames-site", "version": 1, "name": "a", "superlink": "a.org:9092"},
    "config.toml": {"format": "flames-run", "version": 3, "run": {"size": 64}, "federate": {"rounds": 2}},
    "flames.toml": {"seed": 1, "federate": {"rounds": 2, "lr_by_modality": {"US": 0.1}}},
}


@pytest.mark.parametrize("name", TOML)
@SOME
@given(change=changes())
def test_toml_with_any_entry_changed_is_read_or_rejected(name, change, tmp_path):
    path = tmp_path / name
    path.write_text(tomli_w.dumps(TABLES[name]), encoding="utf-8")
    assert refused_or_read(TOML[name], path) is not None
    table = changed(TABLES[name], *change)
    if change[1] is not None:  # TOML has no null
        path.write_text(tomli_w.dumps(table), encoding="utf-8")
        refused_or_read(TOML[name], path)


@pytest.mark.parametrize("name", TOML)
@pytest.mark.parametrize(
    "content", ["a=" + "[" * DEEP, "a=" + "{a=" * DEEP, "\x00", "a=1\na=2", "a=" + "9" * 5000]
)
def test_senseless_toml_is_rejected(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert refused_or_read(TOML[name], tmp_path / name) is None


@pytest.mark.parametrize(
    "name", ["../../x", "/etc", "a/b", "..", ".a", "a\nb", "a\0", "\x1b[31m", "", "a" * 64]
)
def test_a_site_cannot_be_called_as_a_path(name, tmp_path):
    for file, changes_ in (("site.toml", {"name": name}), ("deployment.toml", {"sites": ["b", name]})):
        (tmp_path / file).write_text(tomli_w.dumps({**TABLES[file], **changes_}), encoding="utf-8")
        with pytest.raises(FlamesError, match="cannot name a site"):
            TOML[file](tmp_path / file)


def test_the_names_of_these_tests_would_lead_elsewhere(tmp_path):
    deployment = Deployment(tmp_path / "deployment", "a.org", 9, ())
    assert not deployment.site("../../x").path.resolve().is_relative_to(deployment.path)
    assert Site(tmp_path, "a", "a.org:9").client_state.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * DEEP, "[]", '{"a": 1e999}', '{"a": "x"}', '{"a": NaN}', "5", '{"a": []}']
)
def test_invalid_node_ids_are_rejected(content, tmp_path):
    deployment = Deployment(tmp_path, "a.org", 9, ("a",))
    deployment.nodes.parent.mkdir()
    deployment.nodes.write_text(content)
    with pytest.raises(FlamesError, match="cannot be read"):
        read_node_ids(deployment)


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"round": "2"}', "[" * DEEP, '{"round": NaN}', "\udcff"])
def test_a_damaged_line_is_passed_over(line, tmp_path):
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(f'{{"round": 1}}\n{line}\n{{"round": 3}}\n'.encode(errors="surrogateescape"))
    assert read_rounds(path) == [{"round": 1}, {"round": 3}]


def test_a_runs_tables_are_tables(tmp_path):
    write_config(tmp_path / "config.toml", {"run": {"size": 64}})
    text = (tmp_path / "config.toml").read_text().replace("[run]", 'federate = "x"\n[run]')
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(FlamesError, match="its entries are not tables"):
        read_config(tmp_path / "config.toml")
