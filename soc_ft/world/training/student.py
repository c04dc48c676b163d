"""Stage ``student``: the denoiser distilled to a latent consistency model, for few steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from soc_ft import core
from soc_ft.errors import RunError
from soc_ft.world.training.diffusion import copy_vocabulary, latent_dataset, normal
from soc_ft.world.training.loop import LoopConfig, train

if TYPE_CHECKING:
    from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from omegaconf import DictConfig


def train_student(config: DictConfig, output_dir: Path) -> None:
    """Distil ``output_dir/pipeline`` (Luo et al. 2023, arXiv 2310.04378), write ``student``.

    Of a latent with the noise of one of the grid's levels, the teacher makes, by a step of
    deterministic DDIM with guidance, one with that of the next level; the student's clean
    prediction of the first shall be that of the second. Where the last step ends, it is the
    latent itself. The guidance scale is drawn, and told to the student.
    """
    from diffusers import LCMScheduler, StableDiffusionPipeline

    folder = output_dir / "pipeline"
    if not folder.exists():
        raise RunError(f"no pipeline in {folder}: run stage=diffusion first")
    stage = config.student
    teacher = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    for part in (teacher.unet, teacher.text_encoder, teacher.vae):
        part.requires_grad_(False)
    data = latent_dataset(config, teacher.vae, output_dir / "latents.pt")
    scheduler = LCMScheduler.from_config(
        teacher.scheduler.config, original_inference_steps=stage.levels
    )
    student = student_of(teacher.unet, stage.guidance_embedding)
    levels = Levels(scheduler)
    empty = teacher.text_encoder(data["empty"].long()).last_hidden_state

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        rows = torch.randint(len(data["mean"]), (stage.batch_size,), generator=generator)
        mean, std = data["mean"][rows].float(), data["std"][rows].float()
        clean = (mean + std * normal(mean, generator)) * teacher.vae.config.scaling_factor
        text = teacher.text_encoder(data["tokens"][rows].long()).last_hidden_state
        k = torch.randint(levels.number, (len(rows),), generator=generator)
        x = levels.consistency.noised(k, clean, normal(clean, generator))
        low, high = stage.guidance_range
        scale = low + (high - low) * torch.rand(len(rows), generator=generator)
        told = teacher.get_guidance_scale_embedding(scale - 1, stage.guidance_embedding)

        def predicted(k: Tensor, x: Tensor) -> Tensor:
            t = levels.consistency.times_of(k, x)
            output = student(x, t, text, timestep_cond=told).sample
            return levels.consistency.clean(k, x, output)

        with torch.no_grad():
            t = levels.teacher.times_of(k, x).repeat(2)
            texts = torch.cat([empty.expand_as(text), text])
            without, with_text = teacher.unet(x.repeat(2, 1, 1, 1), t, texts).sample.chunk(2)
            guided = without + core.match_leading(scale, x) * (with_text - without)
            x_next = levels.teacher.mean(k, x, guided)
            following = (k + 1).clamp(max=levels.number - 1)
            target = predicted(following, x_next)
            target = torch.where((k + 1 < levels.number)[:, None, None, None], target, x_next)
        distance = (predicted(k, x) - target).flatten(1).square().mean(1)
        loss = ((distance + stage.huber**2).sqrt() - stage.huber).mean()
        return loss, {"rmse": float(distance.detach().mean().sqrt()), "loss": float(loss.detach())}

    train(student, step_loss, LoopConfig(**stage.loop), output_dir / "student.pt")
    _save(teacher, student, scheduler, output_dir / "student")


class Levels:
    """The noise levels of the distillation, from the noisiest to the cleanest.

    Attributes:
        number: of levels.
        consistency: K transitions, whose clean predictions are the student's.
        teacher: K deterministic ones, the last of which ends at the training's first level.
    """

    def __init__(self, scheduler: LCMScheduler) -> None:
        """Take those that the scheduler was distilled with.

        Args:
            scheduler: of the student.
        """
        config: Any = scheduler.config
        self.number: int = config.original_inference_steps
        alphas = scheduler.alphas_cumprod.double()
        timesteps = (torch.arange(self.number, 0, -1) * (len(alphas) // self.number)) - 1
        alpha_bar = alphas[timesteps]
        following = torch.cat([alpha_bar[1:], alphas[:1]])
        self.consistency = core.multistep_consistency(timesteps, alpha_bar)
        self.teacher = core.ddim(timesteps, alpha_bar, following, 0.0)


def student_of(teacher: UNet2DConditionModel, guidance_embedding: int) -> UNet2DConditionModel:
    """A copy of the teacher that is told the guidance scale, and does not listen yet."""
    from diffusers import UNet2DConditionModel

    settings = {name: value for name, value in teacher.config.items() if name[0] != "_"}
    student = UNet2DConditionModel(**{**settings, "time_cond_proj_dim": guidance_embedding})
    projection = student.time_embedding.cond_proj
    nn.init.zeros_(projection.weight)
    student.load_state_dict(
        {**teacher.state_dict(), "time_embedding.cond_proj.weight": projection.weight}
    )
    return student


def _save(
    teacher: StableDiffusionPipeline,
    student: UNet2DConditionModel,
    scheduler: LCMScheduler,
    folder: Path,
) -> None:
    """Write the pipeline, float16, as latent consistency models come."""
    from diffusers import LatentConsistencyModelPipeline

    pipeline = LatentConsistencyModelPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=student,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.unet, pipeline.vae):  # diffusers writes where it was read from
        part.register_to_config(_name_or_path="")
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    copy_vocabulary(folder.parent, folder)
