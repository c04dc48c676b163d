"""From pictures to what the networks take, as the official code does it with Pillow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on; every reward here kept them."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> standardised by channel."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Bicubic, antialiased, in two passes that are each clamped to [0, 1], as Pillow's is.

    Pillow also rounds to 8 bits after each pass, which would have no gradient: the results stay
    within about one 8-bit level of each other.
    """
    for size in ((images.shape[-2], width), (height, width)):
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    return images


def crop_centre(images: Tensor, size: int, rounding: Callable[[float], int] = round) -> Tensor:
    """Resize the shorter side to ``size`` and cut a centred square out.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side of the square.
        rounding: of the margin, where it is half a pixel: torchvision rounds to even, the image
            processor of transformers down.

    Returns:
        (B, 3, size, size).
    """
    shorter = min(images.shape[-2:])
    height, width = (size * side // shorter for side in images.shape[-2:])
    images = resize(images, height, width)
    top, left = rounding((height - size) / 2), rounding((width - size) / 2)
    return images[..., top : top + size, left : left + size]


def fit_in_square(images: Tensor, size: int) -> Tensor:
    """Resize the longer side to ``size`` and centre the result on black.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side of the square.

    Returns:
        (B, 3, size, size); beyond [0, 1] by the overshoot of the bicubic filter.
    """
    longer = max(images.shape[-2:])
    if longer != size:
        scale = size / longer  # of two roundings, in the official order
        height, width = (round(side * scale) for side in images.shape[-2:])
        images = F.interpolate(images, (height, width), mode="bicubic", antialias=True)
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))
