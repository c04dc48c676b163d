"""Stable Diffusion's conditions, outputs and pictures are those of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from soc_ft.core import rollout
from soc_ft.models.stable_diffusion import StableDiffusion
from tests.models.small import make_inputs, make_model, make_pipeline

PROMPTS = ["a red circle", "", "word " * 200]


def test_encode_is_encode_prompt() -> None:
    """Breaks if padding, truncation or the empty prompt differ from the pipeline."""
    model, pipeline = make_model(), make_pipeline()
    expected, negative = pipeline.encode_prompt(PROMPTS, "cpu", 1, True)
    condition = model.encode(PROMPTS)
    assert set(condition.tensors) == {"sequence"}
    assert torch.equal(condition.sequence, expected)
    assert torch.equal(model.null_condition().sequence, negative[:1])


def test_prompts_that_are_cut_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Breaks if the end of a prompt is left out without a word, or a whole one is counted."""
    model = make_model()
    whole, cut = "x" * 75, "x" * 76  # a token a letter, beside start and end
    two_bytes, spaced = "\u00e9" * 38, "x " * 75
    for prompt, count in (
        (whole, 0),
        (spaced, 0),
        (cut, 1),
        (two_bytes, 1),
        ("", 0),
        ("word " * 2000, 1),
    ):
        assert model.family.count_truncated([prompt]) == count
        assert model.family.count_truncated([prompt, "a", cut]) == count + 1
    model.warn_of_truncated([whole, "a"])
    assert not caplog.records
    model.warn_of_truncated([whole, cut, "a"])
    assert "1 of 3 prompts are longer than the 77 tokens" in caplog.messages[-1]


def test_a_text_encoder_that_wants_a_mask_gets_it() -> None:
    """Breaks if padding is read by an encoder that was trained without seeing it."""
    pipeline = make_pipeline()
    unmasked = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    pipeline.text_encoder.config.use_attention_mask = True
    masked = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    assert not torch.allclose(masked, unmasked, atol=1e-3)
    assert torch.equal(StableDiffusion(pipeline).encode(PROMPTS).sequence, masked)


def test_latents_that_are_not_square() -> None:
    """Breaks if height and width change places, or a pair of sizes is not understood."""
    pipeline = make_pipeline()
    pipeline.unet.register_to_config(sample_size=(8, 16))
    family = StableDiffusion(pipeline)
    assert family.latent_shape == (4, 8, 16)
    assert family.decode(torch.zeros(1, *family.latent_shape)).shape == (1, 3, 16, 32)


