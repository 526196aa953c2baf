"""Hostile models: nothing of them is executed, and nothing is written but a checked model in `models/`."""

import io
import os
import pickle
import stat
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.stages.models.adding import add_model
from flames_cli.store.models import INFO as DESCRIPTION
from flames_cli.store.models import MOST_BYTES, read_model, write_model
from flames_cli.store.weights import write_safetensors
from tests.support.memory import message_with_little_memory
from tests.support.model_folders import INFO, files_of, make_folder, make_zip, tiny_weights, zip_entry


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "source" / "tiny")


@pytest.fixture
def files(folder):
    return files_of(folder)


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "place" / "workspace"


def everything(path):
    return {found.relative_to(path): found.lstat().st_mtime_ns for found in path.rglob("*")}


def rejection(workspace, source, **options):
    """Return the message with which a model is rejected, after a check that nothing was written."""
    above = workspace.parent.parent
    before = everything(above)
    with pytest.raises(FlamesError) as caught:
        add_model(workspace, source, **options)
    assert not (workspace / "models").exists() or not [
        path for path in (workspace / "models").iterdir() if not path.name.endswith(".lock")
    ]
    left = {path for path in everything(above) if path not in before}
    assert {path for path in left if path.suffix != ".lock"} <= {
        workspace.relative_to(above),
        workspace.parent.relative_to(above),
        (workspace / "models").relative_to(above),
    }
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_entry(files, name, content=b"x", mode=None):
    """Return a function that writes the files and one more entry to a zip file."""

    def write(path):
        make_zip(path, files)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zip_entry(name, mode) if mode else name, content)
        return path

    return write


def test_the_files_of_these_tests_are_a_model(files, workspace, tmp_path):
    added = add_model(workspace, make_zip(tmp_path / "m.zip", files))
    assert read_model(added.folder)[0] == added.info
    assert {path.name for path in added.folder.iterdir()} == {*MOST_BYTES}


NAMES = {
    "an absolute path": "/tmp/evil",
    "a path upwards": "../evil",
    "a path upwards behind a folder": "tiny/../../evil",
    "a path of Windows": "C:\\evil.dll",
    "a path upwards of Windows": "..\\..\\evil",
    "a share of Windows": "\\\\server\\evil",
    "a drive": "C:model.toml",
    "another file": "run.py",
    "a pickle": "weights.pkl",
    "a model of torch": "weights.pth",
    "a zip": "more.zip",
    "a known name in capitals": "MODEL.TOML",
    "a known name with a dot": "model.toml.",
    "a known name with a space": "model.toml ",
    "a known name deeper": "a/b/model.toml",
    "a known name upwards": "../model.toml",
    "a known name here": "./README.md",
    "a folder upwards": "../",
    "a hidden file": ".bashrc",
    "control characters": "\x1b[2Jmodel.toml",
    "a line end": "model.toml\n",
    "a direction of text": "\u202emodel.toml",
    "no name": "/",
    "an alternative stream": "model.toml:evil",
}


@pytest.mark.parametrize("kind", NAMES)
def test_an_entry_of_another_name_is_rejected(kind, files, workspace, tmp_path):
    source = with_entry(files, NAMES[kind])(tmp_path / "m.zip")
    assert "is not a zip file of a model (it contains" in rejection(workspace, source)


@pytest.mark.parametrize("name", ["../tiny/", "/", "C:/", "..\\tiny/", "\x07/", "./"])
def test_a_folder_that_leads_elsewhere_is_rejected(name, folder, workspace, tmp_path):
    source = make_zip(tmp_path / "m.zip", files_of(folder, name))
    assert "is not a zip file of a model (" in rejection(workspace, source)


def test_a_name_that_ends_at_a_zero_byte_is_rejected(files, workspace, tmp_path):
    path = make_zip(tmp_path / "m.zip", {**files, "model.tomlX.exe": b"evil"})
    path.write_bytes(path.read_bytes().replace(b"model.tomlX.exe", b"model.toml\0.exe"))
    assert "it contains" in rejection(workspace, path)


