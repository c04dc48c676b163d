"""Tiny Stable Diffusions with random weights, and what tests do with any model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from soc_ft.core import Condition
from soc_ft.models.architectures import ARCHITECTURES
from soc_ft.models.finetune import FineTuning, Full, LoRA, Offset
from soc_ft.models.model import DiffusionModel
from soc_ft.models.random_weights import random_pipeline
from soc_ft.models.scheduler import adapt_scheduler
from soc_ft.models.stable_diffusion import StableDiffusion

MODES: dict[str, FineTuning] = {
    "full": Full(),
    "lora": LoRA(rank=2),
    "offset": Offset(),
}
"""The fine-tuning modes that train something."""

PARTS = ("unet", "vae", "text_encoder")
"""Of a pipeline, with weights."""

Inputs = tuple[Tensor, Tensor, Condition]


def make_pipeline(
    latent_channels: int = 4, prediction_type: str = "epsilon", **vae: object
) -> StableDiffusionPipeline:
    """A pipeline of its own; the same weights each time."""
    tiny = ARCHITECTURES["tiny"]
    channels = {"in_channels": latent_channels, "out_channels": latent_channels}
    architecture = replace(
        tiny,
        unet={**tiny.unet, **channels},
        vae={**tiny.vae, "latent_channels": latent_channels, **vae},
        scheduler={"prediction_type": prediction_type},
    )
    return random_pipeline(architecture)


def make_model(
    finetune: FineTuning | None = None,
    latent_channels: int = 4,
    prediction_type: str = "epsilon",
    **options: Any,
) -> DiffusionModel:
    """A model of such a pipeline; ``finetune`` is Full() unless given."""
    pipeline = make_pipeline(latent_channels, prediction_type)
    scheduler = adapt_scheduler(
        pipeline.scheduler.config,
        beta_start=0.002,
        beta_end=0.009,
        timestep_spacing="trailing",
    )
    return DiffusionModel(StableDiffusion(pipeline), finetune or Full(), scheduler, **options)


def consistency_pipeline(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """A latent consistency model, which is told the guidance scale; the same weights each time."""
    tiny = ARCHITECTURES["tiny"]
    architecture = replace(
        tiny,
        unet={**tiny.unet, "time_cond_proj_dim": 16},
        scheduler={"prediction_type": prediction_type},
        scheduler_class="LCMScheduler",
    )
    return random_pipeline(architecture)


def consistency_model(
    finetune: FineTuning, prediction_type: str = "epsilon", **options: Any
) -> DiffusionModel:
    """A model of such a pipeline."""
    pipeline = consistency_pipeline(prediction_type)
    scheduler = adapt_scheduler(pipeline.scheduler.config, sampler="consistency")
    return DiffusionModel(StableDiffusion(pipeline), finetune, scheduler, **options)


def make_inputs(model: DiffusionModel, batch: int = 3) -> Inputs:
    """x, t and condition of a prediction."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *model.latent_shape, generator=generator)
    t = torch.tensor([999.0, 501.0, 19.0, 700.0])[:batch]
    return x, t, model.encode(["a red circle", "a blue star", "", "rain"][:batch])


def perturb(model: DiffusionModel, seed: int = 2) -> None:
    """Move the trained weights away from where they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in memory of their own."""
    return {name: tensor.clone() for name, tensor in state.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and, bit for bit, the same numbers."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_same_weights(one: StableDiffusionPipeline, other: StableDiffusionPipeline) -> None:
    """Bit for bit, under the same names."""
    for part in PARTS:
        state, expected = (getattr(pipeline, part).state_dict() for pipeline in (one, other))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)
