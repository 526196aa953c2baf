"""Federations: a run, or a family of runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flames_cli.api.options import PathLike, find_workspace, make_config, takes
from flames_cli.api.progress import Callback, listener
from flames_cli.api.runs import Family, Run, read_family, read_run
from flames_cli.config import FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import OnEvent
from flames_cli.stages.entrance import check_options
from flames_cli.stages.federate.continuing import continued_options
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import FederationResult
from flames_cli.store.runs import RunFolder, find_members


@takes(FederateConfig, "seeds", "folds")
def federate(
    config: FederateConfig | PathLike | None = None,
    *,
    resume: str | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Run:
    """Train the clients round by round and blend their models.

    The same call continues a run that was stopped, also by Ctrl-C, after its last complete round, and returns
    a finished run as it is.

    Args:
        config: options as a `FederateConfig`, or the path of a TOML file or of a run's config.toml; the
            keywords replace them.
        resume: name of a run that continues with its own options, in place of `config`; only options that
            may change, such as `rounds` or `device`, can be passed with it.
        progress: function that receives events. An exception of it ends the call; the run can be continued.

    Raises:
        MissingArtifact: there is no partition, or no run to resume.
        FlamesError: an option is wrong; there is a run of that name with other options; or a round got no
            valid report.

    Examples:
        >>> run = flames.federate(run="flames", workspace=workspace, **toy)
        >>> [(record.round, record.accepted) for record in run.rounds]
        [(1, 3), (2, 3)]
    """
    chosen, partitions = _options(config, resume, options)
    if chosen.makes_family or partitions:
        raise FlamesError(
            f"got several seeds or folds for '{chosen.name}', expected those of one run; call federate_family"
        )
    return next(_federate(chosen, None, progress))


@takes(FederateConfig)
def federate_family(
    config: FederateConfig | PathLike | None = None,
    *,
    resume: str | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Family:
    """Make several runs that differ only in their seed or their fold, one after the other.

    The same call continues a family that was stopped; finished runs are skipped.

    Args:
        config: options as a `FederateConfig`, or the path of a TOML file; the keywords replace them.
        resume: name of a family that continues with its own options, in place of `config`.
        progress: function that receives events, whose `task` names the run.

    Raises:
        MissingArtifact: there is no partition, or no family to resume.
        FlamesError: neither `seeds` nor `folds` is given, or another error as in `federate`.

    Examples:
        >>> family = flames.federate_family(run="seeds", seeds=[0, 1], workspace=workspace, **toy)
        >>> [run.name for run in family.runs]
        ['seeds-seed-0', 'seeds-seed-1']
    """
    chosen, partitions = _options(config, resume, options)
    if not chosen.makes_family and not partitions:
        raise FlamesError("got neither seeds nor folds, expected at least one of them; pass seeds=[0, 1, 2]")
    for _ in _federate(chosen, partitions, progress):
        pass
    return read_family(chosen.workspace, chosen.name, find_members(chosen.workspace, chosen.name))


def _options(
    config: FederateConfig | PathLike | None, resume: str | None, options: Mapping[str, Any]
) -> tuple[FederateConfig, Mapping[int, str] | None]:
    if resume is None:
        return make_config(FederateConfig, config, options), None
    if config is not None or options.get("fresh"):
        raise FlamesError(
            f"got {'a configuration' if config is not None else 'fresh=True'} with resume={resume!r}, which "
            "continues a run with its own options; leave one out"
        )
    found = continued_options(find_workspace(options.get("workspace")), resume, options)
    check_options(found[0])
    return found


def _federate(
    config: FederateConfig, partitions: Mapping[int, str] | None, progress: Callback | None
) -> Iterator[Run]:
    @contextmanager
    def watch(title: str) -> Iterator[OnEvent]:
        yield listener(title, progress)

    for made in federate_all(config, watch, partitions):
        yield _run(config, made)


def _run(config: FederateConfig, made: FederationResult) -> Run:
    return read_run(config.workspace, RunFolder(made.folder), made.notes, made.resumed_from)
