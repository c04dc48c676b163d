"""Sampling pictures from a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from soc_ft.building import build_model
from soc_ft.checkpoints import find_weights, load_weights
from soc_ft.config import parse
from soc_ft.core import normal, rollout
from soc_ft.methods.base import chunks


@torch.no_grad()
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
    model = build_model(run_config, run)
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
    shape = (schedule.num_steps + 1, *model.latent_shape)
    pictures = []
    for part in tqdm(chunks(len(places), config.batch_size), desc="Sampling"):
        condition = model.encode([prompts[i] for i, _ in places[part]])
        noise = normal(shape, config.seed, "sample", places[part]).to(condition.device)
        trajectory = rollout(lambda x, t, c: predictor(x, t, c, scale), schedule, condition, noise)
        images = model.decode(trajectory.states[:, -1])
        pictures.append((images.cpu() * 255).round().to(torch.uint8))
    return torch.cat(pictures)
