"""The partition on which a run was made, found by name or content, and the runs of a partition."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.runs import PARTITION_SHA256, RunFolder, list_runs, read_config
from flames_cli.store.workspace import (
    DEFAULT_PARTITION,
    PARTITION_FILE,
    list_partitions,
    partition_command,
    partition_file,
)


def missing_partition(workspace: Path, name: str) -> MissingArtifact:
    """Return the error that there is no partition `name`."""
    there = list_partitions(workspace)
    if not there and (workspace / PARTITION_FILE).is_file():
        return MissingArtifact(
            f"{workspace} has the partition of an earlier release, expected partitions in "
            f"{workspace / 'partitions'}; run `flames partition` and then `flames federate` again (the old "
            "files stay where they are)"
        )
    known = f" (existing: {', '.join(there)})" if there else ""
    return MissingArtifact(
        f"no partition '{name}' in {workspace / 'partitions'}{known}; make it with {partition_command(name)}"
    )


def name_now(workspace: Path, tables: Mapping[str, Any]) -> str | None:
    """Return the present name of the partition on which the run with the configuration `tables` was made:
    another one than at that time if the partition was set aside; None if no partition is the same."""
    there, made_on = list_partitions(workspace), name_then(tables)
    for name in sorted(there, key=lambda name: name != made_on):
        if hash_file(partition_file(workspace, name)) == tables.get("run", {}).get(PARTITION_SHA256):
            return name
    return None


def name_then(tables: Mapping[str, Any]) -> str:
    """Return the name that the partition of a run had when the run was made."""
    return str(tables.get("federate", {}).get("partition", DEFAULT_PARTITION))


def find_run_partition(workspace: Path, run: RunFolder) -> str:
    """Return the present name of the partition on which a run was made.

    Raises:
        MissingArtifact: there is no partition.
        FlamesError: the run was made without a partition, or its partition does not exist any more.
    """
    tables, there = read_config(run.config), list_partitions(workspace)
    made_on = name_then(tables)
    if not there:
        raise missing_partition(workspace, made_on)
    if tables.get("run", {}).get(PARTITION_SHA256) is None:
        raise FlamesError(
            f"run '{run.name}' was made without a partition on this machine, expected one with its test "
            "sets; make a partition with `flames partition`, and federate again with --fresh"
        )
    if found := name_now(workspace, tables):
        return found
    what = f"partition '{made_on}' as it was before" if made_on in there else f"partition '{made_on}'"
    raise FlamesError(
        f"run '{run.name}' was made on {what}, which is not among the partitions of {workspace} "
        f"({', '.join(there)}), and its training may have used the test patients of another one; federate "
        "again with --fresh, or copy the partition back from a backup"
    )


def runs_on(workspace: Path, sha256: str) -> list[str]:
    """Return the names of the runs that were made on the partition with this SHA-256.

    A run whose configuration cannot be read is among them: its partition is not known.
    """

    def was_made_on(run: RunFolder) -> bool:
        try:
            return bool(read_config(run.config).get("run", {}).get(PARTITION_SHA256) == sha256)
        except FlamesError:
            return True

    return [path.name for path in list_runs(workspace) if was_made_on(RunFolder(path))]
