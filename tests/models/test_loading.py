"""Options of a configuration reach the model."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor

from soc_ft.errors import ConfigError
from soc_ft.models import loading
from soc_ft.models.finetune import Full, LoRA
from soc_ft.models.loading import build_model, load_model
from soc_ft.models.pipelines import load_pipeline
from soc_ft.models.random_weights import random_pipeline
from tests.conftest import composed


def test_load_model_applies_its_options() -> None:
    """Breaks if an option of conf/model or conf/scheduler is ignored."""
    model = load_model(
        "random:tiny",
        finetune=LoRA(rank=2),
        scheduler={"beta_start": 0.002, "beta_end": None, "timestep_spacing": "trailing"},
        guidance_scale=3.0,
        frozen_dtype="bfloat16",
        network_checkpointing=True,
    )
    assert model.guidance_scale == 3.0
    assert model.family.vae.dtype == torch.bfloat16
    assert model.scheduler.config.beta_start == 0.002
    assert model.scheduler.config.beta_end == 0.012
    assert model.scheduler.config.timestep_spacing == "trailing"
    assert model.networks.trained.is_gradient_checkpointing
    assert not model.family.vae.is_gradient_checkpointing
    assert model.latent_shape == (4, 8, 8)


def test_load_model_passes_on_where_the_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a revision, a variant or another part stops on its way to the pipeline."""
    asked = []

    def load(*arguments: str, **named: str) -> StableDiffusionPipeline:
        asked.append(signature(load_pipeline).bind(*arguments, **named).arguments)
        return random_pipeline("tiny")

    monkeypatch.setattr(loading, "load_pipeline", load)
    where = {
        "path": "someone/some-model",
        "revision": "v2",
        "variant": "fp16",
        "single_file_config": "/configuration",
        "vae": "/vae",
        "text_encoder": "/text_encoder",
        "distilled": "few_step",
    }
    load_model(**where, finetune=Full())
    assert asked == [where]


@pytest.mark.parametrize("option", ["network_checkpointing", "decoder_checkpointing"])
def test_load_model_checkpoints_what_it_is_told(option: str) -> None:
    """Breaks if one of the two is recomputed for the other, or not at all."""
    model = load_model("random:tiny", finetune=Full(), **{option: True})
    found = {
        "network_checkpointing": model.networks.trained.is_gradient_checkpointing,
        "decoder_checkpointing": model.family.vae.is_gradient_checkpointing,
    }
    assert found == {key: key == option for key in found}


@pytest.mark.parametrize("attention", ["auto", "plain"])
def test_load_model_applies_attention(attention: str) -> None:
    """Breaks if the option stops on its way to the networks."""
    model = load_model("random:tiny", finetune=Full(), attention=attention)
    processors = {type(processor) for processor in model.networks.base.attn_processors.values()}
    assert (processors == {AttnProcessor}) == (attention == "plain")


def test_build_model_from_a_configuration() -> None:
    """Breaks if a group of the configuration does not reach the model, or nulls overwrite it."""
    config = composed("model=shapes", "model.path=random:tiny", "finetune=lora", "finetune.rank=3")
    levels = {"beta_start": 0.002, "beta_end": None, "timestep_spacing": "trailing"}
    model = build_model(config.model, config.finetune, levels)
    assert model.guidance_scale == config.model.guidance_scale
    assert model.scheduler.config.beta_start == 0.002
    assert model.scheduler.config.beta_end == 0.012
    assert model.scheduler.config.timestep_spacing == "trailing"
    state = model.trainable_state()
    assert all(len(tensor) == 3 for name, tensor in state.items() if "lora_A" in name)
    assert len(state) == 2 * len([name for name in state if "lora_A" in name]) > 0


def test_build_model_that_trains_nothing() -> None:
    """Breaks if a base model to sample from needs a fine-tuning mode."""
    config = composed("model=shapes", "model.path=random:tiny")
    model = build_model(config.model, None, {})
    assert not list(model.trainable_parameters())
    assert model.scheduler.config.beta_start == 0.00085


def test_build_model_says_what_is_missing() -> None:
    """Breaks if missing weights come wrapped in an error of Hydra's."""
    config = composed("model=sd15", "model.path=/absent")
    with pytest.raises(ConfigError, match=r"model\.path=/absent: not found"):
        build_model(config.model, None, {})


@pytest.mark.parametrize("option", [{"frozen_dtype": "float8"}, {"attention": "flash"}])
def test_unknown_options(option: Mapping[str, str]) -> None:
    """Breaks if a misspelt option is ignored."""
    with pytest.raises(ConfigError, match=f"model.{next(iter(option))}"):
        load_model("random:tiny", finetune=Full(), **option)
