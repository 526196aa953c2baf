"""Find the images on which a model predicts, and read them; they need no masks."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, Source
from flames_cli.readers.formats.any_kind import NIFTI_SUFFIXES, kind_of, read_any
from flames_cli.readers.formats.content import is_text
from flames_cli.readers.formats.dicom_files import (
    SEGMENTATIONS,
    NoImage,
    count_frames,
    list_files,
    read_header,
)
from flames_cli.readers.formats.dicom_planes import has_position, is_slice
from flames_cli.readers.formats.dicom_references import MODALITIES
from flames_cli.readers.formats.images import count_images
from flames_cli.readers.formats.ranges import remark_on_units
from flames_cli.readers.input_names import Place, make_names
from flames_cli.readers.manifest import list_table
from flames_cli.readers.pairs import natural_order

InputKind = Literal["still", "nifti", "series", "dicom-still", ""]
"""Kind of an input; empty where no reader reads it."""

PREDICTION = "prediction.json"
"""Name of the file in each folder of predictions; such a folder is not searched for images."""

HIDDEN, SYSTEM, TEXTS, PREDICTIONS = "hidden", "of the system", "text", "folders of predictions"
NO_IMAGE, OF_MANIFEST = "DICOM without an image", "masks of a manifest"
"""Kinds of files that a search leaves out."""

SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir")
TEXT_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".xml", ".html", ".htm", ".log", ".toml", ".yaml"),
    *(".yml", ".ini", ".py", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".bval", ".bvec"),
)


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image or volume on which a model predicts."""

    name: str
    """Name of its outputs: relative, without suffix, / between folders; no other input has the same."""
    source: Source
    """Image, with its masks if a manifest lists them."""
    kind: InputKind
    files: tuple[Path, ...]
    """Files that it is made of: one, or those of a DICOM series."""
    modality: str = ""
    """Modality that the manifest or the DICOM file states; empty: none is stated."""
    problem: str = ""
    """Reason why it cannot be read; empty where only reading it shows that."""


