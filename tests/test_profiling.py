"""Evaluations are counted where the network runs."""

from __future__ import annotations

import torch

from soc_ft.models.finetune import LoRA, Offset


def test_guidance_counts_twice(make_model, make_inputs) -> None:
    """Breaks if guidance is not one doubled batch, or scale 1 evaluates more than it needs."""
    model = make_model()
    x, t, condition = make_inputs(model)
    model.base(x, t, condition)
    assert model.counter.snapshot() == {"forward": 3, "backward": 0}
    model.finetuned(x, t, condition, guidance_scale=3.0).sum().backward()
    assert model.counter.snapshot() == {"forward": 9, "backward": 6}
    model.counter.reset()
    assert model.counter.snapshot() == {"forward": 0, "backward": 0}


def test_backward_counts_when_it_runs(make_model, make_inputs) -> None:
    """Breaks if gradients count before they are taken, or recomputation counts as evaluation."""
    model = make_model(LoRA(rank=2), gradient_checkpointing=True)
    x, t, condition = make_inputs(model)
    x.requires_grad_(True)
    prediction = model.base(x, t, condition)
    assert model.counter.snapshot() == {"forward": 3, "backward": 0}
    torch.autograd.grad(prediction.sum(), x)
    assert model.counter.snapshot() == {"forward": 3, "backward": 3}


def test_offset_reuses_the_base_prediction(make_model, make_inputs) -> None:
    """Breaks if regression evaluates the base network although its prediction is known."""
    model = make_model(Offset())
    inputs = make_inputs(model)
    base = model.base(*inputs)
    model.counter.reset()
    reused = model.finetuned(*inputs, base_prediction=base)
    assert model.counter.forward == 3
    computed = model.finetuned(*inputs)
    assert model.counter.forward == 9
    assert torch.equal(reused, computed)
