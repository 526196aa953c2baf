"""A hospital's own data: images and volumes in any folders, listed with their masks in a CSV file.

Each row describes one image. `image` and `mask` are paths relative to the CSV, or to another folder that the
user names; several masks are separated by `;`, and the word `none` in place of a mask means that the image
has no lesion. Further columns are `patient_id`, `modality`, `organ` and, if known, `site`, `split` (train,
val, test or server), `labels` and `frame`, the number of one frame of a DICOM clip or of one page of a TIFF.
An image is a PNG, JPEG, TIFF or BMP file, a NIfTI file (4D: its first channel), a folder with one DICOM
series, or a DICOM file. The mask of a still image is a still image, or the DICOM-SEG of a DICOM still; the
mask of a volume is NIfTI, DICOM-SEG or a DICOM series. A mask has one label above 0, which is tumour. If it
has several, the column `labels` or --labels names those that are tumour; --mask-threshold applies to soft
masks (see `core.imaging.labels`). A person who was scanned twice has one patient_id, in all modalities.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from flames_cli.readers.base import Listing, Reader, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.manifest_table import REQUIRED, Row, read_table, require_no_faults

FOLDER = "manifest.csv"


def list_sources(root: Path) -> list[Source]:
    """Return the sources of the manifest `root`; see `list_table`."""
    return list_table(root).sources


def list_table(
    root: Path, files: Path | None = None, keep: Sequence[str] = (), needed: Sequence[str] = REQUIRED
) -> Listing:
    """Return the rows of the manifest `root`, or of `manifest.csv` in that folder; without a file, no rows.

    Args:
        root: the manifest, or its folder.
        files: folder to which the paths are relative; None: that of the manifest.
        keep: further columns whose cells the sources get.
        needed: columns that are filled in every row.

    Raises:
        FlamesError: the table is wrong (see `manifest_table.read_table`), a path leads out of the folder, an
            image is listed twice, or a mask belongs to two patients.
    """
    path = root / FOLDER if root.is_dir() else root
    if not path.exists():
        return Listing([])
    table = read_table(path, keep, needed)
    place = "the folder of --root" if files else "the manifest's folder"
    require_no_faults(path, _path_faults(files or path.parent, table.rows, place))
    return Listing(_sources(files or path.parent, table.rows), table.unused_columns)


def _sources(folder: Path, rows: Sequence[Row]) -> list[Source]:
    names = [_tidy(row.image) for row in rows]
    frames = [f"/frame{row.frame}" if row.frame else "" for row in rows]
    cases = [_stem(name) + frame for name, frame in zip(names, frames, strict=True)]
    times = Counter(cases)
    return [
        Source(
            name=f"{name} frame {row.frame}" if row.frame else name,
            patient=row.patient,
            image=_on_disk(folder, name),
            masks=tuple(_on_disk(folder, _tidy(mask)) for mask in row.masks),
            case=case if times[case] == 1 else name + frame,
            site=row.site,
            modality=row.modality,
            organ=row.organ,
            fixed_set=row.fixed_set,
            is_healthy=row.is_healthy,
            frame=row.frame,
            labels=row.labels,
            extra=row.extra,
        )
        for name, row, frame, case in zip(names, rows, frames, cases, strict=True)
    ]


def _tidy(text: str) -> str:
    """Return a path, in the notation of Windows or others, with / between its parts and without `.` parts."""
    return PureWindowsPath(text).as_posix()


def _on_disk(folder: Path, name: str) -> Path:
    """Return the path of a file, whose names on the disk may write é as one character or as two.

    Archives of macOS have the second form, tables usually the first. A file that does not exist has the path
    as the table writes it.
    """
    path = folder / name
    if path.exists():
        return path
    found = folder
    for part in PurePosixPath(name).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        present = next((form for form in forms if (found / form).exists()), None)
        if present is None:
            return path
        found /= present
    return found


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _path_faults(folder: Path, rows: Sequence[Row], place: str) -> list[str]:
    """Return the faults of the paths; `place` is what messages call `folder`."""
    home = folder.resolve()
    paths = [[_inside(home, text) for text in (row.image, *row.masks)] for row in rows]
    images = {image: row for row, (image, *_) in reversed([*zip(rows, paths, strict=True)])}
    owners: dict[object, Row] = {}
    listed: dict[tuple[Path, int], int] = {}
    faults: list[str] = []
    for row, (image, *masks) in zip(rows, paths, strict=True):
        if image is None or None in masks:
            faults.append(
                f"row {row.number}: a path is not inside {place}; give paths relative to it, without .. and "
                "links to other folders, or name the folder of the images with --root"
            )
        elif (before := listed.setdefault((image, row.frame), row.number)) != row.number:
            faults.append(
                f"row {row.number}: the image of row {before} again; list it once, its masks separated by ;"
            )
        elif (clip := images[image]).patient != row.patient:
            faults.append(
                f"row {row.number}: a frame of the clip of row {clip.number}, but of another patient_id; "
                "expected one patient; correct one of the rows"
            )
        else:
            faults += _mask_faults(row, [mask for mask in masks if mask], images, owners)
    return faults


def _mask_faults(
    row: Row, masks: Sequence[Path], images: Mapping[Path | None, Row], owners: dict[object, Row]
) -> Iterator[str]:
    """Yield what is wrong with the masks of a row.

    Args:
        row: the row.
        masks: paths of its masks.
        images: the first row of each image.
        owners: the first row of each mask of the rows before; those of `row` are added.
    """
    for mask in masks:
        if images.get(mask) is row:
            yield f"row {row.number}: image and mask are the same file; give the mask's own file"
        elif other := images.get(mask):
            yield f"row {row.number}: its mask is the image of row {other.number}; give the mask's own file"
        elif (owner := owners.setdefault(_identity(mask), row)).patient != row.patient:
            yield (
                f"row {row.number}: the mask of row {owner.number} again, but of another patient_id; give "
                "each image the mask of its own patient"
            )
            return


def _identity(path: Path) -> object:
    """Return what two names of one file have in common, also of hard links and on disks that ignore case."""
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path


def _inside(home: Path, text: str) -> Path | None:
    """Resolve a path and all its links; return None if it, or a link in that folder, leads out of `home`."""
    path = PureWindowsPath(text)
    if path.drive or path.root or ".." in path.parts:
        return None
    try:
        found = _on_disk(home, path.as_posix()).resolve()
        links = [item.resolve() for item in found.iterdir() if item.is_symlink()] if found.is_dir() else []
    except (OSError, RuntimeError):
        return None
    return found if found != home and all(item.is_relative_to(home) for item in (found, *links)) else None


MANIFEST = Reader(
    name="manifest",
    modality="",
    organ="",
    licence="your own",
    folder=FOLDER,
    layout=f"{FOLDER} with the columns image, mask, patient_id, modality and organ (see docs/datasets.md)",
    list_sources=list_sources,
    list_table=list_table,
    read_source=read_any,
    has_colour=True,
)
