"""Sections about the cost of a run: privacy, time and bytes, and the machines on which it ran."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flames_cli.core.words import count, duration, epsilon_spent, size
from flames_cli.fed.engines import ENGINES
from flames_cli.report.document import Block, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.report.gathering import Gathered, RunRecord
from flames_cli.store.runs import MACHINES

NOT_COVERED = "It does not cover the losses, Dice and counts that clients report, nor the test scores."


def cost_section(gathered: Gathered) -> Section:
    """Return the section about privacy, time and bytes."""
    return Section("cost", "Privacy, time and bytes", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    yield Paragraph(describe_privacy(gathered))
    if any(run.lines for run in gathered.runs):
        yield _total_table(gathered.runs)
    if not gathered.private and not gathered.is_family and gathered.first.lines:
        yield _client_table(gathered.first)


def describe_privacy(gathered: Gathered) -> str:
    """Return the privacy cost in a sentence."""
    config, lines = gathered.first.config, gathered.first.lines
    if config.dp_noise is None or config.dp_clip is None:
        return (
            "No differential privacy: images stay at the clients, and the weights that are exchanged are "
            "not blurred."
        )
    spent = (
        lines[-1] if lines and "epsilon" in lines[-1] else {"epsilon": None, "delta": config.dp_delta or 1e-5}
    )
    place = " that the clients added" if config.secure_aggregation else ""
    return (
        f"Differential privacy: {epsilon_spent(spent)} for each client, with noise "
        f"{config.dp_noise:g}{place} and clip {config.dp_clip:g}. {NOT_COVERED}"
    )


def _total_table(runs: Sequence[RunRecord]) -> TextTable:
    rows = []
    for run in runs:
        if run.lines:
            seconds = [float(line.get("seconds", 0)) for line in run.lines]
            memory = [float(line["rss_mb"]) for line in run.lines if line.get("rss_mb")]
            rows.append(
                [
                    run.folder.name,
                    str(len(run.lines)),
                    duration(sum(seconds)),
                    duration(statistics.median(seconds)),
                    size(total_bytes(run, "bytes_down")),
                    size(total_bytes(run, "bytes_up")),
                    f"{max(memory):,.0f} MB" if memory else "not known",
                ]
            )
    header = ["run", "rounds", "time", "median round", "sent to clients", "received", "memory at most"]
    notes = ["Memory is that of the process that runs the server."]
    if any(not ENGINES[run.config.engine].has_server for run in runs):
        notes.append("A swarm's bytes are those that pass over all links: what is sent is received.")
    return TextTable("Time and bytes", header, rows, 1, notes=notes)


def total_bytes(run: RunRecord, key: str) -> int:
    """Return the sum of the bytes of all rounds; `key` is bytes_down or bytes_up."""
    return sum(int(line.get(key, 0)) for line in run.lines)


def _client_table(run: RunRecord) -> TextTable:
    seconds: dict[str, list[float]] = {}
    for line in run.lines:
        for client in line["clients"]:
            if "seconds" in client:
                seconds.setdefault(client["client"], []).append(float(client["seconds"]))
    rows = [
        [client, run.modalities[client], duration(statistics.median(own)), duration(sum(own))]
        for client, own in seconds.items()
    ]
    return TextTable("Time of each client", ["client", "modality", "median round", "all rounds"], rows, 2)


MACHINE_WORDS = {
    "cpu": "processor",
    "cores": "cores",
    "threads": "threads of torch",
    "memory_gib": "memory, GiB",
    "gpus": "accelerators",
    "system": "system",
    "python": "Python",
    "torch": "torch",
    "flwr": "Flower",
    "numpy": "NumPy",
}


def hardware_section(gathered: Gathered) -> Section:
    """Return the section about the machines (section 5.6 of the FLAMES paper)."""
    return Section("hardware", "Hardware and software", list(_hardware(gathered)))


def _hardware(gathered: Gathered) -> Iterator[Block]:
    first = gathered.first
    machines: list[Mapping[str, Any]] = []
    for run in gathered.runs:
        machines += [one for one in run.facts.get(MACHINES, ()) if one not in machines]
    yield Paragraph(
        f"FLAMES {first.facts.get('flames', 'of an unknown version')}, engine {first.config.engine}, device "
        f"{first.facts.get('device', 'not known')}, precision {first.facts.get('precision', 'not known')}."
    )
    if not machines:
        yield Paragraph("The run was made by an earlier release, which did not record its machine.", "faint")
        return
    header = ["", *(f"machine {n}" if len(machines) > 1 else "" for n in range(1, len(machines) + 1))]
    rows = [
        [words, *(_text(machine.get(key, "not known")) for machine in machines)]
        for key, words in MACHINE_WORDS.items()
    ]
    notes = [f"The run was continued on {count(len(machines), 'machine')}."] if len(machines) > 1 else []
    if first.at_sites:
        notes.append("This is the server's machine; the nodes' machines are not recorded.")
    yield TextTable("Machine", header, rows, len(header), notes=notes)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
