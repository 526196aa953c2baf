"""Files of a run by modality: each modality has its checkpoints and lines in a folder of its own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flames_cli.config import FederateConfig
from flames_cli.core.federated.modalities import part_of
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.stages.rounds import reason_for_last_only, rounds_to_keep
from flames_cli.store.checkpoint import (
    DamagedCheckpoint,
    delete_older_rounds,
    list_rounds,
    load_state,
    round_folder,
    save_state,
    set_aside,
)
from flames_cli.store.checkpoint_files import LastFiles
from flames_cli.store.checkpoint_joining import join_checkpoints
from flames_cli.store.files.atomic import finite, raising_not_written, remove_folder, remove_leftovers
from flames_cli.store.runs import (
    RunFolder,
    append_round,
    list_modalities,
    modality_folder,
    read_rounds,
    truncate_rounds,
)
from flames_cli.store.spool import Job, Spool

Record = dict[str, Any]

ALL_ROUNDS = 10**9
"""Number of newest checkpoints of a modality to keep while no combined round needs fewer."""


def open_modalities(run: RunFolder, config: FederateConfig, spool: Spool) -> "ModalityFiles | None":
    """Return the states of the modalities in `run`'s folder; None if the rounds are in step."""
    return ModalityFiles(run, config, spool) if config.by_modality else None