@dataclass(frozen=True, slots=True)
class FoundInputs:
    """Result of a search for images."""

    inputs: tuple[InputImage, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Number of files and folders that were left out, by kind."""


@dataclass(frozen=True, slots=True)
class _File:
    """File that may be an input."""

    path: Path
    base: Path
    """Folder to which the name of its output is relative."""
    is_named: bool
    """True if the user named this very file: it is never left out."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """Input without its name."""

    place: Place
    image: InputImage

    @property
    def key(self) -> tuple[Path, int]:
        return self.image.files[0].resolve(), self.image.source.frame


def find_inputs(
    paths: Sequence[str | Path], root: Path | None = None, keep: Sequence[str] = ()
) -> FoundInputs:
    """Return the images of files, folders (with those inside), patterns such as `*.png`, and manifests.

    A file that no reader reads is an input with a problem. All slices of a DICOM series in one folder are one
    input; each frame of a clip and each page of a TIFF is an input of its own. A file that is named twice is
    one input.

    Args:
        paths: arguments of the user; a manifest ends with .csv, and needs only the column `image`.
        root: folder to which the paths of manifests are relative; None: that of each manifest.
        keep: columns of the manifests that the user keeps.

    Raises:
        FlamesError: there is no image, or a manifest is wrong (see `manifest.list_table`).
    """
    ignored: Counter[str] = Counter()
    found: dict[tuple[Path, int], _Draft] = {}
    masks: set[Path] = set()
    files: dict[Path, _File] = {}
    for path in _expand(paths):
        if path.suffix.lower() == ".csv" and path.is_file():
            for draft in _of_manifest(path, root, keep):
                found.setdefault(draft.key, draft)
                masks.update(mask.resolve() for mask in draft.image.source.masks)
        else:
            for file in _files_of(path, ignored):
                files.setdefault(file.path.resolve(), file)
    ignored[OF_MANIFEST] += len(masks & files.keys())
    for draft in _of_files([file for path, file in files.items() if path not in masks], ignored):
        found.setdefault(draft.key, draft)
    drafts = list(found.values())
    if not any(os.path.lexists(draft.image.files[0]) for draft in drafts):
        listed = ", ".join(map(str, paths))
        raise FlamesError(
            f"no images in {listed}, expected files (PNG, JPEG, TIFF, BMP, NIfTI, DICOM), folders of them, "
            "or a manifest (.csv); check the paths"
        )
    names = make_names([draft.place for draft in drafts])
    return FoundInputs(
        tuple(_named(draft.image, name) for draft, name in zip(drafts, names, strict=True)),
        {kind: n for kind, n in ignored.items() if n},
    )


def read_input(image: InputImage, options: ReadOptions, with_masks: bool = False) -> list[RawCase]:
    """Return the case of a still, or those of all slices of a volume in the plane of `options`, in order.

    Stills are upright by their EXIF tag. The pixels of slices are views of one volume.

    Args:
        image: the input.
        options: choices of the model: plane, colour, and its rule of intensities.
        with_masks: True to read the masks that the manifest lists; else all masks are empty.

    Raises:
        BadCase: the file, or a mask, cannot be read.
    """
    if image.problem:
        raise BadCase(image.problem)
    source = image.source if with_masks else replace(image.source, masks=(), is_healthy=True)
    cases = read_any(source, replace(options, slices="all", keep_empty=True, complete=True))
    if not options.intensities or (image.kind.endswith("still") and cases[0].image.dtype == "uint8"):
        return cases
    notes = remark_on_units([case.image for case in cases], options.intensities)
    return [replace(case, notes=(*case.notes, *notes)) for case in cases] if notes else cases


def _named(image: InputImage, name: str) -> InputImage:
    return replace(image, name=name, source=replace(image.source, name=name, case=name))


def _expand(paths: Sequence[str | Path]) -> list[Path]:
    """Return the paths, and those that fit a pattern which the shell did not expand, each once."""
    found: dict[Path, None] = {}
    for text in map(str, paths):
        is_pattern = glob.has_magic(text) and not os.path.lexists(text)
        # Path.glob takes no absolute patterns.
        fitting = glob.glob(text, recursive=True) if is_pattern else []  # noqa: PTH207
        fitting.sort(key=natural_order)
        found.update(dict.fromkeys(Path(one) for one in fitting or [text]))
    return list(found)


def _files_of(path: Path, ignored: Counter[str]) -> Iterator[_File]:
    """Yield the file, or all files of a folder that may be images, in natural order."""
    if not path.is_dir():
        yield _File(path, path.absolute().parent, is_named=True)
        return
    base, visited = path.resolve(), set[str]()
    for place, folders, names in os.walk(base, followlinks=True):
        real = os.path.realpath(place)
        is_prediction = PREDICTION in names and Path(place) != base
        if is_prediction or real in visited:
            ignored[PREDICTIONS] += is_prediction
            folders.clear()
            continue
        visited.add(real)
        ignored[HIDDEN] += sum(name.startswith(".") for name in (*folders, *names))
        folders[:] = sorted((one for one in folders if not one.startswith(".")), key=natural_order)
        for name in sorted(names, key=natural_order):
            if not name.startswith("."):
                yield _File(Path(place, name), base, is_named=False)


def _of_manifest(path: Path, root: Path | None, keep: Sequence[str]) -> Iterator[_Draft]:
    """Yield the images of a manifest; a row of a clip without a frame is all of its frames."""
    base = (root or path.parent).absolute()
    for source in list_table(path, root, keep, needed=("image",)).sources:
        file = _File(source.image, base, is_named=True)
        if source.frame:
            drafts = [_frame_of_row(file, source.frame)]
        elif source.image.is_dir():
            drafts = _of_folder(file)
        else:
            drafts = list(_of_files([file], Counter()))
        for draft in drafts:
            own = draft.image.source
            merged = replace(source, image=own.image, files=own.files, frame=own.frame)
            modality = source.modality or draft.image.modality
            yield replace(draft, image=replace(draft.image, source=merged, modality=modality))


def _of_folder(folder: _File) -> list[_Draft]:
    """Return the series in the folder of a row."""
    try:
        members = [_File(path, folder.base, is_named=True) for path in list_files(folder.path)]
    except BadCase as error:
        return [_bad(folder, str(error))]
    return list(_of_files(members, Counter()))


def _frame_of_row(file: _File, frame: int) -> _Draft:
    """Return the frame of a clip, or the page of a TIFF, that a manifest names."""
    try:
        kind: InputKind = "dicom-still" if kind_of(file.path) == "dicom" else "still"
    except BadCase as error:
        return _bad(file, str(error))
    return _draft(file, kind, frame=frame)


def _of_files(files: Iterable[_File], ignored: Counter[str]) -> Iterator[_Draft]:
    """Yield the inputs of files; those of one DICOM series in one folder are one input."""
    folders: dict[Path, list[_File]] = {}
    for file in files:
        folders.setdefault(file.path.absolute().parent, []).append(file)
    for members in folders.values():
        series: dict[str, list[_File]] = {}
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
            yield _series(slices, modalities[uid], has_folder=len(series) == 1 < len(slices))


@dataclass(frozen=True, slots=True)
class _Slice:
    """Header of a file that belongs to a series."""

    series: str
    modality: str


def _look_at(file: _File) -> list[_Draft] | _Slice | str:
    """Return the inputs of a file, its series, or the kind of files for which it is left out."""
    if not file.is_named and (reason := _why_left_out(file.path)):
        return reason
    try:
        _require_utf8(file.path)
        kind = kind_of(file.path)
        if kind == "dicom":
            return _look_at_dicom(file)
        frames = count_images(file.path) if kind == "still" else 1
    except NoImage as error:
        return [_bad(file, str(error))] if file.is_named else NO_IMAGE
    except BadCase as error:
        return [_bad(file, str(error))]
    return [_draft(file, kind, frame=page) for page in _numbers(frames)]


def _why_left_out(path: Path) -> str:
    """Return the kind of files for which a search leaves this one out; empty if it may be an image."""
    name = path.name.lower()
    if name in SYSTEM_NAMES:
        return SYSTEM
    return TEXTS if name.endswith(TEXT_SUFFIXES) or is_text(path) else ""


def _require_utf8(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise BadCase(f"{path.name!a}: its name is not UTF-8, expected one that is; rename it") from error


def _look_at_dicom(file: _File) -> list[_Draft] | _Slice | str:
    header = read_header(file.path)
    if header.get("SOPClassUID") in SEGMENTATIONS:
        raise NoImage(f"{file.path.name}: it is a segmentation, expected an image; name its image instead")
    modality = MODALITIES.get(str(header.get("Modality")), "")
    if is_slice(header) or has_position(header):
        return _Slice(str(header.get("SeriesInstanceUID")), modality)
    return [_draft(file, "dicom-still", modality, frame) for frame in _numbers(count_frames(header))]


def _numbers(frames: int) -> Sequence[int]:
    """Return the numbers of the frames of a file; 0 for the only one."""
    return range(1, frames + 1) if frames > 1 else (0,)


def _series(slices: Sequence[_File], modality: str, has_folder: bool) -> _Draft:
    """Return the input of a series, named by its folder if `has_folder`, else by its first file."""
    first = slices[0]
    files = tuple(file.path for file in slices)
    draft = _draft(first, "series", modality)
    source = replace(draft.image.source, files=files)
    place = Place(first.path.absolute().parent, first.base) if has_folder else draft.place
    return _Draft(place, replace(draft.image, source=source, files=files))


def _bad(file: _File, problem: str) -> _Draft:
    draft = _draft(file, "")
    return replace(draft, image=replace(draft.image, problem=problem))


def _draft(file: _File, kind: InputKind, modality: str = "", frame: int = 0) -> _Draft:
    path = file.path.absolute()
    suffix = path.suffix
    if path.name.lower().endswith(NIFTI_SUFFIXES[1]):
        suffix = path.name[-len(NIFTI_SUFFIXES[1]) :]
    stem = path.name.removesuffix(suffix) or path.name
    place = Place(path.with_name(stem), file.base, suffix, f"frame{frame}" if frame else "")
    source = Source(name="", patient="", image=file.path, masks=(), frame=frame)
    return _Draft(place, InputImage("", source, kind, (file.path,), modality))
