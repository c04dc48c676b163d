"""How many CPU threads a run uses: as many as cores are idle, or as it used before a resume."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from soc_ft.processes import is_first_process

_VARIABLE = "OMP_NUM_THREADS"

_log = logging.getLogger(__name__)


class Threads(Callback):
    """Chooses the number of threads, and keeps it in the checkpoint.

    Threads that wait for a core that somebody else uses slow a step down many times. A resumed run
    takes the number that it began with, because sums may depend on it in their last digits.

    Attributes:
        count: threads of this process.
        idle: cores that were idle when the run started; None if that did not matter.
    """

    def __init__(self, given: int | None, processes: int, uses_cpu: bool) -> None:
        """Choose, and let PyTorch use as many.

        Args:
            given: the number that somebody wants; None chooses one.
            processes: of the run on this machine.
            uses_cpu: whether the networks are evaluated on the CPU.
        """
        self._processes = processes
        self._fixed = given is not None or (_VARIABLE in os.environ and is_first_process())
        self.count = given or torch.get_num_threads()
        self.idle: int | None = None
        if uses_cpu and self.count * processes > 1 and is_first_process():
            self.idle = idle_cores()
            if not self._fixed:
                self.count = max(1, min(self.count, self.idle // processes))
        if not self._fixed and processes > 1:
            os.environ[_VARIABLE] = str(self.count)  # for the processes that Lightning starts
        torch.set_num_threads(self.count)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of more threads than there are idle cores."""
        if self.idle is not None and self.count * self._processes > max(self.idle, 1):
            threads = max(1, self.idle // self._processes)
            fewer = (
                f"trainer.threads={threads} leaves"
                if self.count > 1
                else "fewer trainer.devices leave"
            )
            _log.warning(
                "%d CPU threads for %d idle cores: steps may take many times longer; %s the cores "
                "that others use alone",
                self.count * self._processes,
                self.idle,
                fewer,
            )

    def state_dict(self) -> dict[str, Any]:
        """The number of threads."""
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with as many, unless somebody wants another number."""
        if not self._fixed:
            self.count = state_dict["count"]
            torch.set_num_threads(self.count)


def idle_cores(seconds: float = 0.3) -> int:
    """Cores that this process may use and that were idle for the next few moments, at least 1.

    Args:
        seconds: to look on.
    """
    allowed = os.sched_getaffinity(0)
    before = _busy_and_total(allowed)
    time.sleep(seconds)
    after = _busy_and_total(allowed)
    busy = sum(
        (after[core][0] - before[core][0]) / max(after[core][1] - before[core][1], 1)
        for core in before.keys() & after.keys()
    )
    return max(1, round(min(len(allowed) - busy, _quota())))


def _busy_and_total(cores: set[int]) -> dict[int, tuple[int, int]]:
    """Ticks that each core has worked, and has existed, as ``/proc/stat`` counts them."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            counts = [int(each) for each in ticks[:8]]
            found[int(name[3:])] = (sum(counts) - counts[3] - counts[4], sum(counts))
    return found


def _quota() -> float:
    """Cores' worth of time that a container may use."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else int(limit) / int(period)
