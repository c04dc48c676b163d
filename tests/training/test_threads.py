"""CPU threads: as many as there are idle cores, and in a resumed run as before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from soc_ft.training import threads
from soc_ft.training.threads import Threads, idle_cores

Machine = Callable[[int, int], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine where PyTorch takes so many cores, of which so many are idle."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def make(cores: int, idle: int) -> None:
        torch.set_num_threads(cores)
        monkeypatch.setattr(threads, "idle_cores", lambda: idle)

    yield make
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "idle", "processes", "chosen"), [(4, 4, 1, 4), (4, 1, 1, 1), (4, 3, 2, 1)]
)
def test_busy_cores_are_left_alone(
    machine: Machine, cores: int, idle: int, processes: int, chosen: int
) -> None:
    """Breaks if two threads share a core with somebody's job: a step then took ten times longer."""
    machine(cores, idle)
    assert Threads(None, processes, uses_cpu=True).count == chosen
    assert torch.get_num_threads() == chosen


def test_a_resumed_run_takes_the_number_that_it_began_with(machine: Machine) -> None:
    """Breaks if a resume on a machine that is busier ends with other weights."""
    machine(4, 3)
    state = Threads(None, 1, uses_cpu=True).state_dict()
    machine(4, 1)
    resumed = Threads(None, 1, uses_cpu=True)
    resumed.load_state_dict(state)
    assert resumed.count == torch.get_num_threads() == 3
    wanted = Threads(2, 1, uses_cpu=True)
    wanted.load_state_dict(state)
    assert wanted.count == torch.get_num_threads() == 2


def test_more_threads_than_idle_cores_are_warned_of(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks if a person waits for hours because of a number that they set, or sets it in vain."""
    machine(4, 1)
    nothing: Any = None
    with caplog.at_level(logging.WARNING):
        Threads(None, 1, uses_cpu=True).on_train_start(nothing, nothing)
        Threads(2, 1, uses_cpu=False).on_train_start(nothing, nothing)
        assert not caplog.records
        Threads(2, 1, uses_cpu=True).on_train_start(nothing, nothing)
        Threads(1, 5, uses_cpu=True).on_train_start(nothing, nothing)
    threads, devices = (record.getMessage() for record in caplog.records)
    assert "2 CPU threads for 1 idle cores" in threads
    assert "trainer.threads=1" in threads
    assert "5 CPU threads for 1 idle cores" in devices
    assert "fewer trainer.devices leave" in devices


def test_idle_cores_are_counted_among_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Breaks if cores of others, or beyond a container's share, are counted."""
    busy = iter([{0: (0, 0), 1: (0, 0), 2: (0, 0)}, {0: (100, 100), 1: (5, 100), 2: (0, 100)}])
    monkeypatch.setattr(threads, "_busy_and_total", lambda cores: next(busy))
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(threads, "_quota", lambda: float("inf"))
    assert idle_cores(0) == 2
    busy = iter([{0: (0, 0), 1: (0, 0)}, {0: (0, 100), 1: (0, 100)}])
    monkeypatch.setattr(threads, "_quota", lambda: 1.0)
    assert idle_cores(0) == 1