MODES = {
    "a symbolic link": stat.S_IFLNK | 0o777,
    "a device": stat.S_IFCHR | 0o666,
    "a disk": stat.S_IFBLK | 0o666,
    "a pipe": stat.S_IFIFO | 0o666,
    "a socket": stat.S_IFSOCK | 0o666,
    "a folder": stat.S_IFDIR | 0o777,
}


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", ["weights.safetensors", "model.toml", "README.md"])
def test_links_and_devices_are_rejected(kind, name, files, workspace, tmp_path):
    rest = {one: content for one, content in files.items() if one != name}
    source = with_entry(rest, name, b"/etc/passwd", MODES[kind])(tmp_path / "m.zip")
    assert "is a link or a device" in rejection(workspace, source)


def test_a_folder_entry_that_is_a_link_is_rejected(folder, workspace, tmp_path):
    source = with_entry(files_of(folder, "tiny/"), "tiny/", b"/etc", stat.S_IFLNK | 0o777)(tmp_path / "m.zip")
    assert "is a link or a device" in rejection(workspace, source)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["model.toml", "weights.safetensors", "README.md"])
def test_a_file_that_is_there_twice_is_rejected(name, files, workspace, tmp_path):
    source = with_entry(files, name)(tmp_path / "m.zip")
    assert f"it contains {name} twice" in rejection(workspace, source)


def test_a_file_in_two_folders_is_rejected(folder, workspace, tmp_path):
    mixed = {**files_of(folder, "a/"), "b/README.md": b"x"}
    mixed.pop("a/README.md")
    assert "its files are in several folders" in rejection(workspace, make_zip(tmp_path / "m.zip", mixed))


@pytest.mark.parametrize("name", ["model.toml", "weights.safetensors", "README.md"])
def test_a_missing_file_is_named(name, files, workspace, tmp_path):
    files.pop(name)
    assert f"({name} is missing)" in rejection(workspace, make_zip(tmp_path / "m.zip", files))


def test_many_entries_are_not_even_listed(files, workspace, tmp_path):
    path = make_zip(tmp_path / "m.zip", {f"{number}": b"" for number in range(60_000)})
    said = message_with_little_memory(lambda: add_model(workspace, path), more=2**26)
    assert "it has more than 4 entries" in said


def zip64_end(path):
    """Claim 2**40 entries in the records of a large archive."""
    content = path.read_bytes()
    end = content[-22:]
    size = struct.unpack("<L", end[12:16])[0]
    start = struct.unpack("<L", end[16:20])[0]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**40, 2**40, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(content) - 22, 1)
    path.write_bytes(content[:-22] + record + locator + end)
    return path


ENDS = {
    "a record of a large archive": zip64_end,
    "a comment": lambda path: path.write_bytes(path.read_bytes()[:-2] + b"\x05\0hello"),
    "something behind it": lambda path: path.write_bytes(path.read_bytes() + b"PK\5\6" + bytes(18) + b"x"),
    "a list of 4 GB": lambda path: path.write_bytes(
        path.read_bytes()[:-10] + b"\xff\xff\xff\xff" + path.read_bytes()[-6:]
    ),
    "something before it": lambda path: path.write_bytes(b"MZ" + path.read_bytes()),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "nothing": lambda path: path.write_bytes(b""),
    "a few bytes": lambda path: path.write_bytes(b"PK\5\6"),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "zeros": lambda path: path.write_bytes(bytes(2000)),
}


@pytest.mark.parametrize("kind", ENDS)
def test_an_archive_with_an_odd_end_is_rejected(kind, files, workspace, tmp_path):
    path = make_zip(tmp_path / "m.zip", files)
    ENDS[kind](path)
    assert "is not a zip file of a model (" in rejection(workspace, path)


def test_a_file_that_grows_too_much_is_rejected(files, workspace, tmp_path):
    bomb = {**files, "README.md": b" " * 2**20}
    source = make_zip(tmp_path / "m.zip", bomb, zipfile.ZIP_DEFLATED)
    assert "grows more than 100 times" in rejection(workspace, source)


