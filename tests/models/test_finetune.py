"""What a fine-tuning mode starts from."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from omegaconf import OmegaConf

from soc_ft.errors import ConfigError
from soc_ft.files import conf_dir
from soc_ft.models.finetune import FineTuning, Frozen, Full, LoRA, Offset
from tests.models.small import make_inputs, make_model, perturb


@pytest.mark.parametrize("mode", [Full(), LoRA(rank=2)], ids=["full", "lora"])
def test_starts_at_the_base_prediction(mode: FineTuning) -> None:
    """Breaks if a fine-tuned model differs from the base before it is trained."""
    model = make_model(mode, prediction_type="v_prediction")
    inputs = make_inputs(model)
    assert torch.equal(model.trained(*inputs, 2.0), model.base(*inputs, 2.0))


def test_offset_starts_small_and_scales() -> None:
    """Breaks if the last layer keeps its pretrained weights or ignores init_scale."""
    sizes = []
    for scale in (0.0, 1e-3, 1e-2):
        model = make_model(Offset(init_scale=scale))
        inputs = make_inputs(model)
        sizes.append((model.trained(*inputs) - model.base(*inputs)).std().item())
    assert sizes[0] == 0
    assert sizes[1] < 1e-3
    assert sizes[2] == pytest.approx(10 * sizes[1], rel=1e-2)


def test_last_layer_of_the_offset_has_the_documented_spread() -> None:
    """Breaks if the standard deviation is not init_scale / sqrt(fan-in), or the bias is kept."""
    layer = make_model(Offset(init_scale=0.5)).networks.trained.conv_out
    assert layer.weight.std().item() == pytest.approx(0.5 / (32 * 9) ** 0.5, rel=0.1)
    assert not layer.bias.any()


def test_lora_adds_alpha_over_rank_times_its_factors() -> None:
    """Breaks if the updates are scaled otherwise, so that weights mean another model elsewhere."""
    model, merged = make_model(LoRA(rank=2, alpha=6)), make_model(Full())
    perturb(model)
    weights = merged.trainable_state()
    state = model.trainable_state()
    for name in (name for name in state if ".lora_A." in name):
        update = state[name.replace(".lora_A.", ".lora_B.")] @ state[name]
        weights[name.partition(".lora_A.")[0] + ".weight"] += 6 / 2 * update
    inputs = make_inputs(model)
    trained = model.trained(*inputs)
    assert not torch.allclose(trained, model.base(*inputs), atol=1e-2)
    torch.testing.assert_close(merged.trained(*inputs), trained, rtol=1e-4, atol=1e-4)


def test_first_factors_of_lora_have_the_documented_spread() -> None:
    """Breaks if they are not Gaussian with the standard deviation 1 / rank, as in diffusers."""
    state = make_model(LoRA(rank=4)).trainable_state()
    drawn = torch.cat([tensor.flatten() for name, tensor in state.items() if ".lora_A." in name])
    assert drawn.std().item() == pytest.approx(1 / 4, rel=0.05)
    assert (drawn.abs() > 2 / 4).float().mean().item() == pytest.approx(0.0455, rel=0.2)


@pytest.mark.parametrize("mode", [LoRA, Offset], ids=["lora", "offset"])
def test_initialisation_is_addressed_by_its_seed(mode: type[LoRA] | type[Offset]) -> None:
    """Breaks if the start depends on, or consumes, the global generator."""
    torch.manual_seed(5)
    states = [make_model(mode(seed=seed)).trainable_state() for seed in (0, 0, 1)]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    name = next(name for name in states[0] if "lora_A" in name or name == "conv_out.weight")
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_frozen_is_the_base_model_in_memory_once() -> None:
    """Breaks if a model to sample from trains something, or holds its network twice."""
    model = make_model(Frozen(), network_checkpointing=True)
    inputs = make_inputs(model)
    assert not list(model.trainable_parameters())
    assert model.networks.trained is model.networks.base
    assert torch.equal(model.trained(*inputs, 2.0), model.base(*inputs, 2.0))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["to_qq"], "to_qq matches no layer"),
        (["to_q", "too_k"], r"\['to_q', 'too_k'\]: too_k matches no layer.*did you mean to_k"),
        (["o_q"], "o_q matches no layer"),
        ([], "an empty list"),
        (["norm1"], "not supported"),
    ],
)
def test_unknown_lora_targets(targets: list[str], said: str) -> None:
    """Breaks if a target that adapts nothing is passed over, alone or beside others."""
    with pytest.raises(ConfigError, match=said):
        make_model(LoRA(targets=targets))


def test_lora_targets_are_names_or_their_ends() -> None:
    """Breaks if a part of a path, or a whole one, that PEFT understands is refused."""
    whole = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    state = make_model(LoRA(rank=2, targets=[whole, "attn2.to_k"])).trainable_state()
    assert {name.partition(".lora_")[0].rpartition(".attn")[2] for name in state} == {
        "1.to_q",
        "2.to_k",
    }


@pytest.mark.parametrize("mode", [Full, LoRA, Offset])
def test_defaults_are_those_of_the_configuration(mode: type[Full | LoRA | Offset]) -> None:
    """Breaks if the command line and Python train another model where nothing is said."""
    settings = OmegaConf.load(conf_dir() / "finetune" / f"{mode.__name__.lower()}.yaml")
    own = OmegaConf.create(asdict(mode()))
    assert own.keys() == settings.keys() - {"_target_"}
    for key in own.keys() - {"seed"}:  # which is the run's
        assert own[key] == settings[key]


@pytest.mark.parametrize("setting", [{"rank": 0}, {"alpha": 0}])
def test_impossible_lora(setting: dict[str, int]) -> None:
    """Breaks if an impossible rank or scale is answered only by PEFT."""
    with pytest.raises(ConfigError, match="finetune"):
        LoRA(**setting)


def test_impossible_offset() -> None:
    """Breaks if a negative scale is taken for its absolute value."""
    with pytest.raises(ConfigError, match=r"finetune\.init_scale=-1"):
        Offset(init_scale=-1)
