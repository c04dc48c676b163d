"""What tests do with runs: read their weights, compare them, crash them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from soc_ft.models.weights import load_weights
from soc_ft.training.module import RewardFineTuning


def weights(folder: Path) -> dict[str, Tensor]:
    return load_weights(folder / "checkpoints" / "last.ckpt")


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise in the middle of an optimizer step, as a crash would."""
    regress = RewardFineTuning._regress

    def crashing(self: RewardFineTuning, *args: object) -> dict[str, float]:
        if self.global_step == step:
            raise MemoryError("crash")
        return regress(self, *args)

    monkeypatch.setattr(RewardFineTuning, "_regress", crashing)
