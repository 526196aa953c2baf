"""Files of those who mean harm, and how to tell that one did none."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

GIB = 2**30


class MakesFolder:
    """As a pickle, it makes a folder when it is read: the sign that code in a file has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path) -> MakesFolder:
    return MakesFolder(tmp_path / "code-has-run")


@pytest.fixture
def little_memory() -> Callable[..., str]:
    """little_memory(action): what `action` raises, in a child that may take 1 GiB more than it has."""
    if resource is None:
        pytest.skip("this system has no limits for a process")
    return _message_with_little_memory


def _message_with_little_memory(action: Callable[[], object], more: int = GIB) -> str:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest's workers have threads, all of them idle
        child = os.fork()
    if not child:
        told = "the child died"
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + more
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            told = f"read: {action()!r:.200}"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, told.encode()[:4000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read().decode(errors="replace")
    os.waitpid(child, 0)
    return told
