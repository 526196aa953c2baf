"""Flower's SuperNode with the guard, and mended: `python -m flames_cli.flower.supernode ARGUMENTS`.

The arguments are those of `flower-supernode`. A message of a run whose app the guard refuses is ignored, with
one line in the log; the node lives on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR
from types import ModuleType
from typing import Any

from flwr.common.logger import log
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.nodestate import nodestate_factory

from flames_cli.flower.app_guard import App, RefusedApp, check_fab, check_run
from flames_cli.flower.mending import MendedState, mended
from flames_cli.flower.parent import end_with_parent
from flames_cli.flower.superexec import end_with_superexec

REFUSED = "FLAMES refuses the app of run"
"""How the guard's line in the log begins."""


class RefusedRun(RunNotRunningException):
    """By this Flower's node ignores the message that it has just received."""


class Guard:
    """The two questions by which a node learns what to run, asked of the server and then checked."""

    def __init__(self, get_run: Callable[[int], Run], get_fab: Callable[[str, int], Fab]) -> None:
        self._get_run = get_run
        self._get_fab = get_fab
        self._expected: dict[int, App] = {}

    def get_run(self, run_id: int) -> Run:
        """What the server says of a run."""
        run = self._get_run(run_id)
        try:
            self._expected[run_id] = check_run(run.fab_id, run.fab_version, run.primary_task_type)
        except RefusedApp as error:
            raise _refused(run_id, error) from error
        return run

    def get_fab(self, fab_hash: str, run_id: int) -> Fab:
        """The app of a run."""
        fab = self._get_fab(fab_hash, run_id)
        try:
            app = check_fab(fab.content)
            if app != self._expected.get(run_id):
                raise RefusedApp(f"it calls itself {app}, and the server {self._expected.get(run_id)}")
        except RefusedApp as error:
            raise _refused(run_id, error) from error
        return fab


class GuardedState(MendedState):
    """What the node keeps: from here its processes get the app that they run, so nothing else gets in."""

    def store_fab(self, fab: Fab) -> str:
        """Keep an app that the guard accepts."""
        try:
            check_fab(fab.content)
        except RefusedApp as error:
            raise _refused(0, error) from error
        return str(super().store_fab(fab))


def _refused(run_id: int, error: RefusedApp) -> RefusedRun:
    log(ERROR, "%s %s: %s", REFUSED, run_id, error)
    return RefusedRun(str(error))


def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    """`connect`, Flower's connection of a node to its server, with the guard between them."""

    @contextmanager
    def connect_guarded(*arguments: Any, **options: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*arguments, **options) as (node_id, receive, send, get_run, get_fab, *rest):
            guard = Guard(get_run, get_fab)
            yield node_id, receive, send, guard.get_run, guard.get_fab, *rest

    return connect_guarded


def main() -> None:
    """Run the node until a signal ends it."""
    end_with_parent()
    end_with_superexec()
    # flwr 1.41 has no public place for a check of what a server sends. These are the names by which its
    # loop connects, and by which it makes the state that its processes read.
    _replace(start_client_internal, "http_request_response", guarded)
    _replace(start_client_internal, "_pull_and_store_message", mended)
    _replace(nodestate_factory, "InMemoryNodeState", lambda _: GuardedState)
    flower_supernode()


def _replace(module: ModuleType, name: str, replacement: Callable[[Any], Any]) -> None:
    """Put in place of `name` what `replacement` makes of it.

    Raises:
        AttributeError: it is not there: another release of flwr, in which the node would not be guarded.
    """
    setattr(module, name, replacement(getattr(module, name)))


if __name__ == "__main__":
    main()
