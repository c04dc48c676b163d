"""The JPEG reward."""

from __future__ import annotations

import io

import torch
from PIL import Image

from soc_ft.rewards.jpeg import JPEGCompressibility, JPEGIncompressibility


def test_it_is_minus_the_size_of_the_encoded_picture_in_kilobytes() -> None:
    """Breaks when the range, the layout or the quality of what is encoded changes."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scores = JPEGCompressibility(quality=80)(images, ["", ""])
    for image, score in zip(images, scores, strict=True):
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=80)
        assert score == -len(file.getvalue()) / 1000


def test_a_flat_picture_scores_higher_than_noise() -> None:
    """Breaks when the sign is lost: higher has to be better."""
    images = torch.stack([torch.full((3, 32, 32), 0.5), torch.rand(3, 32, 32)])
    flat, noise = JPEGCompressibility()(images, ["", ""])
    assert flat > noise


def test_incompressibility_is_the_opposite() -> None:
    """Breaks when the two disagree about the size of a picture."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small, large = JPEGCompressibility(quality=80), JPEGIncompressibility(quality=80)
    assert torch.equal(large(images, ["", ""]), -small(images, ["", ""]))
    assert large.name == "jpeg_incompressibility"
    assert not large.differentiable


def test_values_out_of_range_do_not_wrap_around() -> None:
    """Breaks when a decoder's overshoot becomes a dark pixel in a bright area, and so detail."""
    bright = torch.full((1, 3, 32, 32), 1.0)
    over = bright.clone()
    over[..., ::2, ::2] = 1.01
    assert torch.equal(JPEGCompressibility()(over, [""]), JPEGCompressibility()(bright, [""]))
