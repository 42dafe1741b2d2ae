"""How this process gets memory from the operating system. Imports nothing heavy: a benchmark's peers are run with the same."""

import ctypes
import os
import platform
import sys

SWITCH = "CNN_JAX_ALLOCATOR"  # an environment variable: 0 leaves the allocator as it is

_HUGE = 2**21  # bytes of a huge page
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2  # what mallopt(3) calls M_ARENA_MAX and so on
_ADVISE_HUGE = 14  # madvise(2)'s MADV_HUGEPAGE


def keep_memory() -> str:
    """Returns what was done: freed memory is kept for the next allocation, in huge pages. For glibc on Linux; elsewhere nothing.

    A training step frees and takes hundreds of megabytes. By default each large array is mapped anew and its pages are cleared one by one
    at first touch, which costs more than the arithmetic on them: ResNet-50 at 224 takes 1.7 times as long (docs/performance.md).
    Memory that was freed is not given back to the system before the process ends.

    >>> import subprocess
    >>> program = "from cnn_jax.allocator import keep_memory; print(keep_memory())"
    >>> print(subprocess.run([sys.executable, "-c", program], env={SWITCH: "0"}, capture_output=True, text=True).stdout.strip())
    as it was: CNN_JAX_ALLOCATOR=0
    """
    if os.environ.get(SWITCH) == "0":
        return f"as it was: {SWITCH}=0"
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "as it was: not glibc"
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # One heap for all threads, nothing mapped by itself, nothing given back, and grown by 256 MiB at a time.
    for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**28)):
        libc.mallopt(option, value)
    # The heap is grown once, over addresses only, so that all of it can be marked for huge pages. No memory is taken before it is used.
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    block = libc.malloc(size)
    if not block:
        return "memory kept"
    start = -(-block // _HUGE) * _HUGE
    refused = libc.madvise(start, (block + size - start) // _HUGE * _HUGE, _ADVISE_HUGE)
    libc.free(block)
    return "memory kept" if refused else "memory kept, in huge pages"
