"""HPSv2: versions and margins. That its scores are the official ones is tested in
tests/reference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from soc_ft.rewards.hpsv2 import HPSv2
from soc_ft.rewards.network_reward import NetworkReward
from tests.rewards.inputs import AWKWARD_PROMPTS, pictures


@pytest.mark.parametrize(
    ("arguments", "filename"),
    [
        ({}, "HPS_v2.1_compressed.pt"),
        ({"version": "v2.1"}, "HPS_v2.1_compressed.pt"),
        ({"version": "v2.0"}, "HPS_v2_compressed.pt"),
    ],
)
def test_the_version_decides_the_file(arguments: dict[str, str], filename: str) -> None:
    """Breaks when the default is not v2.1, or v2.0 cannot be chosen."""
    file = HPSv2.files(arguments)["weights"]
    assert (file.repository, file.filename) == ("xswu/HPSv2", filename)


def test_scores_are_cosines(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when the learned scale of CLIP comes in."""
    image = pictures(((64, 64),))[0][None] / 255
    scores = small("hpsv2")(image.expand(3, -1, -1, -1), list(AWKWARD_PROMPTS[:3]))
    assert scores.abs().max() <= 1


def test_margins_count(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when the sides of a wide picture are cut off, as the other rewards do."""
    image = pictures(((64, 128),))[0][None] / 255
    changed = image.clone()
    changed[..., :8] = 1 - changed[..., :8]
    assert not torch.allclose(small("hpsv2")(image, [""]), small("hpsv2")(changed, [""]))
    torch.testing.assert_close(small("clip")(image, [""]), small("clip")(changed, [""]))
