"""Checks of a machine: installed programs, free space, and a node's shard."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from flames_cli.errors import FlamesError
from flames_cli.flower.compatibility import flower_problem, how_to_fix
from flames_cli.stages.deploy.findings import Finding, ok, problem, problem_of, skipped, warning
from flames_cli.store.files.atomic import reason_of
from flames_cli.store.h5 import read_shard_summary

GB = 10**9
DISK = 5 * GB
"""Free disk space that is advised for models, client states and logs."""
MEMORY = 4 * GB
"""Free memory that is advised for Python, torch and the training of a small model."""


def check_machine(folder: Path) -> Iterator[Finding]:
    """Check Flower's release, the free memory, and that files can be written in `folder`."""
    yield _flower()
    yield _writable(folder)
    free = shutil.disk_usage(folder).free
    yield _room(f"{free / GB:.1f} GB of disk are free for {folder}", free, DISK, "delete files on that disk")
    available = psutil.virtual_memory().available
    yield _room(f"{available / GB:.1f} GB of memory are free", available, MEMORY, "end other programs")


def _flower() -> Finding:
    try:
        found = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        return problem("flwr is not installed", how_to_fix())
    untested = flower_problem(found)
    return problem(untested, how_to_fix()) if untested else ok(f"flwr {found} is installed")


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ok(f"{folder} can be written")
    except OSError as error:
        return problem(f"{folder} cannot be written: {reason_of(error)}", "check its owner and permissions")


def _room(what: str, free: int, least: int, fix: str) -> Finding:
    if free < least:
        return warning(f"only {what}, at least {least // GB} GB are advised", fix)
    return ok(what)


def check_device() -> Finding:
    """Check on which device this machine would train; a CPU is enough."""
    from flames_cli.learn.devices import describe_devices, pick_device  # torch takes seconds to load

    kind = pick_device("auto").type
    return ok(f"trains on {kind} ({', '.join(describe_devices())})")


def check_shards(shards: Sequence[Path]) -> Iterator[Finding]:
    """Check that the client's data has this release's format and contains training images."""
    if not shards:
        yield skipped("the shard was", "no --shard FILE was given")
    for shard in shards:
        yield _shard(shard)


def _shard(shard: Path) -> Finding:
    try:
        summary = read_shard_summary(shard)
    except FlamesError as error:
        return problem_of(error)
    counts = ", ".join(f"{n} {name}" for name, n in summary.images.items())
    what = f"{shard}: {summary.modality}, {summary.organ}, {summary.size}×{summary.size}, images: {counts}"
    what += f"; kept columns: {', '.join(summary.columns)}" if summary.columns else ""
    if not summary.images["train"]:
        return problem(f"{what}; no training images", "partition again with more patients for this client")
    return ok(what)
