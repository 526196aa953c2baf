"""Look at files, one by one: each is an image, belongs to a DICOM series, is left out, or fails."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.any_kind import NIFTI_SUFFIXES, STILL_SUFFIXES, kind_of
from flames_cli.readers.formats.content import is_text
from flames_cli.readers.formats.dicom_files import MAPS, SEGMENTATIONS, NoImage, count_frames, read_header
from flames_cli.readers.formats.dicom_planes import has_position, is_slice
from flames_cli.readers.formats.dicom_references import MODALITIES
from flames_cli.readers.formats.images import count_images
from flames_cli.readers.input_names import Place
from flames_cli.readers.pairs import natural_order
from flames_cli.store.prediction_folder import SUMMARY

InputKind = Literal["still", "nifti", "series", "dicom-still", ""]
"""Kind of an input; empty where no reader reads it."""

HIDDEN, SYSTEM, TEXTS, PREDICTIONS = "hidden", "of the system", "text", "folders of predictions"
NO_IMAGE, OF_MANIFEST = "DICOM without an image", "masks of a manifest"
"""Kinds of files that a search leaves out."""

IMAGE_SUFFIXES = (*STILL_SUFFIXES, *NIFTI_SUFFIXES, ".dcm")
SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir")
TEXT_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".xml", ".html", ".htm", ".log", ".toml", ".yaml"),
    *(".yml", ".ini", ".py", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".bval", ".bvec"),
)


@dataclass(frozen=True, slots=True)
class File:
    """File that may be an input."""

    path: Path
    base: Path
    """Folder to which the name of its output is relative."""
    is_named: bool
    """True if the user named this very file: it is never left out."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Input that has no name yet."""

    place: Place
    kind: InputKind
    files: tuple[Path, ...]
    """The file, or those of a series."""
    modality: str = ""
    """Modality that a DICOM file states; else empty."""
    frame: int = 0
    problem: str = ""
    """Reason why it cannot be read; empty where only reading it shows that."""

    @property
    def key(self) -> tuple[Path, int]:
        """Key that two drafts of one image share."""
        return min(file.resolve() for file in self.files), self.frame


@dataclass(frozen=True, slots=True)
class _Slice:
    """Header of a file that belongs to a series."""

    series: str
    modality: str


def search(path: Path, ignored: Counter[str]) -> Iterator[File]:
    """Yield the file at `path`, or all files of that folder that are not hidden, in natural order.

    Args:
        path: file or folder.
        ignored: numbers of what is left out, by kind; those of this search are added.
    """
    if not path.is_dir():
        yield File(path, path.absolute().parent, is_named=True)
        return
    base, visited = path.resolve(), set[str]()
    for place, folders, names in os.walk(base, followlinks=True):
        real = os.path.realpath(place)
        is_prediction = SUMMARY in names and Path(place) != base
        if is_prediction or real in visited:
            ignored[PREDICTIONS] += is_prediction
            folders.clear()
            continue
        visited.add(real)
        ignored[HIDDEN] += sum(name.startswith(".") for name in (*folders, *names))
        folders[:] = sorted((one for one in folders if not one.startswith(".")), key=natural_order)
        for name in sorted(names, key=natural_order):
            if not name.startswith("."):
                yield File(Path(place, name), base, is_named=False)


def draft_files(files: Iterable[File], ignored: Counter[str]) -> Iterator[Draft]:
    """Yield the inputs of files; the slices of one DICOM series in one folder are one input.

    Args:
        files: files of any folders.
        ignored: numbers of what is left out, by kind; those of these files are added.
    """
    folders: dict[Path, list[File]] = {}
    for file in files:
        folders.setdefault(file.path.absolute().parent, []).append(file)
    for members in folders.values():
        series: dict[str, list[File]] = {}
        modalities: dict[str, str] = {}
        for file in members:
            found = _look_at(file)
            if isinstance(found, _Slice):
                series.setdefault(found.series, []).append(file)
                modalities[found.series] = found.modality
            elif isinstance(found, str):
                ignored[found] += 1
            else:
                yield from found
        for uid, slices in series.items():
            yield _draft_series(slices, modalities[uid], has_folder=len(series) == 1 < len(slices))


def draft_frame(file: File, frame: int) -> Draft:
    """Return the frame of a clip, or the page of a TIFF; whether it exists is not checked."""
    try:
        kind: InputKind = "dicom-still" if kind_of(file.path) == "dicom" else "still"
    except BadCase as error:
        return draft_bad(file, str(error))
    return _draft(file, kind, frame=frame)


def draft_bad(file: File, problem: str) -> Draft:
    """Return an input that cannot be read."""
    return _draft(file, "", problem=problem)


def _look_at(file: File) -> list[Draft] | _Slice | str:
    """Return the inputs of a file, its series, or the kind of files for which it is left out."""
    if not file.is_named and (reason := _why_left_out(file.path)):
        return reason
    try:
        _require_readable(file.path)
        kind = kind_of(file.path)
        if kind == "dicom":
            return _look_at_dicom(file)
        pages = count_images(file.path) if kind == "still" else 1
    except NoImage as error:
        return [draft_bad(file, str(error))] if file.is_named else NO_IMAGE
    except BadCase as error:
        return [draft_bad(file, str(error))]
    return [_draft(file, kind, frame=page) for page in _numbers(pages)]


def _why_left_out(path: Path) -> str:
    """Return the kind of files for which a search leaves this one out; empty if it may be an image."""
    name = path.name.lower()
    if name in SYSTEM_NAMES or (path.exists() and not path.is_file()):
        return SYSTEM
    if name.endswith(IMAGE_SUFFIXES):
        return ""
    return TEXTS if name.endswith(TEXT_SUFFIXES) or is_text(path) else ""


def _require_readable(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise BadCase(f"{path.name}: it is not a file; expected an image")
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise BadCase(f"{path.name!a}: its name is not UTF-8, expected one that is; rename it") from error


def _look_at_dicom(file: File) -> list[Draft] | _Slice:
    header = read_header(file.path)
    if header.get("SOPClassUID") in (*SEGMENTATIONS, *MAPS):
        raise NoImage(
            f"{file.path.name}: it is a segmentation, a dose or a map, expected an image; name its image"
        )
    modality = MODALITIES.get(str(header.get("Modality")), "")
    if is_slice(header) or has_position(header):
        return _Slice(str(header.get("SeriesInstanceUID")), modality)
    return [_draft(file, "dicom-still", modality, frame) for frame in _numbers(count_frames(header))]


def _numbers(frames: int) -> Sequence[int]:
    """Return the numbers of the frames of a file; 0 for the only one."""
    return range(1, frames + 1) if frames > 1 else (0,)


def _draft_series(slices: Sequence[File], modality: str, has_folder: bool) -> Draft:
    """Return the input of a series, named by its folder if `has_folder`, else by its first file."""
    first = slices[0]
    folder = Place(first.path.absolute().parent, first.base)
    place = folder if has_folder else _place_of(first)
    return Draft(place, "series", tuple(file.path for file in slices), modality)


def _draft(file: File, kind: InputKind, modality: str = "", frame: int = 0, problem: str = "") -> Draft:
    part = f"frame{frame}" if frame else ""
    return Draft(_place_of(file, part), kind, (file.path,), modality, frame, problem)


def _place_of(file: File, part: str = "") -> Place:
    path = file.path.absolute()
    suffix = path.suffix
    if path.name.lower().endswith(NIFTI_SUFFIXES[1]):
        suffix = path.name[-len(NIFTI_SUFFIXES[1]) :]
    return Place(path.with_name(path.name.removesuffix(suffix) or path.name), file.base, suffix, part)
