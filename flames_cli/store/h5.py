"""HDF5 files: `preprocessed/<dataset>.h5` and the shards, opened with a check of their format."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.preparation import NOT_KNOWN, MaskResize, Plane, Preparation
from flames_cli.core.splits import SETS
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.cases import (
    CaseInfo,
    CaseSet,
    SetInfo,
    Spool,
    read_cases,
    read_chunks,
    read_extra,
    read_planes,
    read_selected,
    read_set,
    read_set_info,
)
from flames_cli.store.cases import write_set as write_case_set
from flames_cli.store.files.atomic import replacing
from flames_cli.store.h5_contents import check_contents
from flames_cli.store.schema import MADE_BY, PREPROCESSED, SHARD, Format, check_stamp, stamp

CLIENT_SETS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SpooledCase:
    """Case whose encoded pixels are in a spool, under these numbers."""

    info: CaseInfo
    image: int
    mask: int


DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
)
"""Exceptions that reading raises if entries are missing, have other types, or are damaged."""


@contextmanager
def open_checked(path: Path, expected: Format) -> Iterator[h5py.File]:
    """Open `path` for reading, with a check of its format and version.

    Raises:
        MissingArtifact: there is no such file; the message names the command that makes it.
        FlamesError: it is not HDF5, is damaged, has another format or version, or contains objects that
            FLAMES never writes.
    """
    if not path.exists():
        raise MissingArtifact(f"{path} does not exist; make it with `{MADE_BY[expected.name]}`")
    try:
        _require_file(path)
        with h5py.File(path, "r") as file:
            check_stamp({key: file.attrs.get(key) for key in ("format", "version")}, expected, path)
            check_contents(file, path)
            yield file
    except DAMAGE as error:
        command = MADE_BY[expected.name]
        raise FlamesError(f"{path} is damaged or not an HDF5 file; make it again with `{command}`") from error


def _require_file(path: Path) -> None:
    """Check that `path` is a file: HDF5 would wait for the process that writes to a pipe."""
    if not path.is_file():
        raise ValueError("it is not a file")


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """Open `path` for writing.

    Raises:
        OSError: the disk is full. HDF5 raises a RuntimeError if it notices this when it closes the file.
    """
    try:
        with h5py.File(path, "w") as file:
            yield file
    except RuntimeError as error:
        if found := re.search(r"errno = (\d+)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def write_preprocessed(
    path: Path, info: SetInfo, sets: Mapping[str, list[SpooledCase]], spool: Spool
) -> None:
    """Write the sets of one data set, atomically. The same cases give the same bytes."""
    write_collection({path: (info, sets)}, spool)


def write_collection(
    files: Mapping[Path, tuple[SetInfo, Mapping[str, list[SpooledCase]]]], spool: Spool
) -> None:
    """Write data sets that were split together: all of them, or none if one fails."""
    with ExitStack() as stack:
        for path, (info, sets) in files.items():
            temporary = stack.enter_context(replacing(path))
            with _new_file(temporary) as file:
                _write_sets(file, info, sets, spool)


def _write_sets(file: h5py.File, info: SetInfo, sets: Mapping[str, list[SpooledCase]], spool: Spool) -> None:
    file.attrs.update(stamp(PREPROCESSED))
    for name in SETS:
        cases = sets[name]
        chunks = ((spool.get(case.image), spool.get(case.mask)) for case in cases)
        write_case_set(file, name, info, [case.info for case in cases], chunks)


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of cases from one preprocessed file: indices by set."""

    path: Path
    indices: Mapping[str, Sequence[int]]


def write_shard(path: Path, name: str, modality: str, sets: Mapping[str, Selection]) -> None:
    """Write a shard: copy each set (`train`, `test/busi`, …) chunk by chunk from preprocessed files."""
    with replacing(path) as temporary, _new_file(temporary) as file:
        file.attrs.update(stamp(SHARD))
        file.attrs.update(name=name, modality=modality)
        for set_name, selection in sets.items():
            with open_checked(selection.path, PREPROCESSED) as source:
                _copy_cases(source, selection.indices, file, set_name)


def _copy_cases(source: h5py.File, indices: Mapping[str, Sequence[int]], file: h5py.File, name: str) -> None:
    cases: list[CaseInfo] = []
    for origin, chosen in indices.items():
        known = read_cases(source[origin])
        cases += [known[index] for index in chosen]
    chunks = (chunk for origin, chosen in indices.items() for chunk in read_chunks(source[origin], chosen))
    write_case_set(file, name, read_set_info(source[SETS[0]]), cases, chunks)


