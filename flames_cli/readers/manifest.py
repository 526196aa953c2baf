"""A hospital's own data: images and volumes in any folders, listed with their masks in a CSV file.

Each row describes one image. `image` and `mask` are paths relative to the CSV; several masks are separated by
`;`, and the word `none` in place of a mask means that the image has no lesion. Further columns are
`patient_id`, `modality`, `organ` and, if known, `site` and `split` (train, val, test or server), and `frame`,
the number of one frame of a DICOM clip. An image is a PNG, JPEG or TIFF file, a NIfTI file (4D: its first
channel), a folder with one DICOM series, or a DICOM file. The mask of a still image is a still image, or the
DICOM-SEG of a DICOM still; the mask of a volume is NIfTI, DICOM-SEG or a DICOM series. Every label above 0 is
tumour (in a JPEG, every value from 128). A person who was scanned twice has one patient_id, in all
modalities.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from flames_cli.readers.base import Reader, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.manifest_table import Row, read_table, require_no_faults

FOLDER = "manifest.csv"


def list_sources(root: Path) -> list[Source]:
    """Return the rows of the manifest `root`, or of `manifest.csv` in that folder; without a file, no rows.

    Raises:
        FlamesError: the table is wrong (see `manifest_table.read_table`), a path leads out of the manifest's
            folder, or an image is listed twice.
    """
    table = root / FOLDER if root.is_dir() else root
    if not table.exists():
        return []
    rows = read_table(table)
    names = [_tidy(row.image) for row in rows]
    require_no_faults(table, _path_faults(table.parent, rows))
    frames = [f"/frame{row.frame}" if row.frame else "" for row in rows]
    cases = [_stem(name) + frame for name, frame in zip(names, frames, strict=True)]
    times = Counter(cases)
    return [
        Source(
            name=f"{name} frame {row.frame}" if row.frame else name,
            patient=row.patient,
            image=table.parent / name,
            masks=tuple(table.parent / _tidy(mask) for mask in row.masks),
            case=case if times[case] == 1 else name + frame,
            site=row.site,
            modality=row.modality,
            organ=row.organ,
            fixed_set=row.fixed_set,
            is_healthy=not row.masks,
            frame=row.frame,
        )
        for name, row, frame, case in zip(names, rows, frames, cases, strict=True)
    ]


def _tidy(text: str) -> str:
    """Return a path, in the notation of Windows or others, with / between its parts and without `.` parts."""
    return PureWindowsPath(text).as_posix()


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _path_faults(folder: Path, rows: Sequence[Row]) -> list[str]:
    home = folder.resolve()
    faults: list[str] = []
    listed: dict[tuple[Path, int], int] = {}
    clips: dict[Path, Row] = {}
    for row in rows:
        image, *masks = [_inside(home, text) for text in (row.image, *row.masks)]
        if image is None or None in masks:
            faults.append(
                f"row {row.number}: a path is not inside the manifest's folder; give paths relative to it, "
                "without .. and links that lead out of it"
            )
        elif image in masks:
            faults.append(f"row {row.number}: image and mask are the same file")
        elif (before := listed.setdefault((image, row.frame), row.number)) != row.number:
            faults.append(
                f"row {row.number}: the image of row {before} again; list it once, its masks separated by ;"
            )
        elif (clip := clips.setdefault(image, row)).patient != row.patient:
            faults.append(
                f"row {row.number}: a frame of the clip of row {clip.number}, but of another patient_id; "
                "expected one patient; correct one of the rows"
            )
    return faults


def _inside(home: Path, text: str) -> Path | None:
    """Resolve a path and all its links; return None if it, or a link in that folder, leads out of `home`."""
    path = PureWindowsPath(text)
    if path.drive or path.root or ".." in path.parts:
        return None
    try:
        found = (home / path.as_posix()).resolve()
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
    read_source=read_any,
    has_colour=True,
)
