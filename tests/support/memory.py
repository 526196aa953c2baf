"""Actions under a limit of memory."""

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
MEMORY_TAKEN = Path("/proc/self/statm")


def message_with_little_memory(action: Callable[[], object], more: int = GIB) -> str:
    """Return what `action` raises in a child process that may take 1 GiB more than it has."""
    if resource is None or not MEMORY_TAKEN.exists():
        pytest.skip("only Linux reports and limits the memory of a process")
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest's workers have threads, all of them idle
        child = os.fork()
    if not child:
        told = "the child died"
        try:
            pages = int(MEMORY_TAKEN.read_text().split()[0])
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
