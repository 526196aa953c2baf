"""Settings of this process that make torch's work on a CPU faster."""

import ctypes
import platform
from functools import cache

import torch

from flames_cli.core.cores import available_cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options of `mallopt` (malloc.h)."""
LARGEST_KEPT = 2**30
"""Size in bytes from which a buffer is still returned to the system as soon as it is freed."""
LARGEST_UNUSED = 2**31 - 1
"""Size in bytes of unused memory at the end of the heap that is not returned to the system."""


@cache
def prepare_process() -> None:
    """Prepare this process, once, for torch's work: call this before the first model is used."""
    keep_freed_memory()
    # Torch follows the affinity mask and OMP_NUM_THREADS, but not the quota of a container.
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def keep_freed_memory() -> bool:
    """Let glibc keep freed buffers in this process, and return whether it does.

    By default glibc returns buffers of 32 MiB and more to the system when they are freed, and smaller ones
    from the end of the heap. A model makes and frees such buffers in every layer, and the system clears each
    page again before it is used: at 240×240 pixels this took a third of the time of a prediction. The largest
    amount of memory in use hardly changes (docs/performance.md). Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # A setting of its own also stops glibc from changing the thresholds by the sizes that it sees.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, LARGEST_UNUSED))
