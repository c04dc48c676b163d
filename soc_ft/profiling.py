"""What a run costs: seconds by phase, evaluations of the network, peak memory."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.module_tracker import ModuleTracker


class Clock:
    """Sums the wall-clock seconds of named phases, each until the device has done its work.

    Attributes:
        seconds: by phase, since the last :meth:`take`.
    """

    def __init__(self) -> None:
        """Start with no phases."""
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to ``name``."""
        synchronize()
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize()
            self.seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The sums since the last call, which start again from zero."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class EvaluationCounter:
    """Counts network evaluations times samples, where the network is called.

    A guided prediction counts two per sample. What gradient checkpointing repeats, of a network's
    blocks or of whole predictions, is part of the backward pass and is not counted.

    Attributes:
        forward: samples that went through a network.
        backward: samples whose gradient came back through it.
    """

    def __init__(self) -> None:
        """Start from zero."""
        self._tracker = ModuleTracker()
        self.reset()

    def reset(self) -> None:
        """Start over from zero."""
        self.forward = 0
        self.backward = 0

    def snapshot(self) -> dict[str, int]:
        """The counts so far, under the names of the attributes."""
        return {"forward": self.forward, "backward": self.backward}

    def record(self, output: Tensor) -> None:
        """Count a network's fresh ``output`` (N, ...), and its backward pass when that happens."""
        if self._tracker.is_bw:
            return
        samples = len(output)
        self.forward += samples
        if output.requires_grad:
            output.register_hook(lambda _: self._add_backward(samples))

    def _add_backward(self, samples: int) -> None:
        self.backward += samples


def synchronize() -> None:
    """Wait until the device has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> int:
    """Bytes since the last reset: of CUDA's allocator, or of the process as Linux notes it."""
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
