"""Weights of others: nothing in them is run, and what they claim is not believed."""

import io
import json
import pickle
import struct
import tarfile
import zipfile

import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.models import weights
from flames_cli.learn.models.weights import read_weights
from flames_cli.store.weights import MAX_HEADER_BYTES, read_metadata, read_safetensors
from tests.support.memory import message_with_little_memory

PROTO = b"\x80\x02"


def whole(number):
    """A number, as a pickle has it."""
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def called(name, *arguments):
    """The call of `module\\nname\\n`, as a pickle has it."""
    return b"c" + name + b"(" + b"".join(arguments) + b"tR"


def tensor(numbers, size, stride=1, offset=0, key="0"):
    kept = (text("storage"), b"ctorch\nFloatStorage\n", text(key), text("cpu"), whole(numbers))
    shape = whole(size) + b"\x85" + whole(stride) + b"\x85"
    hooks = called(b"collections\nOrderedDict\n")
    storage = b"(" + b"".join(kept) + b"tQ"
    return called(b"torch._utils\n_rebuild_tensor_v2\n", storage, whole(offset), shape, b"\x89", hooks)


def state(value):
    return PROTO + b"}" + text("w") + value + b"s."


def archive(pickled, folder="archive", data=bytes(40), compression=zipfile.ZIP_STORED):
    """What torch.save writes: a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, part in (
            ("data.pkl", pickled),
            ("byteorder", "little"),
            ("data/0", data),
            ("version", "3\n"),
        ):
            file.writestr(f"{folder}/{name}", part)
    return content.getvalue()


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def old_tar(pickled):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        for name in ("sys_info", "pickle", "../../evil"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickled)
            file.addfile(entry, io.BytesIO(pickled))
    return content.getvalue()


def refusal(path, read=read_weights):
    with pytest.raises(FlamesError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pickle_by_itself_runs_what_it_holds(trap):
    pickle.loads(pickle.dumps(trap))  # noqa: S301 (what the tests below are against)
    assert trap.folder.is_dir()


FORMS = {
    "a pickle": lambda trap: pickle.dumps(trap),
    "an archive": lambda trap: saved({"w": torch.ones(2), "x": trap}),
    "pickles in a row": lambda trap: saved({"x": trap}, _use_new_zipfile_serialization=False),
    "a tar": lambda trap: old_tar(pickle.dumps(trap)),
    "an archive that leads elsewhere": lambda trap: archive(pickle.dumps(trap, 2), folder="../../evil"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_no_weights_file_runs_what_it_holds(form, suffix, trap, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(FORMS[form](trap))
    before = sorted(tmp_path.parent.iterdir())
    assert "cannot read" in refusal(path)
    assert not trap.folder.exists()
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_torch_itself_runs_nothing_either(form, trap, tmp_path, monkeypatch):
    """Where what looks into files before torch does were wrong."""
    monkeypatch.setattr(weights, "check_torch_file", lambda path: None)
    path = tmp_path / "weights.pt"
    path.write_bytes(FORMS[form](trap))
    assert "cannot read" in refusal(path)
    assert not trap.folder.exists()


def test_the_archives_of_these_tests_are_such_as_torch_reads(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(archive(state(tensor(10, 10))))
    assert read_weights(path)["w"].shape == (10,)


CLAIMS = {
    "bytes without end": archive(PROTO + called(b"builtins\nbytearray\n", whole(2**36)) + b"."),
    "as in Python 2": archive(PROTO + called(b"__builtin__\nbytearray\n", whole(2**36)) + b"."),
    "more than is stored": archive(state(tensor(2**60, 2**60))),
    "a shape beyond its storage": archive(state(tensor(10, 2**40))),
    "an offset beyond its storage": archive(state(tensor(10, 10, offset=2**40))),
    "one number as many": archive(state(tensor(10, 2**40, stride=0))),
    "one number as more than can be": archive(state(tensor(10, 2**63 - 1, stride=0))),
    "a storage elsewhere": archive(state(tensor(10, 10, key="../../../../etc/passwd"))),
    "zeros deflated": archive(
        state(tensor(2**22, 2**22)), data=bytes(2**24), compression=zipfile.ZIP_DEFLATED
    ),
    "a pickle without end": archive(PROTO + b"N0" * 2**21 + b"."),
    "another protocol": saved({"w": torch.ones(2)}, pickle_protocol=4),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_of_a_torch_file_are_not_believed(claim, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(CLAIMS[claim])
    told = message_with_little_memory(lambda: read_weights(path))
    assert told.startswith("FlamesError")
    assert "\n" not in told


def test_the_limit_of_these_tests_is_felt():
    assert message_with_little_memory(lambda: bytearray(2**36)).startswith("MemoryError")
    assert message_with_little_memory(lambda: 3) == "read: 3"


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(header, data=bytes(8), length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def about(entry):
    """A file that says `entry` of itself where FLAMES puts order and metadata."""
    return safetensors({"__metadata__": {"flames": entry}, "w": ONE})


@pytest.mark.parametrize(
    "content",
    [
        *(safetensors(b"{}", length=length) for length in (2**60, 2**64 - 1, 10**8, 3)),
        safetensors(b'{"__metadata__":{' + b'"k":"v",' * (MAX_HEADER_BYTES // 8) + b'"k":"v"}}'),
        safetensors(b'{"w":' + b"[" * 100_000 + b"}"),
        safetensors({"w": ONE, "x": ONE}),
        safetensors({"w": {**ONE, "data_offsets": [8, 16]}}, bytes(16)),
        *(safetensors({"w": {**ONE, "shape": shape}}) for shape in ([2**40], [2**32, 2**32], [-1], [1] * 99)),
        safetensors({"w": {**ONE, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b""),
        *(safetensors({"w": {**ONE, "dtype": dtype}}) for dtype in ("F16", "object", "|O", "\x1b[31m\n")),
        safetensors({"__metadata__": {"flames": 5}, "w": ONE}),
        *(about(entry) for entry in ("no json", "5", "[]", "{}", "[" * 100_000)),
        *(
            about(f'{{"order": {order}, "metadata": {{}}}}')
            for order in ("5", '[1, "w"]', "[[]]", '{"w": NaN')
        ),
        *(
            about(f'{{"order": ["w"], "metadata": {data}}}')
            for data in ('{"a": {}}', "[[1, 2]]", '{"a": 1e999}')
        ),
    ],
)
def test_headers_of_safetensors_are_not_believed(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    refusal(path)
    refusal(path, read_safetensors)


def test_metadata_are_texts_or_none(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(about('{"order": ["w"], "metadata": {"a": {}}}'))
    assert "contains more than strings" in refusal(path, read_metadata)
