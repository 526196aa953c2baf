"""Reading of all sources of a data set with a cache, which `check` and `preprocess` share.

A source is read again only if the content of its files, an option of reading, or the code changed. Its key is
the SHA-256 of all of these. So that unchanged files need not even be hashed, the state of each file (size,
times, inode) is stored with its hash, provided that the last change was long enough ago: a file that is
written twice within the resolution of its file system's clock has one state and two contents.
"""

import hashlib
import json
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache, partial
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.core.allocator import keep_freed_memory
from flames_cli.plugins import code_digest
from flames_cli.readers import READERS
from flames_cli.readers.base import Reader, Source
from flames_cli.readers.source_files import files_of
from flames_cli.stages.check.inspection import Inspected, Pictures
from flames_cli.stages.one_pass import Found, Part, Reading, read_once
from flames_cli.stages.parallel import ordered_map
from flames_cli.stages.preprocess.decoding import Decoded, with_source
from flames_cli.store.cache import Cache, FileState, KnownFile
from flames_cli.store.files.hashes import hash_file

SETTLED_SECONDS = 10.0
"""Time since a file's last change from which its state shows its content; FAT counts in steps of 2 s."""

KNOWS_CHANGES = sys.platform != "win32"
"""True if a file's state has the time of its last change, which no program can set; Windows has none."""

SMALL_BYTES = 2**20
"""Size up to which a file is hashed from memory, which takes half of the time."""

LOOKERS = 8
"""Number of threads that look at the states of files, which takes long on a network disk."""

CODE = (
    *("arrays.py", "core", "plugins", "readers", "stages/check", "stages/preprocess", "stages/one_pass.py"),
    *("stages/acceptance.py", "stages/raw.py", "store/cases.py", "store/cache_entries.py"),
)
"""Files and folders of the package that decide what a source gives."""

