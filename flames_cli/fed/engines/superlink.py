"""The superlink engine: a federation of real nodes, at the SuperLink that `flames deploy server` runs.

The SuperLink or the run's process may die during the run. The run is then submitted again when the SuperLink
is back, and continues after its last complete round.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.submitted import run_submitted, stop_if_alive
from flames_cli.fed.event_log import Lost
from flames_cli.fed.events import Event, ModalityDone, OnEvent, RoundDone, Waiting
from flames_cli.fed.jobs import Job
from flames_cli.flower.flwr_command import FlwrCommand, find_superlink

ATTEMPTS = 4
"""Number of times that a run may be lost in a row, without a new complete round, before it is given up."""

Find = Callable[[], FlwrCommand | None]


@dataclass(frozen=True, slots=True)
class Patience:
    """Times, in seconds, of the wait for a server that is gone."""

    at_least_s: float = 60.0
    """Shortest wait, however short the timeout for nodes is: a server needs seconds to start."""
    poll_s: float = 1.0
    """Time between two attempts to reach the server."""


DEFAULT_PATIENCE = Patience()


def require_superlink(home: Path, port: int, root_certificates: Path) -> FlwrCommand:
    """Return the SuperLink that listens on `port` of this machine.

    Raises:
        FlamesError: no SuperLink answers.
    """
    cli = find_superlink(home, port, root_certificates)
    if cli is None:
        raise FlamesError(
            f"no server answers at port {port} of this machine; start it with `flames deploy server` here, "
            "and check it with `flames deploy status`"
        )
    return cli


def run_at_server(
    find: Find,
    job: Job,
    last_round: int,
    on_event: OnEvent,
    log: Path,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Run `job` at the server, and submit it again when its SuperLink or its process has died.

    Args:
        find: returns the SuperLink, or None while it does not answer.
        job: the run.
        last_round: the last complete round, after which the run continues.
        on_event: called with every event.
        log: the SuperLink's log, for error messages.
        patience: times of the wait for the server.

    Raises:
        FlamesError: the error that ended the run; the server did not answer for too long, or the run was lost
            ATTEMPTS times without a new complete round.
    """
    seconds = max(job.participation.join_timeout_s, patience.at_least_s)
    attempts = _Attempts(on_event, last_round)
    cli = _wait_for(find, 0.0, patience.poll_s, attempts)
    while True:
        try:
            return run_submitted(cli, job, attempts, log)
        except Lost as lost:
            attempts.count(lost)
            on_event(
                Waiting(
                    attempts.last_round + 1,
                    f"the run was lost, and continues when the server answers: {lost}",
                    seconds,
                )
            )
            cli = _wait_for(find, seconds, patience.poll_s, attempts)
            if lost.run_id is not None:
                # Its messages still wait for the nodes, whose replies no ServerApp would use.
                stop_if_alive(cli, lost.run_id)


class _Attempts:
    """Counter of how often the run was lost since its last complete round; it passes events on."""

    def __init__(self, on_event: OnEvent, last_round: int) -> None:
        self._on_event = on_event
        self._lost = 0
        self.last_round = last_round

    def __call__(self, event: Event) -> None:
        if isinstance(event, ModalityDone):
            self._lost = 0
        if isinstance(event, RoundDone):
            self.last_round, self._lost = int(event.record["round"]), 0
        self._on_event(event)

    @property
    def how_to_continue(self) -> str:
        return "run the same command again: it continues after its last complete round"

    def count(self, lost: Lost) -> None:
        """Raise FlamesError if the run was lost too often."""
        self._lost += 1
        if self._lost == ATTEMPTS:
            raise FlamesError(
                f"round {self.last_round + 1} was lost {ATTEMPTS} times in a row; the last time: {lost}; fix "
                f"the cause, then {self.how_to_continue}"
            ) from lost


def _wait_for(find: Find, seconds: float, poll_s: float, attempts: _Attempts) -> FlwrCommand:
    """Return the SuperLink as soon as it answers.

    Raises:
        FlamesError: it has not answered for `seconds`.
    """
    deadline = time.monotonic() + seconds
    while (cli := find()) is None:
        if time.monotonic() >= deadline:
            raise FlamesError(
                f"no server has answered on this machine for {seconds:g} s; start it with `flames deploy "
                f"server`, then {attempts.how_to_continue}"
            )
        time.sleep(poll_s)
    return cli
