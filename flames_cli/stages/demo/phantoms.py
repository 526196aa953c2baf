"""Raw phantoms of the demo: three data sets in the layouts of their downloads."""

from collections.abc import Mapping
from pathlib import Path

from flames_cli.demo_data import DEMO_DATA
from flames_cli.stages.progress import Progress, silent

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
