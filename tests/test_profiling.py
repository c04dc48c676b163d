"""Evaluations are counted where the network runs, seconds where a phase runs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from soc_ft.core import differentiable_rollout
from soc_ft.models.finetune import LoRA, Offset
from soc_ft.profiling import Clock
from tests.models.small import MODES, make_inputs, make_model


def test_guidance_counts_twice() -> None:
    """Breaks if guidance is not one doubled batch, or scale 1 evaluates more than it needs."""
    model = make_model()
    x, t, condition = make_inputs(model)
    model.base(x, t, condition)
    assert model.counter.snapshot() == {"forward": 3, "backward": 0}
    model.trained(x, t, condition, guidance_scale=3.0).sum().backward()
    assert model.counter.snapshot() == {"forward": 9, "backward": 6}
    model.counter.reset()
    assert model.counter.snapshot() == {"forward": 0, "backward": 0}


def test_backward_counts_when_it_runs() -> None:
    """Breaks if gradients count before they are taken, or recomputation counts as evaluation."""
    model = make_model(LoRA(rank=2), network_checkpointing=True)
    x, t, condition = make_inputs(model)
    x.requires_grad_(True)
    prediction = model.base(x, t, condition)
    assert model.counter.snapshot() == {"forward": 3, "backward": 0}
    torch.autograd.grad(prediction.sum(), x)
    assert model.counter.snapshot() == {"forward": 3, "backward": 3}


def test_offset_reuses_the_base_prediction() -> None:
    """Breaks if regression evaluates the base network although its prediction is known."""
    model = make_model(Offset())
    inputs = make_inputs(model)
    base = model.base(*inputs)
    model.counter.reset()
    reused = model.trained(*inputs, base_prediction=base)
    assert model.counter.forward == 3
    computed = model.trained(*inputs)
    assert model.counter.forward == 9
    assert torch.equal(reused, computed)


@pytest.mark.parametrize(("mode", "networks"), [("full", 1), ("lora", 1), ("offset", 2)])
def test_anchors_count(mode: str, networks: int) -> None:
    """Breaks if the evaluations of a method with anchors look cheaper than they are."""
    model = make_model(MODES[mode])
    model.add_anchor("old")
    x, t, condition = make_inputs(model)
    x.requires_grad_(True)
    assert model.counter.forward == 0
    model.anchor("old", x, t, condition)
    assert model.counter.snapshot() == {"forward": 3 * networks, "backward": 0}
    model.anchor("old", x, t, condition, 3.0)
    assert model.counter.snapshot() == {"forward": 9 * networks, "backward": 0}


@pytest.mark.parametrize("recompute", [False, True])
def test_steps_that_are_recomputed_count_once(recompute: bool) -> None:
    """Breaks if the cost of a method depends on how its memory is saved."""
    model = make_model(LoRA(rank=2), network_checkpointing=recompute)
    process = model.scheduler.control_process(4, 1.0)
    x, _, condition = make_inputs(model)
    noise = torch.randn(3, 2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    end, _ = differentiable_rollout(
        model.trained, process, condition, x, noise, recompute=recompute
    )
    assert model.counter.snapshot() == {"forward": 6, "backward": 0}
    end.sum().backward()
    assert model.counter.snapshot() == {"forward": 6, "backward": 6}
    model.base(*make_inputs(model))
    assert model.counter.snapshot() == {"forward": 9, "backward": 6}


def test_clock_sums_phases_until_they_are_taken() -> None:
    """Breaks if a phase that fails or comes twice loses its seconds, or they are told twice."""
    clock = Clock()
    for _ in range(2):
        with clock.phase("reward"):
            time.sleep(0.01)
    with pytest.raises(ValueError, match="negative"), clock.phase("rollout"):
        time.sleep(-1)
    taken = clock.take()
    assert set(taken) == {"reward", "rollout"}
    assert 0.02 <= taken["reward"] < 1
    assert 0 < taken["rollout"] < 1
    assert clock.take() == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the memory of the process")
def test_peak_memory_is_in_bytes_and_starts_again() -> None:
    """Breaks if kibibytes pass for bytes, or a peak stays for the rest of the run.

    In a process of its own: one that has freed memory takes that again, and does not grow.
    """
    script = """
import torch
from soc_ft.profiling import peak_memory, reset_peak_memory
reset_peak_memory()
before = peak_memory()
size = 64 * 2**20
block = torch.ones(size, dtype=torch.uint8)
assert size <= peak_memory() - before < 2 * size
del block
reset_peak_memory()
assert peak_memory() < before + size // 2
"""
    subprocess.run([sys.executable, "-c", script], check=True)