@pytest.mark.parametrize(
    ("latent_channels", "prediction_type", "guidance_scale", "eta"),
    [
        (4, "epsilon", 1.0, 1.0),
        (4, "epsilon", 3.0, 1.0),
        (8, "v_prediction", 1.0, 1.0),
        (8, "v_prediction", 3.0, 1.0),
        (8, "v_prediction", 3.0, 0.0),
        (4, "sample", 3.0, 1.0),
        (4, "sample", 3.0, 0.0),
    ],
)
def test_rollout_is_the_pipelines_sampling(
    latent_channels: int, prediction_type: str, guidance_scale: float, eta: float
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

    process = model.scheduler.control_process(steps, eta)
    states = rollout(
        lambda x, t, c: model.trained(x, t, c, guidance_scale),
        process,
        model.encode(prompts),
        noise.transpose(0, 1),
    ).states
    generator = torch.Generator().manual_seed(0)
    torch.randn(noise[0].shape, generator=generator)
    pictures = pipeline(
        prompts,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        eta=eta,
        latents=noise[0],
        generator=generator,
        output_type="pt",
    ).images
    assert states.shape == (2, steps + 1, latent_channels, 8, 8)
    torch.testing.assert_close(model.decode(states[:, -1]), pictures, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_output_is_the_networks_own(prediction_type: str) -> None:
    """Breaks if a prediction of v or x_0 is turned into another one on its way."""
    model = make_model(prediction_type=prediction_type)
    x, t, condition = make_inputs(model)
    with torch.no_grad():
        expected = make_pipeline().unet(x, t.long(), condition.sequence).sample
    # The model's convolutions run in another memory layout.
    torch.testing.assert_close(model.base(x, t, condition), expected, rtol=1e-5, atol=1e-5)


def test_times_are_not_rounded() -> None:
    """Breaks if t is cast to bf16, where 999 becomes 1000."""
    model = make_model(frozen_dtype=torch.bfloat16)
    x, _, condition = make_inputs(model, batch=1)
    seen = []
    embedding = model.networks.base.time_proj
    embedding.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    model.base(x, torch.tensor([999.0]), condition, 2.0)
    assert seen[0].tolist() == [999, 999]
    assert seen[0].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_outputs_and_pictures_are_of_the_type_of_the_latents(dtype: torch.dtype) -> None:
    """Breaks if latents in another precision than the weights fail, or come back in another."""
    model = make_model()
    x, t, condition = make_inputs(model)
    output, pictures = model.base(x.to(dtype), t, condition), model.decode(x.to(dtype))
    assert output.dtype == pictures.dtype == dtype
    rounding = {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(output.float(), model.base(x, t, condition), **rounding)
    torch.testing.assert_close(pictures.float(), model.decode(x), **rounding)


def test_pictures_are_those_of_unscaled_latents() -> None:
    """Breaks if the autoencoder's factor or shift is left out or applied in the other order."""
    pipeline = make_pipeline(scaling_factor=0.4, shift_factor=0.3)
    family = StableDiffusion(pipeline)
    latents = torch.randn(2, *family.latent_shape, generator=torch.Generator().manual_seed(0))
    decoded = pipeline.vae.decode(latents / 0.4 + 0.3).sample
    expected = pipeline.image_processor.postprocess(decoded, output_type="pt")
    torch.testing.assert_close(family.decode(latents), expected, rtol=0, atol=1e-6)


def test_decode_in_parts_and_its_gradient() -> None:
    """Breaks if the micro-batch changes pictures or gradients, or pictures leave [0, 1]."""
    model = make_model()
    latents = 3 * torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    latents.requires_grad_(True)
    whole, parts = model.decode(latents), model.decode(latents, micro_batch=2)
    sizes: list[int] = []
    model.family.vae.decoder.register_forward_hook(lambda *each: sizes.append(len(each[2])))
    model.decode(latents, micro_batch=2)
    assert sizes == [2, 1]
    assert whole.shape == (3, 3, 16, 16)
    assert whole.min() >= 0
    assert whole.max() <= 1
    torch.testing.assert_close(whole, parts)
    gradients = [
        torch.autograd.grad(images.square().sum(), latents)[0] for images in (whole, parts)
    ]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize(("bias", "picture"), [(100.0, 1.0), (-100.0, 0.0)])
def test_pixels_beyond_the_range_have_no_gradient(bias: float, picture: float) -> None:
    """Breaks if a reward is followed where the picture that is seen cannot change."""
    model = make_model()
    torch.nn.init.constant_(model.family.vae.decoder.conv_out.bias, bias)
    latents = make_inputs(model)[0].requires_grad_(True)
    pictures = model.decode(latents)
    assert torch.equal(pictures, torch.full_like(pictures, picture))
    assert not torch.autograd.grad(pictures.sum(), latents)[0].any()


def test_plain_attention_predicts_the_same() -> None:
    """Breaks if the option does not reach the networks or changes their function."""
    fused, plain = make_model(), make_model(attention="plain")
    inputs = make_inputs(fused)
    torch.testing.assert_close(plain.base(*inputs), fused.base(*inputs), rtol=1e-4, atol=1e-5)
    for part in (plain.networks.base, plain.networks.trained, plain.family.vae):
        assert {type(processor) for processor in part.attn_processors.values()} == {AttnProcessor}


def test_checkpointing_reaches_the_decoder() -> None:
    """Breaks if the decoder keeps its activations, which are the largest of all."""
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        model = make_model(decoder_checkpointing=checkpointing)
        assert model.family.vae.is_gradient_checkpointing is checkpointing
        assert not model.networks.trained.is_gradient_checkpointing
        x = latents.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(model.decode(x).square().sum(), x)[0])
    torch.testing.assert_close(*gradients)


def test_everything_is_frozen() -> None:
    """Breaks if a part of the pipeline would receive gradients."""
    pipeline = make_pipeline()
    family = StableDiffusion(pipeline)
    assert not any(parameter.requires_grad for parameter in family.parameters())
    assert {pipeline.unet, pipeline.vae, pipeline.text_encoder} <= set(family.modules())
