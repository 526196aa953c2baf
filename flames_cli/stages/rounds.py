"""Choice of the round whose models a command takes: the best by validation, the last, or a given one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flames_cli.config import FederateConfig, Wanted
from flames_cli.core.federated.best_round import RoundScores, Size, score_rounds
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.learn.train_options import ENOUGH_PATIENTS
from flames_cli.stages.own_models import with_own_models
from flames_cli.store.checkpoint import DamagedCheckpoint, list_rounds, load_state
from flames_cli.store.runs import RunFolder, read_final_models, read_rounds

_SIZES: dict[Any, Size] = {"best": "all", "best-small": "small"}


@dataclass(frozen=True, slots=True)
class ChosenRound:
    """The round whose models a command takes, and the reason."""

    round: int
    last: int
    """The last stored round."""
    asked: str
    """The rule: best, best-small, last, or the number of a round."""
    why: str
    validation_dice: float | None = None
    """Pooled validation Dice of the round; None: not known."""
    last_validation_dice: float | None = None
    """Pooled validation Dice of the last round; None: not known."""
    validation_patients: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the entry for evaluation.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of a run from which a command may choose."""

    run: str
    stored: list[int]
    """Rounds with a checkpoint, in order; not empty."""
    scores: RoundScores
    candidates: frozenset[int]
    """Rounds that may be the best: after the last round those that the clients examined in the same way."""
    only_last: str = ""
    """Reason why the run offers its last round only; empty: it offers all."""

    @property
    def last(self) -> int:
        """The last stored round."""
        return self.stored[-1]

    @property
    def best_rounds(self) -> dict[str, int]:
        """The best rounds by rule; empty if the run offers its last round only."""
        found = {rule: self.scores.best(self.candidates, size) for rule, size in _SIZES.items()}
        return {} if self.only_last else {rule: best for rule, best in found.items() if best is not None}

    @property
    def default(self) -> Wanted:
        """The rule without a request: best with enough validation patients, else last: with fewer, the best
        score of many rounds is mostly chance."""
        enough = self.scores.patients >= ENOUGH_PATIENTS and self.scores.best(self.candidates) is not None
        return "best" if enough and not self.only_last else "last"


def reason_for_last_only(config: FederateConfig) -> str:
    """Return why a run with these options offers its last round only; empty if it offers all."""
    if config.dp_noise is not None:
        return "--dp-noise does not cover a choice by the clients' validation"
    if config.secure_aggregation and get_algorithm(config.strategy).blends_for_each:
        return "with --secure-aggregation the clients' models of earlier rounds are no longer stored"
    if config.style_stays:
        return "with --share content the styles of earlier rounds are no longer stored at the clients"
    return ""


def read_passes(run: RunFolder, lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the clients' reports on the models of the last round and of the best earlier ones.

    Empty if they are of another last round than `lines`: the run was continued.
    """
    final = read_final_models(run)
    if not final or not lines or final.get("round") != lines[-1]["round"]:
        return []
    return [final, *final.get("earlier", [])]


def read_run_rounds(run: RunFolder, config: FederateConfig) -> Rounds:
    """Return the rounds of a run from which a command may choose.

    Raises:
        MissingArtifact: the run has no checkpoint.
        FlamesError: a file of the run cannot be read.
    """
    lines, stored = read_rounds(run.rounds), list_rounds(run.checkpoints)
    if not stored:
        raise MissingArtifact(f"no checkpoint in {run.checkpoints}; make it with `flames federate`")
    passes = read_passes(run, lines)
    candidates = frozenset(stored) & {one["round"] for one in passes} if passes else frozenset(stored)
    return Rounds(run.name, stored, score_rounds(lines, passes), candidates, reason_for_last_only(config))


def choose_round(rounds: Rounds, wanted: Wanted | None) -> ChosenRound:
    """Return the round that is wanted; None: the default.

    Raises:
        FlamesError: the run offers its last round only, the round is not stored, or no round has a score.
    """
    if rounds.only_last and wanted not in (None, "last", rounds.last):
        raise FlamesError(
            f"got --round {wanted}, and run '{rounds.run}' offers only its last round {rounds.last}: "
            f"{rounds.only_last}; leave --round out, or pass --round last"
        )
    rule = rounds.default if wanted is None else wanted
    if rule in _SIZES:
        return _choose_best(rounds, _SIZES[rule], str(rule))
    round_ = rounds.last if rule == "last" else int(rule)
    if round_ not in rounds.stored:
        stored = ", ".join(str(one) for one in rounds.stored)
        raise FlamesError(
            f"got --round {wanted}, and run '{rounds.run}' stores the rounds {stored}; pass one of them, or "
            "federate with a larger --keep-rounds"
        )
    why = _why_last(rounds) if wanted is None else "as requested"
    return _chosen(rounds, round_, str(rule), why, "all")


def load_round(run: RunFolder, chosen: ChosenRound) -> State:
    """Return the state of the chosen round, with the models that only clients on this machine have.

    Raises:
        FlamesError: its checkpoint is damaged.
    """
    try:
        return with_own_models(run, load_state(run.checkpoints, chosen.round))
    except DamagedCheckpoint as error:
        if chosen.round == chosen.last:
            raise
        raise FlamesError(
            f"the checkpoint {error.round_folder} is damaged ({error.what}), and `flames federate` does not "
            "repeat a round before the last; copy it back from a backup, or pass --round last"
        ) from error


def _why_last(rounds: Rounds) -> str:
    if rounds.only_last:
        return f"the last round, since {rounds.only_last}"
    if rounds.scores.best(rounds.candidates) is None or not rounds.scores.patients:
        # Earlier releases counted images, not patients.
        return "the last round, since the run has no numbers of validation patients"
    n = rounds.scores.patients
    found = f"{n} validation patient{' is' if n == 1 else 's are'}"
    return f"the last round, since {found} too few to choose one (at least {ENOUGH_PATIENTS})"


def _choose_best(rounds: Rounds, size: Size, rule: str) -> ChosenRound:
    best = rounds.scores.best(rounds.candidates, size)
    if best is None:
        images = "images with small lesions" if size == "small" else "images"
        raise FlamesError(
            f"got --round {rule}, and no stored round of run '{rounds.run}' was validated on {images}; pass "
            "--round last, or federate again with validation patients (--val-fraction of flames partition)"
        )
    of_what = " for small lesions" if size == "small" else ""
    n, dice = rounds.scores.patients, rounds.scores.of(best, size)
    last = rounds.scores.of(rounds.last, size)
    other = f"; last round {last:.3f}" if last is not None and best != rounds.last else ""
    patients = f"{n} validation patient{'' if n == 1 else 's'}"
    among = "the only round" if rounds.last == 1 else f"the best of {rounds.last} rounds"
    why = f"{among}{of_what} by {patients} (mean Dice of their images {dice:.3f}{other})"
    return _chosen(rounds, best, rule, why, size)


def _chosen(rounds: Rounds, round_: int, rule: str, why: str, size: Size) -> ChosenRound:
    scores = rounds.scores
    return ChosenRound(
        round=round_,
        last=rounds.last,
        asked=rule,
        why=why,
        validation_dice=scores.of(round_, size),
        last_validation_dice=scores.of(rounds.last, size),
        validation_patients=scores.patients,
    )


def rounds_to_keep(lines: Sequence[Mapping[str, Any]], stored: Collection[int], only_last: str) -> list[int]:
    """Return the stored rounds that are the best so far by the lines of rounds.jsonl."""
    return [] if only_last else score_rounds(lines).best_rounds(stored)
