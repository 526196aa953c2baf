"""Section about how to repeat a run: commands, seed, checksums, and its configuration."""

from collections.abc import Iterator

from flames_cli.config import FederateConfig, keys_with
from flames_cli.report.document import Block, Commands, Heading, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.report.commands import repeat_commands
from flames_cli.stages.report.gathering import Gathered
from flames_cli.store.runs import PARTITION_SHA256


def repeat_section(gathered: Gathered) -> Section:
    """Return the section."""
    return Section("repeat", "How to repeat it", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    yield Paragraph(
        "These commands make the run again, with the same seed and the same data. Options that have their "
        "default are left out."
    )
    yield Commands(list(repeat_commands(gathered)))
    yield _checksums(gathered)
    yield Heading("Configuration")
    hidden = {*keys_with(FederateConfig, "stored", False), "encoder_weights"}  # the last may be a path
    options = gathered.options_of(gathered.first)
    rows = [
        [key, _text(value)]
        for key, value in options.items()
        if key not in hidden and value not in (None, {}, [], ())
    ]
    yield TextTable(f"Options of run {gathered.first.folder.name}", ["option", "value"], rows, 2)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _checksums(gathered: Gathered) -> TextTable:
    rows = [["seed", "", ", ".join(dict.fromkeys(str(run.seed) for run in gathered.runs))]]
    for run in gathered.runs:
        if sha256 := run.facts.get(PARTITION_SHA256):
            rows.append(["partition", run.config.partition, str(sha256)])
    if gathered.partition and not gathered.private:
        content = gathered.partition.content
        rows += [["shard", one.name, one.sha256] for one in content.clients]
        rows += [["shard", f"server-{one.modality}", one.sha256] for one in content.server]
    if gathered.results:
        rows += [
            ["checkpoint", f"{run.name}, round {run.round}", run.checkpoint]
            for one in gathered.results.found
            for run in one.content.runs
        ]
    unique = [list(row) for row in dict.fromkeys(tuple(row) for row in rows)]
    return TextTable("Seed and checksums (SHA-256)", ["what", "name", "value"], unique, 3)
