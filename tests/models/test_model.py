"""The predictors of a model: guidance, gradients, precision, and the weights that are saved."""

from __future__ import annotations

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.models.finetune import Frozen, Full, LoRA, Offset
from tests.models.small import MODES, copied, make_inputs, make_model, perturb, same
from tests.models.two_tensors import make_other

each_mode = pytest.mark.parametrize("mode", MODES)


@each_mode
@pytest.mark.parametrize("scale", [0.0, 3.0, -1.0])
def test_guidance_combines_outputs_linearly(mode: str, scale: float) -> None:
    """Breaks if guidance is not f(null) + w (f(condition) - f(null)) of the network's output."""
    model = make_model(MODES[mode], prediction_type="v_prediction")
    perturb(model)
    x, t, condition = make_inputs(model)
    null = model.null_condition().expand(len(x))
    model.add_anchor("old")
    predictors = {
        "base": model.base,
        "trained": model.trained,
        "anchor": lambda *inputs: model.anchor("old", *inputs),
    }
    for predict in predictors.values():
        unconditional, conditional = predict(x, t, null), predict(x, t, condition)
        assert (conditional - unconditional).abs().max() > 1e-3
        expected = (1 - scale) * unconditional + scale * conditional
        guided = predict(x, t, condition, scale)
        torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-5)


@each_mode
def test_gradients_reach_what_is_trained_and_nothing_else(mode: str) -> None:
    """Breaks if frozen weights receive gradients, or evaluating the base loses the trained ones."""
    model = make_model(MODES[mode])
    perturb(model)
    inputs = make_inputs(model)
    prediction = model.trained(*inputs)
    base = model.base(*inputs)
    (prediction - base).square().sum().backward()
    trained = set(model.trainable_parameters())
    assert all(parameter.grad is not None for parameter in trained)
    assert all(p.grad is None for p in model.parameters() if p not in trained)
    assert not base.requires_grad


@each_mode
def test_checkpointing_does_not_change_gradients(mode: str) -> None:
    """Breaks if recomputation runs another network than the forward pass, as with LoRA's base."""
    gradients = []
    for checkpointing in (False, True):
        model = make_model(MODES[mode], network_checkpointing=checkpointing)
        perturb(model)
        x, t, condition = make_inputs(model)
        x.requires_grad_(True)
        base, trained = (f(x, t, condition).square().sum() for f in (model.base, model.trained))
        weights = list(model.trainable_parameters())
        gradients.append(
            [*torch.autograd.grad(base, x), *torch.autograd.grad(trained, [x, *weights])]
        )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mode", ["full", "offset"])
def test_checkpointing_reaches_both_networks(mode: str) -> None:
    """Breaks if the activations of the base, differentiated by an adjoint, are all kept."""
    for checkpointing in (False, True):
        networks = make_model(MODES[mode], network_checkpointing=checkpointing).networks
        for network in (networks.base, networks.trained):
            assert network.is_gradient_checkpointing is checkpointing


@each_mode
def test_base_does_not_move(mode: str) -> None:
    """Breaks if training changes the base predictor."""
    model = make_model(MODES[mode])
    inputs = make_inputs(model)
    before = model.base(*inputs)
    perturb(model)
    assert torch.equal(model.base(*inputs), before)
    assert not torch.allclose(model.trained(*inputs), before, atol=1e-3)


def test_offset_adds_to_the_base() -> None:
    """Breaks if the offset is scaled, or a prediction that is known is not the one added to."""
    model = make_model(Offset())
    perturb(model)
    x, t, condition = make_inputs(model)
    offset = model.networks.trained_output(x, t, condition)
    assert torch.equal(model.trained(x, t, condition), model.base(x, t, condition) + offset)
    known = torch.full_like(x, 7.0)
    assert torch.equal(model.trained(x, t, condition, base_prediction=known), known + offset)


def test_the_gradient_of_an_offset_model_is_that_of_the_sum() -> None:
    """Breaks if the base that an offset is added to is taken for a constant."""
    model = make_model(Offset())
    perturb(model)
    x, t, condition = make_inputs(model)
    x.requires_grad_(True)
    outputs = (
        model.trained(x, t, condition),
        model.base(x, t, condition),
        model.networks.trained_output(x, t, condition),
    )
    whole, base, offset = (torch.autograd.grad(each.sum(), x)[0] for each in outputs)
    torch.testing.assert_close(whole, base + offset)
    assert base.abs().max() > 1e-3


def test_the_empty_prompt_is_no_weight() -> None:
    """Breaks if a checkpoint of the whole module holds what follows from its weights."""
    model = make_model()
    assert not any("null" in name for name in model.state_dict())


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_known_base_prediction_changes_no_other_mode(mode: str) -> None:
    """Breaks if it is added where the trained network predicts by itself."""
    model = make_model(MODES[mode])
    perturb(model)
    inputs = make_inputs(model)
    known = torch.full_like(inputs[0], 7.0)
    assert torch.equal(model.trained(*inputs, base_prediction=known), model.trained(*inputs))


