"""A consistency model samples, is guided and is exported as in diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
)
from torch import Tensor

from soc_ft.core import rollout
from soc_ft.errors import ConfigError
from soc_ft.evaluation.sampling import sample_trajectories
from soc_ft.models.export import export_pipeline
from soc_ft.models.finetune import FineTuning, Full, LoRA, Offset
from soc_ft.models.loading import load_model
from soc_ft.models.model import DiffusionModel
from tests.models.small import (
    consistency_model,
    consistency_pipeline,
    make_inputs,
    make_model,
    perturb,
    same,
)

PROMPTS = ["a red circle", "a blue star"]
PIPELINES = [LatentConsistencyModelPipeline, StableDiffusionPipeline]
GUIDANCE = 8.0


def drawn(steps: int) -> Tensor:
    return torch.randn(steps + 1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def model_pictures(model: DiffusionModel, steps: int, guidance_scale: float = GUIDANCE) -> Tensor:
    path = rollout(
        lambda x, t, c: model.trained(x, t, c, guidance_scale),
        model.scheduler.control_process(steps, 1.0),
        model.encode(PROMPTS),
        drawn(steps).transpose(0, 1),
    )
    return model.decode(path.latents)


def pipeline_pictures(pipeline: Any, steps: int, guidance_scale: float = GUIDANCE) -> Tensor:
    """Of the same noise: the generator goes on where the latents end."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(drawn(steps)[0].shape, generator=generator)
    pictures: Tensor = pipeline(
        PROMPTS,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        latents=latents,
        generator=generator,
        output_type="pt",
    ).images
    return pictures


@pytest.mark.parametrize("pipeline_class", PIPELINES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("steps", "guidance_scale"), [(1, 8.0), (3, 1.0), (4, 8.0), (8, 2.5)])
def test_sampling_is_that_of_the_pipelines(
    pipeline_class: Any, prediction_type: str, steps: int, guidance_scale: float
) -> None:
    """Breaks if the picture has noise, the guidance scale is not embedded, or a step differs."""
    pipeline = pipeline_class(**_parts(consistency_pipeline(prediction_type)))
    expected = pipeline_pictures(pipeline, steps, guidance_scale)
    found = model_pictures(consistency_model(Full(), prediction_type), steps, guidance_scale)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def _parts(pipeline: StableDiffusionPipeline) -> dict[str, Any]:
    left_out = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    return {**pipeline.components, **left_out, "requires_safety_checker": False}


def test_pictures_of_the_commands_are_of_what_is_decoded() -> None:
    """Breaks if validations and ``soc-ft sample`` show the last state, which has noise."""
    model = consistency_model(Full())
    process = model.scheduler.control_process(3, 1.0)
    samples = sample_trajectories(
        model, model.trained, process, PROMPTS, [(0, 0), (1, 0)], seed=0, stream="sample"
    )
    assert samples.trajectory.clean is not None
    assert torch.equal(samples.latents, samples.trajectory.clean)
    assert not torch.allclose(samples.latents, samples.trajectory.states[:, -1], atol=0.1)


def test_guidance_is_told_and_costs_nothing() -> None:
    """Breaks if the network is evaluated for the empty prompt too, or told w instead of w - 1."""
    model = consistency_model(LoRA(rank=2))
    x, t, condition = make_inputs(model)
    unet: Any = model.family.network
    with torch.no_grad():
        for scale in (1.0, 8.0):
            cond = StableDiffusionPipeline.get_guidance_scale_embedding(
                None, torch.full((3,), scale - 1), unet.config.time_cond_proj_dim
            )
            expected = unet(x, t, condition.sequence, timestep_cond=cond).sample
            for predict in (model.base, model.trained):
                torch.testing.assert_close(predict(x, t, condition, scale), expected)
        assert not torch.allclose(
            model.base(x, t, condition, 8.0), model.base(x, t, condition, 1.0), atol=1e-3
        )
    assert model.counter.forward == 6 * 3
    assert set(condition.tensors) == {"sequence"}


