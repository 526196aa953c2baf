"""Lines of the tables of a comparison: clients, server models, their parts, and values of a column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, TypeAlias

from flames_cli.errors import FlamesError
from flames_cli.stages.compare.metrics import Score
from flames_cli.stages.compare.samples import Key, Sample, join
from flames_cli.stages.evaluate.tables import NAME_OF
from flames_cli.store.evaluations import UNSEEN_KINDS, VolumeScore, name_unseen, unseen_kind

Kind: TypeAlias = Literal["model", "part", "all", "value"]
"""One client or server model; its cases of one organ or data set; all patients of a table; cases with one
value of a column."""
Pools: TypeAlias = Sequence[Mapping[Key, Sample]]
"""Samples of every run by test set; the first run is the reference."""

TABLES = {table: split for split, table in NAME_OF.items()}
"""Split of each table."""
FACTS = ("site", "dataset", "organ", "modality", "lesion")
"""Columns of every score by which cases can be divided, besides those of the user's manifest."""
EMPTY = "(empty)"
"""Shown value of an empty cell."""


@dataclass(frozen=True, slots=True)
class Line:
    """Row of a table: the same cases of all runs."""

    table: str
    """clients, server, or one of both with `-by-COLUMN`."""
    kind: Kind
    label: str
    samples: tuple[Sample | None, ...]
    """Sample of each run; None if it has no such model."""
    modality: str = ""
    organ: str = ""
    """The only organ of the cases; empty if there are several."""
    dataset: str = ""
    """The only data set of the cases; empty if there are several."""
    unseen_site: str = ""
    headline: bool = False
    """True for the line with all patients of a table; its differences are a family of tests of their own."""

    @property
    def id(self) -> tuple[str, ...]:
        """Facts that distinguish the line from all others."""
        return (self.table, self.kind, self.label, self.modality, self.organ, self.unseen_site)

    @property
    def first(self) -> Sample:
        """The sample of the first run that has one."""
        return next(sample for sample in self.samples if sample is not None)


def make_lines(pools: Pools) -> list[Line]:
    """Return the lines of both tables: a line per model with its parts, then all patients together.

    Cases of unseen sites are never pooled with those of other sites. All patients are those of the models
    that every run has.
    """
    return [line for table in TABLES for line in _table_lines(table, pools)]


def _table_lines(table: str, pools: Pools) -> Iterator[Line]:
    keys = _keys(pools, TABLES[table])
    for key in keys:
        line = _model_line(table, key, pools)
        kind = unseen_kind(key.unseen_site)
        together = _of_all([one for one in keys if unseen_kind(one.unseen_site) == kind], pools)
        headline = together == [key]
        yield replace(line, headline=headline)
        yield from _parts(line)
    for kind in UNSEEN_KINDS:
        pooled = _of_all([key for key in keys if unseen_kind(key.unseen_site) == kind], pools)
        if len(pooled) > 1:
            yield _all_line(table, pooled, pools)


def _keys(pools: Pools, split: str) -> list[Key]:
    """Return the test sets of a split in the order of the reference, then those that other runs have."""
    found = dict.fromkeys(key for pool in pools for key, sample in pool.items() if sample.units)
    return [key for key in found if key.split == split]


def _of_all(keys: Sequence[Key], pools: Pools) -> list[Key]:
    """Return those of the `keys` that every run has."""
    return [key for key in keys if all(key in pool and pool[key].units for pool in pools)]


def _model_line(table: str, key: Key, pools: Pools) -> Line:
    samples = tuple(pool.get(key) for pool in pools)
    facts = next(sample for sample in samples if sample is not None).facts
    label = name_unseen(key.name, key.unseen_site)
    return Line(
        table,
        "model",
        label,
        samples,
        key.modality,
        _only({score.organ for score in facts}),
        _only({score.dataset for score in facts}),
        key.unseen_site,
    )


def _parts(line: Line) -> Iterator[Line]:
    """Yield the cases of each organ if there are several, and of each data set if an organ has several."""
    facts = line.first.facts
    organs = sorted({score.organ for score in facts})
    for organ in organs:
        datasets = sorted({score.dataset for score in facts if score.organ == organ})
        if len(organs) > 1:
            yield _part(line, organ, organ, _only(set(datasets)))
        for dataset in datasets if len(datasets) > 1 else ():
            yield _part(line, dataset, organ, dataset)


def _part(line: Line, label: str, organ: str, dataset: str) -> Line:
    samples = tuple(
        sample and sample.only(lambda score: score.organ == organ and dataset in ("", score.dataset))
        for sample in line.samples
    )
    return Line(line.table, "part", label, samples, line.modality, organ, dataset, line.unseen_site)


def _all_line(table: str, keys: Sequence[Key], pools: Pools) -> Line:
    unseen = ", ".join(dict.fromkeys(key.unseen_site for key in keys if key.unseen_site))
    kind = unseen_kind(keys[0].unseen_site)
    label = {"": "all patients", "unseen sites": "all patients of unseen sites"}.get(kind, f"all, {kind}")
    return Line(
        table,
        "all",
        label,
        tuple(join([pool[key] for key in keys]) for pool in pools),
        _only({key.modality for key in keys}),
        unseen_site=unseen,
        headline=True,
    )


def _only(names: set[str]) -> str:
    """Return the only one of the `names`; empty if there are several."""
    return next(iter(names)) if len(names) == 1 else ""


def divide_by(pools: Pools, column: str) -> list[Line]:
    """Return a line for each value of a column, for the models that all runs have.

    Args:
        pools: samples of every run.
        column: one of FACTS, or a column that the user's manifest has.

    Raises:
        FlamesError: no case has that column; or sizes of lesions are asked of volumes.
    """
    _check_column(pools, column)
    lines: list[Line] = []
    for table, split in TABLES.items():
        keys = _of_all(_keys(pools, split), pools)
        for kind in UNSEEN_KINDS:
            some = [key for key in keys if unseen_kind(key.unseen_site) == kind]
            if some:
                together = tuple(join([pool[key] for key in some]) for pool in pools)
                lines += _value_lines(f"{table}-by-{column}", together, column, kind)
    return lines


def _value_lines(table: str, samples: tuple[Sample, ...], column: str, kind: str) -> Iterator[Line]:
    values = {value_of(score, column) for score in samples[0].facts}
    for value in sorted(values, key=_natural):
        part = tuple(sample.only(lambda score: value_of(score, column) == value) for sample in samples)  # noqa: B023
        label = ", ".join(filter(None, (value or EMPTY, kind)))
        yield Line(table, "value", label, part)


def value_of(score: Score, column: str) -> str:
    """Return the cell of a score in one of FACTS or in a column of the user's manifest."""
    return str(getattr(score, column)) if column in FACTS else score.extra.get(column, "")


def _natural(value: str) -> tuple[int, float, str]:
    try:
        return (0, float(value), value)
    except ValueError:
        return (1, 0.0, value)


def _check_column(pools: Pools, column: str) -> None:
    scores = [score for pool in pools for sample in pool.values() for score in sample.facts]
    known = [*FACTS, *sorted({name for score in scores for name in score.extra})]
    if column not in known:
        near = get_close_matches(column, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise FlamesError(
            f"got --by {column}, and no test case has this column{hint}; choose one of {', '.join(known)}, "
            "or keep more columns of your manifest with `flames preprocess`"
        )
    if column == "lesion" and any(isinstance(score, VolumeScore) for score in scores):
        raise FlamesError(
            "got --by lesion, and the rules for small lesions are for images, not for volumes; pass "
            "--protocol slices"
        )
