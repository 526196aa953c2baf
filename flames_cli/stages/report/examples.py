"""Examples of the images after preprocessing, with the outline of their masks: pictures of patients."""

from collections.abc import Iterator, Sequence

import numpy as np

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.intensity import dequantise
from flames_cli.core.imaging.quality import spread_sample
from flames_cli.report.document import Block, Gallery, Heading, Paragraph
from flames_cli.report.legible import percent
from flames_cli.report.pictures import Picture
from flames_cli.store.cases import CaseSet
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import NamedPartition, checked_shard

EXAMPLES = 4
"""Largest number of examples of a client or of a test set."""
MOST_GALLERIES = 12
"""Largest number of clients, and of test sets, with examples."""


def example_galleries(partition: NamedPartition) -> Iterator[Block]:
    """Yield examples of every client's training images, then of the server's test sets."""
    yield Heading("Examples after preprocessing (Figures 2 and 3 of the FLAMES paper)")
    yield Paragraph(
        "Chosen evenly from the smallest lesion to the largest; the mask is outlined, and the number is the "
        "share of the image that it covers.",
        "faint",
    )
    clients = partition.content.clients
    for client in clients[:MOST_GALLERIES]:
        sets = read_shard_sets(checked_shard(partition.folder, client), "train")
        yield Gallery(f"client {client.name}: {client.organ} {client.modality}, training", _pick(sets))
    tests = [(server, name) for server in partition.content.server for name in server.images]
    for server, name in tests[:MOST_GALLERIES]:
        sets = read_shard_sets(checked_shard(partition.folder, server), f"test/{name}")
        yield Gallery(f"server's test set {name}: {server.organs[name]} {server.modality}", _pick(sets))
    left = max(0, len(clients) - MOST_GALLERIES), max(0, len(tests) - MOST_GALLERIES)
    if any(left):
        yield Paragraph(f"Not shown: {left[0]} clients and {left[1]} test sets.", "faint")


def _pick(sets: Sequence[CaseSet]) -> list[Picture]:
    cases = [(one, row) for one in sets for row in range(len(one))]
    shares = [one.cases[row].lesion_px / one.info.size**2 for one, row in cases]
    return [_picture(*cases[index]) for index in spread_sample(shares, EXAMPLES)]


def _picture(cases: CaseSet, row: int) -> Picture:
    share = cases.cases[row].lesion_px / cases.info.size**2
    return Picture(
        to_pixels(dequantise(cases.images[row], cases.info.max_value)),
        cases.masks[row],
        cases.cases[row].case,
        f"{percent(share)} %" if share else "no lesion",
    )


def to_pixels(image: Pixels) -> Pixels:
    """Return an image in [0, 1] in 8 bits."""
    pixels: Pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels
