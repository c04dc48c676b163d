"""Checkpoints load from every place they may be in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file

from soc_ft.errors import ConfigError
from soc_ft.models.architectures import random_pipeline
from soc_ft.models.finetune import Full, LoRA
from soc_ft.models.loading import build_model, load_model, load_pipeline
from tests.conftest import composed
from tests.models.original_layout import original_layout

PARTS = ("unet", "vae", "text_encoder")


def assert_same_weights(one: StableDiffusionPipeline, other: StableDiffusionPipeline) -> None:
    for part in PARTS:
        state, expected = (getattr(pipeline, part).state_dict() for pipeline in (one, other))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize(
    ("architecture", "unet", "text_encoder"),
    [("sd15", 859_520_964, 123_060_480), ("sd21", 865_910_724, 340_387_840)],
)
def test_architectures_have_the_public_sizes(
    architecture: str, unet: int, text_encoder: int
) -> None:
    """Breaks if a benchmark on random weights is not that of the real model."""
    pipeline = random_pipeline(architecture, device="meta")
    counts = [sum(p.numel() for p in getattr(pipeline, part).parameters()) for part in PARTS]
    assert counts == [unet, 83_653_863, text_encoder]


def test_random_weights_are_addressed_by_their_seed() -> None:
    """Breaks if random weights depend on, or consume, the global generator."""
    torch.manual_seed(3)
    one, same, other = (random_pipeline("tiny", seed=seed) for seed in (0, 0, 1))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert_same_weights(one, same)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)


def test_random_path() -> None:
    """Breaks if model.path=random:... is not resolved."""
    assert_same_weights(load_pipeline("random:tiny"), random_pipeline("tiny"))
    with pytest.raises(ConfigError, match="sd15"):
        load_pipeline("random:nothing")


def test_folder(tmp_path: Path) -> None:
    """Breaks if a diffusers folder loads other weights, another tokenizer or another scheduler."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path)
    loaded = load_pipeline(str(tmp_path))
    assert_same_weights(loaded, saved)
    assert loaded.safety_checker is None
    assert loaded.scheduler.config.beta_end == saved.scheduler.config.beta_end
    text = "A red circle!"
    assert loaded.tokenizer(text).input_ids == saved.tokenizer(text).input_ids
    assert loaded.tokenizer.model_max_length == 77


def test_half_precision_variant(tmp_path: Path) -> None:
    """Breaks if weights stored in half precision would be trained in half precision."""
    random_pipeline("tiny").to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = load_pipeline(str(tmp_path), variant="fp16")
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}


def test_single_file(tmp_path: Path) -> None:
    """Breaks if a checkpoint in the original layout loads other weights than it holds."""
    saved = random_pipeline("tiny")
    saved.save_pretrained(tmp_path / "configuration")
    save_file(original_layout(saved), tmp_path / "model.safetensors")
    torch.save({"state_dict": original_layout(saved)}, tmp_path / "model.ckpt")
    for name in ("model.safetensors", "model.ckpt"):
        loaded = load_pipeline(
            str(tmp_path / name), single_file_config=str(tmp_path / "configuration")
        )
        assert_same_weights(loaded, saved)


@pytest.mark.slow
def test_full_size_stable_diffusion_loads_from_every_place(tmp_path: Path) -> None:
    """Breaks if a place works for small models only: names, shards or sizes of the real one."""
    saved = random_pipeline("sd15").to(torch.float16)
    folder, file = tmp_path / "folder", tmp_path / "model.safetensors"
    saved.save_pretrained(folder, variant="fp16")
    save_file(original_layout(saved), file)
    places = ((folder, {"variant": "fp16"}), (file, {"single_file_config": str(folder)}))
    for place, options in places:
        loaded = load_pipeline(str(place), dtype=torch.float16, **options)
        assert_same_weights(loaded, saved)
        del loaded


def test_unreadable_file(tmp_path: Path) -> None:
    """Breaks if a broken file ends in a traceback of diffusers."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"cannot be loaded.*single_file_config"):
        load_pipeline(str(file))


def test_unreadable_folder(tmp_path: Path) -> None:
    """Breaks if a broken folder ends in a traceback of diffusers."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    (tmp_path / "unet" / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded") as error:
        load_pipeline(str(tmp_path))
    assert "\n" not in str(error.value)


def test_inpainting_unet_is_refused(tmp_path: Path) -> None:
    """Breaks if a UNet with further inputs is accepted and fails in the first rollout."""
    random_pipeline("tiny").save_pretrained(tmp_path)
    config = tmp_path / "vae" / "config.json"
    vae = random_pipeline("tiny").vae
    smaller = type(vae).from_config({**json.loads(config.read_text()), "latent_channels": 3})
    smaller.save_pretrained(tmp_path / "vae")
    with pytest.raises(ConfigError, match="text-to-image"):
        load_pipeline(str(tmp_path))


def test_load_model_applies_its_options() -> None:
    """Breaks if an option of conf/model or conf/scheduler is ignored."""
    model = load_model(
        "random:tiny",
        finetune=LoRA(rank=2),
        scheduler={"beta_start": 0.002, "beta_end": None, "timestep_spacing": "trailing"},
        guidance_scale=3.0,
        frozen_dtype="bfloat16",
        gradient_checkpointing=True,
    )
    assert model.guidance_scale == 3.0
    assert model.family.vae.dtype == torch.bfloat16
    assert model.scheduler.config.beta_start == 0.002
    assert model.scheduler.config.beta_end == 0.012
    assert model.scheduler.config.timestep_spacing == "trailing"
    assert model.networks.trained.is_gradient_checkpointing
    assert model.latent_shape == (4, 8, 8)


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
    with pytest.raises(ConfigError, match=r"model\.path=/absent: no weights"):
        build_model(config.model, None, {})


@pytest.mark.parametrize("option", [{"frozen_dtype": "float8"}, {"attention": "flash"}])
def test_unknown_options(option: Mapping[str, str]) -> None:
    """Breaks if a misspelt option is ignored."""
    with pytest.raises(ConfigError, match=f"model.{next(iter(option))}"):
        load_model("random:tiny", finetune=Full(), **option)