@pytest.mark.parametrize("name", ["model.toml", "README.md"])
def test_a_text_of_megabytes_is_rejected(name, files, workspace, tmp_path):
    files[name] = b"x" * (MOST_BYTES[name] + 1)
    assert f"{name} has {MOST_BYTES[name] + 1} bytes" in rejection(
        workspace, make_zip(tmp_path / "m.zip", files)
    )


def changed_entry(path, name, offset, value):
    """Change four bytes of an entry in the list at the end."""
    content = bytearray(path.read_bytes())
    place = content.rindex(name.encode()) - 46 + offset
    content[place : place + len(value)] = value
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (24, struct.pack("<L", 2**31)),  # size
        (20, struct.pack("<L", 2**31)),  # size in the archive
        (16, bytes(4)),  # checksum
        (42, struct.pack("<L", 2**30)),  # place
        (8, b"\1\0"),  # encrypted
        (10, b"\x0e\0"),  # LZMA
        (10, b"\x63\0"),  # no method at all
    ],
)
def test_an_entry_that_states_what_is_not_true_is_rejected(offset, value, files, workspace, tmp_path):
    path = changed_entry(make_zip(tmp_path / "m.zip", files), "weights.safetensors", offset, value)
    said = message_with_little_memory(lambda: add_model(workspace, path))
    assert said.startswith("FlamesError")
    assert "is not a zip file of a model (" in rejection(workspace, path)


def test_every_flipped_byte_is_rejected_or_harmless(files, workspace, tmp_path):
    path = make_zip(tmp_path / "m.zip", files)
    content = path.read_bytes()
    good = add_model(workspace, path).folder
    expected = files_of(good)
    for place in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with suppress(FlamesError):
            add_model(workspace, path)
        assert files_of(good) == expected
        assert [path.name for path in (workspace / "models").glob("[!.]*")] == ["tiny"]


WEIGHTS = {
    "a pickle": lambda trap: pickle.dumps(trap),
    "a file of torch": lambda trap: saved({"w": torch.ones(2), "x": trap}),
    "a zip": lambda trap: zipped(trap),
    "a huge header": lambda trap: struct.pack("<Q", 2**40) + b"{}",
    "a header of spaces": lambda trap: struct.pack("<Q", 2**21) + b" " * 2**21,
    "a huge array": lambda trap: header('{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}'),
    "arrays on each other": lambda trap: header(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ),
    "deep nesting": lambda trap: header('{"a":' * 10_000 + "1" + "}" * 10_000),
    "nothing": lambda trap: b"",
}


def header(text):
    return struct.pack("<Q", len(text)) + text.encode() + bytes(4)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped(trap):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(trap))
    return file.getvalue()


def with_checksum(files):
    """Return the files with the checksum of their weights."""
    import hashlib

    old = next(line for line in files["model.toml"].splitlines() if line.startswith(b"sha256"))
    new = f'sha256 = "{hashlib.sha256(files["weights.safetensors"]).hexdigest()}"'.encode()
    return {**files, "model.toml": files["model.toml"].replace(old, new)}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_anything_else_are_rejected_and_not_executed(kind, files, trap, workspace, tmp_path):
    files["weights.safetensors"] = WEIGHTS[kind](trap)
    path = make_zip(tmp_path / "m.zip", with_checksum(files))
    said = message_with_little_memory(lambda: add_model(workspace, path))
    assert "cannot read" in said
    assert "cannot read" in rejection(workspace, path)
    assert not trap.folder.exists()


def test_other_weights_than_those_described_are_rejected(files, workspace, tmp_path):
    files["weights.safetensors"] = files["weights.safetensors"][:-1] + b"\x01"
    assert "its checksum differs" in rejection(workspace, make_zip(tmp_path / "m.zip", files))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_rejected(value, workspace, tmp_path):
    weights = tiny_weights()
    weights["head.weight"] = np.full_like(weights["head.weight"], value)
    source = make_folder(tmp_path / "m", weights)
    assert "'head.weight' contains values that are not finite" in rejection(workspace, source)


