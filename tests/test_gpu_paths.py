"""What only happens beside a GPU, with a stand-in for CUDA."""

from __future__ import annotations

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.models.devices import release_memory, usable_device
from soc_ft.profiling import Clock, peak_memory, reset_peak_memory
from soc_ft.training.benchmark import ProfilingClock


class CUDA:
    """Notes what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 * 2**20)
        for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda name=name: self.calls.append(name))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> CUDA:
    return CUDA(monkeypatch)


def test_memory_is_that_of_the_gpu(cuda: CUDA) -> None:
    """Breaks if the memory of the process passes for that of the GPU."""
    assert peak_memory() == 5 * 2**20
    reset_peak_memory()
    assert cuda.calls == ["reset_peak_memory_stats"]


def test_a_phase_is_timed_until_the_gpu_is_done(cuda: CUDA) -> None:
    """Breaks if kernels that are still in the queue count for the next phase."""
    clock = ProfilingClock()
    with clock.phase("rollout"):
        cuda.calls.append("work")
    assert cuda.calls[0] == "reset_peak_memory_stats"
    assert cuda.calls[-1] == "synchronize"
    assert clock.memory == {"rollout": 5 * 2**20}
    plain, cuda.calls[:] = Clock(), []
    with plain.phase("rollout"):
        cuda.calls.append("work")
    assert cuda.calls == ["synchronize", "work", "synchronize"]


def test_memory_goes_back_to_the_gpu_between_networks(cuda: CUDA) -> None:
    """Breaks if the next metric does not find the memory of the last one."""
    release_memory()
    assert cuda.calls == ["empty_cache"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_named() -> None:
    """Breaks if a missing GPU ends in a page of PyTorch's."""
    with pytest.raises(ConfigError, match=r"^device=cuda: cannot be used"):
        usable_device("cuda")
