"""Sections that other commands may have made before: the cross-site matrix and the map of the cases."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flames_cli.core.words import count
from flames_cli.errors import FlamesError
from flames_cli.report.document import Block, Commands, Paragraph, Scan, Section
from flames_cli.report.pictures import png_address
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.evaluate.cross_site import TABLE as CROSS_SITE
from flames_cli.stages.report.gathering import Gathered
from flames_cli.store.evaluations import SUMMARY, EvaluationFile, read_evaluation_file
from flames_cli.store.schema import EMBEDDING, check_stamp, read_json

MAP_SUMMARY, MAP_PICTURE = "tsne.json", "tsne.png"


def cross_site_section(gathered: Gathered) -> Section:
    """Return the section; it is empty for a private run, and where the data are at their sites."""
    hidden = gathered.private or gathered.first.at_sites or not gathered.results
    blocks = [] if hidden else list(_cross_site(gathered))
    return Section("cross-site", "Every client's model on every client's test set", blocks)


def _cross_site(gathered: Gathered) -> Iterator[Block]:
    found = _find_cross_site(gathered)
    if found is None:
        yield Paragraph("There is no cross-site evaluation of these models yet. This command makes it:")
        yield Commands([f"flames evaluate --run {gathered.name} --cross-site"])
    else:
        yield _matrix(found.tables[CROSS_SITE])


def _find_cross_site(gathered: Gathered) -> EvaluationFile | None:
    """Return an evaluation of the same models with a cross-site matrix; None if there is none."""
    assert gathered.results is not None
    models = [run.models for run in gathered.results.found[0].content.runs]
    for path in sorted((gathered.workspace / "evaluations").glob(f"[!.]*/{SUMMARY}")):
        try:
            content = read_evaluation_file(path)
        except FlamesError:
            continue
        if CROSS_SITE in content.tables and [run.models for run in content.runs] == models:
            return content
    return None


def _matrix(cells: Sequence[Mapping[str, Any]]) -> TextTable:
    modalities = {cell["model"]: cell["model_modality"] for cell in cells}
    tests = {cell["client"]: (cell["modality"], cell["patients"]) for cell in cells}
    values = {(cell["model"], cell["client"]): cell["dice_mean"] for cell in cells}
    rows, bold = [], set()
    for number, (model, modality) in enumerate(modalities.items()):
        found = [values.get((model, client)) for client in tests]
        rows.append([model, modality, *("" if value is None else f"{value:.2f}" for value in found)])
        bold |= {(number, 2 + place) for place, client in enumerate(tests) if client == model}
    header = ["model of", "modality", *(f"{name} ({modality}, {n})" for name, (modality, n) in tests.items())]
    note = "Columns: test sets, with modality and number of patients. Bold: the client's own test set."
    return TextTable("Mean Dice", header, rows, 2, frozenset(bold), notes=[note])


def map_section(gathered: Gathered) -> Section:
    """Return the section with Figure 6 of the FLAMES paper; it is empty for a private run, and where the data
    are at their sites."""
    hidden = gathered.private or gathered.partition is None
    blocks = [] if hidden else list(_map(gathered))
    return Section("map", "Map of the training images (Figure 6 of the FLAMES paper)", blocks)


def _map(gathered: Gathered) -> Iterator[Block]:
    found = _find_map(gathered)
    if found is None:
        yield Paragraph("There is no map of these images yet. This command makes it:")
        partition = gathered.partition.name if gathered.partition else ""
        named = "" if partition == "default" else f" --partition {partition}"
        yield Commands([f"flames tsne{named}"])
        return
    folder, content = found
    source = f"bottleneck features of run {content['run']}" if content.get("run") else "pixels"
    n = sum(content["images"].values())
    yield Paragraph(
        f"t-SNE of {count(n, 'image')} ({source}). Modalities separate with silhouette "
        f"{_number(content['silhouette_modality'])} in the features and "
        f"{_number(content['silhouette_modality_map'])} on the map (1: well apart, 0: mixed), clients with "
        f"{_number(content['silhouette_client'])}."
    )
    yield Scan(png_address((folder / MAP_PICTURE).read_bytes()), "Map of the clients' training images")


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "unknown"


def _find_map(gathered: Gathered) -> tuple[Path, Mapping[str, Any]] | None:
    """Return a map of the run's features, else one of the pixels of its partition; None if there is none."""
    assert gathered.partition is not None
    names = {run.folder.name for run in gathered.runs}
    found: dict[bool, tuple[Path, Mapping[str, Any]]] = {}
    for path in sorted((gathered.workspace / "maps").glob(f"[!.]*/{MAP_SUMMARY}")):
        try:
            content = read_json(path, EMBEDDING)
            check_stamp(content, EMBEDDING, path)
        except FlamesError:
            continue
        own, is_pixels = content.get("run") in names, not content.get("run")
        same = content.get("partition_sha256") == gathered.partition.sha256
        if same and (own or is_pixels) and (path.parent / MAP_PICTURE).is_file():
            found.setdefault(own, (path.parent, content))
    return found.get(True) or found.get(False)
