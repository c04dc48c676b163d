"""HPSv2 against the official package."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import torch

from soc_ft.rewards.hpsv2 import HPSv2
from tests.reference.conftest import Answer, differences

pytestmark = [pytest.mark.reference, pytest.mark.timeout(3600)]


class Reduced(HPSv2):
    layers = (3, 3)


def test_scores_and_gradients_are_the_official_ones(ask: Callable[[str], Answer]) -> None:
    """Breaks when a weight takes another's place, a scale comes in, or a picture's path changes."""
    answer = ask("hpsv2")
    found = differences(Reduced(weights=str(answer.folder / "HPS_v2.1_compressed.pt")), answer)
    assert found["score"] < 1e-5
    assert found["gradient"] < 1e-5
    assert found["pillow"] < 0.005


def test_prompts_are_read_as_officially(ask: Callable[[str], Answer]) -> None:
    """Breaks when the tokenizer cleans, cuts or marks a prompt differently."""
    answer = ask("hpsv2")
    tokens = open_clip.tokenize(answer.inputs["awkward"])
    assert torch.equal(tokens, answer.expected["hpsv2"]["tokens"])


@pytest.mark.slow
def test_the_full_size_agrees_too(ask: Callable[[str], Answer]) -> None:
    """Breaks when the depth, or the precision over that depth, is not the official one."""
    answer = ask("hpsv2-full")
    found = differences(HPSv2(weights=str(answer.folder)), answer)
    assert found["score"] < 1e-5
    assert found["gradient"] < 1e-5
