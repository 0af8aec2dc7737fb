"""Memory that was freed and that the process still holds: on Linux the C library keeps free pages between others."""

import ctypes
import os
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of main memory that this process holds; 0 where the system does not say."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.is_file() else 0


def give_back() -> None:
    """Hands free pages back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
