"""Section about the data of each client: numbers of images and patients, sizes of lesions, and examples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.core.imaging.quality import SHARES, count_shares
from flames_cli.core.patient_units import UNKNOWN
from flames_cli.errors import FlamesError
from flames_cli.report.bar_chart import BarChart, name_edges
from flames_cli.report.document import Block, Charts, Heading, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.report.examples import example_galleries
from flames_cli.stages.report.gathering import Gathered
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.h5 import read_shard_cases
from flames_cli.store.partition import ClientEntry, NamedPartition, ServerEntry, checked_shard

MOST_CHARTS = 12
"""Largest number of clients with a chart of their own; more clients are counted together by modality."""

SETS = {"train": "train", "val": "val.", "test": "test"}

Stored = Sequence[tuple[SetInfo, Sequence[CaseInfo]]]


@dataclass(frozen=True, slots=True)
class ClientCases:
    """A client, and all its cases without their pixels."""

    entry: ClientEntry
    stored: Stored

    @property
    def shares(self) -> list[float]:
        """Share of the image that is lesion, of every selected image that has one."""
        return [
            case.lesion_px / info.size**2
            for info, cases in self.stored
            for case in cases
            if case.selected and case.lesion_px
        ]


def data_section(gathered: Gathered) -> Section:
    """Return the section; a private run has only the server's test sets in it."""
    return Section("data", "Data of each client", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    partition = gathered.partition
    if partition is None:
        yield Paragraph(gathered.hide_paths(gathered.no_partition))
        yield from _joined(gathered)
        return
    if gathered.is_family and len({run.fold for run in gathered.runs}) > 1:
        yield Paragraph(f"Numbers of the first fold, partition {partition.name}.", "faint")
    if gathered.private:
        yield Paragraph(
            "The run has differential privacy. Its report has no numbers of single clients.", "faint"
        )
    else:
        yield _client_table(partition)
    yield _server_table(partition)
    yield from _licences(gathered)
    if gathered.private:
        return
    try:
        yield from _from_shards(gathered, partition)
    except FlamesError as error:
        yield Paragraph(f"Sizes of lesions are not shown: {gathered.hide_paths(str(error))}.", "faint")


def _from_shards(gathered: Gathered, partition: NamedPartition) -> Iterator[Block]:
    clients = [
        ClientCases(entry, list(read_shard_cases(checked_shard(partition.folder, entry)).values()))
        for entry in partition.content.clients
    ]
    rules = {info.dataset: info.intensities for one in clients for info, _ in one.stored if info.intensities}
    if rules:
        words = "; ".join(f"{name}: {rule}" for name, rule in rules.items())
        yield Paragraph(f"Intensities that become 0 to 1 (images of 8 bits keep theirs): {words}.", "faint")
    yield from _lesions(clients)
    if gathered.pictures:
        yield from example_galleries(partition)


def _joined(gathered: Gathered) -> Iterator[Block]:
    """Yield the clients as they described themselves, for a run whose data are not here."""
    if not gathered.joined or gathered.private:
        return
    rows = [
        [
            one.client,
            f"{one.organ} {one.modality}".strip(),
            *("not known" if n is None else f"{n:,}" for n in (one.n_train, one.n_val)),
            f"{one.size}×{one.size}, {'grey' if one.channels == 1 else 'colour'}",
            "; ".join(map(str, one.preparation.intensities)) or "not known",
        ]
        for one in gathered.joined
    ]
    header = ["client", "images of", "training images", "validation images", "size", "intensities"]
    yield TextTable("Clients, as each described itself when it joined", header, rows, 2)


def _client_table(partition: NamedPartition) -> TextTable:
    """Return Table 2 of the FLAMES paper, with patients and validation images."""
    clients = partition.content.clients
    has_sites = any(client.site for client in clients)
    header = ["client", "data set", *(["site"] if has_sites else []), "images of"]
    names = len(header)
    header += [f"{name} images" for name in SETS.values()] + [f"{name} patients" for name in SETS.values()]
    rows = [
        [
            client.name,
            client.dataset,
            *([client.site] if has_sites else []),
            f"{client.organ} {client.modality}",
            *(f"{client.images[name]:,}" for name in SETS),
            *(_count_patients(client.patients[name], client.patient_unit) for name in SETS),
        ]
        for client in clients
    ]
    total = ["all clients", *[""] * (names - 1)]
    total += [f"{sum(client.images[name] for client in clients):,}" for name in SETS]
    known = [client for client in clients if client.patient_unit != "image"]
    total += [f"{sum(len(client.patients[name]) for client in known):,}" if known else "–" for name in SETS]
    notes = ["Images are still images and the selected slices of volumes. No patient is in two sets."]
    if len(known) < len(clients):
        notes.append(f"–: {UNKNOWN}, so that each image counts as one.")
    if any(client.test_volumes[0] for client in clients):
        volumes = sum(client.test_volumes[0] for client in clients)
        slices = sum(client.test_volumes[1] for client in clients)
        notes.append(f"The test sets contain {volumes:,} complete volumes with {slices:,} slices.")
    return TextTable(
        "Clients and their data sets (Table 2 of the FLAMES paper)",
        header,
        [*rows, total],
        names,
        rules=frozenset({len(rows)}),
        notes=notes,
    )


def _count_patients(patients: Sequence[str], unit: str) -> str:
    return "–" if unit == "image" else f"{len(patients):,}"


def _server_table(partition: NamedPartition) -> TextTable:
    rows = [row for server in partition.content.server for row in _server_rows(server)]
    return TextTable(
        "Test sets of the server: patients that no client has",
        ["test set", "images of", "site", "images", "patients"],
        rows,
        3,
    )


def _server_rows(server: ServerEntry) -> Iterator[list[str]]:
    for name, images in server.images.items():
        unit = server.patient_units.get(name, "patient")
        yield [
            name,
            f"{server.organs[name]} {server.modality}",
            f"{server.sites[name]} (unseen)" if name in server.sites else "as the clients",
            f"{images:,}",
            _count_patients(server.patients[name], unit),
        ]


def _licences(gathered: Gathered) -> Iterator[Block]:
    found = {report["dataset"]: report["licence"] for report in preprocessing_reports(gathered)}
    if found:
        yield Paragraph(
            "Licences: " + "; ".join(f"{name}: {licence}" for name, licence in found.items()) + ".", "faint"
        )


def preprocessing_reports(gathered: Gathered) -> Iterator[Mapping[str, Any]]:
    """Yield the report of `flames preprocess` about each data set of the partition that still has one."""
    if gathered.partition is None:
        return
    names = {client.dataset for client in gathered.partition.content.clients}
    names |= {name.partition("@")[0] for one in gathered.partition.content.server for name in one.images}
    for name in sorted(names):
        path = gathered.workspace / "preprocessed" / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and {"dataset", "licence", "options"} <= found.keys():
            yield found


def _lesions(clients: Sequence[ClientCases]) -> Iterator[Block]:
    yield Heading("Sizes of lesions")
    yield Paragraph("Images with a lesion, by the share of the image that is lesion, in %.", "faint")
    if len(clients) <= MOST_CHARTS:
        parts = {f"{one.entry.name} ({one.entry.organ} {one.entry.modality})": [one] for one in clients}
    else:
        parts = {}
        for one in clients:
            parts.setdefault(f"all clients, {one.entry.organ} {one.entry.modality}", []).append(one)
    yield Charts([_chart(title, own) for title, own in parts.items()])


def _chart(title: str, clients: Sequence[ClientCases]) -> BarChart:
    return BarChart(
        title, name_edges(SHARES), count_shares([share for one in clients for share in one.shares])
    )