def test_a_negative_variance_is_rejected(workspace, tmp_path):
    weights = tiny_weights()
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name] = weights[name] - 2
    assert "contains a negative variance" in rejection(workspace, make_folder(tmp_path / "m", weights))


@pytest.mark.parametrize(
    "options",
    [
        {"base_channels": 4096, "depth": 0},
        {"base_channels": 2048, "depth": 1},
        {"base_channels": 1, "depth": 10},
        {"base_channels": 10**15, "depth": 1},
        {"base_channels": -1, "depth": 1},
        {"base_channels": 2, "depth": 10**9},
        {"base_channels": "2", "depth": 1},
        {"base_channels": 2, "depth": 1, "in_channels": 10**9},
        {"base_channels": 2, "depth": 1, "dropout": 7.0},
        {"base_channels": 2, "depth": 1, "encoder_weights": "/etc/passwd"},
        {"base_channels": 2, "depth": 1, "seed": 1},
        {"base_channels": 2, "depth": 1, "norm": "batch"},
        {"base_channels": 2, "depth": 1, "encoder_weights": "imagenet"},
        {"base_channels": 2, "depth": 2},
    ],
)
def test_an_architecture_that_the_weights_do_not_have_takes_no_memory(options, workspace, tmp_path):
    architecture = replace(INFO.architecture, options=options)
    source = make_folder(tmp_path / "m", architecture=architecture)
    said = message_with_little_memory(lambda: add_model(workspace, source))
    assert said.startswith("FlamesError")
    rejection(workspace, source)


@pytest.mark.parametrize(
    ("model", "norm"),
    [
        ("densenet-unet", "batch"),
        ("sd-utnet", "batch"),
        ("os.system", "batch"),
        ("unet", "odd"),
        ("unet", "group"),
    ],
)
def test_an_architecture_that_is_another_is_rejected(model, norm, workspace, tmp_path):
    architecture = replace(INFO.architecture, model=model, norm=norm, options={"in_channels": 1})
    rejection(workspace, make_folder(tmp_path / "m", architecture=architecture))


ONE_CLIENT = '{client="a",modality="b",organ="c",patients=1,images=1},'

DESCRIPTIONS = {
    "not TOML": ('name = "tiny"', "name = "),
    "another format": ('format = "flames-model"', 'format = "other"'),
    "another version": ("version = 1", "version = 2"),
    "a threshold that is no number": ("threshold = 0.5", "threshold = nan"),
    "a threshold of 0": ("threshold = 0.5", "threshold = 0.0"),
    "an infinite Dice": ("dice = 0.5", "dice = inf"),
    "a negative Dice": ("dice = 0.5", "dice = -0.5"),
    "a huge size": ("size = 32", "size = 1000000"),
    "a size beyond numbers": ("size = 32", f"size = {10**30}"),
    "a size as text": ("size = 32", 'size = "32"'),
    "channels": ("channels = 1\n", "channels = 4\n"),
    "a plane": ('plane = "axial"', 'plane = "oblique"'),
    "a percentile": ("percentile = 95.0", "percentile = 950.0"),
    "control characters": ('modality = "MRI"', 'modality = "\\u001b[2J"'),
    "a long text": ('modality = "MRI"', f'modality = "{"M" * 2000}"'),
    "a negative count": ("patients = 3,", "patients = -3,"),
    "a negative round": ("round = 2", "round = -2"),
    "deep nesting": ('licence = ""', "licence = " + "[" * 5000 + "]" * 5000),
    "a key of many parts": ('licence = ""', "x" + ".x" * 20_000 + " = 1"),
    "tables of many parts": ('licence = ""', "[x" + ".x" * 20_000 + "]"),
    "an inner key of many parts": ('licence = ""', "x = {" + "x." * 20_000 + "x = 1}"),
    "no weights": ("sha256", "sha257"),
    "many clients": (
        "clients = [",
        "clients = [" + '{client="a",modality="b",organ="c",patients=1,images=1},' * 2001,
    ),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_with_an_impossible_entry_is_rejected(kind, folder, workspace):
    old, new = DESCRIPTIONS[kind]
    path = folder / DESCRIPTION
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    said = message_with_little_memory(lambda: add_model(workspace, folder), more=2**28)
    assert said.startswith("FlamesError")
    rejection(workspace, folder)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/b", "a\\b", ".hidden", "", "x" * 65, "CON:", "a b", "\u0430", "~", "-rf"]
)
def test_a_name_that_is_not_one_of_a_folder_is_rejected(name, workspace, tmp_path):
    source = make_folder(tmp_path / "m", name=name)
    assert "expected a name of at most 64 letters" in rejection(workspace, source)
    assert add_model(workspace, source, "safe").folder == workspace / "models" / "safe"
    with pytest.raises(FlamesError, match="pass such a --name"):
        add_model(workspace, make_folder(tmp_path / "n"), name or "..")


