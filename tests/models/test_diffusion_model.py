"""The model's predictors, text conditions and pictures are those of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from soc_ft.core.rollout import rollout

from soc_ft.errors import ConfigError
from soc_ft.models.finetune import Full, LoRA, Offset

MODES = [Full(), LoRA(rank=2), Offset()]
PROMPTS = ["a red circle", "", "word " * 200]


def test_encode_is_encode_prompt(make_model, make_pipeline) -> None:
    """Breaks if padding, truncation or the empty prompt differ from the pipeline."""
    model, pipeline = make_model(), make_pipeline()
    expected, negative = pipeline.encode_prompt(PROMPTS, "cpu", 1, True)
    assert torch.equal(model.encode(PROMPTS), expected)
    assert torch.equal(model.null_condition(), negative[:1])


@pytest.mark.parametrize(
    ("latent_channels", "prediction_type", "guidance_scale"),
    [
        (4, "epsilon", 1.0),
        (4, "epsilon", 3.0),
        (8, "v_prediction", 1.0),
        (8, "v_prediction", 3.0),
        (4, "sample", 3.0),
    ],
)
def test_rollout_is_the_pipelines_sampling(
    make_model, make_pipeline, latent_channels, prediction_type, guidance_scale
) -> None:
    """Breaks if guidance, prediction type, time steps or schedule differ from diffusers."""
    model = make_model(latent_channels=latent_channels, prediction_type=prediction_type)
    pipeline = make_pipeline(latent_channels, prediction_type)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = model.scheduler
    prompts = ["a red circle", "a blue star"]
    steps = 4
    noise = torch.randn(
        steps + 1, 2, *model.latent_shape, generator=torch.Generator().manual_seed(0)
    )

    schedule = model.scheduler.control_schedule(steps, 1.0)
    states = rollout(
        lambda x, t, c: model.finetuned(x, t, c, guidance_scale),
        schedule,
        model.encode(prompts),
        noise.transpose(0, 1),
    ).states
    generator = torch.Generator().manual_seed(0)
    torch.randn(noise[0].shape, generator=generator)
    pictures = pipeline(
        prompts,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        eta=1.0,
        latents=noise[0],
        generator=generator,
        output_type="pt",
    ).images
    assert states.shape == (2, steps + 1, latent_channels, 8, 8)
    torch.testing.assert_close(model.decode(states[:, -1]), pictures, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", [Full(), LoRA(rank=2)], ids=["full", "lora"])
def test_starts_at_the_base_prediction(make_model, make_inputs, mode) -> None:
    """Breaks if a fine-tuned model differs from the base before it is trained."""
    model = make_model(mode, prediction_type="v_prediction")
    inputs = make_inputs(model)
    assert torch.equal(model.finetuned(*inputs, 2.0), model.base(*inputs, 2.0))


def test_offset_starts_small_and_scales(make_model, make_inputs) -> None:
    """Breaks if the last layer keeps its pretrained weights or ignores init_scale."""
    sizes = []
    for scale in (0.0, 1e-3, 1e-2):
        model = make_model(Offset(init_scale=scale))
        inputs = make_inputs(model)
        sizes.append((model.finetuned(*inputs) - model.base(*inputs)).std().item())
    assert sizes[0] == 0
    assert sizes[1] < 1e-3
    assert sizes[2] == pytest.approx(10 * sizes[1], rel=1e-2)


@pytest.mark.parametrize("mode", MODES, ids=["full", "lora", "offset"])
def test_gradients_reach_what_is_trained_and_nothing_else(
    make_model, make_inputs, perturb, mode
) -> None:
    """Breaks if frozen weights receive gradients, or evaluating the base loses the trained ones."""
    model = make_model(mode)
    perturb(model)
    inputs = make_inputs(model)
    prediction = model.finetuned(*inputs)
    base = model.base(*inputs)
    (prediction - base).square().sum().backward()
    trained = set(model.trainable_parameters())
    assert all(parameter.grad is not None for parameter in trained)
    assert all(p.grad is None for p in model.parameters() if p not in trained)
    assert not base.requires_grad


@pytest.mark.parametrize("mode", MODES, ids=["full", "lora", "offset"])
def test_checkpointing_does_not_change_gradients(make_model, make_inputs, perturb, mode) -> None:
    """Breaks if recomputation runs another network than the forward pass, as with LoRA's base."""
    gradients = []
    for checkpointing in (False, True):
        model = make_model(mode, gradient_checkpointing=checkpointing)
        perturb(model)
        x, t, condition = make_inputs(model)
        x.requires_grad_(True)
        base, finetuned = (f(x, t, condition).square().sum() for f in (model.base, model.finetuned))
        weights = list(model.trainable_parameters())
        gradients.append(
            [*torch.autograd.grad(base, x), *torch.autograd.grad(finetuned, [x, *weights])]
        )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mode", MODES, ids=["full", "lora", "offset"])
def test_base_does_not_move(make_model, make_inputs, perturb, mode) -> None:
    """Breaks if training changes the base predictor."""
    model = make_model(mode)
    inputs = make_inputs(model)
    before = model.base(*inputs)
    perturb(model)
    assert torch.equal(model.base(*inputs), before)
    assert not torch.allclose(model.finetuned(*inputs), before, atol=1e-3)


