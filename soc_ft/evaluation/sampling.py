"""Sampling pictures: with noise that is addressed by prompt and picture, whatever the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from soc_ft.core import Condition, Predictor, Process, Trajectory, normal, rollout
from soc_ft.evaluation.reward_guidance import Guide
from soc_ft.evaluation.store import Place
from soc_ft.methods.problem import chunks
from soc_ft.models.model import DiffusionModel

GuidedPredictor = Callable[[Tensor, Tensor, Condition, float], Tensor]
"""A predictor of the core that takes a guidance scale as well."""


@dataclass(frozen=True)
class Samples:
    """Trajectories of B pictures, and what they were sampled for."""

    trajectory: Trajectory
    condition: Condition
    prompts: list[str]

    @property
    def latents(self) -> Tensor:
        """(B, *latent), clean."""
        return self.trajectory.latents


def sample_trajectories(
    model: DiffusionModel,
    predictor: Predictor,
    process: Process,
    prompts: Sequence[str],
    places: Sequence[Place],
    *,
    seed: int,
    stream: str,
    keep_predictions: bool = False,
) -> Samples:
    """Sample the pictures of some places together.

    Args:
        model: encodes prompts.
        predictor: of one of its networks.
        process: K transitions.
        prompts: P prompts.
        places: B of them.
        seed: of the noise.
        stream: name of the use that the noise is for.
        keep_predictions: as in :func:`soc_ft.core.rollout`.
    """
    of_places = [prompts[prompt] for prompt, _ in places]
    condition = model.encode(of_places)
    shape = (process.num_steps + 1, *model.latent_shape)
    noise = normal(shape, seed, stream, places).to(condition.device)
    trajectory = rollout(predictor, process, condition, noise, keep_predictions=keep_predictions)
    return Samples(trajectory, condition, of_places)


@torch.no_grad()
def sample_places(
    model: DiffusionModel,
    predictor: GuidedPredictor,
    process: Process,
    guidance_scale: float,
    prompts: Sequence[str],
    places: Sequence[Place],
    seed: int,
    batch_size: int,
    guide: Guide | None = None,
) -> Iterator[tuple[Sequence[Place], Tensor]]:
    """Sample pictures in batches.

    Args:
        model: encodes prompts and decodes latents.
        predictor: ``model.base`` or ``model.trained``.
        process: K transitions.
        guidance_scale: w.
        prompts: P prompts.
        places: what is sampled.
        seed: of the noise.
        batch_size: pictures sampled together.
        guide: what moves the predictions for a batch's prompts, if anything does.

    Yields:
        Places, and their pictures (B, 3, H, W), uint8 on the CPU.
    """

    def predict(x: Tensor, t: Tensor, c: Condition) -> Tensor:
        return predictor(x, t, c, guidance_scale)

    for part in chunks(len(places), batch_size):
        of_places = [prompts[prompt] for prompt, _ in places[part]]
        samples = sample_trajectories(
            model,
            predict if guide is None else guide(predict, process, of_places),
            process,
            prompts,
            places[part],
            seed=seed,
            stream="sample",
        )
        yield places[part], as_bytes(model.decode(samples.latents))


def sample_pictures(
    model: DiffusionModel,
    process: Process,
    prompts: Sequence[str],
    *,
    guidance_scale: float,
    base: bool = False,
    samples_per_prompt: int = 1,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """Sample pictures of every prompt, with a progress bar.

    Picture j of prompt i has its own noise, addressed by (seed, i, j): it does not depend on the
    batch size, and is the same for the base and the trained model.

    Args:
        model: to be sampled, on its device.
        process: K transitions.
        prompts: P prompts.
        guidance_scale: w.
        base: sample the base model instead of the trained one.
        samples_per_prompt: n.
        seed: of the noise.
        batch_size: pictures sampled together; changes no result.

    Returns:
        (P * n, 3, H, W) uint8 on the CPU, those of a prompt together.
    """
    model.warn_of_truncated(prompts)
    places = [(i, j) for i in range(len(prompts)) for j in range(samples_per_prompt)]
    predictor = model.base if base else model.trained
    batches = sample_places(
        model, predictor, process, guidance_scale, prompts, places, seed, batch_size
    )
    total = -(-len(places) // batch_size)
    return torch.cat([pictures for _, pictures in tqdm(batches, "Sampling", total)])


def as_bytes(images: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8 on the CPU."""
    return (images.cpu() * 255).round().to(torch.uint8)
