"""Tiny Stable Diffusions with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline

from soc_ft.models.architectures import ARCHITECTURES, random_pipeline
from soc_ft.models.finetune import FineTuning, Full
from soc_ft.models.model import DiffusionModel
from soc_ft.models.scheduler import adapt_scheduler

PipelineMaker = Callable[..., StableDiffusionPipeline]
ModelMaker = Callable[..., DiffusionModel]


@pytest.fixture
def make_pipeline() -> PipelineMaker:
    """(latent_channels=4, prediction_type="epsilon") -> a pipeline of its own."""

    def make(latent_channels: int = 4, prediction_type: str = "epsilon") -> StableDiffusionPipeline:
        tiny = ARCHITECTURES["tiny"]
        channels = {"in_channels": latent_channels, "out_channels": latent_channels}
        architecture = replace(
            tiny,
            unet={**tiny.unet, **channels},
            vae={**tiny.vae, "latent_channels": latent_channels},
            scheduler={"prediction_type": prediction_type},
        )
        return random_pipeline(architecture)

    return make


@pytest.fixture
def make_model(make_pipeline: PipelineMaker) -> ModelMaker:
    """(finetune=Full(), latent_channels=4, prediction_type="epsilon", **options) -> model."""

    def make(
        finetune: FineTuning | None = None,
        latent_channels: int = 4,
        prediction_type: str = "epsilon",
        **options: object,
    ) -> DiffusionModel:
        pipeline = make_pipeline(latent_channels, prediction_type)
        scheduler = adapt_scheduler(
            pipeline.scheduler.config,
            beta_start=0.002,
            beta_end=0.009,
            timestep_spacing="trailing",
        )
        return DiffusionModel(pipeline, finetune or Full(), scheduler, **options)

    return make


@pytest.fixture
def make_inputs() -> Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(model, batch=3) -> x, t and condition of a prediction."""

    def make(
        model: DiffusionModel, batch: int = 3
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(batch, *model.latent_shape, generator=generator)
        t = torch.tensor([999, 501, 19, 700])[:batch]
        return x, t, model.encode(["a red circle", "a blue star", "", "rain"][:batch])

    return make


@pytest.fixture
def perturb() -> Callable[[DiffusionModel], None]:
    """Move the trained weights away from where they start."""

    def move(model: DiffusionModel) -> None:
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)

    return move
