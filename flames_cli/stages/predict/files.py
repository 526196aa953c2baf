"""Folder of one prediction: what is done in it, and the places of its files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import raising_not_written, remove_leftovers
from flames_cli.store.prediction_folder import (
    SUMMARY,
    PredictedCase,
    PredictionFile,
    append_case,
    read_cases,
    read_prediction_file,
    write_cases,
    write_prediction_file,
)

OVERLAYS, PROBABILITIES = "overlays", "probabilities"
"""Names of the folders in it."""


class Folder:
    """An open folder of predictions, of one set of models and options."""

    def __init__(self, path: Path, content: PredictionFile, aside: str) -> None:
        self.path, self.content, self.aside = path, content, aside
        self._done = read_cases(path)

    def find_done(self, name: str, digest: str, of_truth: str) -> PredictedCase | None:
        """Return the line of an input whose mask is there; None if it has none.

        Args:
            name: name of the input.
            digest: checksum of its bytes, which the line must have, too.
            of_truth: the same of its true masks.
        """
        case = self._done.get(name)
        if case is None or (case.status, case.sha256, case.truth_sha256) != ("done", digest, of_truth):
            return None
        return case if (self.path / case.mask).is_file() else None

    def append(self, case: PredictedCase) -> None:
        """Add the line of an input, which is done from now on."""
        self._done[case.input] = case
        append_case(self.path, case)

    def clear(self, name: str, digest: str = "") -> None:
        """Rename the mask of an earlier command, unless it is of an image with this checksum."""
        before = self._done.get(name)
        if before and before.mask and before.sha256 != digest:
            set_aside(self.path / before.mask)

    def finish(self, cases: Sequence[PredictedCase]) -> None:
        """Write cases.csv of all inputs that are done here, those of the last command first, and complete
        prediction.json."""
        own = {case.input: case for case in cases}
        listed = list((own | {name: case for name, case in self._done.items() if name not in own}).values())
        write_cases(self.path, listed)
        inputs = {case.input: case.sha256 for case in listed if case.status == "done"}
        write_prediction_file(self.path, replace(self.content, inputs=inputs, complete=True))

    def mask(self, name: str) -> Path:
        """Return the path of a mask, without suffix."""
        return self._place(self.path / name)

    def overlay(self, name: str) -> Path:
        """Return the path of an overlay, without suffix."""
        return self._place(self.path / OVERLAYS / name)

    def probabilities(self, name: str) -> Path:
        """Return the path of probabilities, without suffix."""
        return self._place(self.path / PROBABILITIES / name)

    def _place(self, path: Path) -> Path:
        with raising_not_written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


def open_folder(path: Path, content: PredictionFile) -> Folder:
    """Return the folder: a new one, or that of an earlier command with the same models and options.

    One of other models or options is renamed first.

    Raises:
        FlamesError: the folder has other files than those of a prediction.
        NotWritten: it cannot be made.
    """
    aside = ""
    if path.exists() and not path.is_dir():
        raise FlamesError(f"--out {path} is a file, expected a folder; pass another --out")
    if path.is_dir() and any(path.iterdir()):
        if not (path / SUMMARY).is_file():
            raise FlamesError(
                f"--out {path} has files and no {SUMMARY}, expected a new folder or that of an earlier "
                "prediction; pass another --out"
            )
        if not read_prediction_file(path).has_same_options(content):
            moved = set_aside(path)
            aside = moved.name if moved else ""
    with raising_not_written(path):
        path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
    write_prediction_file(path, content)
    return Folder(path, content, aside)
