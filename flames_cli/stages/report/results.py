"""Section about the test results: Tables 3 and 4 of the FLAMES paper, volumes, differences, lesions, and
fairness."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flames_cli.core.imaging.small_lesion_rule import parse_small_lesion_rule
from flames_cli.report.document import Block, Commands, Heading, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.compare.grids import difference_table
from flames_cli.stages.compare.notes import notes_of
from flames_cli.stages.compare.statistics import Fairness
from flames_cli.stages.report.commands import evaluate_command
from flames_cli.stages.report.gathering import IMAGE_METRICS, VOLUME_METRICS, Gathered, Results
from flames_cli.stages.report.score_grid import score_grid
from flames_cli.store.evaluations import EvaluationFile

TITLES = {
    "clients": "Clients' models on their own test patients (Table 3 of the FLAMES paper)",
    "server": "Server models on patients that no client has (Table 4 of the FLAMES paper)",
}
VOLUME_TITLES = {"clients": "Clients' models, complete volumes", "server": "Server models, complete volumes"}
INTERVAL = "[ ]: 95 % bootstrap interval over patients, too narrow for fewer than some 20 of them."


def results_section(gathered: Gathered) -> Section:
    """Return the section; a private run has only the results of the server's models in it."""
    return Section("results", "Test results", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    if results := gathered.results:
        tables = ["server"] if gathered.private else ["clients", "server"]
        yield from _describe(gathered, results)
        for table in tables:
            yield from _score_tables(results, table)
        yield from _differences(results, tables)
        yield from _lesions(results, tables)
        if not gathered.private:
            yield from _fairness(results)
    else:
        yield Paragraph(f"There are no test results: {gathered.hide_paths(gathered.no_results)}.")
        if not gathered.first.at_sites:
            yield Commands([evaluate_command(gathered)])
    if gathered.tests and not gathered.private:
        yield from _tests_at_sites(gathered, gathered.tests)


def _describe(gathered: Gathered, results: Results) -> Iterator[Block]:
    """Yield the rounds that were tested, and what is not in the tables."""
    for one in results.found:
        content = one.content
        rounds = sorted({run.round for run in content.runs})
        chosen = f"{content.run}: models of round{'s' if len(rounds) > 1 else ''} "
        yield Paragraph(f"{chosen}{', '.join(map(str, rounds))}, {content.runs[0].why}.", "faint")
        if content.untested and not gathered.private:
            missing = "; ".join(f"{name}: {why}" for name, why in content.untested.items())
            yield Paragraph(f"{content.run}, not tested: {gathered.hide_paths(missing)}.", "warning")


def _score_tables(results: Results, table: str) -> Iterator[Block]:
    if results.images.of("dice", table):
        made = score_grid(results.images, table, IMAGE_METRICS, results.runs)
        note = "Protocol slices: each selected image has one value, as in the paper."
        yield replace(made, title=TITLES[table], notes=[f"{note} {INTERVAL}"])
    volumes = score_grid(results.comparison.tables, table, VOLUME_METRICS, results.runs, volumes=True)
    if volumes.rows:
        note = "Protocol volumes: each complete volume has one value, over all of its slices."
        missed = "HD95 is the diagonal of the volume where a model finds nothing."
        yield replace(volumes, title=VOLUME_TITLES[table], notes=[f"{note} {INTERVAL} {missed}"])


def _differences(results: Results, tables: Sequence[str]) -> Iterator[Block]:
    """Yield the paired differences in Dice of each other run to the first."""
    if len(results.runs) < 2:
        return
    yield Heading("Paired differences")
    scores = [
        one for table in tables for one in results.comparison.tables.of("dice", table) if any(one.differences)
    ]
    if not scores:
        yield Paragraph("The runs have no model of the same name, so no cases can be paired.")
        return
    made = difference_table(scores, results.runs, detail=True)
    yield replace(made, notes=[*notes_of(results.comparison), "Bold: corrected p below 0.05."])


def _lesions(results: Results, tables: Sequence[str]) -> Iterator[Block]:
    """Yield Dice and found lesions by size, of each run."""
    yield Heading("Small and large lesions")
    for table in tables:
        rows = [row for one in results.found for row in _lesion_rows(one.content, table, results.runs)]
        if rows:
            header = ["client" if table == "clients" else "model", "images of"]
            header += ["run"] if len(results.runs) > 1 else []
            names = len(header)
            header += ["small: Dice (images)", "found", "large: Dice (images)", "found"]
            title = f"{'Clients' if table == 'clients' else 'Server models'}, selected images"
            yield TextTable(title, header, rows, names)
    yield Paragraph(
        f"Small lesions: {_small_rules(results)}. Found: lesions that a predicted one matches, of all.",
        "faint",
    )


def _small_rules(results: Results) -> str:
    """Return the rules for small lesions, with the data sets that have them if there are several rules."""
    rules: dict[str, dict[str, None]] = {}
    for one in results.found:
        for name, rule in one.content.small.items():
            rules.setdefault(parse_small_lesion_rule(rule).condition, {})[name] = None
    if len(rules) == 1:
        return next(iter(rules))
    return "; ".join(f"{', '.join(names)}: {rule}" for rule, names in rules.items())


def _lesion_rows(content: EvaluationFile, table: str, runs: Sequence[str]) -> Iterator[list[str]]:
    groups: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for line in content.tables.get(f"lesions-{table}", ()):
        key = tuple(str(line[name]) for name in ("model", "modality", "organ", "dataset", "unseen_site"))
        groups.setdefault(key, {})[str(line["lesion"])] = line
    for (model, modality, organ, dataset, unseen), sizes in groups.items():
        if dataset:
            continue
        what = ", ".join(filter(None, (f"{organ} {modality}".strip(), unseen)))
        named = [model, what, *([content.run] if len(runs) > 1 else [])]
        yield [*named, *(cell for size in ("small", "large") for cell in _lesion_cells(sizes.get(size)))]


def _lesion_cells(line: Mapping[str, Any] | None) -> list[str]:
    if line is None or not line["n"]:
        return ["none", ""]
    dice = "none" if line["dice_mean"] is None else f"{line['dice_mean']:.2f}"
    return [f"{dice} ({line['n']:,})", f"{line['lesions_matched']:,} of {line['lesions']:,}"]


def _fairness(results: Results) -> Iterator[Block]:
    spread = results.comparison.tables.spread("dice")
    found = [(run, one) for run, one in zip(results.runs, spread.runs, strict=True) if one] if spread else []
    if not any(one.n_clients > 1 for _, one in found):
        return
    yield Heading("Fairness between clients")
    rows = [_fairness_row(run, one) for run, one in found]
    header = ["run", "clients", "mean of clients", "sd", "range", "worst client"]
    note = "Dice; each client counts once, with volumes and still images as in the differences."
    yield TextTable("Spread of the clients' mean Dice", header, rows, 1, notes=[note])


def _fairness_row(run: str, one: Fairness) -> list[str]:
    numbers = ("–" if math.isnan(value) else f"{value:.3f}" for value in (one.mean, one.sd, one.range))
    return [run, str(one.n_clients), *numbers, f"{one.worst_client} ({one.worst:.3f})"]


def _tests_at_sites(gathered: Gathered, tests: Mapping[str, Any]) -> Iterator[Block]:
    """Yield what real nodes report about their own test sets."""
    rows = []
    for one in tests["clients"]:
        cells = [_summary_cell(one["metrics"][name], factor) for name, factor in SITE_METRICS.values()]
        rows.append([one["client"], one["modality"], f"{one['n']:,}", *cells])
    if rows:
        title = f"Clients at their own sites, after round {tests['round']}: mean ± sd over cases"
        yield TextTable(title, ["client", "modality", "cases", *SITE_METRICS], rows, 2)
    for client, reason in tests["silent"].items():
        yield Paragraph(f"{client} reports no test: {gathered.hide_paths(reason)}.", "faint")


SITE_METRICS = {"IoU": ("iou", 1), "Dice": ("dice", 1), "accuracy %": ("pixel_accuracy", 100)}


def _summary_cell(found: Mapping[str, Any], factor: int) -> str:
    mean, sd = (math.nan if found[key] is None else float(found[key]) for key in ("mean", "sd"))
    return "none" if math.isnan(mean) else f"{factor * mean:.2f} ± {factor * sd:.2f}"
