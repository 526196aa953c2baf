"""Whether a machine can take part: its programs, its space, and a node's shard."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.findings import Finding, ok, problem, problem_of, skipped, warning
from flames_cli.store.files.atomic import reason_of
from flames_cli.store.h5 import read_shard_summary

FLOWER = "1.41"
"""The release whose insides the server and the nodes build on."""

GB = 10**9
DISK = 5 * GB
"""For models, memories and logs."""
MEMORY = 4 * GB
"""For Python, torch and a small model's training."""


def check_machine(folder: Path) -> Iterator[Finding]:
    """Flower's release, and whether there is room in memory and for writing in `folder`."""
    yield _flower()
    yield _writable(folder)
    free = shutil.disk_usage(folder).free
    yield _room(f"{free / GB:.1f} GB of disk are free for {folder}", free, DISK, "make room")
    available = psutil.virtual_memory().available
    yield _room(f"{available / GB:.1f} GB of memory are free", available, MEMORY, "end other programs")


def _flower() -> Finding:
    fix = f"pip install 'flwr=={FLOWER}.*'"
    try:
        found = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        return problem("flwr is not installed", fix)
    if not found.startswith(f"{FLOWER}."):
        return problem(f"flwr {found} is installed, expected {FLOWER}", fix)
    return ok(f"flwr {found} is installed")


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ok(f"{folder} can be written")
    except OSError as error:
        return problem(f"{folder} cannot be written: {reason_of(error)}", "check its owner and rights")


def _room(what: str, free: int, least: int, fix: str) -> Finding:
    if free < least:
        return warning(f"only {what}, {least // GB} GB are advised", fix)
    return ok(what)


def check_device() -> Finding:
    """Where this machine would train; a CPU does too."""
    from flames_cli.learn.devices import describe_devices, pick_device  # torch takes seconds to load

    kind = pick_device("auto").type
    return ok(f"trains on {kind} ({', '.join(describe_devices())})")


def check_shards(shards: Sequence[Path]) -> Iterator[Finding]:
    """The client's data: of this release's format, with images to train on."""
    if not shards:
        yield skipped("the shard was", "none was named with --shard FILE")
    for shard in shards:
        yield _shard(shard)


def _shard(shard: Path) -> Finding:
    try:
        said = read_shard_summary(shard)
    except FlamesError as error:
        return problem_of(error)
    counts = ", ".join(f"{n} {name}" for name, n in said.images.items())
    what = f"{shard}: {said.modality}, {said.organ}, {said.size}×{said.size}, images: {counts}"
    if not said.images["train"]:
        return problem(f"{what}; none to train on", "partition again with more patients for this client")
    return ok(what)
