"""Standardised rewards, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import PromptStatistics


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_few_rewards_of_a_prompt_are_compared_with_the_batch() -> None:
    """Breaks if a prompt that was seen once gets its own mean, and so an advantage of zero."""
    found = PromptStatistics(size=4, minimum=2).standardise(["a", "b", "c"], values(1, 2, 6))
    deviation = values(1, 2, 6).std(correction=0)  # of the population
    torch.testing.assert_close(found, (values(1, 2, 6) - 3) / (deviation + 1e-6))


def test_a_known_prompt_is_compared_with_its_last_rewards() -> None:
    """Breaks if the present rewards are not among them, old ones are kept, or deviations are of a
    sample."""
    statistics = PromptStatistics(size=3, minimum=2)
    statistics.standardise(["a", "a", "b"], values(100, 1, 5))
    found = statistics.standardise(["a", "b", "a"], values(3, 7, 5))
    # Of a: 1, 3, 5, for 100 has left; of b: 5, 7.
    a, b = values(1, 3, 5).std(correction=0) + 1e-6, 1 + 1e-6
    torch.testing.assert_close(found, values(0 / a, 1 / b, 2 / a))


def test_columns_are_treated_one_by_one() -> None:
    """Breaks if steps of a trajectory share their statistics."""
    rewards = torch.tensor([[0.0, 10.0], [2.0, 30.0]], dtype=torch.float64)
    found = PromptStatistics(size=4, minimum=2).standardise(["a", "a"], rewards)
    expected = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_another_deviation_replaces_all() -> None:
    """Breaks if prompts are scaled one by one where the scale has a meaning."""
    statistics = PromptStatistics(size=4, minimum=2)
    found = statistics.standardise(["a", "a", "b"], values(1, 3, 9), values(2)[0])
    torch.testing.assert_close(found, values(-0.5, 0.5, (9 - 13 / 3) / 2))


def test_what_is_known_survives_a_checkpoint() -> None:
    """Breaks if a resumed run falls back to the statistics of its batch."""
    before, after = (PromptStatistics(size=4, minimum=2) for _ in range(2))
    before.standardise(["a", "b"], values(1, 2))
    after.load_state_dict(before.state_dict())
    later = (["a", "b"], values(3, 0))
    assert torch.equal(before.standardise(*later), after.standardise(*later))
    assert after.state_dict() == before.state_dict() == {"a": [1, 3], "b": [2, 0]}


@pytest.mark.parametrize("wrong", [(0, 1), (1, 0)])
def test_sizes_are_checked(wrong: tuple[int, int]) -> None:
    """Breaks if nothing would be kept."""
    with pytest.raises(ValueError, match="must be >= 1"):
        PromptStatistics(*wrong)
