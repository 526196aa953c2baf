"""Table of the metrics of plug-ins: a line per metric and model, of complete volumes and of other images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.evaluate.parts import Part, pool_runs
from flames_cli.stages.evaluate.summary import by_protocol
from flames_cli.store.evaluations import METRIC_FACTS, CaseScore, VolumeScore


def metric_lines(
    cases: Sequence[CaseScore], volumes: Sequence[VolumeScore], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the lines of one split, for the metrics in `options` of evaluation.json.

    A line has the mean and the standard deviation (n - 1) over the images or volumes whose value is finite;
    with several seeds those of the seeds' means, as in the tables of all other metrics.
    """
    images, stacks = pool_runs(case for case in cases if case.selected), pool_runs(volumes)
    return [
        _line(name, facts, part, protocol)
        for name, facts in options.get(METRIC_FACTS, {}).items()
        for model in images
        for part, protocol in by_protocol(model, stacks)
    ]


def _line(name: str, facts: Mapping[str, Any], part: Part[Any], protocol: str) -> dict[str, Any]:
    rows = [[(score.person, score.metrics.get(name)) for score in row] for row in part.scores]
    known = [[(person, value) for person, value in row if value is not None] for row in rows]
    found = summarise_seeds([value for _, value in row] for row in known)
    return {
        "metric": name,
        "model": part.label,
        "modality": part.modality,
        "organ": part.organ,
        "unseen_site": part.unseen,
        "protocol": protocol,
        "mean": found.mean,
        "sd": found.sd,
        "patients": len({person for row in known for person, value in row if math.isfinite(value)}),
        "n": found.n,
        "n_infinite": found.n_infinite,
        "n_undefined": len(part.cases) - min(map(len, known)),
        "seeds": len(rows),
        "higher_is_better": facts["higher_is_better"],
        "unit": facts["unit"],
    }
