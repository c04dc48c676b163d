"""Sampling pictures from a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from soc_ft.config import parse
from soc_ft.core import Schedule, normal, rollout
from soc_ft.methods.base import chunks
from soc_ft.models.loading import build_model
from soc_ft.models.model import DiffusionModel
from soc_ft.models.weights import load_weights
from soc_ft.records.runs import find_weights

GuidedPredictor = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""A predictor of the core that takes a guidance scale as well."""


def sample_pictures(
    config: DictConfig, folder: Path, run_config: DictConfig, prompts: Sequence[str]
) -> Tensor:
    """Sample ``samples_per_prompt`` pictures for every prompt.

    Picture j of prompt i has its own noise, addressed by (seed, i, j): it does not depend on the
    batch size, and is the same for the base and the fine-tuned model.

    Args:
        config: of conf/sample.yaml.
        folder: the run folder.
        run_config: the run's configuration.
        prompts: P prompts.

    Returns:
        (P * samples_per_prompt, 3, H, W) uint8, those of a prompt together.

    Raises:
        ConfigError: the checkpoint is missing or does not fit the model.
    """
    run = parse(run_config)
    weights = None if config.base else load_weights(find_weights(folder, config.checkpoint))
    model = build_model(run_config.model, run_config.finetune, run.scheduler.noise_levels())
    if weights is not None:
        model.load_trainable_state(weights)
    model.to(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    schedule = model.scheduler.control_schedule(
        config.num_steps or run.scheduler.num_steps,
        run.scheduler.eta if config.eta is None else config.eta,
    )
    scale = model.guidance_scale if config.guidance_scale is None else config.guidance_scale
    predictor = model.base if config.base else model.finetuned

    places = [(i, j) for i in range(len(prompts)) for j in range(config.samples_per_prompt)]
    batches = sample_places(
        model, predictor, schedule, scale, prompts, places, config.seed, config.batch_size
    )
    total = -(-len(places) // config.batch_size)
    return torch.cat([pictures for _, pictures in tqdm(batches, "Sampling", total)])


@torch.no_grad()
def sample_places(
    model: DiffusionModel,
    predictor: GuidedPredictor,
    schedule: Schedule,
    guidance_scale: float,
    prompts: Sequence[str],
    places: Sequence[tuple[int, int]],
    seed: int,
    batch_size: int,
) -> Iterator[tuple[Sequence[tuple[int, int]], Tensor]]:
    """Sample pictures in batches.

    Args:
        model: encodes prompts and decodes latents.
        predictor: ``model.base`` or ``model.finetuned``.
        schedule: K transitions.
        guidance_scale: w.
        prompts: P prompts.
        places: (prompt, picture) indices, which address the noise together with ``seed``.
        seed: of the noise.
        batch_size: pictures sampled together.

    Yields:
        Places, and their pictures (B, 3, H, W), uint8 on the CPU.
    """
    shape = (schedule.num_steps + 1, *model.latent_shape)
    for part in chunks(len(places), batch_size):
        batch = places[part]
        condition = model.encode([prompts[i] for i, _ in batch])
        noise = normal(shape, seed, "sample", batch).to(condition.device)
        trajectory = rollout(
            lambda x, t, c: predictor(x, t, c, guidance_scale), schedule, condition, noise
        )
        images = model.decode(trajectory.states[:, -1])
        yield batch, (images.cpu() * 255).round().to(torch.uint8)