@pytest.mark.parametrize("mode", MODES, ids=["full", "lora", "offset"])
def test_frozen_weights_in_bfloat16(make_model, make_inputs, mode) -> None:
    """Breaks if trained weights or outputs lose precision together with the frozen weights."""
    model = make_model(mode, frozen_dtype=torch.bfloat16)
    trained = set(model.trainable_parameters())
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in model.parameters() if p not in trained} == {torch.bfloat16}
    x, t, condition = make_inputs(model)
    assert condition.dtype == torch.float32
    assert model.decode(x).dtype == torch.float32
    base, finetuned = model.base(x, t, condition), model.finetuned(x, t, condition)
    assert base.dtype == finetuned.dtype == torch.float32
    # LoRA shares the rounded weights; a second network starts from exact ones.
    tolerance = 0 if isinstance(mode, LoRA) else 0.1
    torch.testing.assert_close(finetuned, base, rtol=0, atol=tolerance)


def test_time_steps_are_not_rounded(make_model, make_inputs) -> None:
    """Breaks if t is cast to bf16, where 999 becomes 1000."""
    model = make_model(frozen_dtype=torch.bfloat16)
    x, _, condition = make_inputs(model, batch=1)
    seen = []
    embedding = model.networks.base.time_proj
    embedding.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    model.base(x, torch.tensor([999]), condition, 2.0)
    assert seen[0].tolist() == [999, 999]
    assert seen[0].dtype == torch.int64


def test_stays_in_evaluation_mode(make_model) -> None:
    """Breaks if a trainer's train() turns dropout on."""
    model = make_model(LoRA(rank=2))
    model.train()
    assert not any(module.training for module in model.modules())


def test_decode_in_parts_and_its_gradient(make_model) -> None:
    """Breaks if the micro-batch changes pictures or gradients, or pictures leave [0, 1]."""
    model = make_model()
    latents = 3 * torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    latents.requires_grad_(True)
    whole, parts = model.decode(latents), model.decode(latents, micro_batch=2)
    assert whole.shape == (3, 3, 16, 16)
    assert whole.min() >= 0
    assert whole.max() <= 1
    torch.testing.assert_close(whole, parts)
    gradients = [
        torch.autograd.grad(images.square().sum(), latents)[0] for images in (whole, parts)
    ]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_plain_attention_predicts_the_same(make_model, make_inputs) -> None:
    """Breaks if the option does not reach the networks or changes their function."""
    fused, plain = make_model(), make_model(attention="plain")
    inputs = make_inputs(fused)
    torch.testing.assert_close(plain.base(*inputs), fused.base(*inputs), rtol=1e-4, atol=1e-5)
    for unet in (plain.networks.base, plain.networks.trained):
        assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor}


@pytest.mark.parametrize("mode", MODES, ids=["full", "lora", "offset"])
def test_trained_state_moves_to_another_model(make_model, make_inputs, perturb, mode) -> None:
    """Breaks if a checkpoint does not hold everything that training changed."""
    model, other = make_model(mode), make_model(mode)
    perturb(model)
    inputs = make_inputs(model)
    other.load_trainable_state({name: t.clone() for name, t in model.trainable_state().items()})
    assert torch.equal(other.finetuned(*inputs), model.finetuned(*inputs))


@pytest.mark.parametrize("change", ["missing", "unknown", "of another shape"])
def test_state_that_does_not_fit(make_model, change) -> None:
    """Breaks if a checkpoint of another model loads in part, or without naming the weight."""
    model = make_model(LoRA(rank=2))
    state = {name: tensor + 1 for name, tensor in model.trainable_state().items()}
    first = sorted(state)[0]
    tensor = state.pop(first)
    if change != "missing":
        state[first if change == "of another shape" else f"{first}x"] = tensor[:1]
    if change == "unknown":
        state[first] = tensor
    before = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
    with pytest.raises(ConfigError, match=f"1 weights {change} \\({first}"):
        model.load_trainable_state(state)
    assert all(torch.equal(model.trainable_state()[name], before[name]) for name in before)


def test_initialisation_is_addressed_by_its_seed(make_model) -> None:
    """Breaks if LoRA's start depends on, or consumes, the global generator."""
    torch.manual_seed(5)
    states = [make_model(LoRA(rank=2, seed=seed)).trainable_state() for seed in (0, 0, 1)]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    name = next(name for name in states[0] if "lora_A" in name)
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_unknown_lora_targets(make_model) -> None:
    """Breaks if a LoRA that adapts nothing trains silently."""
    with pytest.raises(ConfigError, match="targets"):
        make_model(LoRA(targets=["to_qq"]))


@pytest.mark.parametrize("setting", [{"rank": 0}, {"alpha": 0}])
def test_impossible_lora(setting) -> None:
    """Breaks if an impossible rank or scale is answered only by PEFT."""
    with pytest.raises(ConfigError, match="finetune"):
        LoRA(**setting)
