"""The C library's memory: buffers that torch frees stay in the process, where the next layer needs them."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options of `mallopt` (malloc.h)."""
LARGEST_KEPT = 2**30
"""Size in bytes from which a buffer is still returned to the system as soon as it is freed."""
LARGEST_UNUSED = 2**31 - 1
"""Size in bytes of unused memory at the end of the heap that is not returned to the system."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed buffers in this process from now on, and return whether it does.

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
