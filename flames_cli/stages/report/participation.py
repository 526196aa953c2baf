"""Section about the partition and the clients: how the images were divided, and which reports were
rejected, with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flames_cli.core.federated.round_parts import has_groups
from flames_cli.core.words import count
from flames_cli.report.document import Block, Bullets, Heading, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.report.data import preprocessing_reports
from flames_cli.stages.report.gathering import Gathered, RunRecord

MOST_REASONS = 30
"""Largest number of lines of rejected reports; the file rounds.jsonl has all of them."""

LEFT_OUT = {
    "skipped": "images or volumes left out by the rules of the data set",
    "bad": "images or volumes left out because they cannot be used",
    "copies_left_out": "copies left out",
    "near_copies_kept_together": "groups of near copies, each kept in one set",
    "ids_alike_kept_together": "groups of patients whose ids are alike, each kept in one set",
}
"""Lists in the report of `flames preprocess`, with words for their entries."""


def participation_section(gathered: Gathered) -> Section:
    """Return the section; a private run has only the numbers of rejected reports in it."""
    return Section("partition", "Partition and participation", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    if gathered.partition:
        yield Paragraph(_describe(gathered))
        if lines := [*_left_out(gathered)]:
            yield Bullets(lines)
    else:
        yield Paragraph(gathered.hide_paths(gathered.no_partition))
    yield Heading("Reports of the clients")
    for run in gathered.runs:
        yield from _reports(run, gathered)


def _describe(gathered: Gathered) -> str:
    """Return how the images were divided."""
    assert gathered.partition is not None
    content = gathered.partition.content
    options = content.options
    split = ", ".join(f"{name} {_parts(n)}" for name, n in options.get("split", {}).items())
    words = [
        f"Partition {gathered.partition.name}, seed {content.seed}: patients, never single images, were "
        f"divided between {count(len(content.clients), 'client')}"
        + (f" ({split})" if split and not gathered.private else "")
        + "."
    ]
    if options.get("skew") is not None:
        words.append(f"The shares of the clients are uneven (Dirichlet concentration {options['skew']:g}).")
    if options.get("fold"):
        words.append(f"The clients' test patients are fold {options['fold']} of a cross-validation.")
    for name, sites in options.get("hold_out_site", {}).items():
        words.append(f"No client has the sites {', '.join(sites)} of {name}; the server tests on them.")
    if "val_fraction" in options:
        words.append(
            f"{options['val_fraction']:.0%} of each client's training patients select the epoch and the "
            "round, and no model is trained on them."
        )
    return " ".join(words)


def _parts(split: Any) -> str:
    return "by site" if split == "site" else f"into {split}"


def _left_out(gathered: Gathered) -> Iterator[str]:
    """Yield what is in no set, by data set, with the reason."""
    if gathered.private or gathered.partition is None:
        return
    for name, images in gathered.partition.content.left_out.items():
        yield f"{name}: {count(images, 'image')} in no set, since the patients are of a held-out site"
    for report in preprocessing_reports(gathered):
        found = [f"{words}: {len(report[key])}" for key, words in LEFT_OUT.items() if report.get(key)]
        if found:
            yield f"{report['dataset']}, {'; '.join(found)}"
        for site, images in report.get("sites_left_out", {}).items():
            yield f"{report['dataset']}: site {site}, {images} left out"


def _reports(run: RunRecord, gathered: Gathered) -> Iterator[Block]:
    name = f"{run.folder.name}: " if gathered.is_family else ""
    accepted = sum(len(line.get("accepted", ())) for line in run.lines)
    rejected = [(line["round"], *one) for line in run.lines for one in line.get("rejected", {}).items()]
    if not run.lines:
        yield Paragraph(f"{name}No round is done.")
        return
    yield Paragraph(
        f"{name}{count(len(run.lines), 'round')}, {accepted:,} reports accepted, {len(rejected):,} rejected "
        "or missing."
    )
    if gathered.private:
        return
    if rejected:
        yield _rejected_table(
            [(number, client, gathered.hide_paths(reason)) for number, client, reason in rejected]
        )
    if not gathered.is_family:
        yield _client_table(run)
    unchanged = {
        line["round"]: line["unchanged_groups"] for line in run.lines if line.get("unchanged_groups")
    }
    if unchanged:
        rounds = "; ".join(f"round {number}: {', '.join(groups)}" for number, groups in unchanged.items())
        yield Paragraph(f"{name}Models without a report, which did not change: {rounds}.", "faint")


def _rejected_table(rejected: Sequence[tuple[int, str, str]]) -> TextTable:
    by_reason: dict[tuple[str, str], list[int]] = {}
    for number, client, reason in rejected:
        by_reason.setdefault((client, reason), []).append(number)
    rows = [
        [client, reason, _rounds(numbers), str(len(numbers))]
        for (client, reason), numbers in by_reason.items()
    ]
    more = len(rows) - MOST_REASONS
    notes = [f"{more} more lines: see rounds.jsonl in the folder of the run."] if more > 0 else []
    header = ["client", "reason", "rounds", "number"]
    return TextTable("Reports that were rejected or missing", header, rows[:MOST_REASONS], 2, notes=notes)


def _rounds(numbers: Sequence[int]) -> str:
    """Return rounds as `3`, or `3 to 7`."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _client_table(run: RunRecord) -> TextTable:
    asked: dict[str, list[Mapping[str, Any]]] = {}
    for line in run.lines:
        for client in line["clients"]:
            asked.setdefault(client["client"], []).append(client)
    hidden = any(has_groups(line) for line in run.lines)
    rows = []
    for name, entries in asked.items():
        rejected = sum(name in line.get("rejected", {}) for line in run.lines)
        examples = [entry["n_examples"] for entry in entries if "n_examples" in entry]
        rows.append(
            [
                name,
                entries[0]["modality"],
                f"{len(entries)} of {len(run.lines)}",
                str(rejected),
                "hidden" if hidden else f"{examples[-1]:,}" if examples else "none",
            ]
        )
    header = ["client", "modality", "rounds asked", "rejected", "training images"]
    return TextTable("Participation", header, rows, 2)
