"""What a process does with the memory that it no longer needs."""

import ctypes

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Has glibc keep it for the next step: about a tenth less time on a CPU.

    By default large blocks are mapped anew, and their pages fault in again. To be
    called before there are threads: they all take it from one arena then. Other C
    libraries do as they do.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
