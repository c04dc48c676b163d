"""What is exported samples the same pictures in diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTokenizer
from transformers.utils.logging import is_progress_bar_enabled

from soc_ft.core import rollout
from soc_ft.errors import ConfigError
from soc_ft.models.export import Format, export_pipeline
from soc_ft.models.finetune import FineTuning, Full, LoRA, Offset
from soc_ft.models.model import DiffusionModel
from soc_ft.models.scheduler import SOCDDIMScheduler
from soc_ft.models.stable_diffusion import StableDiffusion
from tests.models.small import MODES, copied, make_inputs, make_model, make_pipeline, perturb, same

STEPS = 4
GUIDANCE = 3.0
PROMPTS = ["a red circle", "a blue star"]


def model_pictures(model: DiffusionModel, noise: torch.Tensor) -> torch.Tensor:
    """Pictures that the fine-tuned model makes of noise (K+1, B, ...)."""
    states = rollout(
        lambda x, t, c: model.trained(x, t, c, GUIDANCE),
        model.scheduler.control_process(STEPS, 1.0),
        model.encode(PROMPTS),
        noise.transpose(0, 1),
    ).states
    return model.decode(states[:, -1])


def pipeline_pictures(pipeline: StableDiffusionPipeline, noise: torch.Tensor) -> torch.Tensor:
    """Pictures of a pipeline whose generator draws noise[1:]."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    torch.randn(noise[0].shape, generator=generator)
    return pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        eta=1.0,
        latents=noise[0],
        generator=generator,
        output_type="pt",
    ).images


