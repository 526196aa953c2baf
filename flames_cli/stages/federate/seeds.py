"""Several federations that differ only in their seed: a family of runs, one after the other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from flames_cli.config import MAX_NAME, FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted, OnEvent
from flames_cli.stages.federate.inputs import find_images
from flames_cli.stages.federate.resuming import check_same_options
from flames_cli.stages.federate.stage import FederationResult, federate, make_facts
from flames_cli.store.runs import RunFolder, find_members, planned_seeds, read_config, run_folder

Watch = Callable[[str], AbstractContextManager[OnEvent]]
"""Function that starts to show the run of that title."""


def federate_all(config: FederateConfig, watch: Watch) -> Iterator[FederationResult]:
    """Run the federation of each seed, or the only one, and yield its result when it is done.

    Each is an ordinary run: one that is finished is skipped, and one that was stopped continues. All use the
    same partition.

    Raises:
        FlamesError: as `federate`; or a run of the family was made with other options.
    """
    _check_family(config) if config.seeds else _check_single(config)
    for number, member in enumerate(config.members, start=1):
        title = f"{member.run_name} ({number} of {len(config.seeds)})" if config.seeds else member.run_name
        with watch(title) as on_event:
            try:
                result = federate(member, on_event)
            except FlamesError as error:
                if config.seeds:
                    if run_folder(member.workspace, member.run_name).config.exists():
                        on_event(Noted(f"run {title} has stopped; {_advice(member)}"))
                    error.args = (f"run '{member.run_name}': {error}",)
                raise
        yield result


def _advice(member: FederateConfig) -> str:
    again = "the same command, without --fresh," if member.fresh else "the same command"
    return f"{again} continues it and skips the finished ones"


def _check_single(config: FederateConfig) -> None:
    """Check that a run does not take the name of a family.

    Raises:
        FlamesError: it does.
    """
    there = find_members(config.workspace, config.name)
    if there and not run_folder(config.workspace, config.name).config.exists():
        seeds = ",".join(map(str, planned_seeds(there)))
        raise FlamesError(
            f"'{config.name}' is the name of {len(there)} runs with different seeds, expected a name of its "
            f"own for one run; pass --seeds {seeds} to continue them, or another --run"
        )


def _check_family(config: FederateConfig) -> None:
    """Check, before the first round, that all runs of the name can be runs of one family.

    Raises:
        FlamesError: one of them cannot.
    """
    if run_folder(config.workspace, config.name).config.exists():
        raise FlamesError(
            f"'{config.name}' is the name of a run with one seed, and --seeds makes runs "
            f"{config.name}-seed-N; pass another --run"
        )
    if len(longest := max((member.run_name for member in config.members), key=len)) > MAX_NAME:
        raise FlamesError(
            f"the run's name {longest} has {len(longest)} characters, expected at most {MAX_NAME}; pass a "
            "shorter --run"
        )
    there = find_members(config.workspace, config.name)
    for member in config.members:
        run = run_folder(config.workspace, member.run_name)
        if run.config.exists() and run.name not in {one.name for one in there}:
            raise FlamesError(
                f"run '{run.name}' was made without --seeds, expected a run of the family '{config.name}'; "
                "pass another --run"
            )
    for run in there:
        _check_member(config, run)


def _check_member(config: FederateConfig, run: RunFolder) -> None:
    """Check that an existing run of the family has the same options, unless it is about to be replaced."""
    member = config.model_copy(update={"seed": int(read_config(run.config)["federate"]["seed"])})
    if not (config.fresh and member.seed in config.seeds):
        check_same_options(run, member, make_facts(member, find_images(member)))
