"""The training loop that every stage shares: schedule, averaging, checkpoints, resuming."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from soc_ft.errors import RunError

StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]
"""Loss of a global step, with what to show in the progress bar. Draws its data from the step."""


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation of one stage.

    Attributes:
        steps: optimizer steps.
        lr: peak learning rate.
        lr_factors: what it is multiplied by: pairs of a step and a factor, ascending by step,
            linear between them. Of two pairs with the same step the second counts from it on.
        weight_decay: of AdamW.
        ema: decay of the exponential moving average of the weights.
        clip: norm that gradients are clipped to.
        save_every: steps between checkpoints.
    """

    steps: int
    lr: float
    lr_factors: Sequence[tuple[int, float]]
    weight_decay: float
    ema: float
    clip: float
    save_every: int

    def lr_factor(self, step: int) -> float:
        """Factor of the peak learning rate at a step."""
        after = next((i for i, (at, _) in enumerate(self.lr_factors) if at > step), None)
        if after is None:
            return self.lr_factors[-1][1]
        if after == 0:
            return self.lr_factors[0][1]
        (start, low), (end, high) = self.lr_factors[after - 1 : after + 1]
        return low + (high - low) * (step - start) / (end - start)


def train(model: nn.Module, step_loss: StepLoss, config: LoopConfig, checkpoint: Path) -> None:
    """Train ``model`` in place and leave its averaged weights in it.

    Resumes from ``checkpoint`` when that exists. ``step_loss`` must be a pure function of the
    step and of the weights; a resumed run then repeats the uninterrupted one.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    first = _resume(checkpoint, model, optimizer, average)
    with tqdm(total=config.steps, initial=first, desc=checkpoint.stem, mininterval=5.0) as bar:
        for step in range(first, config.steps):
            optimizer.param_groups[0]["lr"] = config.lr * config.lr_factor(step)
            loss, shown = step_loss(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            _update_average(average, model, min(config.ema, (1 + step) / (10 + step)))
            bar.update()
            bar.set_postfix(shown, refresh=False)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                _save(checkpoint, step + 1, model, optimizer, average)
    model.load_state_dict(average)


def atomic_save(state: dict[str, Any], path: Path) -> None:
    """``torch.save`` so that a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    torch.save(state, partial)
    os.replace(partial, path)


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1.0 - decay)
        else:
            average[name].copy_(value)


def _save(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> None:
    state = {"model": model.state_dict(), "average": average, "optimizer": optimizer.state_dict()}
    atomic_save(state | {"step": step}, path)


def _resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.update(state["average"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunError(
            f"{path} holds another model than the configuration; move it away to start over"
        ) from error
    return int(state["step"])
