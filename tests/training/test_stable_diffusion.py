"""The structure of Stable Diffusion 1.5, with fewer channels, through the whole program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from soc_ft.models.random_weights import random_pipeline
from tests.trained import crash_at, largest_difference, weights

TinyRun = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_trains_resumes_exports_and_reloads_in_diffusers(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finetune: str
) -> None:
    """Breaks if depth, block types or file layout of the real model get lost on the way."""
    base = tmp_path / "base"
    random_pipeline("sd15_narrow").save_pretrained(base)
    overrides = (
        "model=sd15",
        f"model.path={base}",
        f"finetune={finetune}",
        "trainer.steps=2",
        "trainer.batch_size=2",
        "scheduler.num_steps=3",
        "validation.every=2",
        "validation.samples_per_prompt=1",
        "trainer.checkpoint_every=1",
        "export=true",
    )
    undisturbed = tiny_run(*overrides, folder="undisturbed")
    with monkeypatch.context() as patch:
        crash_at(1, patch)
        with pytest.raises(MemoryError):
            tiny_run(*overrides, folder="crashed")
    resumed = tiny_run(*overrides, folder="crashed")
    assert largest_difference(weights(undisturbed), weights(resumed)) == 0

    before = StableDiffusionPipeline.from_pretrained(base)
    if finetune == "lora":
        after = StableDiffusionPipeline.from_pretrained(base)
        after.load_lora_weights(resumed / "model")
    else:
        after = StableDiffusionPipeline.from_pretrained(resumed / "model")
        assert largest_difference(after.unet.state_dict(), weights(resumed)) == 0
    assert largest_difference(before.vae.state_dict(), after.vae.state_dict()) == 0
    latents = [
        pipeline(
            "a red circle",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).images
        for pipeline in (before, after)
    ]
    assert latents[0].shape == (1, 4, 8, 8)
    assert not torch.equal(*latents)
