"""The synthetic world: pictures show what their scene says."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from soc_ft.world import drawing, scenes

RED_ON_WHITE = {"color": "red", "background": "white"}


def test_sample_is_a_pure_function_of_the_seed() -> None:
    """Breaks if anything but the seed (global state, hash order) enters a picture or a caption."""
    first, second, other = (drawing.sample(8, seed) for seed in (3, 3, 4))
    assert np.array_equal(first[0], second[0])
    assert first[1:] == second[1:]
    assert not np.array_equal(first[0], other[0])


def test_pictures_are_in_range_and_show_their_colours() -> None:
    """Breaks if rendering leaves [0, 1], or mixes up foreground, background or coordinates."""
    pictures, _, drawn = drawing.sample(64, 0, contrast=(1.0, 1.0))
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0.0
    assert pictures.max() <= 1.0
    for picture, scene in zip(pictures, drawn, strict=True):
        inside = picture[:, int(scene.y), int(scene.x)]
        corner = picture[:, 0, 63 if scene.x < 32 else 0]
        assert np.allclose(inside, scene.color_rgb, atol=1e-5)
        assert np.allclose(corner, scene.background_rgb, atol=1e-5)


@pytest.mark.parametrize("shape", scenes.ATTRIBUTES["shape"])
def test_a_shape_lies_inside_the_picture_around_its_centre(shape: str) -> None:
    """Breaks if a shape is cut by the border, off its stated centre, or not antialiased."""
    rng = np.random.default_rng(0)
    drawn = [
        scenes.sample_scene(rng, RED_ON_WHITE | {"shape": shape, "position": position})
        for position in scenes.ATTRIBUTES["position"]
    ]
    cover = np.ptp(drawing.render(drawn), axis=1)
    assert cover[:, [0, -1], :].max() < 0.2
    assert cover[:, :, [0, -1]].max() < 0.2
    for scene, mask in zip(drawn, cover > 0.4, strict=True):
        rows, columns = np.nonzero(mask)
        assert abs((rows.min() + rows.max() + 1) / 2 - scene.y) < 0.35 * scene.radius
        assert abs((columns.min() + columns.max() + 1) / 2 - scene.x) <= 1.0
    assert len(np.unique(cover.round(3))) > 10


def test_size_words_order_the_area() -> None:
    """Breaks if size does not reach the picture, or its ranges overlap."""
    rng = np.random.default_rng(0)
    areas = []
    for size in scenes.ATTRIBUTES["size"]:
        scene = scenes.sample_scene(rng, RED_ON_WHITE | {"shape": "star", "size": size})
        areas.append(np.ptp(drawing.render([scene]), axis=1).sum())
    assert areas[0] < areas[1] < areas[2]


def test_generation_is_fast_enough_to_train_on_the_fly() -> None:
    """Breaks if rendering falls back to a Python loop over pixels or pictures."""
    start = time.process_time()
    drawing.sample(200, 0)
    assert time.process_time() - start < 0.8


def test_specks_lie_behind_the_shape_and_change_no_pixel_elsewhere() -> None:
    """Breaks if clutter covers what the caption is about, or shifts colours around it."""
    rng = np.random.default_rng(0)
    scene = scenes.sample_scene(rng, RED_ON_WHITE | {"shape": "circle", "position": "center"})
    behind = scenes.Speck("square", 4.0, scene.x, scene.y, scenes.PALETTE["blue"])
    aside = scenes.Speck("square", 4.0, 6.0, 6.0, scenes.PALETTE["blue"])
    plain, hidden, seen = drawing.render(
        [scene, replace(scene, specks=(behind,)), replace(scene, specks=(aside,))]
    )
    inside = (slice(None), int(scene.y), int(scene.x))
    # The shape mixes its own colour with the background's, whatever lies under it.
    assert np.allclose(plain[inside], hidden[inside], atol=1e-6)
    changed = np.abs(seen - plain).max(0) > 1e-6
    assert changed[:11, :11].sum() == changed.sum() > 40
    assert np.allclose(seen[:, 6, 6], scenes.PALETTE["blue"], atol=1e-6)
