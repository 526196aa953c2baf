import ctypes
import platform
import subprocess
import sys

import pytest

from flames_cli.core.allocator import keep_freed_memory

FAULTS = """
import resource, torch
from flames_cli.core.allocator import keep_freed_memory
def faults():
    for _ in range(8):  # the heap needs some rounds until each buffer has the place of the one before
        torch.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), keep_freed_memory(), faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_a_large_buffer_uses_the_memory_of_the_one_before():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, kept, after = done.stdout.split()
    assert kept == "True"
    assert int(after) < int(before) / 4


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("mallopt was called"))
    assert keep_freed_memory.__wrapped__() is False
