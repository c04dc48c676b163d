"""Stable Diffusion pipelines with random weights: exact sizes, no download."""

from __future__ import annotations

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from soc_ft.models.architectures import ARCHITECTURES, Architecture


def random_pipeline(
    architecture: str | Architecture, device: str | torch.device = "cpu", seed: int = 0
) -> StableDiffusionPipeline:
    """A pipeline with random float32 weights, without safety checker.

    Args:
        architecture: a key of ``ARCHITECTURES`` ("sd15" and "sd21" have the exact configuration of
            Stable Diffusion 1.5 and 2.1, "lcm" is 1.5 as it is distilled to a latent consistency
            model, "sd15_narrow" is 1.5 with fewer channels, "tiny" is for tests), or an
            ``Architecture``.
        device: where the weights are made; "meta" makes none.
        seed: of the weights; the global generators are left as they were.

    Raises:
        KeyError: unknown architecture.
    """
    if isinstance(architecture, str):
        architecture = ARCHITECTURES[architecture]
    device = torch.device(device)
    tokenizer = byte_tokenizer()
    text_config = CLIPTextConfig(
        **architecture.text_encoder,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), device:
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**architecture.unet)
        vae = AutoencoderKL(**architecture.vae)
        text_encoder = CLIPTextModel(text_config)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=getattr(diffusers, architecture.scheduler_class)(
            **{
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "set_alpha_to_one": False,
                "steps_offset": 1,
                **architecture.scheduler,
            }
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of 514 tokens (bytes, bytes that end a word, start, end), 77 per text."""
    characters = sorted(ByteLevel.alphabet())
    tokens = characters + [f"{character}</w>" for character in characters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