def files_of(collection: str, folder: Path) -> list[Path]:
    """Return the preprocessed files in `folder` that belong to `collection`; skip files that cannot be
    read."""
    found = []
    for path in sorted(folder.glob("*.h5")):
        with suppress(FlamesError), open_checked(path, PREPROCESSED) as file:
            info = read_set_info(file[SETS[0]])
            if (info.collection or info.dataset) == collection:
                found.append(path)
    return found


def read_preprocessed_cases(path: Path) -> tuple[SetInfo, dict[str, list[CaseInfo]]]:
    """Return the cases of every set of a preprocessed file, without pixels."""
    with open_checked(path, PREPROCESSED) as file:
        return read_set_info(file[SETS[0]]), {name: read_cases(file[name]) for name in SETS}


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """Properties of a client's shard."""

    name: str
    modality: str
    organ: str
    size: int
    channels: int
    images: dict[str, int]
    columns: tuple[str, ...] = ()
    """Columns of the manifest whose values it contains."""
    preparation: Preparation = NOT_KNOWN
    """Rules by which its training images were prepared."""


def read_shard_summary(path: Path) -> ShardSummary:
    """Return the properties of a client's shard, with its number of images per set; no pixels are read.

    Slices that only complete a volume are not counted.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it is damaged, has another format or version, or is the server's.
    """
    with open_checked(path, SHARD) as file:
        if set(CLIENT_SETS).isdisjoint(set(file) - {"test"}):
            raise FlamesError(
                f"{path} has test patients of the server only, expected the shard of a client; pass the file "
                "of a client, in the same folder"
            )
        info = read_set_info(file["train"])
        images = {name: sum(read_selected(file[name])) for name in CLIENT_SETS}
        kept = {column for name in CLIENT_SETS for values in read_extra(file[name]) for column in values}
        return ShardSummary(
            name=str(file.attrs["name"]),
            modality=str(file.attrs["modality"]),
            organ=info.organ,
            size=info.size,
            channels=info.channels,
            images=images,
            columns=tuple(sorted(kept)),
            preparation=_preparation(info, read_planes(file["train"])),
        )


def _preparation(info: SetInfo, planes: Sequence[Plane]) -> Preparation:
    rules = (info.intensities,) if info.intensities else ()
    resize: MaskResize = "aligned" if info.mask_resize == "aligned" else "paper"
    return Preparation(rules, tuple(planes), (resize,), (info.empty,) if info.empty else ())


def read_shard_sets(path: Path, set_name: str, complete: bool = False) -> list[CaseSet]:
    """Return the case sets of a shard's `set_name`: one set, or one per data set for a server's shard.

    They have the selected cases only; with `complete`, also the slices that complete the test volumes.
    """
    with open_checked(path, SHARD) as file:
        if _has_cases(file[set_name]):
            return [read_set(file[set_name], complete)]
        return [read_set(group, complete) for _, group in _case_groups(file[set_name], "")]


def read_spread_images(path: Path, set_name: str, most: int) -> Iterator[tuple[SetInfo, CaseInfo, Pixels]]:
    """Yield at most `most` selected images of a client's set, at equal distances over the set; one is in
    memory at a time.

    Raises:
        MissingArtifact: there is no such file.
        FlamesError: it is damaged, or has another format or version.
    """
    with open_checked(path, SHARD) as file:
        group = file[set_name]
        info, cases = read_set_info(group), read_cases(group)
        rows = [row for row, case in enumerate(cases) if case.selected]
        step = max(1, -(-len(rows) // most))
        for row in rows[::step]:
            yield info, cases[row], group["image"][row]


def read_shard_cases(path: Path) -> dict[str, tuple[SetInfo, list[CaseInfo]]]:
    """Return the cases of every set of a shard (`train`, `test/busi`, …), without pixels."""
    with open_checked(path, SHARD) as file:
        return {name: (read_set_info(group), read_cases(group)) for name, group in _case_groups(file, "")}


def _case_groups(parent: h5py.Group, prefix: str) -> Iterator[tuple[str, h5py.Group]]:
    """Return every group with cases below `parent`, with its path."""
    for name in sorted(parent):
        if _has_cases(parent[name]):
            yield f"{prefix}{name}", parent[name]
        else:
            yield from _case_groups(parent[name], f"{prefix}{name}/")


def _has_cases(group: h5py.Group) -> bool:
    """Return whether `group` contains cases; a group of test sets may contain a test set called `image`."""
    return isinstance(group.get("image"), h5py.Dataset)
