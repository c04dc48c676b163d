"""Anchors: copies of the trained weights that stand still beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from soc_ft.core import Condition
from soc_ft.errors import ConfigError
from soc_ft.models.finetune import LoRA
from soc_ft.models.model import DiffusionModel
from tests.models.small import MODES, Inputs, copied, make_inputs, make_model, perturb, same

GUIDANCE = (1.0, 3.0)

each_mode = pytest.mark.parametrize("mode", MODES)


def anchored(mode: str, *names: str, **options: object) -> tuple[DiffusionModel, Inputs]:
    """A model whose trained weights have moved before the anchors were dropped."""
    model = make_model(MODES[mode], **options)
    perturb(model)
    for name in names:
        model.add_anchor(name)
    return model, make_inputs(model)


def predictions(model: DiffusionModel, inputs: Inputs, *anchors: str) -> dict[str, list[Tensor]]:
    """Of base, trained and anchors, without gradient, at every guidance scale."""
    predictors = {"base": model.base, "trained": model.trained}
    predictors |= {name: partial(model.anchor, name) for name in anchors}
    with torch.no_grad():
        return {
            name: [predict(*inputs, scale) for scale in GUIDANCE]
            for name, predict in predictors.items()
        }


@each_mode
def test_an_anchor_is_the_trained_network_when_it_is_dropped(mode: str) -> None:
    """Breaks if an anchor starts at the base, or elsewhere, or is guided in another way."""
    model, inputs = anchored(mode)
    before = predictions(model, inputs)
    model.add_anchor("old")
    found = predictions(model, inputs, "old")
    for scale in range(len(GUIDANCE)):
        assert torch.equal(found["old"][scale], found["trained"][scale])
        assert torch.equal(found["base"][scale], before["base"][scale])
        assert torch.equal(found["trained"][scale], before["trained"][scale])
    assert not torch.allclose(found["old"][0], found["base"][0], atol=1e-3)


@each_mode
def test_an_anchor_stays_where_it_is_until_it_is_refreshed(mode: str) -> None:
    """Breaks if anchors share memory with the trained weights or with each other."""
    model, inputs = anchored(mode, "old", "older")
    before = predictions(model, inputs, "old", "older")
    perturb(model, seed=3)
    moved = predictions(model, inputs, "old", "older")
    assert not torch.allclose(moved["trained"][0], before["trained"][0], atol=1e-3)

    model.networks.refresh_anchor("old")
    refreshed = predictions(model, inputs, "old", "older")
    for scale in range(len(GUIDANCE)):
        for name in ("base", "old", "older"):
            assert torch.equal(moved[name][scale], before[name][scale])
        assert torch.equal(refreshed["old"][scale], moved["trained"][scale])
        for name in ("base", "trained", "older"):
            assert torch.equal(refreshed[name][scale], moved[name][scale])
    assert same(model.anchor_states()["old"], model.trainable_state())


@each_mode
def test_decay_keeps_its_share_of_the_anchor(mode: str) -> None:
    """Breaks if the average is weighted the other way around, or leaves out a weight."""
    model, _ = anchored(mode, "average", "still")
    still = copied(model.anchor_states()["still"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for state in (model.trainable_state(), model.anchor_states()["average"]):
            for tensor in state.values():  # whole numbers, whose quarters are exact
                tensor.copy_(torch.randint(-64, 64, tensor.shape, generator=generator))
        trained = copied(model.trainable_state())
        before = copied(model.anchor_states()["average"])
        model.networks.refresh_anchor("average", decay=0.75)
        expected = {name: 0.75 * before[name] + 0.25 * trained[name] for name in trained}
        assert same(model.anchor_states()["average"], expected)
        assert same(model.trainable_state(), trained)
    assert same(model.anchor_states()["still"], still)


@each_mode
def test_a_slow_average_does_not_drown_in_rounding(mode: str) -> None:
    """Breaks if a decay close to one stalls, or the anchor is kept in less than float32."""
    model, _ = anchored(mode, "average", frozen_dtype=torch.bfloat16)
    perturb(model, seed=3)
    trained = {name: tensor.double() for name, tensor in model.trainable_state().items()}
    expected = {name: t.double() for name, t in model.anchor_states()["average"].items()}
    for _ in range(10):
        model.networks.refresh_anchor("average", decay=0.999)
        expected = {name: 0.999 * expected[name] + 0.001 * trained[name] for name in trained}
    for name, tensor in model.anchor_states()["average"].items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=2e-6, atol=2e-7)


@each_mode
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_gradients_are_those_of_a_model_without_anchors(mode: str, checkpointing: bool) -> None:
    """Breaks if evaluations in between leave another adapter, or none, to be differentiated."""
    plain, inputs = anchored(mode)
    plain.trained(*inputs).square().sum().backward()
    expected = [parameter.grad for parameter in plain.trainable_parameters()]

    model, _ = anchored(mode, "old", network_checkpointing=checkpointing)
    anchor = copied(model.anchor_states()["old"])
    for each in model.anchor_states()["old"].values():
        each += 0.1  # so that it matters which weights are recomputed with
    prediction = model.trained(*inputs)
    model.base(*inputs)
    model.anchor("old", *inputs, 3.0)
    prediction.square().sum().backward()
    model.anchor("old", *inputs)
    trained = list(model.trainable_parameters())
    assert all(parameter.requires_grad for parameter in trained)
    torch.testing.assert_close([parameter.grad for parameter in trained], expected)
    others = {id(p) for p in trained}
    assert all(
        p.grad is None and not p.requires_grad for p in model.parameters() if id(p) not in others
    )
    assert not same(model.anchor_states()["old"], anchor)


@each_mode
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_gradients_through_all_three_at_once(mode: str, checkpointing: bool) -> None:
    """Breaks if one backward pass mixes up the networks whose blocks it recomputes. In double
    precision, since sums in another order round otherwise."""
    model, (x, t, condition) = anchored(mode, "old")
    other, _ = anchored(mode, "old", network_checkpointing=checkpointing)
    for each in (model, other):
        perturb(each, seed=3)
        each.double()
    inputs = x.double(), t, Condition(sequence=condition.sequence.double())

    def gradients(model: DiffusionModel, order: Callable[..., object]) -> list[Tensor]:
        x, t, condition = inputs
        x = x.clone().requires_grad_()
        outputs = order(
            [
                lambda: model.networks.trained_output(x, t, condition),
                lambda: model.networks.anchor_output("old", x, t, condition),
                lambda: model.networks.base_output(x, t, condition),
            ]
        )
        product = torch.stack([output() for output in outputs]).prod(dim=0)
        return list(torch.autograd.grad(product.sum(), [x, *model.trainable_parameters()]))

    torch.testing.assert_close(gradients(other, reversed), gradients(model, list))


def test_recomputed_blocks_are_differentiated_again_and_switched_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks if a second pass through a graph fails, or each block switches each of its layers."""
    model, (x, t, condition) = anchored("lora", network_checkpointing=True)
    x.requires_grad_()
    switched: list[str | None] = []
    switch = model.networks._switch
    monkeypatch.setattr(
        model.networks, "_switch", lambda adapter: (switched.append(adapter), switch(adapter))
    )
    for predict, switches in ((model.trained, False), (model.base, True)):
        output = predict(x, t, condition).sum()
        switched.clear()
        first = torch.autograd.grad(output, x, retain_graph=True)
        assert bool(switched) == switches
        torch.testing.assert_close(torch.autograd.grad(output, x), first, rtol=0, atol=0)


