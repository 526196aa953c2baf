"""Section with the best, median and worst test case of every model: pictures of patients."""

from collections.abc import Iterator

from flames_cli.report.document import Block, Gallery, Paragraph, Section
from flames_cli.report.pictures import Picture
from flames_cli.stages.compare.pictures import PickedCase, pick_cases
from flames_cli.stages.report.examples import MOST_GALLERIES, to_pixels
from flames_cli.stages.report.gathering import Gathered, Results


def overlays_section(gathered: Gathered) -> Section:
    """Return the section; it is empty without results or without pictures."""
    blocks = list(_blocks(gathered, gathered.results)) if gathered.pictures and gathered.results else []
    return Section("overlays", "Masks over images: best, median and worst case", blocks)


def _blocks(gathered: Gathered, results: Results) -> Iterator[Block]:
    yield Paragraph(
        "Blue: the true mask. Orange: the predicted mask. A volume has its place by its own Dice, and is "
        "shown by the slice with the largest true mask, with the Dice of this slice.",
        "faint",
    )
    for table in ("clients", "server"):
        by_model: dict[str, list[PickedCase]] = {}
        for one in pick_cases(results.comparison.tables, results.found, table, gathered.workspace):
            by_model.setdefault(one.model, []).append(one)
        for model, cases in list(by_model.items())[:MOST_GALLERIES]:
            yield Gallery(model, [picture for one in cases for picture in _pictures(one, results.runs)])
        if (more := len(by_model) - MOST_GALLERIES) > 0:
            yield Paragraph(f"Not shown: {more} more models.", "faint")


def _pictures(case: PickedCase, runs: list[str]) -> Iterator[Picture]:
    for run, mask, score in zip(runs, case.masks, case.scores, strict=True):
        name = f"{case.place}, {run}: {score}" if len(runs) > 1 else f"{case.place}: {score}"
        yield Picture(to_pixels(case.image), case.truth, name, case.case, mask)
