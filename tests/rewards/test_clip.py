"""CLIP score. That its scores are those of the original package is tested in tests/reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.rewards.network_reward import NetworkReward
from tests.rewards.inputs import AWKWARD_PROMPTS, pictures
from tests.rewards.small import SmallCLIPScore


def test_scores_are_cosines_that_depend_on_picture_and_prompt(
    small: Callable[[str], NetworkReward],
) -> None:
    """Breaks when CLIP's learned scale comes in, or one of the two sides is ignored."""
    first, second = (picture[None] / 255 for picture in pictures(((64, 64),) * 2))
    prompts = list(AWKWARD_PROMPTS[2:5])
    scores = small("clip")(first.expand(3, -1, -1, -1), prompts)
    assert scores.abs().max() <= 1
    assert len(set(scores.tolist())) == 3
    assert small("clip")(second, prompts[:1]) != scores[0]


def test_the_network_of_the_aesthetic_predictor_is_not_shared_by_another_file(
    small: Callable[[str], NetworkReward],
) -> None:
    """Breaks when networks are told apart by their architecture alone."""
    embedders = [small(name).network.embedder for name in ("clip", "aesthetic")]
    assert embedders[0] is not embedders[1]


def test_another_clip_is_refused(arguments_of: Callable[[str], dict[str, str]]) -> None:
    """Breaks when the weights of a larger CLIP are cut to size."""
    with pytest.raises(ConfigError, match="other shapes: "):
        SmallCLIPScore(**arguments_of("pickscore"))


def test_bfloat16_pictures_are_scored_in_float32(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when the precision of the decoder reaches the preprocessing."""
    image = pictures(((64, 64),))[0][None] / 255
    score = small("clip")(image.bfloat16(), ["a cat"])
    assert score.dtype == torch.float32
    assert torch.allclose(score, small("clip")(image, ["a cat"]), atol=0.02)
