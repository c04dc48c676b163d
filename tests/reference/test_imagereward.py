"""ImageReward, in full, against the official package."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from soc_ft.rewards.imagereward import ImageReward
from soc_ft.rewards.networks.imagereward import load_tokenizer
from tests.reference.conftest import Answer, differences

pytestmark = [pytest.mark.reference, pytest.mark.timeout(3600)]


def test_scores_and_gradients_are_the_official_ones(ask: Callable[[str], Answer]) -> None:
    """Breaks when a weight takes another's place, a constant changes, or a picture's path does."""
    answer = ask("imagereward")
    reward = ImageReward(
        weights=str(answer.folder / "ImageReward.pt"),
        vocabulary=str(answer.folder / "vocab.txt"),
    )
    found = differences(reward, answer)
    assert found["score"] < 1e-6
    assert found["gradient"] < 1e-6
    assert found["pillow"] < 0.005


def test_prompts_are_read_as_officially(ask: Callable[[str], Answer]) -> None:
    """Breaks when the tokenizer cleans, cuts or marks a prompt differently."""
    answer = ask("imagereward")
    tokenizer = load_tokenizer(answer.folder / "vocab.txt", "the tests' vocabulary")
    tokens = tokenizer(
        answer.inputs["awkward"],
        padding="max_length",
        truncation=True,
        max_length=35,
        return_tensors="pt",
    )
    assert torch.equal(tokens["input_ids"], answer.expected["imagereward"]["tokens"])
