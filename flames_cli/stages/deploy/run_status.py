"""Runs of a server in words: Flower's list, joined with the folders of the runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import fmean

from flames_cli.config import FederateConfig, check_section
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.submitted_runs import SubmittedRun
from flames_cli.flower.control_api import RunRecord
from flames_cli.stages.federate.run_log import read_rejected
from flames_cli.stages.rounds import read_run_rounds
from flames_cli.store.clients import read_clients
from flames_cli.store.files.locks import is_locked, rounds_of
from flames_cli.store.runs import RunFolder, read_config, read_final_models, read_rounds

RECENT = 5
"""Number of rounds over which the seconds of a round are averaged."""

ALIVE = ("pending", "starting", "running")


@dataclass(frozen=True, slots=True)
class RunStatus:
    """State of a run; what its folder does not say is None or empty."""

    name: str
    """Empty: not known."""
    state: str
    """State in words."""
    run_ids: tuple[int, ...]
    """Flower's numbers of the run, the newest first: it has several if it was submitted again."""
    began: str | None
    """Time at which Flower began it, ISO 8601 in UTC."""
    folder: str = ""
    strategy: str = ""
    round: int = 0
    """Last complete round."""
    rounds: int = 0
    clients_in: tuple[str, ...] = ()
    """Clients whose report of the last round was accepted."""
    clients_out: tuple[str, ...] = ()
    """Clients that have joined the run, and were not in the last round."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Nodes that could not join, with the reason."""
    without_model: tuple[str, ...] = ()
    """Clients of a finished run that have not stored their own model."""
    dice: float | None = None
    """Last known validation Dice, mean over the images of all clients."""
    dice_round: int | None = None
    """Round after which that was measured."""
    last_round: str | None = None
    """Time at which the last round ended, ISO 8601 in UTC."""
    seconds_a_round: float | None = None


def describe_runs(records: Sequence[RunRecord], submitted: Mapping[int, SubmittedRun]) -> list[RunStatus]:
    """Return the runs of a server, the newest first; a run that was submitted several times is listed once.

    Args:
        records: Flower's list, the newest first.
        submitted: folders of the runs, by Flower's number.
    """
    groups: dict[object, list[RunRecord]] = {}
    for record in records:
        known = submitted.get(record.run_id)
        groups.setdefault(known.token if known and known.token else record.run_id, []).append(record)
    return [_describe(group, submitted.get(group[0].run_id)) for group in groups.values()]


def _describe(records: Sequence[RunRecord], known: SubmittedRun | None) -> RunStatus:
    newest, numbers = records[0], tuple(record.run_id for record in records)
    status = RunStatus("", _flower_state(newest), numbers, newest.started_at)
    if known is None:
        return replace(status, state=f"{status.state}; its name and folder are not known on this machine")
    status = replace(status, name=known.path.name, folder=str(known.path))
    folder = known.find_folder()
    if folder is None:
        return replace(status, state=f"{status.state}; its folder {known.path} is not there")
    try:
        return _with_folder(replace(status, name=folder.name, folder=str(folder.path)), folder, newest)
    except (FlamesError, OSError, ValueError, KeyError, TypeError) as error:
        return replace(status, state=f"{status.state}; its folder cannot be read ({error})")


def _with_folder(status: RunStatus, run: RunFolder, newest: RunRecord) -> RunStatus:
    tables = read_config(run.config)
    config = check_section(FederateConfig, tables.get("federate", {}), where=f"{run.config}: ")
    lines = read_rounds(run.rounds)
    rejected = read_rejected(run.log)
    status = replace(status, strategy=config.strategy, rounds=config.rounds, rejected=rejected)
    clients = read_clients(run.joined_clients)
    if lines:
        accepted = tuple(lines[-1]["accepted"])
        dice, dice_round = _last_dice(run, config)
        status = replace(
            status,
            round=lines[-1]["round"],
            clients_in=accepted,
            clients_out=tuple(one.client for one in clients if one.client not in accepted),
            dice=dice,
            dice_round=dice_round,
            last_round=_moment(run.rounds.stat().st_mtime),
            seconds_a_round=fmean(float(line["seconds"]) for line in lines[-RECENT:]),
        )
    status = replace(status, state=_state(status, run, newest))
    if not status.state.startswith("finished"):
        return status
    missing = tuple(one.client for one in clients if one.kept is None)
    return replace(status, without_model=missing)


def _state(status: RunStatus, run: RunFolder, newest: RunRecord) -> str:
    """Return the state of a run whose folder is there."""
    if is_locked(rounds_of(run.path)):
        done = status.round >= status.rounds
        return "running: models after the last round" if done else f"running: round {status.round + 1}"
    if newest.status in ALIVE:
        return f"waiting for round {status.round + 1}" if status.round < status.rounds else "ending"
    final = read_final_models(run)
    if status.round >= status.rounds and final and final.get("round") == status.round:
        return "finished"
    after = f"after round {status.round}" if status.round else "before its first round ended"
    how = "stopped" if newest.status.endswith("stopped") else "ended by an error"
    return f"{how} {after}; run the same `flames federate` again to continue"


def _flower_state(record: RunRecord) -> str:
    """Return Flower's state of a run in words."""
    if record.status in ALIVE:
        return "running"
    return {"finished:completed": "finished", "finished:stopped": "stopped"}.get(
        record.status, "ended by an error" if record.status.startswith("finished") else record.status
    )


def _last_dice(run: RunFolder, config: FederateConfig) -> tuple[float | None, int | None]:
    """Return the last known validation Dice and its round: that of a round is known in the next one."""
    try:
        rounds = read_run_rounds(run, config)
    except MissingArtifact:
        return None, None
    found = ((rounds.scores.of(round_), round_) for round_ in _backwards(rounds.last))
    return next(((dice, round_) for dice, round_ in found if dice is not None), (None, None))


def _backwards(last: int) -> Iterable[int]:
    return range(last, 0, -1)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
