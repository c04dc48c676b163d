"""Pictures of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from soc_ft.api.loading import loaded_with
from soc_ft.api.prompts import prompt_list
from soc_ft.checking import validated
from soc_ft.options import Count, NonNegative, Section, Seed, Steps

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.models.model import DiffusionModel


class SamplingSettings(Section):
    """How pictures are made."""

    samples_per_prompt: Count
    num_steps: Steps
    eta: NonNegative
    guidance_scale: NonNegative | None
    seed: Seed
    batch_size: Count


def sample(
    model: DiffusionModel,
    prompts: Sequence[str] | str,
    *,
    samples_per_prompt: int = 1,
    num_steps: int = 50,
    eta: float = 1.0,
    guidance_scale: float | None = None,
    base: bool = False,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """Sample pictures, with the noise levels that the model was loaded with.

    Picture j of prompt i has its own noise: it does not depend on the batch size, and is the same
    for the base and the fine-tuned model.

    Args:
        model: from :func:`load_model`, fine-tuned or not.
        prompts: P prompts, or one; or a file or data set of them, as for ``prompts=file``.
        samples_per_prompt: n.
        num_steps: of the sampler, at least 2, or 1 of a consistency model.
        eta: noise level; 1 is that of fine-tuning, 0 is deterministic.
        guidance_scale: w; None is the model's own.
        base: sample the base model instead of the fine-tuned one.
        seed: of the noise.
        batch_size: pictures sampled together; changes no result.

    Returns:
        (P * n, 3, H, W) uint8 on the CPU, those of a prompt together.

    Raises:
        ConfigError: names the argument that is wrong.
    """
    loaded_with(model)
    given = {
        "samples_per_prompt": samples_per_prompt,
        "num_steps": num_steps,
        "eta": eta,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "batch_size": batch_size,
    }
    return sampled(model, prompt_list("prompts", prompts), validated(SamplingSettings, given), base)


def sampled(
    model: DiffusionModel, prompts: Sequence[str], settings: SamplingSettings, base: bool
) -> Tensor:
    """(P * n, 3, H, W) uint8 pictures on the CPU, as checked settings say."""
    from soc_ft.evaluation.sampling import sample_pictures

    scale = settings.guidance_scale
    return sample_pictures(
        model,
        model.scheduler.control_process(settings.num_steps, settings.eta),
        prompts,
        guidance_scale=model.guidance_scale if scale is None else scale,
        base=base,
        samples_per_prompt=settings.samples_per_prompt,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )
