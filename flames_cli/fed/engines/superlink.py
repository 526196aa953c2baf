"""The superlink engine: a federation of real nodes, by the SuperLink that `flames deploy server` runs.

The SuperLink or the run's process may die in the middle: the run is then handed over again, as soon as the
SuperLink is back, and goes on after its last whole round.
"""

import time
from collections.abc import Callable
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.submitted import run_submitted, stop_if_alive
from flames_cli.fed.event_log import Lost
from flames_cli.fed.events import Event, OnEvent, RoundDone, Waiting
from flames_cli.fed.jobs import Job
from flames_cli.flower.flwr_command import FlowerCli, find_superlink

ATTEMPTS = 4
"""In a row without a new whole round, before the run is given up."""

LEAST_WAIT_SECONDS = 60.0
"""For a server that is gone, however short nodes are waited for: it needs seconds to start."""

POLL_SECONDS = 1.0

Find = Callable[[], FlowerCli | None]


def require_superlink(home: Path, port: int, root_certificates: Path) -> FlowerCli:
    """The SuperLink that listens on `port` of this machine.

    Raises:
        FlamesError: none answers.
    """
    cli = find_superlink(home, port, root_certificates)
    if cli is None:
        raise FlamesError(
            f"no server answers at port {port} of this machine; start it with `flames deploy server` here, "
            "and look with `flames deploy status`"
        )
    return cli


def run_at_server(find: Find, job: Job, last_round: int, on_event: OnEvent, log: Path) -> None:
    """Run `job` at the server, through the death of its SuperLink or of its process.

    Args:
        find: the SuperLink; None while none answers.
        job: the run.
        last_round: the round after which it goes on.
        on_event: told of all that happens.
        log: of the SuperLink, for error messages.

    Raises:
        FlamesError: what ended the run; the server was away for too long, or the run was lost ATTEMPTS times
            without a new whole round.
    """
    seconds = max(job.participation.join_timeout_s, LEAST_WAIT_SECONDS)
    attempts = _Attempts(on_event, last_round)
    cli = _wait_for(find, 0.0, attempts)
    while True:
        try:
            return run_submitted(cli, job, attempts, log)
        except Lost as lost:
            attempts.note(lost)
            on_event(
                Waiting(
                    attempts.last_round + 1,
                    f"the run was lost, and goes on once the server answers: {lost}",
                    seconds,
                )
            )
            cli = _wait_for(find, seconds, attempts)
            if lost.run_id is not None:
                # Its messages still wait for the nodes, which would train in vain.
                stop_if_alive(cli, lost.run_id)


class _Attempts:
    """Passes events on; counts how often the run was lost since its last whole round."""

    def __init__(self, on_event: OnEvent, last_round: int) -> None:
        self._on_event = on_event
        self._lost = 0
        self.last_round = last_round

    def __call__(self, event: Event) -> None:
        if isinstance(event, RoundDone):
            self.last_round, self._lost = int(event.record["round"]), 0
        self._on_event(event)

    @property
    def how_to_go_on(self) -> str:
        return f"run the same command again: it goes on after round {self.last_round}"

    def note(self, lost: Lost) -> None:
        """Raises FlamesError where the run was lost too often."""
        self._lost += 1
        if self._lost == ATTEMPTS:
            raise FlamesError(
                f"round {self.last_round + 1} was lost {ATTEMPTS} times in a row; at last: {lost}; mend "
                f"that, and {self.how_to_go_on}"
            ) from lost


def _wait_for(find: Find, seconds: float, attempts: _Attempts) -> FlowerCli:
    """The SuperLink, once it answers.

    Raises:
        FlamesError: it does not, `seconds` long.
    """
    deadline = time.monotonic() + seconds
    while (cli := find()) is None:
        if time.monotonic() >= deadline:
            raise FlamesError(
                f"no server has answered on this machine for {seconds:g} s; start it with `flames deploy "
                f"server`, and {attempts.how_to_go_on}"
            )
        time.sleep(POLL_SECONDS)
    return cli
