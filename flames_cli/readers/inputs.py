"""Find the images on which a model predicts, and read them; they need no masks."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.formats.dicom_files import list_files
from flames_cli.readers.formats.ranges import remark_on_units
from flames_cli.readers.input_files import (
    OF_MANIFEST,
    Draft,
    File,
    InputKind,
    draft_bad,
    draft_files,
    draft_frame,
    search,
)
from flames_cli.readers.input_names import make_names
from flames_cli.readers.manifest import list_table
from flames_cli.readers.pairs import natural_order


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

    @property
    def is_volume(self) -> bool:
        """True for a volume, False for a still image."""
        return self.kind in ("nifti", "series")


@dataclass(frozen=True, slots=True)
class FoundInputs:
    """Result of a search for images."""

    inputs: tuple[InputImage, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Number of files and folders that were left out, by kind."""


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
    files: dict[Path, File] = {}
    found: dict[tuple[Path, int], tuple[Draft, Source]] = {}
    for path in _expand(paths):
        if path.suffix.lower() == ".csv" and path.is_file():
            for draft, source in _of_manifest(path, root, keep):
                found.setdefault(draft.key, (draft, source))
        else:
            for file in search(path, ignored):
                files.setdefault(file.path.resolve(), file)
    masks = {mask.resolve() for _, source in found.values() for mask in source.masks}
    ignored[OF_MANIFEST] += len(masks & files.keys())
    for draft in draft_files([file for path, file in files.items() if path not in masks], ignored):
        found.setdefault(draft.key, (draft, Source("", "", draft.files[0], ())))
    if not any(os.path.lexists(draft.files[0]) for draft, _ in found.values()):
        listed = ", ".join(map(str, paths))
        raise FlamesError(
            f"no images in {listed}, expected files (PNG, JPEG, TIFF, BMP, NIfTI, DICOM), folders of them, "
            "or a manifest (.csv); check the paths"
        )
    names = make_names([draft.place for draft, _ in found.values()])
    inputs = [_name(draft, source, name) for (draft, source), name in zip(found.values(), names, strict=True)]
    return FoundInputs(tuple(inputs), {kind: n for kind, n in ignored.items() if n})


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


def _name(draft: Draft, source: Source, name: str) -> InputImage:
    files = draft.files if draft.kind == "series" else ()
    own = replace(source, name=name, case=name, image=draft.files[0], files=files, frame=draft.frame)
    return InputImage(name, own, draft.kind, draft.files, source.modality or draft.modality, draft.problem)


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


def _of_manifest(path: Path, root: Path | None, keep: Sequence[str]) -> Iterator[tuple[Draft, Source]]:
    """Yield the images of a manifest with their rows; a clip whose row has no frame is all of its frames."""
    base = (root or path.parent).absolute()
    for source in list_table(path, root, keep, needed=("image",)).sources:
        file = File(source.image, base, is_named=True)
        if source.frame:
            drafts = [draft_frame(file, source.frame)]
        elif source.image.is_dir():
            drafts = _of_folder(file)
        else:
            drafts = list(draft_files([file], Counter()))
        for draft in drafts:
            yield draft, source


def _of_folder(folder: File) -> list[Draft]:
    """Return the DICOM images in the folder of a row."""
    try:
        paths = list_files(folder.path)
    except BadCase as error:
        return [draft_bad(folder, str(error))]
    drafts = draft_files([File(path, folder.base, is_named=False) for path in paths], Counter())
    return list(drafts) or [draft_bad(folder, f"{folder.path.name}: no DICOM files in it, expected images")]
