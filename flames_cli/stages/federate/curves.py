"""Learning curves of a run, drawn while it goes on: `rounds.png` in its folder."""

import time
from collections.abc import Callable, Iterable, Sequence

from flames_cli.config import FederateConfig
from flames_cli.core.federated.best_round import score_rounds
from flames_cli.core.federated.round_parts import Record, has_groups, received_round, scored_parts
from flames_cli.fed.events import Event, Noted, OnEvent, RoundDone
from flames_cli.report.learning_curves import LearningCurves, Point, draw_learning_curves, make_band
from flames_cli.stages.rounds import read_passes, read_run_rounds
from flames_cli.store.runs import RunFolder, read_rounds

EVERY = 10
"""Number of rounds after which the curves are drawn."""

LEAST_SECONDS = 30.0
"""Shortest time between two drawings while rounds go on: a drawing takes about half a second."""


def draw_during_rounds(
    run: RunFolder, config: FederateConfig, on_event: OnEvent, clock: Callable[[], float] = time.monotonic
) -> OnEvent:
    """Return a listener that passes events on, and draws the curves after each tenth round.

    After rounds that are so short that drawing would slow them, it draws at a later tenth round. The end of
    the run is not drawn here, since the final models are examined after the last round.
    """
    drawn = clock()

    def listen(event: Event) -> None:
        nonlocal drawn
        on_event(event)
        if not isinstance(event, RoundDone):
            return
        number = event.record["round"]
        if number % EVERY == 0 and number < config.rounds and clock() - drawn >= LEAST_SECONDS:
            draw_curves(run, config, on_event)
            drawn = clock()

    return listen


def draw_curves(run: RunFolder, config: FederateConfig, on_event: OnEvent) -> None:
    """Draw the curves of all rounds so far. If that fails, it is noted: a picture never ends a run."""
    try:
        if lines := read_rounds(run.rounds):
            draw_learning_curves(run.curves, read_curves(run, config, lines))
    except Exception as error:
        on_event(
            Noted(
                f"the learning curves are not drawn ({type(error).__name__}: {error}); the run is not "
                "affected, and the same command draws them again"
            )
        )


def read_curves(run: RunFolder, config: FederateConfig, lines: Sequence[Record]) -> LearningCurves:
    """Return the learning curves of a run from its lines of rounds.jsonl and its final models.

    For a private run these are the means over its clients: a picture is passed on more easily than the files
    of the run.

    Raises:
        FlamesError: a file of the run cannot be read.
    """
    passes = read_passes(run, lines)
    scores = score_rounds(lines, passes)
    final = passes[0] if passes else None
    last = _dice_of(final) if final else {}
    curves = LearningCurves(
        title=f"run {run.name}: {config.strategy}, model {config.model}",
        loss=collect_loss(lines),
        dice=collect_dice(lines, final),
        bands={part["client"]: part["modality"] for line in lines for part in scored_parts(line)},
        pooled=sorted(scores.dice.get("all", {}).items()),
        final={client: (lines[-1]["round"], value) for client, value in last.items()},
        marks=read_run_rounds(run, config).best_rounds,
        # A curve of several clients has no mark for one of them.
        rejected=[
            (client, line["round"])
            for line in lines
            if not has_groups(line)
            for client in line.get("rejected", {})
        ],
        patients=scores.patients,
    )
    return curves if config.dp_noise is None else _means_of(curves)


def collect_loss(lines: Iterable[Record]) -> dict[str, list[Point]]:
    """Return {client: (round, training loss)}, or by model with secure aggregation."""
    return _collect((line["round"], scored_parts(line), "train_loss") for line in lines)


def collect_dice(lines: Sequence[Record], final: Record | None = None) -> dict[str, list[Point]]:
    """Return {client: (rounds done, validation Dice of the model that it received then)}, or by model.

    `final`, the reports on the final models, gives the point after the last round.
    """
    done = [
        (received_round(line, part), [part], "received_val_dice")
        for line in lines
        for part in scored_parts(line)
    ]
    if final:
        done.append((final["round"], scored_parts(final), "val_dice"))
    return _collect(done)


def _collect(entries: Iterable[tuple[int, Sequence[Record], str]]) -> dict[str, list[Point]]:
    found: dict[str, dict[int, float]] = {}
    for number, clients, name in entries:
        for client in clients:
            if client.get(name) is not None:
                # Without rounds in step, a client may train the models of the same round twice.
                found.setdefault(client["client"], {})[number] = client[name]
    return {client: list(points.items()) for client, points in found.items()}


def _dice_of(record: Record) -> dict[str, float]:
    return {part["client"]: part["val_dice"] for part in scored_parts(record) if "val_dice" in part}


def _means_of(curves: LearningCurves) -> LearningCurves:
    """Return the curves of the means over all clients, without anything about a single client."""
    n = len(curves.loss)
    name = f"mean of {n} client{'' if n == 1 else 's'}"
    means = [{name: _mean_points(series.values())} if series else {} for series in (curves.loss, curves.dice)]
    return LearningCurves(title=curves.title, loss=means[0], dice=means[1], patients=curves.patients)


def _mean_points(series: Iterable[Sequence[Point]]) -> list[Point]:
    band = make_band(list(series))
    return list(zip(band.rounds.tolist(), band.mean.tolist(), strict=True))