@each_mode
def test_frozen_weights_in_bfloat16(mode: str) -> None:
    """Breaks if trained weights or outputs lose precision together with the frozen weights."""
    model = make_model(MODES[mode], frozen_dtype=torch.bfloat16)
    trained = set(model.trainable_parameters())
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in model.parameters() if p not in trained} == {torch.bfloat16}
    x, t, condition = make_inputs(model)
    assert condition.sequence.dtype == torch.float32
    assert model.decode(x).dtype == torch.float32
    base, prediction = model.base(x, t, condition), model.trained(x, t, condition)
    assert base.dtype == prediction.dtype == torch.float32
    exact = make_model(MODES[mode]).base(x, t, condition)
    torch.testing.assert_close(base, exact, rtol=0, atol=0.1)
    assert not torch.equal(base, exact)


@pytest.mark.parametrize("mode", ["full", "lora", "no offset"])
@pytest.mark.parametrize("frozen_dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("autocast", [False, True], ids=["32-true", "bf16-mixed"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_control_is_exactly_zero_before_training(
    mode: str, frozen_dtype: torch.dtype, autocast: bool, scale: float
) -> None:
    """Breaks if base and trained start from other weights, or are evaluated in two precisions."""
    modes = {**MODES, "no offset": Offset(init_scale=0.0)}
    model = make_model(modes[mode], frozen_dtype=frozen_dtype, network_checkpointing=True)
    x, t, condition = make_inputs(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        trained = model.trained(x, t, condition, scale)
        base = model.base(x.requires_grad_(True), t, condition, scale)
        assert torch.equal(trained, base)
        model.add_anchor("old")
        assert torch.equal(model.anchor("old", x, t, condition, scale), base)


def test_a_small_offset_is_small_in_every_precision() -> None:
    """Breaks if an offset comes with the difference of two precisions."""
    for frozen_dtype in (torch.float32, torch.bfloat16):
        model = make_model(Offset(init_scale=1e-3), frozen_dtype=frozen_dtype)
        inputs = make_inputs(model)
        difference = (model.trained(*inputs) - model.base(*inputs)).detach()
        assert 0 < difference.std() < 2e-3


def test_half_precision_is_that_of_the_base() -> None:
    """Breaks if what is trained computes in bfloat16 beside a base in another precision."""
    model = make_other(Full(), frozen_dtype=torch.float16)
    perturb(model)
    x, t, condition = make_inputs(model)
    with torch.autocast("cpu", torch.float16):
        expected = model.family.call(model.networks.trained, x, t, condition)
    assert torch.equal(model.trained(x, t, condition), expected)


def test_prompts_come_without_a_graph() -> None:
    """Breaks if a text encoder that a family forgot to freeze is differentiated with each loss."""
    model = make_other(Frozen())
    model.family.letters.requires_grad_(True)
    assert not model.encode(["a"]).sequence.requires_grad


def test_the_device_is_that_of_the_weights() -> None:
    """Breaks if prompts are encoded, or noise is drawn, where the model no longer is."""
    model = make_model(Frozen())
    assert model.device == torch.device("cpu")
    assert model.to("meta").device == torch.device("meta")


def test_stays_in_evaluation_mode() -> None:
    """Breaks if a trainer's train() turns dropout on."""
    model = make_model(LoRA(rank=2))
    model.train()
    assert not any(module.training for module in model.modules())


def test_guidance_scale_is_kept_and_not_applied() -> None:
    """Breaks if a recommendation of the checkpoint changes predictions by itself."""
    model, plain = make_model(guidance_scale=5.0), make_model()
    assert model.guidance_scale == 5.0
    inputs = make_inputs(model)
    assert torch.equal(model.trained(*inputs), plain.trained(*inputs))


@each_mode
def test_trained_state_moves_to_another_model(mode: str) -> None:
    """Breaks if a checkpoint does not hold everything that training changed."""
    model, other = make_model(MODES[mode]), make_model(MODES[mode])
    perturb(model)
    inputs = make_inputs(model)
    other.load_trainable_state(copied(model.trainable_state()))
    assert torch.equal(other.trained(*inputs), model.trained(*inputs))


@each_mode
def test_trained_state_shares_memory_and_order_with_the_parameters(mode: str) -> None:
    """Breaks if what is saved is not what the optimizer moves."""
    model = make_model(MODES[mode])
    state, parameters = model.trainable_state(), list(model.trainable_parameters())
    assert [tensor.data_ptr() for tensor in state.values()] == [p.data_ptr() for p in parameters]
    assert all(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize("change", ["missing", "unknown", "of another shape"])
def test_state_that_does_not_fit(change: str) -> None:
    """Breaks if a checkpoint of another model loads in part, or without naming the weight."""
    model = make_model(LoRA(rank=2))
    state = {name: tensor + 1 for name, tensor in model.trainable_state().items()}
    first = sorted(state)[0]
    tensor = state.pop(first)
    if change != "missing":
        state[first if change == "of another shape" else f"{first}x"] = tensor[:1]
    if change == "unknown":
        state[first] = tensor
    before = copied(model.trainable_state())
    with pytest.raises(ConfigError, match=f"1 weights {change} \\({first}"):
        model.load_trainable_state(state)
    assert same(model.trainable_state(), before)
