"""Peak memory: of CUDA's allocator on a GPU, else of the process, as Linux notes it."""

from __future__ import annotations

from pathlib import Path

import torch


def peak_memory() -> int:
    """Bytes since the start of the process or the last reset."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def reset_peak_memory() -> None:
    """Count the peak from now on."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
