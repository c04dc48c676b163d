"""Where a process ends with a clean prediction, methods score and differentiate that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from soc_ft.core import Condition, multistep_consistency
from soc_ft.methods import Batch, Experience, Method, Request
from soc_ft.methods.alignprop import AlignProp
from soc_ft.methods.d3po import D3PO
from soc_ft.methods.ddpo import DDPO
from soc_ft.methods.draft import DRaFT
from soc_ft.methods.problem import Problem
from soc_ft.methods.rebel import Rebel
from soc_ft.methods.refl import ReFL
from soc_ft.methods.sdpo import SDPO
from tests.core.closed_forms import no_condition

PROCESS = multistep_consistency(
    torch.tensor([999, 659, 319]), torch.tensor([0.005, 0.1, 0.5], dtype=torch.float64)
)
COUNT = 6


class Policies(nn.Module):
    """One network for base and trained model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.8, 0.3], [-0.2, 1.1]]))

    def trained(self, x: Tensor, t: Tensor, condition: Condition, *rest: object) -> Tensor:
        return (x @ self.weight + 0.001 * t[:, None]).sin()

    base = trained

    def null_condition(self) -> Condition:
        return no_condition(1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


@dataclass
class Curved:
    """A reward that tells any two points apart."""

    name = "curved"
    differentiable = True

    def __call__(self, images: Tensor, prompts: object) -> Tensor:
        return images.sin().sum(dim=1) + images[:, 0] ** 2

    def to(self, device: object) -> Curved:
        return self


class OtherLastNoise(Request):
    """The same request, but for the noise of the last transition."""

    def normal(self, stream: str, shape: Any, *, shared: bool = False) -> Tensor:
        drawn = super().normal(stream, shape, shared=shared)
        if stream == "trajectory":
            drawn[..., -1, :] = 3 - drawn[..., -1, :]
        return drawn


def problem() -> Problem:
    return Problem(Policies(), Curved(), PROCESS, 1.0, 1.0, frozenset(), 100)


def collected(method: Method, request: type[Request]) -> Experience:
    addresses = [(0, i) for i in range(COUNT)]
    asked = request(["a"] * COUNT, no_condition(COUNT), (2,), seed=0, addresses=addresses)
    with torch.no_grad():
        return method.collect(problem(), asked)


@pytest.mark.parametrize(
    "method",
    [DDPO(), Rebel(), D3PO(), SDPO(), DRaFT(last=2), AlignProp(), ReFL(enough=None)],
    ids=lambda method: type(method).__name__,
)
def test_rewards_do_not_see_the_last_noise(method: Method) -> None:
    """Breaks if a method decodes x_K, which is the picture's latent with noise on it."""
    found, other = (collected(method, request) for request in (Request, OtherLastNoise))
    assert torch.equal(found.rewards, other.rewards)
    assert found.rewards.std() > 0.1
    for name, values in found.stats.items():
        assert torch.equal(values, other.stats[name])
    for name in ("gradient", "end", "preference"):
        if name in found.tensors:
            assert torch.equal(found.tensors[name], other.tensors[name])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_gradient_is_that_of_what_was_scored(last: int) -> None:
    """Breaks if the end that is run again is another one than the reward's."""
    method, given = DRaFT(last=last), problem()
    addresses = [(0, i) for i in range(COUNT)]
    request = Request(["a"] * COUNT, no_condition(COUNT), (2,), seed=0, addresses=addresses)
    with torch.no_grad():
        found = method.collect(given, request)
    rows, slots = torch.arange(COUNT), torch.zeros(COUNT, dtype=torch.int64)
    batch = Batch(found.tensors, request.condition, request.prompts, addresses, 0, 0, rows, slots)
    policies: Any = given.model
    (gradient,) = torch.autograd.grad(method.loss(given, batch).loss.sum(), policies.weight)
    x = found.tensors["start"]
    for k in range(3 - last, 3):
        f = policies.trained(x, PROCESS.times_of(k, x), request.condition)
        d = PROCESS.clean(k, x, f)
        x = PROCESS.mean(k, x, f) + PROCESS.sigma_of(k, x) * found.tensors["noise"][:, k - 3 + last]
    reward = given.reward(d, request.prompts)
    torch.testing.assert_close(reward, found.rewards)
    (expected,) = torch.autograd.grad(-reward.sum(), policies.weight)
    torch.testing.assert_close(gradient, expected)