@each_mode
def test_an_anchor_gives_no_gradient(mode: str) -> None:
    """Breaks if a graph is built for a policy that is never differentiated."""
    model, (x, t, condition) = anchored(mode, "old")
    assert not model.networks.anchor_output("old", x, t, condition).requires_grad
    assert not model.anchor("old", x.requires_grad_(), t, condition).requires_grad


@each_mode
def test_anchors_are_not_trained(mode: str) -> None:
    """Breaks if the optimizer or a checkpoint of the trained weights sees them."""
    plain, model = make_model(MODES[mode]), make_model(MODES[mode])
    model.add_anchor("old")
    model.add_anchor("older")
    assert same(model.trainable_state(), plain.trainable_state())
    assert list(model.trainable_state()) == list(plain.trainable_state())
    anchors = {t.data_ptr() for state in model.anchor_states().values() for t in state.values()}
    assert len(anchors) == 2 * len(model.trainable_state())
    assert anchors.isdisjoint(p.data_ptr() for p in model.trainable_parameters())
    anchor_parameters = [p for p in model.parameters() if p.data_ptr() in anchors]
    assert len(anchor_parameters) == len(anchors)
    assert not any(parameter.requires_grad for parameter in anchor_parameters)


@each_mode
def test_anchors_come_without_dropout_and_random_numbers(mode: str) -> None:
    """Breaks if adding an anchor leaves evaluation mode, or moves the global generator."""
    model = make_model(MODES[mode])
    torch.manual_seed(5)
    model.add_anchor("old")
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert not any(module.training for module in model.modules())


