"""What scores the pictures of a run, built and tried before anything but torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from omegaconf import DictConfig

from soc_ft.config.components import build_method
from soc_ft.config.prompts import held_out_prompts, metadata_of
from soc_ft.config.schema import RunConfig
from soc_ft.feedback import Feedback
from soc_ft.instantiation import build
from soc_ft.models.availability import picture_size
from soc_ft.rewards.base import Reward
from soc_ft.rewards.metadata import share_metadata
from soc_ft.rewards.trial import try_embedding, try_reward

_REWARD, _EMBEDDING, _METRICS = "reward", "validation.embedding", "validation.metrics."
_OURS = "soc_ft."


@dataclass(frozen=True)
class Scorers:
    """What scores pictures.

    Attributes:
        reward: that is trained on.
        embedding: whose spread within a prompt is measured, if there is one.
        metrics: further ones that are measured, by name.
        feedback: who answers for the reward.
    """

    reward: Reward
    embedding: Any | None
    metrics: Mapping[str, Any]
    feedback: Feedback


def prepare_torch(run: RunConfig) -> None:
    """Threads, and the precision of products in float32, for the whole process."""
    if run.trainer.threads:
        torch.set_num_threads(run.trainer.threads)
    torch.backends.cuda.matmul.allow_tf32 = run.trainer.tf32
    torch.backends.cudnn.allow_tf32 = run.trainer.tf32


def build_scorers(
    config: DictConfig,
    run: RunConfig,
    reward: Reward | None = None,
    device: torch.device | None = None,
) -> Scorers:
    """Build what scores pictures, and try each on two of them where it will be used.

    A person's own come first: they are the likelier to be wrong, and ours import libraries.

    Args:
        config: composed configuration.
        run: the same, validated.
        reward: to be trained on instead of the one that the configuration names.
        device: of the model, if it is loaded.

    Raises:
        ConfigError: weights are missing or unfit, or something does not score as it should.
    """
    validation = config.validation
    sections = {_REWARD: config.reward, _EMBEDDING: validation.embedding}
    sections |= {f"{_METRICS}{name}": metric for name, metric in validation.metrics.items()}
    built: dict[str, Any] = {_EMBEDDING: None}
    given = run.model.model_extra or {}
    size = picture_size(str(given["path"]), given.get("revision"))
    device = device or _device(run)
    prompts = held_out_prompts(run.prompts, limit=run.validation.prompts)
    metadata = cache(partial(metadata_of, run.prompts))
    feedback: Feedback = build(config.feedback, "feedback")
    gradient = build_method(run.method).needs.reward_gradient
    if feedback.features is not None:
        named = "feedback.features"
        try_embedding(feedback.features, named, device, size, prompts, gradient=gradient)
    gradient = gradient and not feedback.differentiable
    for key, section in sorted(sections.items(), key=lambda item: _is_ours(item[1])):
        if not section:
            continue
        built[key] = build(section, key) if reward is None or key != _REWARD else reward
        share_metadata(built[key], key, metadata)
        if key == _EMBEDDING:
            try_embedding(built[key], key, device, size)
        else:
            wanted = gradient and key == _REWARD
            try_reward(built[key], key, device, size, prompts, gradient=wanted)
    metrics = {name: built[f"{_METRICS}{name}"] for name in validation.metrics}
    return Scorers(built[_REWARD], built[_EMBEDDING], metrics, feedback)


def _is_ours(section: Mapping[str, Any] | None) -> bool:
    return section is None or str(section.get("_target_", "")).startswith(_OURS)


def _device(run: RunConfig) -> torch.device:
    """Where the process that this is will train."""
    if run.trainer.accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
