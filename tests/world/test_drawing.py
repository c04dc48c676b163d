"""The synthetic world: pictures show what their scene and caption say."""

from __future__ import annotations

import time

import numpy as np
import pytest

from soc_ft.world import drawing

RED_ON_WHITE = {"color": "red", "background": "white"}


def test_sample_is_a_pure_function_of_the_seed() -> None:
    """Breaks if anything but the seed (global state, hash order) enters a picture or a caption."""
    first, second, other = (drawing.sample(8, seed) for seed in (3, 3, 4))
    assert np.array_equal(first[0], second[0])
    assert first[1:] == second[1:]
    assert not np.array_equal(first[0], other[0])


def test_pictures_are_in_range_and_show_their_colours() -> None:
    """Breaks if rendering leaves [0, 1], or mixes up foreground, background or coordinates."""
    pictures, _, scenes = drawing.sample(64, 0, contrast=(1.0, 1.0))
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0.0
    assert pictures.max() <= 1.0
    for picture, scene in zip(pictures, scenes, strict=True):
        inside = picture[:, int(scene.y), int(scene.x)]
        corner = picture[:, 0, 63 if scene.x < 32 else 0]
        assert np.allclose(inside, scene.color_rgb, atol=1e-5)
        assert np.allclose(corner, scene.background_rgb, atol=1e-5)


@pytest.mark.parametrize("shape", drawing.ATTRIBUTES["shape"])
def test_a_shape_lies_inside_the_picture_around_its_centre(shape: str) -> None:
    """Breaks if a shape is cut by the border, off its stated centre, or not antialiased."""
    rng = np.random.default_rng(0)
    scenes = [
        drawing.sample_scene(rng, RED_ON_WHITE | {"shape": shape, "position": position})
        for position in drawing.ATTRIBUTES["position"]
    ]
    cover = np.ptp(drawing.render(scenes), axis=1)
    assert cover[:, [0, -1], :].max() < 0.2
    assert cover[:, :, [0, -1]].max() < 0.2
    for scene, mask in zip(scenes, cover > 0.4, strict=True):
        rows, columns = np.nonzero(mask)
        assert abs((rows.min() + rows.max() + 1) / 2 - scene.y) < 0.35 * scene.radius
        assert abs((columns.min() + columns.max() + 1) / 2 - scene.x) <= 1.0
    assert len(np.unique(cover.round(3))) > 10


def test_size_words_order_the_area() -> None:
    """Breaks if size does not reach the picture, or its ranges overlap."""
    rng = np.random.default_rng(0)
    areas = []
    for size in drawing.ATTRIBUTES["size"]:
        scene = drawing.sample_scene(rng, RED_ON_WHITE | {"shape": "star", "size": size})
        areas.append(np.ptp(drawing.render([scene]), axis=1).sum())
    assert areas[0] < areas[1] < areas[2]


def test_softness_widens_the_edge_only() -> None:
    """Breaks if softness shifts or recolours the shape instead of blurring its outline."""
    rng = np.random.default_rng(0)
    scene = drawing.sample_scene(rng, RED_ON_WHITE | {"shape": "circle", "size": "large"})
    sharp, soft = drawing.render([scene]), drawing.render([scene], softness=4.0)
    x, y = int(scene.x), int(scene.y)
    assert np.allclose(sharp[0, :, y, x], soft[0, :, y, x])
    assert np.abs(np.diff(soft)).max() < np.abs(np.diff(sharp)).max()


def test_caption_mentions_agree_with_the_scene() -> None:
    """Breaks if a caption names a wrong attribute, or the labels of what it names are wrong."""
    _, captions, scenes = drawing.sample(200, 1)
    seen = set()
    for caption, scene in zip(captions, scenes, strict=True):
        assert f"{scene.color} {scene.shape}" in caption
        assert f"{scene.background} background" in caption
        claims = drawing.mentioned_labels(scene, caption)
        words = drawing.claimed_words(claims)
        assert all(getattr(scene, name) == word for name, word in words.items())
        assert ("size" in words) == any(size in caption for size in drawing.ATTRIBUTES["size"])
        seen.add(tuple(claim >= 0 for claim in claims))
    assert len(seen) == 4


@pytest.mark.parametrize("attribute", drawing.ATTRIBUTES)
def test_an_altered_scene_differs_in_one_word_and_stays_visible(attribute: str) -> None:
    """Breaks if a wrong caption is right after all, or asks for a shape that nobody can see."""
    rng = np.random.default_rng(8)
    for _ in range(40):
        scene = drawing.sample_scene(rng)
        other = drawing.altered(scene, attribute, rng)
        before, after = drawing.words_of(scene), drawing.words_of(other)
        assert [name for name in before if before[name] != after[name]] == [attribute]
        assert other.color != other.background


def test_given_attributes_are_kept_and_the_shape_stays_visible() -> None:
    """Breaks if a requested attribute is resampled, or a shape takes its background's colour."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = drawing.sample_scene(rng, {"color": "white", "shape": "cross"})
        assert (scene.color, scene.shape) == ("white", "cross")
        assert scene.background != "white"
        assert drawing.sample_scene(rng, {"background": "blue"}).color != "blue"


def test_validation_prompts_ask_for_combinations_never_used_in_training() -> None:
    """Breaks if a combination leaks from validation to training, or prompts repeat."""
    training = drawing.prompt_scenes(300, 0, held_out=False)
    validation = drawing.prompt_scenes(80, 0, held_out=True)
    combinations = [
        {(scene.shape, scene.color, scene.background) for scene in scenes.values()}
        for scenes in (training, validation)
    ]
    assert combinations[0].isdisjoint(combinations[1])
    assert drawing.training_prompts(300, 0) == list(training)
    assert drawing.validation_prompts(80, 0) == list(validation)
    assert len(training) == 300


def test_generation_is_fast_enough_to_train_on_the_fly() -> None:
    """Breaks if rendering falls back to a Python loop over pixels or pictures."""
    start = time.process_time()
    drawing.sample(200, 0)
    assert time.process_time() - start < 0.8
