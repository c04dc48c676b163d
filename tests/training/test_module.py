"""The optimizer step by hand: which losses count, and what AdamW makes of their gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from soc_ft.core import effective_sample_size
from soc_ft.methods import Batch, Method, Terms
from soc_ft.methods.adjoint_matching import AdjointMatching
from soc_ft.training.module import RewardFineTuning
from tests.conftest import curve
from tests.trained import weights

TinyRun = Callable[..., Path]


@dataclass
class Step:
    """What an optimizer step started from, and the gradient that it made, before it was clipped."""

    before: dict[str, Tensor]
    samples: Batch
    mask: dict[str, float]
    gradient: dict[str, Tensor] = field(default_factory=dict)
    by_hand: dict[str, Tensor] = field(default_factory=dict)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every optimizer step of the runs of a test."""
    steps: list[Step] = []
    regress, optimize = RewardFineTuning._regress, RewardFineTuning._optimize

    def watch_regress(module: RewardFineTuning, samples: Batch, fresh: bool) -> dict[str, float]:
        mask = dict(module.method.state_dict()["mask"])
        step = Step(cloned(module.model.trainable_state()), samples, mask)
        steps.append(step)
        step.by_hand = by_hand(module, samples, fresh)
        return regress(module, samples, fresh)

    def watch_optimize(module: RewardFineTuning, parameters: list[Tensor]) -> dict[str, float]:
        names = module.model.trainable_state()
        gradients = [each.grad.clone() for each in module.model.trainable_parameters()]
        steps[-1].gradient = dict(zip(names, gradients, strict=True))
        return optimize(module, parameters)

    monkeypatch.setattr(RewardFineTuning, "_regress", watch_regress)
    monkeypatch.setattr(RewardFineTuning, "_optimize", watch_optimize)
    return steps


def cloned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def by_hand(module: RewardFineTuning, samples: Batch, fresh: bool) -> dict[str, Tensor]:
    """Gradient of the mean over all pairs of weight times loss, sample by sample."""
    finite = samples.tensors["finite"]
    parts = []
    for row in range(len(finite)):
        if finite[row]:
            pairs = module.pairs_of(samples, torch.tensor([row]))
            terms = module.method.loss(module.problem, pairs)
            ratio = torch.zeros(len(pairs))
            if module.run.buffer.importance == "step" and not fresh:
                ratio = module.method.log_ratio(module.problem, pairs)
            parts.append((terms, ratio))
    log_ratio = torch.cat([ratio for _, ratio in parts])
    weight = log_ratio.exp() / log_ratio.exp().mean()
    kept = torch.cat([terms.weight for terms, _ in parts])
    losses = torch.cat([terms.loss for terms, _ in parts])
    slots = module.method.pairs_per_sample(module.problem.process.num_steps)
    total = (weight * losses * kept).sum() / (len(finite) * slots)
    names, parameters = module.model.trainable_state(), [*module.model.trainable_parameters()]
    return dict(zip(names, torch.autograd.grad(total, parameters), strict=True))


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    scale = max(float(tensor.abs().max()) for tensor in other.values())
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() <= tolerance * scale, name


def test_the_gradient_is_that_of_the_kept_pairs(tiny_run: TinyRun, watched: list[Step]) -> None:
    """Breaks when the mask is not applied, or a masked pair leaves the mean."""
    tiny_run("method.mask_quantile=0.5", "trainer.steps=3", "finetune=lora", "trainer.lr=1e-3")
    assert [step.mask["updates"] for step in watched] == [0, 1, 2]
    for step in watched:
        assert_close(step.gradient, step.by_hand, 1e-3)


def test_masked_pairs_are_counted(tiny_run: TinyRun) -> None:
    """Breaks when the threshold that is logged is not the one that was applied."""
    folder = tiny_run("method.mask_quantile=0.5", "trainer.steps=3")
    shares = [m["train/masked_share"] for _, m in curve(folder) if "train/masked_share" in m]
    assert shares[0] == 0
    assert all(0 < share < 1 for share in shares[1:])


