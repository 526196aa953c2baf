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
    panels = []
    for place, name in name_places(len(ranked)).items():
        index = ranked[place]
        image, truth = data.example(index)
        caption = f"{name}: {scores[index].case}, Dice {scores[index].dice:.2f}"
        panels.append(OverlayPanel(image, truth, masks[index], caption))
    kind = unseen_kind(model.unseen)
    where = f"unseen site {model.unseen}" if kind == "unseen sites" else kind
    cases = f"{len(ranked)} case{'' if len(ranked) == 1 else 's'}"
    return OverlayRow(name_model(model.split, model.label, model.modality, cases, where), panels)


def name_places(n: int) -> dict[int, str]:
    """Return the places of the best, median and worst of `n` ranked cases with these words; one of fewer than
    three cases has several words."""
    places = {"best": 0, "median": n // 2, "worst": n - 1}
    return {
        place: " / ".join(word for word, own in places.items() if own == place) for place in places.values()
    }


def name_model(split: str, label: str, modality: str, *notes: str) -> str:
    """Return the name of a model above its pictures, such as "client busi (US)" or "server model US"."""
    owner = "server model" if split == "server_test" else "client"
    shown = ", ".join(filter(None, ("" if label == modality else modality, *notes)))
    return f"{owner} {label} ({shown})" if shown else f"{owner} {label}"
