"""Random weights have the sizes of the real models, and a seed."""

from __future__ import annotations

import pytest
import torch

from soc_ft.models.random_weights import random_pipeline
from tests.models.small import PARTS, assert_same_weights


@pytest.mark.parametrize(
    ("architecture", "unet", "text_encoder"),
    [
        ("sd15", 859_520_964, 123_060_480),
        ("lcm", 859_520_964 + 256 * 320, 123_060_480),  # the scale's embedding joins that of time
        ("sd21", 865_910_724, 340_387_840),
    ],
)
def test_architectures_have_the_public_sizes(
    architecture: str, unet: int, text_encoder: int
) -> None:
    """Breaks if a benchmark on random weights is not that of the real model."""
    pipeline = random_pipeline(architecture, device="meta")
    counts = [sum(p.numel() for p in getattr(pipeline, part).parameters()) for part in PARTS]
    assert counts == [unet, 83_653_863, text_encoder]


def test_random_weights_are_addressed_by_their_seed() -> None:
    """Breaks if random weights depend on, or consume, the global generator."""
    torch.manual_seed(3)
    one, same, other = (random_pipeline("tiny", seed=seed) for seed in (0, 0, 1))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert_same_weights(one, same)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)
