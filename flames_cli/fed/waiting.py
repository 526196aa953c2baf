"""Waiting without threads: a piece of the server's work is a generator, which yields while nothing arrives.

Several works share one thread: while one of them waits for its nodes, the others go on.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from typing import Literal, TypeVar

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.fed.pace import Pace

Result = TypeVar("Result")

Work = Generator[Literal[True] | None, None, Result]
"""Work that yields None whenever nothing has arrived, and returns its result. It yields True where it could
go on, to let other works go on first."""

GO_ON: Literal[True] = True
"""Yielded by work that could go on."""


def pause(seconds: float) -> Iterator[None]:
    """Yield None until `seconds` are over, and at least once."""
    ends = time.monotonic() + seconds
    yield None
    while time.monotonic() < ends:
        yield None


def finish(work: Work[Result], pace: Pace) -> Result:
    """Do all of `work`, with a short sleep whenever nothing has arrived, and return its result."""
    while True:
        try:
            can_go_on = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        if not can_go_on:
            time.sleep(pace.poll_s)


def together(works: Mapping[str, Work[Result]]) -> Work[dict[str, Result | FlamesError]]:
    """Do all `works` in turns, in their order; return the result of each, or its error.

    Work that fails does not stop the others. Works may be added to `works` until all are done.

    Raises:
        NotWritten: the disk is full, which concerns all works.
    """
    results: dict[str, Result | FlamesError] = {}
    while len(results) < len(works):
        can_go_on: Literal[True] | None = None
        for name, work in list(works.items()):
            if name in results:
                continue
            try:
                can_go_on = next(work) or can_go_on
            except StopIteration as end:
                results[name] = end.value
            except NotWritten:
                raise
            except FlamesError as error:
                results[name] = error
        if len(results) < len(works):
            yield can_go_on
    return {name: results[name] for name in works}