KINDS = {
    "a link": lambda path, target: path.symlink_to(target),
    "a pipe": lambda path, target: os.mkfifo(path),
    "a folder": lambda path, target: path.mkdir(),
    "nothing": lambda path, target: None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.toml", "weights.safetensors", "README.md"])
def test_a_folder_with_other_than_usual_files_is_rejected(kind, name, folder, workspace, tmp_path):
    (folder / name).rename(tmp_path / "moved")
    KINDS[kind](folder / name, tmp_path / "moved")
    rejection(workspace, folder)


def test_other_files_of_a_folder_are_not_copied(folder, trap, workspace):
    (folder / "evil.pkl").write_bytes(pickle.dumps(trap))
    added = add_model(workspace, folder)
    assert {path.name for path in added.folder.iterdir()} == {*MOST_BYTES}
    assert not trap.folder.exists()


def test_a_model_does_not_replace_another_one_of_its_name(folder, workspace, tmp_path):
    added = add_model(workspace, folder)
    before = files_of(added.folder)
    other = make_folder(tmp_path / "other", threshold=0.1)
    with pytest.raises(FlamesError, match=r"exists already and is another model; pass --name"):
        add_model(workspace, other)
    assert files_of(added.folder) == before
    assert not add_model(workspace, folder).is_new


def test_a_link_in_place_of_the_model_s_folder_is_not_followed(folder, workspace, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (workspace / "models").mkdir(parents=True)
    (workspace / "models" / "tiny").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FlamesError, match="exists already"):
        add_model(workspace, folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_card_cannot_control_a_terminal(workspace, tmp_path):
    added = add_model(workspace, make_folder(tmp_path / "m", card="# tiny\x1b[2J\u202e\nline\ttwo\n"))
    assert (added.folder / "README.md").read_text() == "# tiny?[2J?\nline\ttwo\n"


def test_a_card_that_is_not_text_is_read(folder, workspace):
    (folder / "README.md").write_bytes(b"\xff\xfe\x00tiny")
    assert "tiny" in (add_model(workspace, folder).folder / "README.md").read_text()


def test_entries_that_are_not_known_do_not_get_into_the_workspace(folder, workspace):
    path = folder / DESCRIPTION
    path.write_text('evil = "rm -rf"\n' + path.read_text())
    assert "evil" not in (add_model(workspace, folder).folder / DESCRIPTION).read_text()


def test_metadata_of_the_weights_does_not_get_into_the_workspace(workspace, tmp_path):
    folder = make_folder(tmp_path / "m")
    write_safetensors(folder / "weights.safetensors", tiny_weights(), {"evil": "rm -rf"})
    files = with_checksum(files_of(folder))
    source = make_zip(tmp_path / "m.zip", files)
    assert b"rm -rf" not in (add_model(workspace, source).folder / "weights.safetensors").read_bytes()


def test_a_disk_that_is_full_leaves_no_part(folder, workspace, monkeypatch):
    def full(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr("flames_cli.store.models.write_safetensors", full)
    assert "cannot be written" in rejection(workspace, folder)


def test_a_model_of_double_precision_is_read(workspace, tmp_path):
    weights = {name: array.astype(np.float64) for name, array in tiny_weights().items()}
    write_model(tmp_path / "m", INFO, weights, "")
    assert add_model(workspace, tmp_path / "m").is_new