def draw_noise(model: DiffusionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(STEPS + 1, len(PROMPTS), *model.latent_shape, generator=generator)


@pytest.mark.parametrize("mode", [Full(), LoRA(rank=2, alpha=4)], ids=["full", "lora"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_folder_samples_the_same_pictures(
    tmp_path: Path, mode: FineTuning, prediction_type: str
) -> None:
    """Breaks if the folder misses a trained weight, the tokenizer or the noise schedule."""
    model = make_model(mode, prediction_type=prediction_type)
    perturb(model)
    noise = draw_noise(model)
    expected = model_pictures(model, noise)
    export_pipeline(model, tmp_path, "folder")
    torch.testing.assert_close(model_pictures(model, noise), expected, rtol=0, atol=0)

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert type(pipeline.scheduler) is DDIMScheduler
    pipeline.scheduler = SOCDDIMScheduler.from_config(pipeline.scheduler.config)
    torch.testing.assert_close(pipeline_pictures(pipeline, noise), expected, rtol=0, atol=1e-4)


def test_plain_ddim_differs_in_the_last_step_only(tmp_path: Path) -> None:
    """Breaks if the folder needs soc_ft to be loaded, or its scheduler has other betas."""
    model = make_model()
    perturb(model)
    export_pipeline(model, tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    plain, ours = pipeline.scheduler, model.scheduler
    for scheduler in (plain, ours):
        scheduler.set_timesteps(STEPS)
    assert torch.equal(plain.timesteps, ours.timesteps)
    assert torch.equal(plain.alphas_cumprod, ours.alphas_cumprod)
    assert plain.final_alpha_cumprod > ours.final_alpha_cumprod


@pytest.mark.parametrize("targets", [["to_q", "to_v"], ["to_q", "conv1", "time_emb_proj"]])
def test_lora_weights_load_into_the_base_pipeline(tmp_path: Path, targets: list[str]) -> None:
    """Breaks if the file misses a layer or the scale alpha / rank, or cannot hold convolutions."""
    model = make_model(LoRA(rank=2, alpha=6, targets=targets))
    perturb(model)
    export_pipeline(model, tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name == "pytorch_lora_weights.safetensors"
    with safe_open(file, "pt") as opened:
        settings = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert settings["unet.target_modules"] == sorted(targets)  # the same file in every process

    pipeline = make_pipeline()
    pipeline.load_lora_weights(tmp_path)
    x, t, condition = make_inputs(model)
    with torch.no_grad():
        loaded = pipeline.unet(x, t, condition.sequence).sample
    torch.testing.assert_close(loaded, model.trained(x, t, condition), rtol=1e-5, atol=1e-5)


def test_tokenizer_has_the_files_of_the_old_layout(tmp_path: Path) -> None:
    """Breaks if readers that need vocab.json and merges.txt cannot use the folder."""
    model = make_model()
    export_pipeline(model, tmp_path)
    files = {file.name for file in (tmp_path / "tokenizer").iterdir()}
    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= files
    loaded = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert loaded("a red circle").input_ids == model.family.tokenizer("a red circle").input_ids


@pytest.mark.parametrize(("mode", "format"), [(Offset(), "auto"), (Full(), "lora")])
def test_formats_that_cannot_hold_the_model(
    tmp_path: Path, mode: FineTuning, format: Format
) -> None:
    """Breaks if an export loses the fine-tuning silently."""
    with pytest.raises(ConfigError):
        export_pipeline(make_model(mode), tmp_path, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "format"), [("full", "folder"), ("lora", "folder"), ("lora", "lora")]
)
def test_anchors_are_not_exported(tmp_path: Path, mode: str, format: Format) -> None:
    """Breaks if an anchor is merged or written beside the trained weights, or instead of them."""
    written = []
    for anchors in ((), ("default", "attn1", "old")):
        model = make_model(MODES[mode])
        for name in anchors:
            model.add_anchor(name)
            for tensor in model.anchor_states()[name].values():
                tensor += 1
        perturb(model)
        if anchors:
            model.anchor("old", *make_inputs(model))
            model.base(*make_inputs(model))
        folder = tmp_path / f"{len(anchors)} anchors"
        export_pipeline(model, folder, format)
        files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
        weights = [file for file in files if file.suffix == ".safetensors"]
        written.append((files, [load_file(folder / file) for file in weights]))
        metadata = [(folder / file).read_bytes() for file in files if file.suffix == ".json"]
        written[-1] += (metadata,)
    (files, weights, metadata), (files_beside, weights_beside, metadata_beside) = written
    assert files_beside == files
    assert all(same(*pair) for pair in zip(weights_beside, weights, strict=True))
    assert metadata_beside == metadata


@pytest.mark.parametrize(
    ("mode", "format"), [("full", "folder"), ("lora", "folder"), ("lora", "lora")]
)
def test_an_export_leaves_the_model_as_it_was(tmp_path: Path, mode: str, format: Format) -> None:
    """Breaks if a run that exports in between goes on with merged or rounded weights."""
    model = make_model(MODES[mode], network_checkpointing=True)
    perturb(model)
    model.add_anchor("old")
    inputs = make_inputs(model)
    outputs = [model.base(*inputs), model.trained(*inputs), model.anchor("old", *inputs)]
    state = copied(model.trainable_state())
    export_pipeline(model, tmp_path, format)
    assert same(model.trainable_state(), state)
    assert all(parameter.requires_grad for parameter in model.trainable_parameters())
    again = [model.base(*inputs), model.trained(*inputs), model.anchor("old", *inputs)]
    assert all(torch.equal(*pair) for pair in zip(again, outputs, strict=True))
    again[1].sum().backward()
    assert all(parameter.grad is not None for parameter in model.trainable_parameters())


def test_an_export_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Breaks if bars of transformers stand between our messages, or stay switched off after."""
    model = make_model(Full())
    capfd.readouterr()
    export_pipeline(model, tmp_path, "folder")
    assert capfd.readouterr() == ("", "")
    assert is_progress_bar_enabled()


def test_merging_copies_the_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the text encoder and the autoencoder are in memory twice during an export."""
    model = make_model(LoRA(rank=2), network_checkpointing=True)

    def copied(self: StableDiffusion, memo: object) -> NoReturn:
        raise AssertionError("the family is copied")

    monkeypatch.setattr(StableDiffusion, "__deepcopy__", copied, raising=False)
    export_pipeline(model, tmp_path, "folder")
    assert (tmp_path / "model_index.json").exists()


def test_lora_is_merged_in_full_precision(tmp_path: Path) -> None:
    """Breaks if updates drown in the rounding of the frozen weights that they are added to."""
    model = make_model(LoRA(rank=2, alpha=6), frozen_dtype=torch.bfloat16)
    perturb(model)
    export_pipeline(model, tmp_path, "folder")
    (file,) = (tmp_path / "unet").glob("*.safetensors")
    written, state = load_file(file), model.trainable_state()
    base = make_pipeline().unet.bfloat16().float().state_dict()
    first = [name for name in state if ".lora_A." in name]
    for name in first:
        weight = name.partition(".lora_A.")[0] + ".weight"
        update = 3 * state[name.replace(".lora_A.", ".lora_B.")] @ state[name]
        assert written[weight].dtype == torch.float32
        torch.testing.assert_close(written[weight], base[weight] + update, rtol=0, atol=1e-6)
