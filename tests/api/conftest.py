"""A small workspace with runs, which all tests of the API share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flames_cli as flames
from tests.support.once import make_once
from tests.support.tiny import OPTIONS, make_tiny

TOY: dict[str, Any] = {**OPTIONS, "rounds": 2}
"""Options of a run that takes a moment."""


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the run `flames` and the family `seeds`, both evaluated: for reading only."""

    def make(root: Path) -> None:
        make_tiny(root)
        flames.federate(workspace=root, run="flames", **TOY)
        flames.federate_family(workspace=root, run="seeds", seeds=[0, 1], **TOY)
        for name in ("flames", "seeds"):
            flames.evaluate(run=name, overlays=False, workspace=root)

    return make_once(tmp_path_factory, "api", make)


@pytest.fixture
def nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], None]]:
    """Fail the test if anything was written to the standard output or error."""
    yield lambda: None
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
