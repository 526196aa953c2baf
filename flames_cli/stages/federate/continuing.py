"""Options of a run or a family that continues as it was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flames_cli.config import FederateConfig, check_section, keys_with, options_of_run
from flames_cli.errors import FlamesError
from flames_cli.plugins import use_files
from flames_cli.stages.run_plugins import require_run_plugins
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import (
    PARTITION_SHA256,
    find_runs,
    list_differences,
    planned_seeds,
    read_config,
    read_member,
)


def continued_options(
    workspace: Path, name: str | None, given: Mapping[str, Any]
) -> tuple[FederateConfig, dict[int, str] | None]:
    """Return the configuration of run `name` (None: the newest), with those of the `given` options that may
    change, and the partition of each fold.

    For a family of runs, or the newest run of one, it has all seeds and folds of the family.

    Raises:
        MissingArtifact: there is no such run, or no partition.
        FlamesError: a given option does not agree with the run's, or a plug-in of the run is not there.
    """
    known, (run, *others) = find_runs(workspace, name)
    tables = read_config(run.config)
    stored = {**options_of_run(tables, run.config), "workspace": workspace, "run": known}
    folds = None
    if tables.get("run", {}).get(PARTITION_SHA256):
        stored["partition"] = find_run_partition(workspace, run)
    if known != run.name and read_member(run).planned_seeds:
        del stored["seed"]
        stored["seeds"] = planned_seeds([run, *others])
    if known != run.name and read_member(run).planned_folds:
        # Imported here, since it imports torch: a wrong option is reported before that.
        from flames_cli.stages.federate.members import find_member_partitions

        folds = find_member_partitions(workspace, [run, *others])
        del stored["partition"]
        stored["folds"] = ""
    made = check_section(FederateConfig, stored, where=f"{run.config}: ").model_dump(mode="json")
    options = check_section(FederateConfig, {**stored, **given})
    asked = options.model_dump(mode="json")
    free = keys_with(FederateConfig, "may_change", True) | keys_with(FederateConfig, "stored", False)
    if differing := list_differences(made, asked, (key for key in given if key not in free)):
        raise FlamesError(
            f"run '{known}' was made with other options ({'; '.join(differing)}); leave them out to "
            "continue it, or start another run without --resume and with --run NAME"
        )
    use_files(options.plugins)
    require_run_plugins(run, tables.get("run", {}))  # it says more than that a name is not known
    return options, folds
