"""The aesthetic predictor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.networks.clip import AestheticNetwork
from tests.rewards.inputs import pictures


def test_the_prompt_does_not_matter(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when the text tower comes in."""
    image = pictures(((64, 64),))[0][None] / 255
    reward = small("aesthetic")
    assert torch.equal(reward(image, ["a cat"]), reward(image, [""]))


def test_the_head_is_linear_in_the_normalised_embedding(
    small: Callable[[str], NetworkReward],
) -> None:
    """Breaks when an activation or a dropout is put between the layers."""
    network = small("aesthetic").network
    assert isinstance(network, AestheticNetwork)
    a, b = F.normalize(torch.randn(2, 768, generator=torch.Generator().manual_seed(0)), dim=-1)
    middle = network.head((a + b)[None] / 2)
    torch.testing.assert_close(middle, (network.head(a[None]) + network.head(b[None])) / 2)
    seen = network.embedder.embed_images(pictures(((64, 64),))[0][None] / 255)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(1))
