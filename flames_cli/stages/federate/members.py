"""Several federations that differ only in their seed or their fold: a family of runs, one after the other."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flames_cli.config import MAX_NAME, FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.events import Noted, OnEvent
from flames_cli.stages.federate.inputs import find_images
from flames_cli.stages.federate.resuming import check_same_options
from flames_cli.stages.federate.run_files import is_worth_keeping
from flames_cli.stages.federate.stage import (
    FederationResult,
    Planned,
    check_inputs,
    federate,
    make_facts,
    set_run_aside,
)
from flames_cli.store.fold_sets import choose_fold_set, find_sibling
from flames_cli.store.member_names import member_name
from flames_cli.store.partition import open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import (
    Member,
    RunFolder,
    find_members,
    planned_folds,
    read_config,
    read_member,
    run_folder,
)

Watch = Callable[[str], AbstractContextManager[OnEvent]]
"""Function that starts to show the run of that title."""


@dataclass(frozen=True, slots=True)
class Family:
    """Runs that a call makes."""

    config: FederateConfig
    planned: Planned
    partitions: Mapping[int, str]
    """Name of the partition of each fold; empty without folds."""

    @property
    def members(self) -> list[FederateConfig]:
        """Options of each run, all folds of one seed before the next seed."""
        places = [(fold, seed) for seed in self.planned.seeds or [None] for fold in self.partitions or [None]]
        return [self.member(fold, seed) for fold, seed in places]

    def member(self, fold: int | None, seed: int | None) -> FederateConfig:
        """Return the options of the run of a fold and a seed; None: the family has only one."""
        changes: dict[str, object] = {"seeds": (), "folds": None, "fresh": False}
        changes["run"] = member_name(self.config.name, fold, seed)
        if seed is not None:
            changes["seed"] = seed
        if fold is not None:
            changes["partition"] = self.partitions[fold]
        return self.config.model_copy(update=changes)


def federate_all(
    config: FederateConfig, watch: Watch, partitions: Mapping[int, str] | None = None
) -> Iterator[FederationResult]:
    """Run the federation of each seed and fold, or the only one, and yield its result when it is done.

    Each is an ordinary run: one that is finished is skipped, and one that was stopped continues. All seeds of
    a fold use the same partition.

    Args:
        config: options of all runs.
        watch: starts to show a run.
        partitions: names of the partitions by fold; None: those of the set of folds that `config` names.

    Raises:
        FlamesError: as `federate`; or a run of the family was made with other options.
    """
    if not config.makes_family:
        _check_single(config)
        with watch(config.run_name) as on_event:
            result = federate(config, on_event)
        yield result
        return
    if config.folds is not None and ENGINES[config.engine].clients_hold_their_data:
        raise FlamesError(
            f"got --folds with --engine {config.engine}, whose nodes have their own data that no fold "
            "changes; leave --folds out, or pass --engine inline if the data are on this machine"
        )
    if partitions is None:
        partitions = {} if config.folds is None else choose_fold_set(config.workspace, config.folds)
    family = Family(config, Planned(config.seeds, tuple(partitions)), partitions)
    _check_family(family)
    members = family.members
    notes = _set_aside(family) if config.fresh else {}
    for number, member in enumerate(members, start=1):
        title = f"{member.run_name} ({number} of {len(members)})"
        with watch(title) as on_event:
            if note := notes.get(member.run_name):
                on_event(Noted(note))
            try:
                result = federate(member, on_event, family.planned)
            except FlamesError as error:
                if run_folder(member.workspace, member.run_name).config.exists():
                    again = "the same command, without --fresh," if config.fresh else "the same command"
                    advice = f"{again} continues it and skips the finished ones"
                    on_event(Noted(f"run {title} has stopped; {advice}"))
                error.args = (f"run '{member.run_name}': {error}",)
                raise
        yield result


def _set_aside(family: Family) -> dict[str, str]:
    """Rename all earlier runs of the family before the first round, so that the same command without --fresh
    continues the new ones; return a note for each."""
    check_inputs(family.members[0])
    runs = (run_folder(family.config.workspace, member.run_name) for member in family.members)
    return {run.name: set_run_aside(run) for run in runs if run.path.is_dir() and is_worth_keeping(run)}


def find_member_partitions(workspace: Path, members: list[RunFolder]) -> dict[int, str]:
    """Return the present name of the partition of each fold of a family that continues; empty without folds.

    Raises:
        FlamesError: the partition of a run, or of a fold without a run, does not exist any more.
    """
    found: dict[int, str] = {}
    for member in map(read_member, members):
        if member.fold is not None and member.fold not in found:
            found[member.fold] = find_run_partition(workspace, member.run)
    for fold in planned_folds(members):
        if fold not in found:
            known = next(iter(found.values()))
            sibling = find_sibling(workspace, open_partition(workspace, known).content, fold)
            if sibling is None:
                raise FlamesError(
                    f"fold {fold} of the cross-validation of partition '{known}' does not exist any more, "
                    f"expected all {len(planned_folds(members))} folds; copy it back from a backup, "
                    "or federate again with another --run"
                )
            found[fold] = sibling
    return dict(sorted(found.items()))


def _plan_of(member: Member) -> Planned:
    return Planned(member.planned_seeds, member.planned_folds)


def _check_single(config: FederateConfig) -> None:
    """Check that a run does not take the name of a family.

    Raises:
        FlamesError: it does.
    """
    there = find_members(config.workspace, config.name)
    if there and not run_folder(config.workspace, config.name).config.exists():
        what = _plan_of(read_member(there[0])).options
        raise FlamesError(
            f"'{config.name}' is the name of {len(there)} runs that {what} made, expected a name of its own "
            f"for one run; pass --resume {config.name} to continue them, or another --run"
        )


def _check_family(family: Family) -> None:
    """Check, before the first round, that all runs of the name can be runs of one family.

    Raises:
        FlamesError: one of them cannot.
    """
    config, members = family.config, family.members
    made_by = family.planned.options
    if run_folder(config.workspace, config.name).config.exists():
        raise FlamesError(
            f"'{config.name}' is the name of one run, and {made_by} makes runs {members[0].run_name}, …; "
            "pass another --run"
        )
    if len(longest := max((member.run_name for member in members), key=len)) > MAX_NAME:
        raise FlamesError(
            f"the run's name {longest} has {len(longest)} characters, expected at most {MAX_NAME}; pass a "
            "shorter --run"
        )
    there = find_members(config.workspace, config.name)
    for member in members:
        run = run_folder(config.workspace, member.run_name)
        if run.config.exists() and run.name not in {one.name for one in there}:
            raise FlamesError(
                f"run '{run.name}' was made without {made_by}, expected a run of the family '{config.name}'; "
                "pass another --run"
            )
    replaced = {member.run_name for member in members} if config.fresh else set()
    for run in there:
        _check_member(family, read_member(run), replaced)


def _check_member(family: Family, member: Member, replaced: set[str]) -> None:
    """Check that an existing run of the family has the same options, unless it is about to be replaced."""
    if (was := _plan_of(member).options) != family.planned.options:
        raise FlamesError(
            f"run '{member.run.name}' was made with {was}, got {family.planned.options}; pass the same, or "
            "another --run"
        )
    if member.run.name in replaced:
        return
    if member.planned_folds != family.planned.folds:
        folds = (", ".join(map(str, one)) for one in (member.planned_folds, family.planned.folds))
        was, now = folds
        raise FlamesError(
            f"run '{member.run.name}' was made for the folds {was}, got the folds {now}; pass the same set "
            "of --folds, or another --run"
        )
    seed = int(read_config(member.run.config)["federate"]["seed"])
    options = family.member(member.fold, member.seed).model_copy(update={"seed": seed})
    check_same_options(member.run, options, make_facts(options, find_images(options)))
