"""The learned reward of the shapes world, as shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from soc_ft.errors import ConfigError
from soc_ft.metrics.world import ShapesEmbedding
from soc_ft.rewards.shapes import ShapesReward
from soc_ft.world import REWARD, defects, drawing, scenes
from soc_ft.world.agreement import truth_accuracy
from soc_ft.world.scorer import ShapesScorer


@pytest.fixture(scope="module")
def reward() -> ShapesReward:
    return ShapesReward()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _pictures(count: int, seed: int) -> tuple[Tensor, list[str]]:
    pictures, captions, _ = drawing.sample(count, seed, contrast=(1.0, 1.0))
    return torch.from_numpy(pictures), captions


def test_matching_prompts_score_higher_than_mismatching_ones(reward: ShapesReward) -> None:
    """Breaks if the score ignores the prompt, or text and picture are paired wrongly."""
    images, prompts = _pictures(96, 0)
    matching, mismatching = reward(images, prompts), reward(images, prompts[1:] + prompts[:1])
    assert matching.shape == (96,)
    assert matching.dtype == torch.float32
    assert (matching > mismatching).float().mean() > 0.9


def test_one_wrong_attribute_lowers_the_score() -> None:
    """Breaks if the shipped reward is blind to an attribute that the prompt mentions."""
    shares = truth_accuracy(ShapesScorer.load(REWARD), count=96, seed=7)
    assert len(shares) == len(scenes.ATTRIBUTES)
    assert min(shares.values()) > 0.75


@pytest.mark.parametrize("damage", defects.OF_PICTURES)
def test_damage_lowers_the_score(reward: ShapesReward, damage: str) -> None:
    """Breaks if the reward stops seeing how well a picture is drawn."""
    images, prompts = _pictures(64, 1)
    generator = torch.Generator().manual_seed(0)
    damaged = defects.OF_PICTURES[damage](images, torch.full((64,), 0.9), generator)
    assert (reward(images, prompts) > reward(damaged, prompts)).float().mean() > 0.85


def test_low_contrast_lowers_the_score(reward: ShapesReward) -> None:
    """Breaks if contrast, which fine-tuning can improve, does not count."""
    images, prompts = _pictures(64, 2)
    mean = images.flatten(2).median(dim=2).values[..., None, None]
    washed_out = mean + 0.4 * (images - mean)
    assert (reward(images, prompts) > reward(washed_out, prompts)).float().mean() > 0.85


@pytest.mark.parametrize(
    ("better", "worse"), [({"size": "large"}, {"size": "small"}), ({"position": "center"}, {})]
)
def test_composition_counts_where_the_prompt_leaves_it_open(
    reward: ShapesReward, better: dict[str, str], worse: dict[str, str]
) -> None:
    """Breaks if nothing is to be gained by taking away choices that the prompt leaves open."""
    rng = np.random.default_rng(0)
    liked, disliked, prompts = [], [], []
    for _ in range(96):
        scene = scenes.sample_scene(rng, contrast=(1.0, 1.0))
        open_to = {name: getattr(scene, name) for name in ("shape", "color", "background")}
        prompts.append(scenes.caption(scene, rng, size_share=0.0, position_share=0.0))
        liked.append(scenes.sample_scene(rng, open_to | better, contrast=(1.0, 1.0)))
        disliked.append(scenes.sample_scene(rng, open_to | worse, contrast=(1.0, 1.0)))
    gains = reward(torch.from_numpy(drawing.render(liked)), prompts) - reward(
        torch.from_numpy(drawing.render(disliked)), prompts
    )
    assert gains.mean() > 3.0 * gains.std() / len(gains) ** 0.5


def test_gradient_reaches_every_image_and_raises_the_score(reward: ShapesReward) -> None:
    """Breaks if a tensor is detached, the resize is not differentiable, or the score saturates."""
    images, prompts = _pictures(8, 3)
    for size in (64, 96):
        resized = torch.nn.functional.interpolate(images, (size, size), mode="nearest")
        resized.requires_grad_()
        scores = reward(resized, prompts)
        (gradient,) = torch.autograd.grad(scores.sum(), resized)
        norm = gradient.flatten(1).norm(dim=1)
        assert (norm > 1e-4).all()
        step = 0.02 * gradient / norm.view(-1, 1, 1, 1)
        assert (reward(resized.detach() + step, prompts) > scores.detach()).all()


def test_samples_do_not_influence_each_other(reward: ShapesReward) -> None:
    """Breaks if a score depends on the batch, through padding of prompts or normalisation."""
    images, prompts = _pictures(6, 4)
    alone = torch.cat([reward(images[i : i + 1], prompts[i : i + 1]) for i in range(6)])
    assert torch.allclose(reward(images, prompts), alone, atol=1e-4)


def test_half_precision_images_are_scored_in_float32(reward: ShapesReward) -> None:
    """Breaks if the images' precision leaks into the score."""
    images, prompts = _pictures(2, 5)
    assert reward(images.half(), prompts).dtype == torch.float32


def test_missing_weights_say_where_and_what_to_do(tmp_path: Path) -> None:
    """Breaks if a wrong folder ends in a traceback instead of one line."""
    with pytest.raises(ConfigError, match=r"no reward weights in .*stage=reward"):
        ShapesReward(str(tmp_path))


def test_embedding_has_unit_norm_and_separates_pictures() -> None:
    """Breaks if diversity collapses: unnormalised vectors, or one point for every picture."""
    images, _ = _pictures(32, 6)
    embedding = ShapesEmbedding()(images)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(32), atol=1e-5)
    similarity = embedding @ embedding.T
    assert similarity.fill_diagonal_(0.0).mean() < 0.7
