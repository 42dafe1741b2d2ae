"""What a benchmark ran on."""

import os
import platform
from pathlib import Path


def hardware() -> str:
    """Returns the processor and its number of cores."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