@each_mode
@pytest.mark.parametrize("name", ["default", "attn1", "keys", "training"])
def test_a_name_that_pytorch_or_peft_uses_is_no_trouble(mode: str, name: str) -> None:
    """Breaks if a method has to know which names the networks need for themselves."""
    model, inputs = anchored(mode, name)
    perturb(model, seed=3)
    trained = model.trained(*inputs).detach()
    assert not torch.allclose(model.anchor(name, *inputs), trained, atol=1e-3)
    model.networks.refresh_anchor(name)
    assert torch.equal(model.anchor(name, *inputs), trained)


@each_mode
def test_names_of_anchors(mode: str) -> None:
    """Breaks if a name is refused with another's words, or a second run cannot begin anew."""
    model, inputs = anchored(mode, "old")
    with pytest.raises(ValueError, match=r"anchor must be an identifier, got 'a\.b'"):
        model.add_anchor("a.b")
    perturb(model, seed=3)
    model.add_anchor("old")
    assert list(model.anchor_states()) == ["old"]
    assert torch.equal(model.anchor("old", *inputs), model.trained(*inputs))
    with pytest.raises(KeyError, match="new"):
        model.anchor("new", *inputs)


def test_an_evaluation_that_fails_leaves_the_trained_adapter() -> None:
    """Breaks if an error that is caught goes on with the weights of another policy."""
    model, inputs = anchored("lora", "old")
    perturb(model, seed=3)
    before = model.trained(*inputs)
    x, t, condition = inputs
    for predict in (model.base, lambda *inputs: model.anchor("old", *inputs)):
        with pytest.raises(RuntimeError):
            predict(x[:, :1], t, condition)
    assert torch.equal(model.trained(*inputs), before)
    assert all(parameter.requires_grad for parameter in model.trainable_parameters())


@each_mode
def test_anchors_beside_frozen_weights_in_bfloat16(mode: str) -> None:
    """Breaks if an anchor is rounded like the frozen weights."""
    model, inputs = anchored(mode, "old", frozen_dtype=torch.bfloat16)
    states = model.anchor_states()["old"]
    assert {tensor.dtype for tensor in states.values()} == {torch.float32}
    assert same(states, model.trainable_state())
    for scale in GUIDANCE:
        assert torch.equal(model.anchor("old", *inputs, scale), model.trained(*inputs, scale))


@each_mode
def test_anchor_states_move_to_another_model(mode: str) -> None:
    """Breaks if a resumed run has an anchor elsewhere."""
    model, inputs = anchored(mode, "old", "average")
    perturb(model, seed=3)
    model.networks.refresh_anchor("average", decay=0.5)
    other = make_model(MODES[mode])
    for name in ("average", "old"):
        other.add_anchor(name)
    other.load_anchor_states({name: copied(s) for name, s in model.anchor_states().items()})
    for name in ("old", "average"):
        assert same(other.anchor_states()[name], model.anchor_states()[name])
        assert torch.equal(other.anchor(name, *inputs), model.anchor(name, *inputs))
    assert not same(other.anchor_states()["old"], other.anchor_states()["average"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda states: states.pop("older"), "no anchor 'older'; check method"),
        (lambda states: states["older"].popitem(), r"1 weights missing \(older\."),
        (lambda states: states["older"].update(x=torch.ones(1)), r"1 weights unknown \(older\.x"),
    ],
    ids=["anchor", "weight", "left over"],
)
def test_anchor_states_that_do_not_fit(
    change: Callable[[dict[str, dict[str, Tensor]]], object], message: str
) -> None:
    """Breaks if a checkpoint of another method is resumed, or loads in part."""
    model, _ = anchored("lora", "old", "older")
    before = {name: copied(state) for name, state in model.anchor_states().items()}
    states = {
        name: {key: tensor + 1 for key, tensor in state.items()} for name, state in before.items()
    }
    change(states)
    with pytest.raises(ConfigError, match=message):
        model.load_anchor_states(states)
    for name, state in model.anchor_states().items():
        assert same(state, before[name])


def test_lora_base_and_anchors_share_the_network() -> None:
    """Breaks if LoRA's base or anchors take the memory of a network of their own."""
    model = make_model(LoRA(rank=2))
    sizes = [sum(p.numel() for p in model.parameters())]
    model.add_anchor("old")
    sizes.append(sum(p.numel() for p in model.parameters()))
    trained = sum(p.numel() for p in model.trainable_parameters())
    assert sizes[1] - sizes[0] == trained < 0.02 * sizes[0]
