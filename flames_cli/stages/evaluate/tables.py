"""All tables of an evaluation, made from the scores of its cases.csv and volumes.csv alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flames_cli.core.scores.detection import LesionMatches
from flames_cli.stages.evaluate.lesion_rows import (
    FalsePositives,
    LesionRow,
    find_false_positives,
    lesion_cells,
    make_lesion_row,
    sum_lesions,
)
from flames_cli.stages.evaluate.parts import Part, divide, divide_by_site, pool, pool_runs
from flames_cli.stages.evaluate.rows import Row, make_row, make_volume_row
from flames_cli.stages.evaluate.summary import Fairness, SummaryRow, find_fairness, make_summary
from flames_cli.store.evaluations import CaseScore, VolumeScore

NAME_OF = {"client_test": "clients", "server_test": "server"}
"""Name of the table of a split."""


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """One line of a table of volumes."""

    scores: Row
    found: LesionMatches
    healthy: FalsePositives | None
    """False positives on volumes without a lesion; None if there is no such volume."""

    def cells(self) -> dict[str, Any]:
        """Return the line by column: that of the CSV and of evaluation.json."""
        healthy = self.healthy
        return {
            **self.scores.cells(),
            **lesion_cells(self.found, "volume"),
            "healthy": healthy.n if healthy else 0,
            "false_positive_rate": healthy.rate if healthy else math.nan,
            "false_ml": healthy.predicted_ml if healthy else math.nan,
        }


@dataclass(frozen=True, slots=True)
class SplitTables:
    """Tables of one split."""

    images: Sequence[Row]
    """One line per model and organ, of stills and selected slices: the `slices` protocol."""
    lesions: Sequence[LesionRow]
    """The same lines by size of lesion, and one of all models together."""
    volumes: Sequence[VolumeRow] = ()
    """One line per model and organ, of complete volumes: the `volumes` protocol."""
    sites: Sequence[Row] = ()
    """One line per model and site, of the images of `images`."""
    summary: Sequence[SummaryRow] = ()
    """One line per model: of its complete volumes, and of the images in no such volume."""

    @property
    def fairness(self) -> Fairness | None:
        """Spread between the lines of `summary`; None for server models, or fewer than two lines."""
        split = next((row.split for row in self.summary), "")
        return find_fairness(self.summary) if split == "client_test" else None


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables of an evaluation by split."""

    splits: Mapping[str, SplitTables] = field(default_factory=dict)

    @property
    def fairness(self) -> dict[str, Any] | None:
        """Entry of evaluation.json: the spread of the clients' mean Dice; None with fewer than two lines."""
        found = self.splits["client_test"].fairness if "client_test" in self.splits else None
        return found.as_json() if found else None

    def as_lines(self) -> dict[str, list[dict[str, Any]]]:
        """Return the lines of every table by its name; a table without a line is left out."""
        named: dict[str, list[dict[str, Any]]] = {}
        for split, tables in self.splits.items():
            name = NAME_OF[split]
            named[f"summary-{name}"] = [row.cells() for row in tables.summary]
            named[name] = [row.cells() for row in tables.images]
            named[f"volumes-{name}"] = [row.cells() for row in tables.volumes]
            named[f"lesions-{name}"] = [line for row in tables.lesions for line in row.lines()]
            named[f"sites-{name}"] = [row.cells() for row in tables.sites]
        return {name: lines for name, lines in named.items() if lines}


def make_tables(
    cases: Iterable[CaseScore], volumes: Iterable[VolumeScore], splits: Iterable[str], seed: int
) -> Tables:
    """Return the tables of `splits`.

    Args:
        cases: the lines of cases.csv.
        volumes: the lines of volumes.csv.
        splits: the splits that were evaluated.
        seed: seed of the intervals' draws: that of the first run.
    """
    images, stacks = pool_runs(case for case in cases if case.selected), pool_runs(volumes)
    return Tables(
        {
            split: _make_split(
                [model for model in images if model.split == split],
                [model for model in stacks if model.split == split],
                seed,
            )
            for split in splits
        }
    )


def _make_split(
    images: Sequence[Part[CaseScore]], volumes: Sequence[Part[VolumeScore]], seed: int
) -> SplitTables:
    parts = [part for model in images for part in divide(model)]
    sites = [part for model in images for part in divide_by_site(model)]
    return SplitTables(
        images=[make_row(part, seed) for part in parts],
        lesions=[make_lesion_row(part) for part in [*parts, *pool(images)]],
        volumes=[_volume_row(part, seed) for model in volumes for part in divide(model)],
        sites=[make_row(part, seed) for part in sites],
        summary=make_summary(images, volumes),
    )


def _volume_row(part: Part[VolumeScore], seed: int) -> VolumeRow:
    return VolumeRow(make_volume_row(part, seed), sum_lesions(part), find_false_positives(part))