class ModalityFiles(ModalityStates):
    """Stores the states of each modality as checkpoints, and combines those of the rounds that all have done.

    The thread of the spool writes the checkpoints while the next rounds go on; at most one round's are not
    complete.
    """

    def __init__(self, run: RunFolder, config: FederateConfig, spool: Spool) -> None:
        """Read the newest state of each modality; `remove_damage` has repaired the files before.

        Raises:
            DamagedCheckpoint: a newest state is damaged.
        """
        super().__init__()
        self._run, self._config, self._spool = run, config, spool
        self._only_last = reason_for_last_only(config)
        self._lines = read_rounds(run.rounds)
        self._last: dict[str, LastFiles] = {}
        self._writing: Job | None = None
        stored = list_rounds(run.checkpoints)
        self.combined = stored[-1] if stored else 0
        for modality in list_modalities(run):
            folder = modality_folder(run, modality)
            if not list_rounds(folder.checkpoints):
                self.newest[modality] = State(self.combined, {})  # it has begun its first round
                continue
            self.newest[modality] = load_state(folder.checkpoints, mapped=True)
            # A process that died may have left the line of a round whose checkpoint is missing.
            truncate_rounds(folder.rounds, self.newest[modality].round)
            for record in read_rounds(folder.rounds):
                if record["round"] > self.combined:
                    self._records.setdefault(record["round"], {})[modality] = record

    def take_part(self, modality: str) -> State:
        """Return the state from which `modality` continues.

        Its folder exists from now on: a process that continues the run waits for this modality, too.
        """
        folder = modality_folder(self._run, modality)
        with raising_not_written(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        return super().take_part(modality)

    def _store(self, modality: str, state: State, record: Record) -> None:
        folder = modality_folder(self._run, modality)
        if self._writing:
            self._spool.wait(self._writing)
        # In this order: a line without its checkpoint is deleted, and its round is repeated.
        append_round(folder.rounds, record)
        last = self._last.setdefault(modality, LastFiles())
        self._hand_over(partial(save_state, folder.checkpoints, state, ALL_ROUNDS, last=last))

    def _store_combined(self, record: Record, modalities: Iterable[str]) -> None:
        append_round(self._run.rounds, record)
        self._lines.append(finite(record))
        folders = [modality_folder(self._run, modality) for modality in modalities]
        self._hand_over(partial(self._join, folders, record["round"], list(self._lines)))

    def _join(self, folders: list[RunFolder], round_: int, lines: list[Record]) -> None:
        checkpoints, keep = self._run.checkpoints, self._config.keep_rounds
        best = rounds_to_keep(lines, list_rounds(checkpoints), self._only_last)
        join_checkpoints([folder.checkpoints for folder in folders], checkpoints, round_)
        delete_older_rounds(checkpoints, keep, best)
        for folder in folders:
            ahead = [one for one in list_rounds(folder.checkpoints) if one > round_ - keep]
            delete_older_rounds(folder.checkpoints, len(ahead))

    def _hand_over(self, work: Callable[[], object]) -> None:
        self._writing = self._spool.submit(work)
        if self._config.dp_noise is not None:
            # The clients see this round's model next, and the privacy account is part of the checkpoint.
            self._spool.wait()


@dataclass(frozen=True, slots=True)
class Repair:
    """Checks of a modality's state, and what its repair costs."""

    check: Callable[[RunFolder, State], None]
    """check(folder, state) raises DamagedCheckpoint if the modality of `folder` cannot continue from it."""
    pay: Callable[[RunFolder, State], State]
    """pay(folder, state) returns the state with the privacy of the rounds that are repeated."""


def has_rounds(run: RunFolder) -> bool:
    """Return whether a modality has done a round, by itself or with the others."""
    folders = (modality_folder(run, modality) for modality in list_modalities(run))
    return any(list_rounds(folder.checkpoints) or len(read_rounds(folder.rounds)) > 1 for folder in folders)


def remove_damage(run: RunFolder, combined: State, repair: Repair) -> list[str]:
    """Set damaged checkpoints of modalities aside, so that each continues from its newest complete one.

    A modality without one continues from the last combined round, of which its part is stored again.

    Returns:
        Descriptions of the damage.

    Raises:
        FlamesError: rounds of a modality are lost, and no round is combined.
    """
    notes: list[str] = []
    members = _clients_by_modality(run)
    # A modality whose folder is gone has done the combined rounds all the same.
    for modality in dict.fromkeys((*list_modalities(run), *members)):
        folder = modality_folder(run, modality)
        for path in (folder.path, folder.checkpoints):
            remove_leftovers(path)
        state, damaged = _newest_complete(folder, combined.round, repair)
        if state is None and (clients := members.get(modality, set()) & combined.clients.keys()):
            state = part_of(combined, clients)
        if state is None:
            _check_nothing_lost(run, modality, folder, damaged)
            truncate_rounds(folder.rounds, 0)
            continue
        state = repair.pay(folder, state)
        notes += [
            f"the checkpoint of {one.round_folder.name} of {modality} is damaged ({one.what}) and is set "
            f"aside as {set_aside(one.round_folder).name}; {modality} continues after round {state.round}"
            for one in damaged
        ]
        _continue_after(folder, state)
        notes += truncate_rounds(folder.rounds, state.round)
    return notes


def _continue_after(folder: RunFolder, state: State) -> None:
    """Make `state` the newest one in a modality's folder."""
    stored = list_rounds(folder.checkpoints)
    for later in stored:
        if later > state.round:  # complete, but after a damaged one
            remove_folder(round_folder(folder.checkpoints, later))
    if state.round not in stored:
        save_state(folder.checkpoints, state, ALL_ROUNDS)


def _check_nothing_lost(
    run: RunFolder, modality: str, folder: RunFolder, damaged: Sequence[DamagedCheckpoint]
) -> None:
    """Check that a modality without a complete checkpoint has not done a round.

    Raises:
        FlamesError: it has.
    """
    done = len(read_rounds(folder.rounds))
    if damaged or done > 1:
        found = f"{damaged[0].round_folder.name}: {damaged[0].what}" if damaged else "there is none"
        raise FlamesError(
            f"{modality} of run '{run.name}' has done {done} rounds, and no checkpoint in "
            f"{folder.checkpoints} is complete ({found}); copy one back from a backup, or pass --fresh to "
            "start again"
        )


def _clients_by_modality(run: RunFolder) -> dict[str, set[str]]:
    """Return the clients of each modality that were asked in a round."""
    found: dict[str, set[str]] = {}
    for record in read_rounds(run.rounds):
        for one in record.get("clients", ()):
            found.setdefault(str(one.get("modality")), set()).add(str(one.get("client")))
    return found


def _newest_complete(
    folder: RunFolder, combined: int, repair: Repair
) -> tuple[State | None, list[DamagedCheckpoint]]:
    """Return the newest state from which a modality can continue, and the damage that was found.

    All its rounds after the last combined one must be complete up to this state: they are not combined yet.
    """
    stored, damaged = list_rounds(folder.checkpoints), list[DamagedCheckpoint]()
    last = combined
    while last + 1 in stored and _is_complete(folder, last + 1, damaged):
        last += 1
    for round_ in range(last, combined - 1, -1):
        if round_ not in stored:
            break
        try:
            state = load_state(folder.checkpoints, round_, mapped=True)
            repair.check(folder, state)
            return state, damaged
        except DamagedCheckpoint as error:
            damaged.append(error)
    return None, damaged


def _is_complete(folder: RunFolder, round_: int, damaged: list[DamagedCheckpoint]) -> bool:
    try:
        load_state(folder.checkpoints, round_, mapped=True)
    except DamagedCheckpoint as error:
        damaged.append(error)
        return False
    return True
