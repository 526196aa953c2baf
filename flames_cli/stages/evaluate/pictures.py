"""Pictures of `flames evaluate`: overlays of every model."""

from collections.abc import Sequence

from flames_cli.arrays import Mask
from flames_cli.learn.data import ShardDataset
from flames_cli.report.figures import OverlayPanel, OverlayRow
from flames_cli.stages.evaluate.models_under_test import ModelUnderTest
from flames_cli.store.evaluations import CaseScore, unseen_kind


def overlay_name(split: str) -> str:
    """Return the name of the picture of a split."""
    return f"overlays-{split.removesuffix('_test')}.png"


def make_overlay_row(
    model: ModelUnderTest, data: ShardDataset, scores: Sequence[CaseScore], masks: Sequence[Mask]
) -> OverlayRow:
    """Return the best, median and worst selected image of a model by Dice, with its predicted masks."""
    selected = [index for index, score in enumerate(scores) if score.selected]
    ranked = sorted(selected, key=lambda index: (-scores[index].dice, index))
    picks = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    panels = []
    for name, index in picks.items():
        image, truth = data.example(index)
        caption = f"{name}: {scores[index].case}, Dice {scores[index].dice:.2f}"
        panels.append(OverlayPanel(image, truth, masks[index], caption))
    owner = "server model" if model.split == "server_test" else "client"
    kind = unseen_kind(model.unseen)
    where = f", unseen site {model.unseen}" if kind == "unseen sites" else kind and f", {kind}"
    cases = f"{len(ranked)} case{'' if len(ranked) == 1 else 's'}"
    return OverlayRow(f"{owner} {model.label} ({model.modality}, {cases}{where})", panels)
