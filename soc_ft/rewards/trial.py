"""Trying rewards, metrics and embeddings on two pictures, before anything large is loaded.

What a person's own code does wrong would otherwise show after minutes, far from its cause.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soc_ft.errors import ConfigError, SocFtError
from soc_ft.rewards.base import Composite, awaits_statistics

_DEFAULT_PROMPTS = ("a red cup on a table", "two dogs in the snow")
_TRIED = "when it was tried on two random pictures"


def try_reward(
    reward: Any,
    key: str,
    device: torch.device | str = "cpu",
    size: int = 64,
    prompts: Sequence[str] = (),
    *,
    gradient: bool = False,
) -> None:
    """Check what a reward or metric makes of two random pictures.

    Args:
        reward: takes (B, 3, H, W) pictures in [0, 1] and B prompts.
        key: of it in the configuration, for messages.
        device: where it will be used; it is moved there.
        size: height and width of the pictures, in pixels.
        prompts: that will be scored; the first two are used.
        gradient: of the scores with respect to the pictures will be used.

    Raises:
        ConfigError: it raises, or returns anything but one finite number for each picture, on the
            pictures' device, with a gradient if that will be used.
    """
    named = f"{key} ({getattr(reward, 'name', type(reward).__name__)})"
    if awaits_statistics(reward):
        reward = reward.standardised_by({})
    images = _pictures(size, device)
    images.requires_grad_(gradient)
    texts = _two(prompts)
    _moved(reward, named, device)
    with torch.set_grad_enabled(gradient):
        if isinstance(reward, Composite):
            for part, scores in called(reward.part_scores, named, images, texts).items():
                _check_scores(scores, f"{named}, part {part}", images)
        scores = called(reward, named, images, texts)
        _check_scores(scores, named, images)
        if gradient:
            _check_gradient(scores, named, images)


def try_embedding(
    embedding: Any,
    key: str,
    device: torch.device | str = "cpu",
    size: int = 64,
    prompts: Sequence[str] | None = None,
    *,
    gradient: bool = False,
) -> None:
    """Check what an embedding makes of two random pictures; arguments as of a reward.

    Without ``prompts`` it is given pictures alone.

    Raises:
        ConfigError: it raises, or returns anything but one finite vector for each picture, on the
            pictures' device, with a gradient if that will be used.
    """
    named = f"{key} ({getattr(embedding, 'name', type(embedding).__name__)})"
    images = _pictures(size, device)
    images.requires_grad_(gradient)
    texts = [] if prompts is None else [_two(prompts)]
    _moved(embedding, named, device)
    with torch.set_grad_enabled(gradient):
        vectors = called(embedding, named, images, *texts)
    wanted = f"one vector for each, shape ({len(images)}, D)"
    _check_tensor(vectors, named, images, wanted)
    if vectors.dim() != 2 or len(vectors) != len(images):
        raise _returned(named, f"shape {tuple(vectors.shape)}", images, wanted)
    _check_values(vectors, named, images)
    if gradient:
        _check_gradient(vectors, named, images)


def _two(prompts: Sequence[str]) -> list[str]:
    """The first two: a person's own code may know no other prompts."""
    return ([*(prompts or _DEFAULT_PROMPTS)] * 2)[:2]


def _pictures(size: int, device: torch.device | str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, size, size, generator=generator).to(device)


def _moved(tried: Any, named: str, device: torch.device | str) -> None:
    if not callable(getattr(tried, "to", None)):
        raise ConfigError(f"{named}: lacks `to`, a method that moves its networks to a device")
    called(tried.to, named, torch.device(device))


def called(call: Callable[..., Any], named: str, *arguments: Any, when: str = _TRIED) -> Any:
    """What a person's own code returns.

    Args:
        call: the code.
        named: what messages call it.
        *arguments: of the call.
        when: it is called, for the message.

    Raises:
        ConfigError: it raises; names the line.
    """
    try:
        return call(*arguments)
    except SocFtError:
        raise
    except (Exception, SystemExit) as error:  # whatever a person's own code raises
        said = " ".join(str(error).split())[:300]
        place = _own_line(error)
        raise ConfigError(
            f"{named}: raised {type(error).__name__} {when}, {said or 'without a word'} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


def _own_line(error: BaseException) -> traceback.FrameSummary:
    """The innermost line that is not of an installed package."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f for f in reversed(frames) if "site-packages" not in f.filename), frames[-1])


def _check_scores(scores: Any, named: str, images: Tensor) -> None:
    wanted = f"one number for each, shape ({len(images)},)"
    _check_tensor(scores, named, images, wanted)
    if scores.shape != (len(images),):
        raise _returned(named, f"shape {tuple(scores.shape)}", images, wanted)
    _check_values(scores, named, images)


def _check_tensor(value: Any, named: str, images: Tensor, wanted: str) -> None:
    if not isinstance(value, Tensor):
        raise _returned(named, f"a {type(value).__name__}", images, f"a tensor, {wanted}")
    if value.device != images.device:
        raise _returned(named, f"a tensor on {value.device}", images, f"one on {images.device}")
    if not value.is_floating_point():
        raise _returned(named, f"numbers of {value.dtype}", images, "floating-point numbers")


def _check_values(values: Tensor, named: str, images: Tensor) -> None:
    # Of single pictures the training leaves out what is not finite.
    if not values.detach().flatten(1 if values.dim() > 1 else 0).isfinite().any():
        raise _returned(named, f"{values.detach().flatten()[0].item()}", images, "finite numbers")


def _check_gradient(scores: Tensor, named: str, images: Tensor) -> None:
    remedy = (
        "compute them with torch alone, or say `differentiable = False` and choose a method that "
        "needs no gradient"
    )
    gradient = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), images, allow_unused=True)
    if gradient is None:
        raise ConfigError(
            f"{named}: is `differentiable`, but its scores have no gradient with respect to the "
            f"pictures; {remedy}"
        )


def _returned(named: str, what: str, images: Tensor, wanted: str) -> ConfigError:
    return ConfigError(
        f"{named}: returned {what} for {len(images)} pictures on {images.device}; return {wanted}"
    )
