"""Raw phantoms of the demo: three data sets in the layouts of their downloads."""

import filecmp
from collections.abc import Mapping
from pathlib import Path

from flames_cli.demo_data import DEMO_DATA
from flames_cli.errors import FlamesError
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.files.atomic import replacing_folder

PATIENTS = {"brats": 90, "busi": 60, "otu2d": 60}
"""Number of patients of each data set in the demo."""


def draw_phantoms(
    folder: Path, seed: int, patients: Mapping[str, int], progress: Progress = silent
) -> dict[str, Path]:
    """Draw the raw data sets that `patients` names below `folder`; return their folders by name."""
    raw = {}
    for done, (name, number) in enumerate(patients.items(), start=1):
        raw[name] = DEMO_DATA[name](folder / name, number, seed)
        progress("draw phantoms", done, len(patients))
    return raw


def add_phantoms(
    folder: Path, seed: int, patients: Mapping[str, int], progress: Progress = silent
) -> dict[str, Path]:
    """Draw phantoms as `draw_phantoms` does, and keep what is there already.

    Raises:
        FlamesError: a folder of a data set exists and has other files; none of them is changed.
        NotWritten: the folder cannot be written or the disk is full.
    """
    raw = {}
    for done, (name, number) in enumerate(patients.items(), start=1):
        target = folder / name
        with replacing_folder(target) as new:
            drawn = DEMO_DATA[name](new, number, seed)
            raw[name] = target / drawn.relative_to(new)
            if target.exists() and not _has_same_files(target, new):
                raise FlamesError(
                    f"{target} has other files than {number} phantoms of seed {seed}, expected these; "
                    "pass a new folder, since nothing in this one is replaced"
                )
        progress("draw phantoms", done, len(patients))
    return raw


def _has_same_files(one: Path, other: Path) -> bool:
    """Return whether two folders have the same files with the same bytes."""
    names, others = (
        {path.relative_to(root) for path in root.rglob("*") if not path.is_dir()} for root in (one, other)
    )
    return names == others and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
