"""What the problem hands to a method."""

from __future__ import annotations

import pytest
import torch

from soc_ft.core import Condition, ddim_on_grid
from soc_ft.methods import Request
from soc_ft.methods.problem import Problem, chunks
from tests.scorers import Redness


class Decoder:
    """Stands for the model where only its decoder matters: x^2 as a picture."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.square()


def problem(reward_batch: int, guided: frozenset[str] = frozenset()) -> Problem:
    return Problem(
        model=Decoder(),  # type: ignore[arg-type]
        reward=Redness(),
        process=ddim_on_grid(torch.linspace(0.99, 0.01, 10), [9, 5, 1], 1.0),
        reward_scale=2.0,
        guidance_scale=3.0,
        guided=guided,
        reward_batch=reward_batch,
    )


@pytest.mark.parametrize("reward_batch", [1, 2, 5])
def test_the_reward_gradient_is_that_of_each_sample(reward_batch: int) -> None:
    """Breaks when samples of a batch mix, or the gradient is a mean instead of each one's own."""
    latents = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    rewards, gradient = problem(reward_batch).reward_and_gradient(latents, ["p"] * 5)
    sign = torch.tensor([1.0, -0.5, -0.5])[:, None, None]
    assert torch.allclose(gradient, 2 * latents * sign / 16)
    assert torch.allclose(rewards, problem(5).reward_of(latents, ["p"] * 5))
    assert torch.allclose(rewards, (latents.square() * sign).mean(dim=(2, 3)).sum(dim=1))


def test_requests_draw_by_address() -> None:
    """Breaks when a sample's noise depends on its place in the batch."""

    def request(addresses: list[tuple[int, int]]) -> Request:
        condition = Condition(sequence=torch.zeros(len(addresses), 1, 1))
        return Request(["p"] * len(addresses), condition, (2,), 0, addresses)

    both, second = request([(0, 0), (0, 1)]), request([(0, 1)])
    assert torch.equal(both.normal("a", (3,))[1:], second.normal("a", (3,)))
    assert not torch.equal(second.normal("a", (3,)), second.normal("b", (3,)))


def test_chunks_cover_everything_once() -> None:
    """Breaks when the last, smaller chunk is lost."""
    assert [list(range(7))[part] for part in chunks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
