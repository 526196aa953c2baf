"""Pictures of `flames evaluate`: overlays of every model."""

from collections.abc import Sequence
from pathlib import Path

from flames_cli.learn.segment import Segmenter
from flames_cli.report.figures import OverlayPanel, OverlayRow, draw_overlays
from flames_cli.stages.evaluate.parts import Scored
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score


def overlay_name(split: str) -> str:
    """Return the name of the picture of a split."""
    return f"overlays-{split.removesuffix('_test')}.png"


def draw_evaluation(folder: Path, title: str, segmenter: Segmenter, scored: dict[str, list[Scored]]) -> None:
    """Draw the best, median and worst case of every model, one picture per split, each with `title`."""
    for split, tested in scored.items():
        if chosen := [one for one in tested if one.scores[0]]:
            rows = [_overlay_row(segmenter, one.model, one.scores[0]) for one in chosen]
            draw_overlays(folder / overlay_name(split), rows, title)


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
