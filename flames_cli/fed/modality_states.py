"""The states of a run by modality: each modality has its own, and rounds that all have done are combined."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flames_cli.core.federated.modalities import merge_states
from flames_cli.core.federated.reports import State

Record = dict[str, Any]


def _save_nothing(state: State, record: Record) -> None:
    """Save nothing."""


class ModalityStates:
    """Stores the states of each modality in the memory until their round is combined.

    Subclasses store them elsewhere.
    """

    def __init__(self, save: Callable[[State, Record], None] = _save_nothing) -> None:
        """Begin before the first round; `save(state, record)` gets each combined round."""
        self._save = save
        self.newest: dict[str, State] = {}
        """State from which each modality continues."""
        self.combined = 0
        """Last combined round."""
        self._done: dict[str, int] = {}
        self._records: dict[int, dict[str, Record]] = {}
        self._states: dict[int, dict[str, State]] = {}

    def take_part(self, modality: str) -> State:
        """Return the state from which `modality` continues; combined rounds wait for it from now on.

        A new modality begins after the last combined round.
        """
        state = self.newest.pop(modality, None) or State(self.combined, {})
        self._done.setdefault(modality, state.round)
        return state

    def combine_done(self) -> list[Record]:
        """Combine the rounds that all modalities had done when the process before this one was killed, and
        return their records."""
        records = []
        while self._done and self.combined < min(self._done.values()):
            records.append(self._combine(None))
        return records

    def save(self, modality: str, state: State, record: Record, seconds: float) -> Record | None:
        """Store `state`, which `modality` has reached with the round of `record`; if all modalities have done
        this round now, combine it, and return its record.

        Args:
            modality: name of the modality.
            state: its state, without other modalities.
            record: its line of rounds.jsonl.
            seconds: time since the round before was combined.
        """
        if state.round > self.combined:
            self._records.setdefault(state.round, {})[modality] = record
        self._done[modality] = state.round
        self._store(modality, state, record)
        return self._combine(seconds) if self.combined < min(self._done.values()) else None

    def _combine(self, seconds: float | None) -> Record:
        round_ = self.combined + 1
        of_modality = self._records.pop(round_, {})
        parts = [of_modality[modality] for modality in self._done if modality in of_modality]
        record = merge_records(round_, parts, seconds)
        self._store_combined(record, [*self._done])
        self.combined = round_
        return record

    def _store(self, modality: str, state: State, record: Record) -> None:
        self._states.setdefault(state.round, {})[modality] = state

    def _store_combined(self, record: Record, modalities: Iterable[str]) -> None:
        states = self._states.pop(record["round"])
        self._save(merge_states([states[modality] for modality in modalities]), record)


def merge_records(round_: int, records: Iterable[Mapping[str, Any]], seconds: float | None = None) -> Record:
    """Return the line of a round of all modalities, made of the lines of each.

    Bytes are added up; of the other numbers the largest one counts.

    Args:
        round_: number of the round.
        records: lines of this round.
        seconds: duration of the round; None: that of the slowest modality.
    """
    merged: Record = {
        "round": round_,
        "seconds": 0.0,
        "clients": [],
        "accepted": [],
        "unchanged_groups": [],
        "rejected": {},
        "bytes_down": 0,
        "bytes_up": 0,
    }
    for record in records:
        for key, value in record.items():
            before = merged.get(key)
            if isinstance(value, dict):
                merged[key] = {**(before or {}), **value}
            elif isinstance(value, list):
                merged[key] = [*(before or []), *value]
            elif key.startswith("bytes_"):
                merged[key] = (before or 0) + value
            elif key != "round":
                merged[key] = value if before is None else max(before, value)
    merged["clients"].sort(key=lambda one: one["client"])
    merged["accepted"].sort()
    if seconds is not None:
        merged["seconds"] = round(seconds, 3)
    return merged
