"""A second family is one file: nothing that all families share knows Stable Diffusion."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import soc_ft.models
from soc_ft.core import path_control_cost, rollout
from soc_ft.errors import ConfigError
from soc_ft.models.export import export_pipeline
from soc_ft.models.finetune import FineTuning, Frozen, Full, Offset
from tests.models.small import copied, make_inputs, perturb, same
from tests.models.two_tensors import CHANNELS, HEIGHT, WIDTH, TwoTensors, make_other

PACKAGE = Path(soc_ft.models.__file__).parent
SHARED = ("model", "networks", "finetune", "family", "export", "scheduler", "weights")

each_mode = pytest.mark.parametrize("mode", [Full(), Offset()], ids=["full", "offset"])


@pytest.mark.parametrize("module", SHARED)
def test_shared_modules_do_not_name_a_family(module: str) -> None:
    """Breaks if Stable Diffusion's classes or parts come back into what all families share."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    assert imported.isdisjoint({"StableDiffusion", "StableDiffusionPipeline"})
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert attributes.isdisjoint({"unet", "vae", "text_encoder", "tokenizer", "sequence"})


@each_mode
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_both_tensors_of_the_condition_reach_the_network(mode: FineTuning, scale: float) -> None:
    """Breaks if a tensor of the condition is lost, by guidance too, or its rows are mixed up."""
    model = make_other(mode)
    perturb(model)
    x, t, condition = make_inputs(model)
    assert model.latent_shape == x.shape[1:] == (CHANNELS, HEIGHT, WIDTH)
    assert set(model.null_condition().tensors) == {"sequence", "pooled"}
    null = model.null_condition().expand(len(x))
    trained, base = model.trained(x, t, condition, scale), model.base(x, t, condition, scale)

    network = TwoTensors().network.eval()
    with torch.no_grad():
        conditional = network(x, t, condition.sequence, condition.pooled)
        unconditional = network(x, t, null.sequence, null.pooled)
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(base, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(conditional, unconditional, atol=1e-2)
    for row in range(len(x)):
        one = slice(row, row + 1)
        alone = model.trained(x[one], t[one], condition[one], scale)
        torch.testing.assert_close(trained[one], alone, rtol=1e-5, atol=1e-5)
    for name in condition.tensors:
        changed = type(condition)(**{**condition.tensors, name: condition.tensors[name].flip(0)})
        assert not torch.allclose(model.trained(x, t, changed, scale), trained, atol=1e-3)


@each_mode
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_anchors(mode: FineTuning, scale: float) -> None:
    """Breaks if anchors, their averages or their states need a network of diffusers."""
    model = make_other(mode, frozen_dtype=torch.bfloat16)
    perturb(model)
    model.add_anchor("old")
    inputs = make_inputs(model)
    before = model.trained(*inputs, scale).detach()
    assert torch.equal(model.anchor("old", *inputs, scale), before)
    anchor = copied(model.anchor_states()["old"])
    perturb(model, seed=3)
    assert torch.equal(model.anchor("old", *inputs, scale), before)
    model.networks.refresh_anchor("old", decay=0.5)
    trained = model.trainable_state()
    expected = {name: (anchor[name] + trained[name]) / 2 for name in trained}
    torch.testing.assert_close(model.anchor_states()["old"], expected)

    other = make_other(mode, frozen_dtype=torch.bfloat16)
    other.add_anchor("old")
    other.load_anchor_states({"old": copied(model.anchor_states()["old"])})
    assert torch.equal(other.anchor("old", *inputs, scale), model.anchor("old", *inputs, scale))
    assert not any(module.training for module in other.modules())


@each_mode
def test_gradients_with_and_without_checkpointing(mode: FineTuning) -> None:
    """Breaks if gradients reach frozen weights, or recomputation needs diffusers."""
    gradients = []
    for checkpointing in (False, True):
        both = {f"{part}_checkpointing": checkpointing for part in ("network", "decoder")}
        model = make_other(mode, attention="plain", **both)
        perturb(model)
        assert model.family.recomputes_decoder is checkpointing
        assert model.family.plain
        x, t, condition = make_inputs(model)
        x.requires_grad_(True)
        product = model.base(x, t, condition) * model.trained(x, t, condition, 2.0)
        (product.sum() + model.decode(x).square().sum()).backward()
        trained = list(model.trainable_parameters())
        gradients.append([x.grad, *(parameter.grad for parameter in trained)])
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        assert len(trained) == sum(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(*gradients)


@each_mode
def test_sampling_and_its_cost(mode: FineTuning) -> None:
    """Breaks if the core's rollouts need a condition or a latent of Stable Diffusion."""
    model = make_other(mode)
    process = model.scheduler.control_process(5, 1.0)
    condition = model.encode(["red", "blue"])
    noise = torch.randn(2, 6, *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def costs() -> torch.Tensor:
        path = rollout(model.trained, process, condition, noise, keep_predictions=True)
        pictures = model.decode(path.states[:, -1], micro_batch=1)
        assert pictures.shape == (2, 3, 2 * HEIGHT, 2 * WIDTH)
        return path_control_cost(model.base, process, path, condition)

    before = costs()
    perturb(model)
    assert before.max() <= (0 if isinstance(mode, Full) else 0.1)
    assert costs().min() > 1


@each_mode
def test_trained_state_moves_to_another_model(mode: FineTuning) -> None:
    """Breaks if what is trained, or its names, come from the UNet."""
    model, other = make_other(mode), make_other(mode)
    perturb(model)
    other.load_trainable_state(copied(model.trainable_state()))
    assert same(other.trainable_state(), model.trainable_state())
    assert "last.weight" in model.trainable_state()
    inputs = make_inputs(model)
    assert torch.equal(other.trained(*inputs, 2.0), model.trained(*inputs, 2.0))


def test_export_asks_the_family(tmp_path: Path) -> None:
    """Breaks if a folder is written as of Stable Diffusion, or the base is written."""
    model = make_other(Full())
    perturb(model)
    export_pipeline(model, tmp_path / "folder")
    assert same(load_file(tmp_path / "folder" / "network.safetensors"), model.trainable_state())
    with pytest.raises(ConfigError, match="sum of two networks"):
        export_pipeline(make_other(Offset()), tmp_path)


def test_frozen() -> None:
    """Breaks if a base model to sample from needs diffusers."""
    model = make_other(Frozen())
    inputs = make_inputs(model)
    assert torch.equal(model.trained(*inputs), model.base(*inputs))
    assert not any(parameter.requires_grad for parameter in model.parameters())
