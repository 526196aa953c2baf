"""Cross-site matrix: every client's model on every client's test set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flames_cli.arrays import Mask
from flames_cli.core.scores.metrics import count_pixels, sum_counts, summarise
from flames_cli.report.heat_map import HeatMap, draw_heat_map
from flames_cli.stages.evaluate.models_under_test import HeldOutCases, ModelUnderTest
from flames_cli.stages.evaluate.scoring import RunFacts
from flames_cli.stages.evaluate.summary import Protocol
from flames_cli.store.files.atomic import write_csv
from flames_cli.store.partition import ClientEntry

TABLE, CASES_FILE, PICTURE = "cross-site", "cross-site-cases.csv", "cross-site.png"
KINDS = ("own", "same modality", "other modality")
"""Kinds of cells: the test set is that of the model's client, another of its modality, or of another one."""


@dataclass(frozen=True, slots=True)
class CrossScore:
    """Dice of one client's model on one volume or image of a client; a line of cross-site-cases.csv."""

    run: str
    seed: int
    fold: int | None
    """Fold of the run's partition, from 1; None without folds."""
    model: str
    """Client whose model it is."""
    model_modality: str
    client: str
    """Client whose test set the case is in."""
    modality: str
    protocol: Protocol
    person: str
    case: str
    """Name of the volume, or of the image."""
    dice: float


@dataclass(frozen=True, slots=True)
class CrossCell:
    """Mean Dice of one client's model on one client's test set."""

    model: str
    model_modality: str
    client: str
    modality: str
    protocol: str
    """volumes, images, or volumes+images if the test set has both."""
    n: int
    patients: int
    dice_mean: float
    """Mean over the cases of the means over the runs."""
    dice_sd: float

    def cells(self) -> dict[str, Any]:
        """Return the line by column: that of the CSV and of evaluation.json."""
        return asdict(self)


def score_masks(
    run: RunFacts, model: ModelUnderTest, client: ClientEntry, cases: HeldOutCases, masks: Sequence[Mask]
) -> list[CrossScore]:
    """Return the scores of a client's model on the test set of `client`, from its predicted masks."""
    return [
        CrossScore(
            run=run.run,
            seed=run.seed,
            fold=run.fold,
            model=model.label,
            model_modality=model.modality,
            client=client.name,
            modality=client.modality,
            **found,
        )
        for found in _score(cases, masks)
    ]


def _score(cases: HeldOutCases, masks: Sequence[Mask]) -> Iterator[dict[str, Any]]:
    """Yield protocol, patient, name and Dice of each complete volume, then of each selected image in none."""
    data = cases.data

    def facts(protocol: Protocol, index: int, name: str, dice: float) -> dict[str, Any]:
        return {"protocol": protocol, "person": cases.person(index), "case": name, "dice": dice}

    counts = [count_pixels(mask, data.mask(index)) for index, mask in enumerate(masks)]
    complete: set[int] = set()
    for volume in data.volumes:
        complete |= set(volume.indices)
        total = sum_counts(counts[index] for index in volume.indices)
        yield facts("volumes", volume.indices[0], volume.name, total.dice())
    for index, found in enumerate(counts):
        if index not in complete and data.case(index).selected:
            yield facts("images", index, data.case(index).case, found.dice())


def make_cells(scores: Iterable[CrossScore]) -> list[CrossCell]:
    """Return the cells of the matrix, by model and test set, in the order of the scores.

    With several runs, the Dice of a case is its mean over the runs.
    """
    grouped: dict[tuple[str, ...], dict[tuple[str, ...], list[float]]] = {}
    for one in scores:
        key = one.model, one.model_modality, one.client, one.modality
        grouped.setdefault(key, {}).setdefault((one.protocol, one.person, one.case), []).append(one.dice)
    return [_make_cell(key, cases) for key, cases in grouped.items()]


def _make_cell(key: tuple[str, ...], cases: Mapping[tuple[str, ...], list[float]]) -> CrossCell:
    found = summarise(sum(values) / len(values) for values in cases.values())
    protocols = dict.fromkeys(protocol for protocol, *_ in cases)
    model, model_modality, client, modality = key
    return CrossCell(
        model=model,
        model_modality=model_modality,
        client=client,
        modality=modality,
        protocol="+".join(protocols),
        n=len(cases),
        patients=len({person for _, person, _ in cases}),
        dice_mean=found.mean,
        dice_sd=found.sd,
    )


def write_cross_scores(path: Path, scores: Sequence[CrossScore]) -> None:
    """Write cross-site-cases.csv, atomically: a line per model, run and case."""
    header = [one.name for one in fields(CrossScore)]
    write_csv(path, header, [[_cell(getattr(score, name)) for name in header] for score in scores])


def _cell(value: Any) -> Any:
    return "" if value is None else value


def make_heat_map(cells: Sequence[CrossCell], title: str) -> HeatMap:
    """Return the picture of the matrix, with the clients of each modality together."""
    modalities = {cell.model: cell.model_modality for cell in cells}
    modalities |= {cell.client: cell.modality for cell in cells}
    groups = list(dict.fromkeys(modalities.values()))
    order = sorted(modalities, key=lambda name: groups.index(modalities[name]))
    values = {(cell.model, cell.client): cell.dice_mean for cell in cells}
    tested = {cell.client: cell for cell in cells}
    columns = [name for name in order if name in tested]
    rows = [name for name in order if any(model == name for model, _ in values)]
    return HeatMap(
        title=title,
        rows=rows,
        columns=[f"{name} ({tested[name].patients})" for name in columns],
        values=[[values.get((row, column)) for column in columns] for row in rows],
        row_groups=[modalities[name] for name in rows],
        column_groups=[modalities[name] for name in columns],
        marked=[(rows.index(name), columns.index(name)) for name in columns if name in rows],
        row_title="model of client",
        column_title="test set of client (patients)",
        value_title="Dice",
    )


def group_cells(cells: Iterable[CrossCell]) -> dict[str, list[float]]:
    """Return the mean Dice of the cells by kind: of models on their own test sets, on others of their
    modality, and on those of other modalities; without a kind that has no cell."""
    kinds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for cell in cells:
        same = cell.model_modality == cell.modality
        kind = "own" if cell.model == cell.client else "same modality" if same else "other modality"
        kinds[kind].append(cell.dice_mean)
    return {kind: values for kind, values in kinds.items() if values}


@dataclass(frozen=True, slots=True)
class CrossSite:
    """Cross-site scores of an evaluation, with the cells of their matrix."""

    scores: Sequence[CrossScore]
    cells: Sequence[CrossCell]

    @property
    def means(self) -> dict[str, float]:
        """Mean over the cells of each kind."""
        return {kind: sum(values) / len(values) for kind, values in group_cells(self.cells).items()}

    def write(self, folder: Path, run: str, picture: bool) -> None:
        """Write the scores and, if wanted, the picture; the cells are a table of the evaluation.

        Raises:
            NotWritten: the folder cannot be written.
        """
        write_cross_scores(folder / CASES_FILE, self.scores)
        if picture:
            draw_heat_map(
                folder / PICTURE,
                make_heat_map(self.cells, f"run {run}: cross-site Dice (framed: own test set)"),
            )
