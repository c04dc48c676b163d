"""Preprocessing on tensors against the Pillow path of the official code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from soc_ft.rewards.networks.pixels import crop_centre, fit_in_square, normalise, resize
from tests.rewards.inputs import pictures

SIZES = ((512, 512), (300, 480), (481, 300), (224, 300), (96, 64), (224, 224))


def pillow(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", SIZES)
def test_a_crop_stays_within_two_levels_of_pillow(size: tuple[int, int]) -> None:
    """Breaks when antialiasing, the clamp between the passes or the place of the crop is lost."""
    (picture,) = pictures((size,))
    official = v2.Compose([v2.Resize(224, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    expected = pil_to_tensor(official(pillow(picture))).float()
    found = crop_centre(picture[None] / 255, 224)[0] * 255
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 2
    assert float((found - expected).abs().mean()) < 0.4


def test_noise_is_antialiased_as_pillow_does_it() -> None:
    """Breaks when pixels are picked instead of averaged: that is over 100 levels on noise."""
    noise = torch.randint(0, 256, (3, 512, 512), generator=torch.Generator().manual_seed(0))
    picture = noise.byte()
    small = np.asarray(pillow(picture).resize((224, 224), Image.Resampling.BICUBIC))
    found = resize(picture[None] / 255, 224, 224)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found - small).max() < 2


@pytest.mark.parametrize("size", SIZES)
def test_fitting_keeps_the_whole_picture_on_black(size: tuple[int, int]) -> None:
    """Breaks when a margin is not black, lies on one side, or the picture is squeezed."""
    (picture,) = pictures((size,))
    fitted = fit_in_square(picture[None] / 255, 224)
    assert fitted.shape == (1, 3, 224, 224)
    inside = (fitted[0] != 0).any(dim=0)
    rows, columns = inside.any(dim=1).nonzero().flatten(), inside.any(dim=0).nonzero().flatten()
    height, width = len(rows), len(columns)
    assert max(height, width) == 224
    assert width / height == pytest.approx(size[1] / size[0], rel=0.01)
    assert rows[0] == (224 - height) // 2
    assert columns[0] == (224 - width) // 2


def test_normalised_pixels_have_the_published_statistics() -> None:
    """Breaks when a constant or the order of the channels changes."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    assert torch.allclose(normalise(mean + std), torch.ones(1, 3, 1, 1), atol=1e-6)