def test_importance_weights_belong_to_their_pairs(
    tiny_run: TinyRun, watched: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when weights are replaced by ones, or slip by a pair where one is not finite."""
    monkeypatch.setattr(AdjointMatching, "log_ratio", _known_weights)
    folder = tiny_run(
        "reward._target_=tests.scorers.BrokenFor",
        "trainer.max_dropped=0.5",
        "finetune=lora",
        "buffer=replay",
        "buffer.batches=1",
        "buffer.passes=3",
        "buffer.importance=step",
        "trainer.steps=3",
    )
    broken = [m["train/dropped_share"] for _, m in curve(folder) if "train/dropped_share" in m]
    assert broken == [0.25] * 3, "one of four samples"
    for step in watched:
        assert_close(step.gradient, step.by_hand, 1e-3)
    shares = [m["train/ess_share"] for _, m in curve(folder) if "train/ess_share" in m]
    pairs = _pairs(watched[1].samples)
    expected = float(effective_sample_size(_known_weights(None, None, pairs))) / len(pairs)
    assert shares == pytest.approx([1, expected, expected])


def _known_weights(
    method: Method | None, problem: object, batch: Batch, steps: Tensor | None = None
) -> Tensor:
    """Of sample and slot, so that a weight in the wrong place shows."""
    return 0.3 * batch.rows.float() - 0.2 * batch.slots.float()


def _pairs(samples: Batch) -> Batch:
    finite = samples.tensors["finite"].nonzero().flatten()
    count = samples.tensors["steps"].shape[-1]
    rows, slots = finite.repeat_interleave(count), torch.arange(count).repeat(len(finite))
    return Batch(**{**samples.__dict__, "rows": rows, "slots": slots})


def test_pairs_whose_loss_is_not_finite_are_left_out(
    tiny_run: TinyRun, watched: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when one infinite loss reaches the gradient, or takes its micro-batch with it."""
    exact = AdjointMatching.loss

    def broken(self: AdjointMatching, problem: object, batch: Batch) -> Terms:
        terms = exact(self, problem, batch)  # type: ignore[arg-type]
        bad = (batch.rows == 1) & (batch.slots == 1)
        return Terms(torch.where(bad, math.inf, terms.loss), terms.stats, terms.weight)

    undisturbed = tiny_run("trainer.steps=1", folder="undisturbed")
    monkeypatch.setattr(AdjointMatching, "loss", broken)
    monkeypatch.setattr("tests.training.test_module.by_hand", lambda *_: {})
    folder = tiny_run("trainer.steps=1")
    (step,) = [m for _, m in curve(folder) if "train/dropped_share" in m]
    assert step["train/dropped_share"] == pytest.approx(1 / 8)
    assert all(each.isfinite().all() for each in watched[-1].gradient.values())
    (whole,) = [m for _, m in curve(undisturbed) if "train/dropped_share" in m]
    assert 0.5 * whole["train/grad_norm"] < step["train/grad_norm"] != whole["train/grad_norm"]


def test_notes_of_the_pairs_that_count_reach_the_method(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when notes get lost between micro-batches, or those of a pair whose loss is not finite
    are learned from."""
    exact, told = AdjointMatching.loss, []

    def noting(self: AdjointMatching, problem: object, batch: Batch) -> Terms:
        terms = exact(self, problem, batch)  # type: ignore[arg-type]
        bad = (batch.rows == 1) & (batch.slots == 1)
        loss = torch.where(bad, math.inf, terms.loss)
        return Terms(loss, weight=terms.weight, notes={"pair": 2 * batch.rows + batch.slots})

    def finish(self: AdjointMatching, losses: Tensor, notes: dict[str, Tensor]) -> dict[str, float]:
        told.append((len(losses), notes["pair"].tolist()))
        return {}

    monkeypatch.setattr(AdjointMatching, "loss", noting)
    monkeypatch.setattr(AdjointMatching, "finish_step", finish)
    tiny_run("trainer.steps=1", "trainer.micro_batch=3")
    assert told == [(7, [0, 1, 2, 4, 5, 6, 7])]


def test_the_update_is_adamw(tiny_run: TinyRun, watched: list[Step]) -> None:
    """Breaks when clipping, weight decay, a beta, epsilon or the warm-up is not what is configured.

    AdamW (Loshchilov & Hutter 2019, algorithm 2) in float64 on the gradients as they were made.
    """
    lr, decay, clip, eps = 1e-3, 0.3, 0.01, 1e-5
    first, second = 0.5, 0.7
    folder = tiny_run(
        "finetune=lora",
        "trainer.steps=4",
        "trainer.warmup_steps=2",
        f"trainer.lr={lr}",
        f"trainer.weight_decay={decay}",
        f"trainer.gradient_clip={clip}",
        f"trainer.eps={eps}",
        f"trainer.betas=[{first},{second}]",
    )
    w = {name: tensor.double() for name, tensor in watched[0].before.items()}
    m = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    v = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    for number, step in enumerate(watched, start=1):
        norm = sum(float(g.double().square().sum()) for g in step.gradient.values()) ** 0.5
        assert norm > 2 * clip, "the clip must matter"
        rate = lr * min(1, number / 2)
        for name, g in step.gradient.items():
            clipped = g.double() * clip / (norm + 1e-6)
            m[name] = first * m[name] + (1 - first) * clipped
            v[name] = second * v[name] + (1 - second) * clipped**2
            mean, square = m[name] / (1 - first**number), v[name] / (1 - second**number)
            w[name] = w[name] * (1 - rate * decay) - rate * mean / (square.sqrt() + eps)
    ended = {name: tensor.double() for name, tensor in weights(folder).items()}
    moved = max(float((w[n] - watched[0].before[n]).abs().max()) for n in w)
    assert max(float((w[name] - ended[name]).abs().max()) for name in w) < 1e-3 * moved
    norms = [m["train/grad_norm"] for _, m in curve(folder) if "train/grad_norm" in m]
    first_norm = math.sqrt(sum(float(g.square().sum()) for g in watched[0].gradient.values()))
    assert norms[0] == pytest.approx(first_norm, rel=1e-5), "logged as it was made"
