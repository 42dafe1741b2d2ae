"""What a benchmark ran on, and the memory it took."""

import os
import platform
from collections.abc import Callable
from pathlib import Path


def hardware() -> str:
    """Returns the processor and the number of its cores that this process may use."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {num_cores} core{'s' if num_cores != 1 else ''}"


def memory_of(function: Callable[[], object]) -> int:
    """Returns by how many bytes this process's memory rises, at most, above what it holds before the call: Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: not the parent's, not that of compiling
    before = _resident("VmRSS")
    function()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
