"""Zip files with one model folder, to give it to others.

A zip file may come from anywhere. Its list of entries is checked before anything is written, and no name in
it becomes a path: the three files are written under known names, to a folder that the caller has chosen.
"""

import re
import stat
import zipfile
import zlib
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import replacing
from flames_cli.store.models import CARD, INFO, MOST_BYTES, WEIGHTS

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, so that the same model gives the same bytes."""

MOST_ENTRIES = 4
"""Largest number of entries: the three files, and a folder around them."""

MOST_DIRECTORY_BYTES = 2**16
"""Largest size of the list of entries."""

MOST_INFLATION = 100
"""Largest ratio of the size of a file to its size in the archive; that of real weights is 1.1."""

_BLOCK = 2**20
_END, _END64_LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _LOCATOR_BYTES = 22, 20
_NAME = re.compile(rf"(?:([^/\\:]{{1,100}})/)?({re.escape(INFO)}|{re.escape(WEIGHTS)}|{re.escape(CARD)})?")
"""A known file, a known file in a folder, or the folder itself."""


def pack_model(folder: Path, target: Path) -> None:
    """Write the files of a model folder to a zip file, atomically; the same files give the same bytes.

    Raises:
        NotWritten: the disk is full.
    """
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (INFO, CARD, WEIGHTS):
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", EARLIEST)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size
            # Deflate takes a minute for the weights of a large model, and saves a tenth of them.
            entry.compress_type = zipfile.ZIP_STORED if name == WEIGHTS else zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, archive.open(entry, "w") as sink:
                while block := source.read(_BLOCK):
                    sink.write(block)


def unpack_model(path: Path, folder: Path) -> None:
    """Write the three files of the model in a zip file to the existing folder `folder`.

    Raises:
        FlamesError: the file is not a zip file of one model folder and nothing else, or is damaged. A part of
            a file may then be in `folder`, which the caller deletes.
        OSError: the files cannot be written.
    """
    try:
        _check_end(path)
        with zipfile.ZipFile(path) as archive:
            for name, entry in _find_files(archive.infolist()).items():
                _copy(archive, entry, folder / name)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError, zlib.error) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FlamesError(
            f"{path} is not a zip file of a model ({reason}), expected {INFO}, {WEIGHTS} and {CARD}; make it "
            "with `flames export --zip`, or ask its author for it again"
        ) from error


def _check_end(path: Path) -> None:
    """Check the last record of the file, before the library reads the list of entries into memory.

    The record must end the file, so that the library finds this record and no other.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _LOCATOR_BYTES - _END_BYTES))
        end = stream.read()[-_LOCATOR_BYTES - _END_BYTES :]
    record = end[-_END_BYTES:]
    if len(record) < _END_BYTES or record[:4] != _END or record[20:] != b"\0\0":
        raise ValueError("it does not end as a zip file without a comment")
    entries = int.from_bytes(record[10:12], "little")
    directory = int.from_bytes(record[12:16], "little")
    if end.startswith(_END64_LOCATOR) or entries > MOST_ENTRIES or directory > MOST_DIRECTORY_BYTES:
        raise ValueError(f"it has more than {MOST_ENTRIES} entries")


def _find_files(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the entry of each of the three files.

    Raises:
        ValueError: one is missing or there twice, there is anything else, or an entry is not a usual file.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for entry in entries:
        matched = _NAME.fullmatch(entry.filename)
        if entry.orig_filename != entry.filename or not matched or not entry.filename.isprintable():
            raise ValueError(f"it contains {entry.orig_filename[:80]!a}")
        around, name = matched.groups()
        if around in (".", ".."):
            raise ValueError(f"it contains {entry.filename!a}")
        folders.add(around)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG if name else stat.S_IFDIR):
            raise ValueError(f"{entry.filename!a} is a link or a device")
        if name in found:
            raise ValueError(f"it contains {name} twice")
        if name:
            _check_entry(entry, MOST_BYTES[name])
            found[name] = entry
        elif entry.file_size:
            raise ValueError(f"the folder {entry.filename!a} has content")
    if entries and entries[0].header_offset:
        raise ValueError("it has content before its first entry")
    if len(folders) > 1:
        raise ValueError("its files are in several folders")
    if missing := [name for name in MOST_BYTES if name not in found]:
        raise ValueError(f"{missing[0]} is missing")
    return found


def _check_entry(entry: zipfile.ZipInfo, most: int) -> None:
    if entry.flag_bits & 0x1:
        raise ValueError(f"{entry.filename} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed by an unusual method")
    if entry.file_size > most:
        raise ValueError(f"{entry.filename} has {entry.file_size} bytes, expected at most {most}")
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise ValueError(f"{entry.filename} has two sizes")
    if entry.file_size > MOST_INFLATION * entry.compress_size:
        raise ValueError(f"{entry.filename} grows more than {MOST_INFLATION} times when it is unpacked")


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Write the content of an entry to a new file. The library ends at the size that the entry states, and
    compares the checksum."""
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as sink:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{entry.filename} is larger than it states")
            sink.write(block)
    if left:
        raise ValueError(f"{entry.filename} is smaller than it states")