@pytest.mark.parametrize("mode", [Full(), LoRA(rank=2), Offset()])
def test_anchors_and_offsets_are_told_the_scale_too(mode: FineTuning) -> None:
    """Breaks if an anchor, or the base below an offset, is told another guidance scale."""
    model = consistency_model(mode)
    perturb(model)
    model.add_anchor("old")
    inputs = make_inputs(model)
    with torch.no_grad():
        torch.testing.assert_close(model.anchor("old", *inputs, 8.0), model.trained(*inputs, 8.0))
        known = model.base(*inputs, 8.0)
        torch.testing.assert_close(model.trained(*inputs, 8.0, known), model.trained(*inputs, 8.0))


def test_a_network_that_is_told_nothing_is_guided_from_outside() -> None:
    """Breaks if an ordinary model loses its second prediction, or is handed an embedding."""
    model = make_model()
    assert model.family.guidance_embedding(3.0) is None
    model.base(*make_inputs(model), 3.0)
    assert model.counter.forward == 2 * 3


def test_the_embedding_is_in_the_precision_of_the_network() -> None:
    """Breaks if reduced precision is refused, or the cosines are computed in it."""
    model = consistency_model(LoRA(rank=2), frozen_dtype=torch.bfloat16)
    exact = consistency_model(LoRA(rank=2))
    inputs = make_inputs(model)
    with torch.no_grad():
        found, expected = (each.base(*inputs, 8.0) for each in (model, exact))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    embedding = model.family.guidance_embedding(8.0)
    assert embedding is not None
    assert embedding.dtype == torch.float32


@pytest.mark.parametrize("pipeline_class", [*PIPELINES, DiffusionPipeline])
@pytest.mark.parametrize("mode", [Full(), LoRA(rank=2, alpha=4)], ids=["full", "lora"])
def test_an_exported_folder_samples_the_same_pictures(
    tmp_path: Path, mode: FineTuning, pipeline_class: Any
) -> None:
    """Breaks if the folder has another sampler, or lacks a trained weight."""
    model = consistency_model(mode)
    perturb(model)
    expected = model_pictures(model, 4)
    export_pipeline(model, tmp_path, "folder")
    pipeline = pipeline_class.from_pretrained(tmp_path, local_files_only=True)
    assert type(pipeline.scheduler) is LCMScheduler
    torch.testing.assert_close(pipeline_pictures(pipeline, 4), expected, rtol=0, atol=1e-4)
    base = consistency_model(mode)
    assert (expected - model_pictures(base, 4)).abs().max() > 0.01


def test_exported_lora_weights_load_into_the_pipeline(tmp_path: Path) -> None:
    """Breaks if the LoRA's names do not fit the pipeline that its base model comes with."""
    model = consistency_model(LoRA(rank=2, alpha=4))
    perturb(model)
    export_pipeline(model, tmp_path)
    pipeline = LatentConsistencyModelPipeline(**_parts(consistency_pipeline()))
    pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(
        pipeline_pictures(pipeline, 4), model_pictures(model, 4), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("pipeline_class", PIPELINES)
def test_a_folder_of_either_pipeline_loads(tmp_path: Path, pipeline_class: Any) -> None:
    """Breaks if models as they are published cannot be loaded, or load other weights."""
    pipeline_class(**_parts(consistency_pipeline())).save_pretrained(tmp_path)
    settings = {"finetune": Full(), "scheduler": {"sampler": "consistency"}}
    model = load_model(str(tmp_path), distilled="consistency", **settings)
    assert same(dict(model.trainable_state()), dict(consistency_model(Full()).trainable_state()))
    for distilled in (None, "few_step"):
        with pytest.raises(ConfigError, match=r"LCMScheduler.*model\.distilled=consistency"):
            load_model(str(tmp_path), distilled=distilled, **settings)