PACKAGES = (
    *("numpy", "scipy", "isal", "nibabel", "pillow", "simplejpeg", "pydicom", "highdicom"),
    *("opencv-python-headless", "opencv-python", "opencv-contrib-python", "python-gdcm", "pyjpegls"),
    *("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
)
"""Packages that decode files or compute with pixels; pydicom uses any of the last ones."""


def inspect_sources(
    reading: Reading, sources: Sequence[Source], hash_slices: bool, cache: Cache | None, workers: int
) -> Iterator[tuple[Inspected, Pictures]]:
    """Return the figures of every source, in order.

    A source that is not in the cache is read once, and its cases for `preprocess` are stored, too.
    """
    part: Part = "figures-hashed" if hash_slices else "figures"
    return _read_all(_Task(reading, part, cache, also=("cases",)), sources, workers)


def decode_sources(
    reading: Reading, sources: Sequence[Source], cache: Cache | None, workers: int
) -> Iterator[Decoded]:
    """Return the encoded cases of every source, in order."""
    return _read_all(_Task(reading, "cases", cache), sources, workers)


_FACTS = tuple(one.name for one in fields(Source))


@dataclass(frozen=True, slots=True)
class _Task:
    reading: Reading
    part: Part
    cache: Cache | None
    also: tuple[Part, ...] = ()
    """Further parts to store when a source is read."""
    choices: str = ""
    """Digest of the options and of all code that decide what a source gives."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any
    key: str = ""
    files: tuple[KnownFile, ...] = ()
    """Its files, if their states show their contents."""


KINDS: dict[Part, Any] = {
    "figures": tuple[Inspected, Pictures],
    "figures-hashed": tuple[Inspected, Pictures],
    "cases": Decoded,
}
"""Types of the parts."""


def _read_all(task: _Task, sources: Sequence[Source], workers: int) -> Iterator[Any]:
    keep_freed_memory()
    cache, started_s = task.cache, time.time()
    if cache is None:
        for outcome in ordered_map(partial(_read_anew, task), sources, workers):
            yield outcome.value
        return
    task = replace(task, choices=_digest_choices(task.reading))
    earlier = cache.load_files()
    keys = _find_unchanged(task, sources, earlier)
    others = [source for source, key in zip(sources, keys, strict=True) if not key]
    fresh = ordered_map(partial(_read, task), others, workers)
    used: set[str] = set()
    files: dict[str, tuple[KnownFile, ...]] = {}
    is_complete = False
    try:
        for source, key in zip(sources, keys, strict=True):
            outcome = _load(task, source, key, earlier[source.name]) if key else next(fresh)
            used.add(outcome.key)
            if outcome.files:
                files[source.name] = outcome.files
            yield outcome.value
        is_complete = True
    finally:
        cache.save_files(files if is_complete else {**earlier, **files})
    cache.sweep(used, started_s)


def _find_unchanged(
    task: _Task, sources: Sequence[Source], earlier: Mapping[str, tuple[KnownFile, ...]]
) -> list[str]:
    """Return the key of every source whose files are unchanged and which has an entry; else empty."""
    if not earlier:
        return [""] * len(sources)
    with ThreadPoolExecutor(LOOKERS) as pool:
        return list(pool.map(lambda source: _key_if_unchanged(task, source, earlier), sources))


def _key_if_unchanged(task: _Task, source: Source, earlier: Mapping[str, tuple[KnownFile, ...]]) -> str:
    known = earlier.get(source.name, ())
    if not known or _states_of(source) != [one.state for one in known]:
        return ""
    key = _key_of(task, source, known)
    return key if task.cache and task.cache.has(key, task.part) else ""


def _load(task: _Task, source: Source, key: str, known: tuple[KnownFile, ...]) -> _Outcome:
    """Return the entry of an unchanged source, or read it if the entry is damaged."""
    value = task.cache.load(KINDS[task.part], key, task.part) if task.cache else None
    return _read(task, source) if value is None else _Outcome(_with_source(value, source), key, known)


def _read(task: _Task, source: Source) -> _Outcome:
    """Return what the cache has for the contents of the source's files; else read and store it."""
    known = _hash_files(source)
    if not known or task.cache is None:
        return _read_anew(task, source)
    files, is_settled = known
    key = _key_of(task, source, files)
    shown = files if is_settled else ()
    if (value := task.cache.load(KINDS[task.part], key, task.part)) is not None:
        return _Outcome(_with_source(value, source), key, shown)
    wanted = [task.part, *(one for one in task.also if not task.cache.has(key, one))]
    found = read_once(task.reading, _as_read(task.reading.reader, source), wanted)
    if found.is_lasting and _are_unchanged(source, files, is_settled):
        for part in wanted:
            task.cache.save(key, part, _part_of(found, part))
    return _Outcome(_with_source(_part_of(found, task.part), source), key, shown)


def _read_anew(task: _Task, source: Source) -> _Outcome:
    found = read_once(task.reading, _as_read(task.reading.reader, source), [task.part])
    return _Outcome(_with_source(_part_of(found, task.part), source))


def _part_of(found: Found, part: Part) -> Any:
    return found.cases if part == "cases" else found.figures


def _with_source(value: Any, source: Source) -> Any:
    if isinstance(value, Decoded):
        return with_source(value, source)
    inspected, pictures = value
    return replace(inspected, source=source), pictures


def _as_read(reader: Reader, source: Source) -> Source:
    """Return `source` without what its files do not show and no reader needs, such as the kept columns.

    So a corrected column of a manifest does not cost a reading, and no reader can use what is not in the key.
    """
    plain = replace(source, stratum="", organ="", fixed_set="", place_in_series=None, extra=())
    return replace(plain, patient="", site="") if reader.list_table else plain


def _hash_files(source: Source) -> tuple[tuple[KnownFile, ...], bool] | None:
    """Return the files of `source` with their hashes, and whether their states show their contents; None if
    one cannot be read."""
    states, now_s = _states_of(source), time.time()
    if not states:
        return None
    try:
        files = tuple(KnownFile(state, _hash(state)) for state in states)
    except OSError:
        return None
    is_settled = KNOWS_CHANGES and all(state.changed_s < now_s - SETTLED_SECONDS for state in states)
    return files, is_settled


def _hash(state: FileState) -> str:
    path = Path(state.path)
    if state.size > SMALL_BYTES:
        return hash_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _are_unchanged(source: Source, files: Sequence[KnownFile], is_settled: bool) -> bool:
    """Return whether the files are those that were hashed; new ones are hashed again."""
    if _states_of(source) != [file.state for file in files]:
        return False
    if is_settled:
        return True
    try:
        return all(_hash(file.state) == file.digest for file in files)
    except OSError:
        return False


def _states_of(source: Source) -> list[FileState]:
    """Return the states of all files of `source`; none if one cannot be read or is no regular file."""
    try:
        found = files_of(source)
    except (OSError, ValueError):  # a path with a zero byte is a ValueError
        return []
    if not all(stat.S_ISREG(one.st_mode) for _, one in found):
        return []
    return [
        FileState(path, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev)
        for path, one in found
    ]


def _key_of(task: _Task, source: Source, files: Sequence[KnownFile]) -> str:
    """Return the key of a source: of its files' contents and names, its own facts, and all choices."""
    facts = attrgetter(*_FACTS)(_as_read(task.reading.reader, source))
    contents = [(_name_of(file.state.path), file.digest) for file in files]
    text = json.dumps([task.choices, facts, contents], default=_name_of)
    return hashlib.sha256(text.encode()).hexdigest()


def _name_of(path: Path | str) -> str:
    """Return the part of a path that messages may name: a data set that is moved stays in the cache."""
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}"  # noqa: PTH119 (three times as fast as Path)


def _digest_choices(reading: Reading) -> str:
    origin = READERS.origin(reading.reader.name)
    choices = [
        (__version__, platform.python_version(), platform.machine(), _digest_code()),
        [_version_of(name) for name in PACKAGES],
        (reading.reader.name, asdict(reading.options), reading.size, reading.mask_resize),
        *([(origin.fact, code_digest(origin))] if origin else []),
    ]
    return hashlib.sha256(json.dumps(choices).encode()).hexdigest()


@lru_cache
def _digest_code() -> str:
    """Return the SHA-256 of the code that decides what a source gives."""
    root = Path(__file__).parents[1]
    named = [root / name for name in CODE]
    files = [file for path in named for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"")  # a package may be installed without
    return digest.hexdigest()


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
