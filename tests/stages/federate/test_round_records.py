"""docs/format.md describes every field of rounds.jsonl; compared with the lines of real runs."""

import re
from pathlib import Path

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.core.imaging.small_lesion_rule import parse_small_lesion_rule
from flames_cli.fed import report_reading
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from flames_cli.store.runs import read_rounds
from tests.support.datasets import write_noise
from tests.support.stages import federate_config

PAGE = Path(__file__).parents[3] / "docs" / "format.md"
TYPES = {"integer": int, "number": int | float, "text": str, "list": list, "object": dict}
OF_OTHER_RUNS = ("with `--engine swarm`", "with `--secure-aggregation`", "with `--asynchronous`")
OF_REJECTED = {"client", "modality", "seconds", "rejection_reason"}


def described():
    """Return {field: (type, when)} of a line, and of a client in it."""
    section = PAGE.read_text("utf-8").split("## `runs/<run>/rounds.jsonl`\n")[1].split("\n## ")[0]
    tables = re.findall(r"^\| field .*\n\|[-|]+\n((?:\|.*\n)+)", section, re.M)
    assert len(tables) == 2
    found = []
    for table in tables:
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        found.append({})
        for names, kind, _, when, _ in cells:
            found[-1] |= dict.fromkeys(re.findall(r"`(\w+)`", names), (kind, when))
    return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The lines of an adaptive run with a rejected report and small lesions, and of a private run."""
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")
    root = tmp_path_factory.mktemp("workspace")
    members = {
        "client_train": [(f"p{number}", f"p{number}", 1) for number in range(12)],
        "client_val": [],
        "client_test": [(f"t{number}", f"t{number}", 1) for number in range(2)],
        "server_test": [("s0", "s0", 1)],
    }
    info = SetInfo("brats", "MRI", "brain", 32, 4095, small=parse_small_lesion_rule("area:2"))
    write_noise(root / "preprocessed" / "brats.h5", members, info)
    partition(PartitionConfig(workspace=root, split={"brats": 2}))
    fault, asked = report_reading.validation_fault, []

    def reject_once(metrics, profile):
        asked.append(profile.client)
        return "its Dice is 7" if asked == ["brats-1", "brats-2"] else fault(metrics, profile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_reading, "validation_fault", reject_once)
        adaptive = federate(federate_config(root, run="a", rounds=3, strategy="flames-adaptive"))
    private = {"strategy": "fedavg-modality", "dp_noise": 0.8, "dp_clip": 0.05}
    noisy = federate(federate_config(root, run="b", rounds=1, **private))
    return {one.run: read_rounds(one.folder / "rounds.jsonl") for one in (adaptive, noisy)}


pytestmark = pytest.mark.federated


def test_the_page_has_every_field_of_a_line_and_no_other(lines):
    fields, _ = described()
    found = {name for run in lines.values() for line in run for name in line}
    assert found == {name for name, (_, when) in fields.items() if when not in OF_OTHER_RUNS}


def test_the_page_has_every_field_of_a_client_and_no_other(lines):
    _, fields = described()
    clients = [client for run in lines.values() for line in run for client in line["clients"]]
    usual = {name for name, (_, when) in fields.items() if when not in OF_OTHER_RUNS}
    assert {name for client in clients for name in client} == usual
    (rejected,) = [client for client in clients if "rejection_reason" in client]
    assert set(rejected) == OF_REJECTED
    assert [*fields][: len(OF_REJECTED)] == [*rejected]


def test_values_have_the_types_of_the_page(lines):
    of_line, of_client = described()
    for line in (line for run in lines.values() for line in run):
        for entries, fields in ((line, of_line), *((client, of_client) for client in line["clients"])):
            for name, value in entries.items():
                assert isinstance(value, TYPES[fields[name][0]]), name
                assert not isinstance(value, bool)


def test_what_is_always_there_is_in_every_line(lines):
    of_line, of_client = described()
    for line in (line for run in lines.values() for line in run):
        assert {name for name, (_, when) in of_line.items() if when == "always"} <= set(line)
        for client in line["clients"]:
            if "rejection_reason" not in client:
                assert {name for name, (_, when) in of_client.items() if when == "always"} <= set(client)


def test_fields_of_privacy_are_those_of_private_runs_only(lines):
    of_line, of_client = described()
    private = {name for name, (_, when) in of_line.items() if when == "with `--dp-noise`"}
    assert private == {"epsilon", "delta", "accountant"} <= set(lines["b"][0])
    assert not private & set(lines["a"][0])
    hidden = {name for name, (_, when) in of_client.items() if when.startswith("without `--dp-noise`")}
    assert hidden == {"update_norm"}
    assert not [client for client in lines["b"][0]["clients"] if hidden & set(client)]
