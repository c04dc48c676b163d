"""What every reward that a network computes must hold to."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from soc_ft.errors import ConfigError
from soc_ft.rewards.network_reward import NetworkReward
from tests.rewards.inputs import AWKWARD_PROMPTS, pictures
from tests.rewards.small import SMALL

Small = Callable[[str], NetworkReward]

names = pytest.mark.parametrize("name", SMALL)


def batch(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Tensor:
    """(count, 3, H, W) in [0, 1]."""
    return torch.stack(pictures((size,) * count, seed)) / 255


@names
def test_scores_are_a_number_for_each_picture(small: Small, name: str) -> None:
    """Breaks when a score loses its shape, its precision, or its dependence on the picture."""
    reward = small(name)
    scores = reward(batch(2), ["a red circle"] * 2)
    assert reward.name == name
    assert scores.shape == (2,)
    assert scores.dtype == torch.float32
    assert scores[0] != scores[1]


@names
def test_gradients_reach_the_pictures_and_nothing_else(small: Small, name: str) -> None:
    """Breaks when a tensor is detached on the way, or a parameter is left to train."""
    reward = small(name)
    images = batch(1).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(images, ["a cat"]).sum(), images)
    assert gradient.isfinite().all()
    # Every column of a picture matters that is not cut off at the margin.
    middle = gradient[..., 8:-8]
    assert (middle.abs().amax(dim=(1, 2)) > 0).all()
    assert not any(parameter.requires_grad for parameter in reward.network.parameters())


@names
def test_the_gradient_is_that_of_finite_differences(small: Small, name: str) -> None:
    """Breaks when any step of preprocessing or network is differentiated wrongly."""
    network = copy.deepcopy(small(name).network).double()
    # Far from 0 and 1, where the clamp after the resize has no derivative.
    image = (0.3 + 0.4 * batch(1, (40, 56)).double()).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    step = 1e-6 * torch.randn(image.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(network(image, ["a cat"]).sum(), image)
    with torch.no_grad():
        up, down = network(torch.cat([image + step, image - step]), ["a cat"] * 2)
    assert up.dtype == torch.float64
    assert float((gradient * step).sum()) == pytest.approx(float(up - down) / 2, rel=1e-5)


@names
def test_prompts_of_every_kind_are_scored_as_if_alone(small: Small, name: str) -> None:
    """Breaks when an empty, broken or over-long prompt fails, or padding changes a score."""
    reward = small(name)
    prompts = [AWKWARD_PROMPTS[i] for i in (0, 6, 2, 15)]
    image = batch(1)
    together = reward(image.expand(len(prompts), -1, -1, -1), prompts)
    alone = torch.cat([reward(image, [prompt]) for prompt in prompts])
    assert together.isfinite().all()
    assert torch.allclose(together, alone, atol=1e-4)


@names
def test_micro_batches_give_the_scores_and_gradients_of_the_whole(small: Small, name: str) -> None:
    """Breaks when parts are mixed up, one is lost, or the upstream gradient is not applied."""
    whole = small(name)
    parts = copy.copy(whole)
    parts.batch_size = 1
    prompts = ["a very long red circle", ""]
    found = []
    for reward in (whole, parts):
        images = batch(2).requires_grad_()
        scores = reward(images, prompts)
        (scores * torch.tensor([1.0, -2.0])).sum().backward()
        assert images.grad is not None
        with torch.no_grad():
            torch.testing.assert_close(reward(images, prompts), scores, rtol=1e-4, atol=1e-5)
        found.append((scores.detach(), images.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@names
def test_bfloat16_comes_close_to_float32(
    small: Small, arguments_of: Callable[[str], dict[str, str]], name: str
) -> None:
    """Breaks when the networks ignore `dtype`, or preprocessing and head are rounded with them."""
    reward = SMALL[name][0](**arguments_of(name), dtype="bfloat16")
    assert torch.bfloat16 in {weight.dtype for weight in reward.network.parameters()}
    images, prompts = batch(1), ["a cat"]
    exact, rounded = small(name)(images, prompts), reward(images, prompts)
    assert rounded.dtype == torch.float32
    assert exact != rounded
    assert torch.allclose(exact, rounded, atol=0.1 * max(1.0, float(exact.abs())))


def test_a_second_reward_shares_the_network(
    small: Small, arguments_of: Callable[[str], dict[str, str]]
) -> None:
    """Breaks when a validation metric loads the weights of the reward a second time."""
    again = SMALL["hpsv2"][0](**arguments_of("hpsv2"), batch_size=1)
    assert again.network is small("hpsv2").network
    assert again.batch_size == 1


def test_networks_follow_to_a_device(
    small: Small, arguments_of: Callable[[str], dict[str, str]]
) -> None:
    """Breaks when part of a network stays behind: its weights, its buffers or its head."""
    reward = copy.copy(small("imagereward"))
    reward.network = copy.deepcopy(reward.network)
    assert reward.to("meta") is reward
    assert {tensor.device.type for tensor in reward.network.state_dict().values()} == {"meta"}
    assert {buffer.device.type for buffer in reward.network.buffers()} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dtype": "float16"}, ["reward.dtype=float16", "'float32' or 'bfloat16'"]),
        ({"batch_size": 0}, ["reward.batch_size=0", "greater than or equal to 1"]),
        ({"batch_size": 1.5}, ["reward.batch_size=1.5"]),
        ({"batch_size": True}, ["reward.batch_size=true"]),
        ({"version": "v3"}, ["reward.version=v3", "'v2.0' or 'v2.1'"]),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: list[str]) -> None:
    """Breaks when a wrong value is first met by the network, or the line does not name its key."""
    with pytest.raises(ConfigError) as caught:
        SMALL["hpsv2"][0].check_arguments(arguments)
    for word in words:
        assert word in str(caught.value)
