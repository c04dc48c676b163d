"""Stage ``reward``: contrastive pretraining, then Bradley-Terry on synthetic preferences.

The annotators know from the generator which attributes a picture has and how badly it is drawn;
they vote on any two pictures of a prompt, with mistakes. The ground-truth judge
takes no part, so it can judge the reward independently.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from soc_ft.errors import RunError
from soc_ft.world import drawing, scenes
from soc_ft.world.scorer import ShapesScorer
from soc_ft.world.training.contrastive import train_contrastive
from soc_ft.world.training.loop import LoopConfig, atomic_save, train
from soc_ft.world.training.preferences import Ballot, draw_ballot

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from omegaconf import DictConfig


def train_reward(config: DictConfig, output_dir: Path) -> None:
    """Train on preferences, standardise on base-model samples, write ``output_dir/reward``."""
    stage = config.preferences
    pipeline = _base_pipeline(output_dir)
    samples = base_samples(config, pipeline, output_dir / "base_samples.pt")
    vae = pipeline.vae.requires_grad_(False)
    scorer = train_contrastive(config, output_dir)
    # Preferences are about quality for the most part: the embedding would unlearn the words.
    scorer.freeze_embedding()
    held_back = len(samples["prompts"]) // 2

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        ballot = draw_ballot(config, (config.seed, 9, step), vae)
        loss, accuracy = preference_loss(scorer, ballot)
        rows = np.random.default_rng((config.seed, 10, step)).integers(
            held_back, len(samples["prompts"]), stage.sampled
        )
        loss = loss + stage.sampled_weight * _beats_samples(scorer, config, samples, rows, step)
        return loss, {"accuracy": accuracy}

    train(scorer, step_loss, LoopConfig(**stage.loop), output_dir / "preferences.pt")
    scorer.eval().requires_grad_(False)
    _standardise(scorer, samples["images"][:held_back], samples["prompts"][:held_back])
    scorer.save(output_dir / "reward")


def _standardise(scorer: ShapesScorer, images: Tensor, prompts: list[str]) -> None:
    """Give samples of the base model, unseen in training, mean 0 and standard deviation 1."""
    scores = [
        scorer.raw_score(images[i : i + 64].float() / 255.0, prompts[i : i + 64])
        for i in range(0, len(prompts), 64)
    ]
    scorer.mean, scorer.std = float(torch.cat(scores).mean()), float(torch.cat(scores).std())


def preference_loss(scorer: ShapesScorer, ballot: Ballot) -> tuple[Tensor, float]:
    """Bradley-Terry loss over all pairs of a prompt, and the share of pairs ordered rightly."""
    candidates = ballot.utilities.shape[1]
    prompts = [prompt for prompt in ballot.prompts for _ in range(candidates)]
    scores = scorer.raw_score(ballot.images.flatten(0, 1), prompts).view_as(ballot.utilities)
    first, second = torch.triu_indices(candidates, candidates, offset=1)
    margin = scores[:, first] - scores[:, second]
    loss = F.binary_cross_entropy_with_logits(margin, ballot.votes)
    return loss, float(((margin > 0) == (ballot.votes > 0.5)).float().mean())


@torch.no_grad()
def base_samples(
    config: DictConfig, pipeline: StableDiffusionPipeline, path: Path
) -> dict[str, Any]:
    """Pictures of the base model, 8 bit, with their prompts; drawn once and kept in ``path``."""
    if path.exists():
        return torch.load(path, weights_only=True)
    stage = config.preferences
    prompts = list(scenes.prompt_scenes(stage.base_samples, config.seed + 11))
    images = []
    for start in tqdm(range(0, len(prompts), stage.sample_batch), desc=path.stem):
        output = pipeline(
            prompts[start : start + stage.sample_batch],
            num_inference_steps=stage.sample_steps,
            guidance_scale=stage.guidance_scale,
            generator=torch.Generator().manual_seed(config.seed + start),
            output_type="pt",
        )
        images.append((output.images * 255.0).round().byte())
    samples = {"images": torch.cat(images), "prompts": prompts}
    atomic_save(samples, path)
    return samples


def _base_pipeline(output_dir: Path) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline

    folder = output_dir / "pipeline"
    if not folder.exists():
        raise RunError(f"no pipeline in {folder}: run stage=diffusion first")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _beats_samples(
    scorer: ShapesScorer, config: DictConfig, samples: dict[str, Any], rows: Any, step: int
) -> Tensor:
    """A picture of the generator is preferred to the base model's for the same prompt."""
    prompts = [samples["prompts"][row] for row in rows]
    drawn = torch.from_numpy(_true_pictures(prompts, config, step))
    generated = samples["images"][torch.from_numpy(rows)].float() / 255.0
    margin = scorer.raw_score(drawn, prompts) - scorer.raw_score(generated, prompts)
    preferred = torch.full_like(margin, config.preferences.sampled_preference)
    return F.binary_cross_entropy_with_logits(margin, preferred)


def _true_pictures(prompts: list[str], config: DictConfig, step: int) -> Any:
    """Generator pictures of which the prompts are true."""
    truth = scenes.prompt_scenes(config.preferences.base_samples, config.seed + 11)
    rng = np.random.default_rng((config.seed, 12, step))
    drawn = []
    for prompt in prompts:
        claims = scenes.mentioned_labels(truth[prompt], prompt)
        drawn.append(scenes.sample_scene(rng, scenes.claimed_words(claims)))
    return drawing.render(drawn)
