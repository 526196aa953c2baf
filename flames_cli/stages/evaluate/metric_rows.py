"""Table of the metrics of plug-ins: a line per metric and model, of complete volumes and of other images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flames_cli.core.scores.metrics import summarise
from flames_cli.stages.evaluate.parts import Part, pool_runs
from flames_cli.stages.evaluate.summary import by_protocol
from flames_cli.store.evaluations import METRIC_FACTS, CaseScore, VolumeScore


def metric_lines(
    cases: Sequence[CaseScore], volumes: Sequence[VolumeScore], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the lines of one split, for the metrics in `options` of evaluation.json.

    A patient's value is the mean over the cases and seeds for which it is finite; the line has the mean and
    the standard deviation (n - 1) of the patients' values.
    """
    images, stacks = pool_runs(case for case in cases if case.selected), pool_runs(volumes)
    return [
        _line(name, facts, part, protocol)
        for name, facts in options.get(METRIC_FACTS, {}).items()
        for model in images
        for part, protocol in by_protocol(model, stacks)
    ]


def _line(name: str, facts: Mapping[str, Any], part: Part[Any], protocol: str) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    n = n_infinite = 0
    for row in part.scores:
        for score in row:
            value = score.metrics.get(name)
            if value is not None and math.isinf(value):
                n_infinite += 1
            elif value is not None:
                n += 1
                values.setdefault(score.person, []).append(value)
    found = summarise(math.fsum(own) / len(own) for own in values.values())
    return {
        "metric": name,
        "model": part.label,
        "modality": part.modality,
        "organ": part.organ,
        "unseen_site": part.unseen,
        "protocol": protocol,
        "mean": found.mean,
        "sd": found.sd,
        "patients": found.n,
        "n": n,
        "n_infinite": n_infinite,
        "n_undefined": len(part.cases) * len(part.scores) - n - n_infinite,
        "higher_is_better": facts["higher_is_better"],
        "unit": facts["unit"],
    }
