"""The learning rate by step, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from soc_ft.training.optimisation import Schedule, WeightAverage, rate_factor
from tests.conftest import curve
from tests.trained import crash_at, largest_difference, weights

TinyRun = Callable[..., Path]


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_rate_rises_and_falls(schedule: Schedule, warmup: int) -> None:
    """Breaks if a step learns nothing, the warm-up ends late, or the fall starts before its end."""
    rates = [rate_factor(step, 20, warmup, schedule) for step in range(20)]
    assert rates[:warmup] == [pytest.approx((step + 1) / warmup) for step in range(warmup)]
    after = rates[warmup:]
    assert after[0] == pytest.approx(1)
    assert all(rate > 0 for rate in rates)
    if schedule == "constant":
        assert after == [1.0] * len(after)
        return
    shape = {"linear": lambda p: 1 - p, "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2}
    shares = [step / (20 - warmup) for step in range(20 - warmup)]
    assert after == pytest.approx([shape[schedule](share) for share in shares])


def test_steps_beyond_the_run_learn_nothing() -> None:
    """Breaks if the cosine rises again, or a line goes below zero, after the run's last step."""
    for schedule in ("cosine", "linear"):
        assert rate_factor(35, 20, 4, schedule) == pytest.approx(0)  # type: ignore[arg-type]


def test_a_run_that_is_shorter_than_its_warm_up_warms_up() -> None:
    """Breaks if the fall divides by a negative number of steps."""
    rates = [rate_factor(step, 3, 5, "cosine") for step in range(3)]
    assert rates == pytest.approx([0.2, 0.4, 0.6])


def walk(steps: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"a.b": torch.randn(3, generator=generator)} for _ in range(steps)]


def test_the_average_is_that_of_its_formula() -> None:
    """Breaks if the decay is turned round, or does not grow over the first steps."""
    start = {"a.b": torch.zeros(3)}
    average = WeightAverage(0.5, start)
    expected = torch.zeros(3)
    for n, trained in enumerate(walk(20)):
        average.update(n, trained)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * trained["a.b"]
        torch.testing.assert_close(average.weights["a.b"], expected)
    assert torch.equal(start["a.b"], torch.zeros(3)), "a copy"


def test_an_exchange_is_undone_by_another() -> None:
    """Breaks if a validation leaves rounding, or the average's tensors, in the trained weights."""
    (first, trained) = walk(2)
    average = WeightAverage(0.5, first)
    held, before = trained["a.b"], trained["a.b"].clone()
    average.exchange(trained)
    assert trained["a.b"] is held
    assert torch.equal(held, first["a.b"])
    assert torch.equal(average.weights["a.b"], before)
    average.exchange(trained)
    assert torch.equal(held, before)
    assert torch.equal(average.weights["a.b"], first["a.b"])


def kept(folder: Path, step: int) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:06d}.safetensors")


def test_what_is_validated_kept_and_resumed_is_the_average(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the average stands still or steers the training, is not what is measured, kept and
    evaluated, or starts over after a crash."""
    settings = ("finetune=lora", "trainer.lr=1e-2", "trainer.keep_every=1")
    averaging = (*settings, "trainer.ema=0.9", "trainer.checkpoint_every=1")
    plain = tiny_run(*settings, folder="plain")
    averaged = tiny_run(*averaging, folder="averaged")
    with monkeypatch.context() as patch:
        crash_at(3, patch)
        with pytest.raises(MemoryError):
            tiny_run(*averaging, folder="crashed")
    resumed = tiny_run(*averaging, folder="crashed")

    assert curve(resumed) == curve(averaged)
    assert largest_difference(weights(resumed), weights(averaged)) == 0
    state = torch.load(averaged / "checkpoints" / "last.ckpt", weights_only=True)
    assert largest_difference(state["soc_ft"]["trained"], weights(plain)) == 0
    assert largest_difference(kept(averaged, 4), weights(averaged)) == 0
    for step in (2, 3, 4):
        decay = step / (9 + step)  # of the step before, counted from 0: (1 + n) / (10 + n)
        before, trained = kept(averaged, step - 1), kept(plain, step)
        after = {name: decay * before[name] + (1 - decay) * trained[name] for name in trained}
        assert largest_difference(kept(averaged, step), after) < 1e-6
        assert largest_difference(kept(averaged, step), trained) > 1e-4
    gains = [
        [m["val/gain"] for _, m in curve(folder) if "val/gain" in m] for folder in (plain, averaged)
    ]
    assert gains[0][0] == gains[1][0] == 0
    assert len({gains[0][-1], gains[1][-1], 0}) == 3
    training = [
        [m["train/reward"] for _, m in curve(folder) if "train/reward" in m]
        for folder in (plain, averaged)
    ]
    assert training[0] == training[1]
