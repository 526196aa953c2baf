"""Pictures of `flames evaluate`: overlays of every model, and the learning curves of the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.learn.segment import Segmenter
from flames_cli.report.figures import OverlayPanel, OverlayRow, draw_overlays, draw_rounds
from flames_cli.stages.evaluate.parts import Scored
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score


def overlay_name(split: str) -> str:
    """Return the name of the picture of a split."""
    return f"overlays-{split.removesuffix('_test')}.png"


@dataclass(frozen=True, slots=True)
class Curves:
    """Learning curves of a run."""

    run: str
    series: dict[str, list[tuple[int, float]]]
    """Rounds and validation Dice by client."""
    marks: dict[str, int] = field(default_factory=dict)
    """Rounds to mark, by rule: best, best-small."""


def draw_evaluation(
    folder: Path,
    round_: int,
    segmenter: Segmenter,
    scored: dict[str, list[Scored]],
    curves: Curves,
) -> None:
    """Draw the best, median and worst case of every model, one picture per split, and the learning curves.

    All name the run; the pictures of cases also name `round_`, the round of the models.
    """
    for split, tested in scored.items():
        if chosen := [one for one in tested if one.scores[0]]:
            rows = [_overlay_row(segmenter, one.model, one.scores[0]) for one in chosen]
            draw_overlays(folder / overlay_name(split), rows, f"{curves.run}, round {round_}")
    if curves.series:
        draw_rounds(folder / "rounds.png", curves.series, curves.marks, curves.run)


def _overlay_row(segmenter: Segmenter, model: ModelUnderTest, scores: Sequence[Score]) -> OverlayRow:
    """Return the best, median and worst case by Dice."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index].metrics["dice"], index))
    picks = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    panels = []
    for (name, index), predicted in zip(
        picks.items(), segmenter.masks(model.weights, model.data, list(picks.values())), strict=True
    ):
        image, truth = model.data.example(index)
        caption = f"{name}: {scores[index].case}, Dice {scores[index].metrics['dice']:.2f}"
        panels.append(OverlayPanel(image, truth, predicted, caption))
    owner = "server model" if model.split == "server_test" else "client"
    where = f", unseen site {model.unseen}" if model.unseen else ""
    cases = f"{len(scores)} case{'' if len(scores) == 1 else 's'}"
    return OverlayRow(f"{owner} {model.label} ({model.modality}, {cases}{where})", panels)


def learning_curves(
    records: Sequence[dict[str, Any]], final: dict[str, Any] | None = None
) -> dict[str, list[tuple[int, float]]]:
    """Return {client: (rounds done, validation Dice of the model that it received then)}.

    `final`, the content of final-models.json, gives the point after the last round, if it is of that round.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for client in record["clients"]:
            if client.get("received_val_dice") is not None:
                curves.setdefault(client["client"], []).append(
                    (record["round"] - 1, client["received_val_dice"])
                )
    if final and records and final["round"] == records[-1]["round"]:
        for client in final["clients"]:
            if "val_dice" in client:
                curves.setdefault(client["client"], []).append((final["round"], client["val_dice"]))
    return curves
