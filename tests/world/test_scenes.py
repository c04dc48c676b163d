"""Words and captions of the synthetic world."""

from __future__ import annotations

import numpy as np
import pytest

from soc_ft.world import drawing, scenes


def test_caption_mentions_agree_with_the_scene() -> None:
    """Breaks if a caption names a wrong attribute, or the labels of what it names are wrong."""
    _, captions, drawn = drawing.sample(200, 1)
    seen = set()
    for caption, scene in zip(captions, drawn, strict=True):
        assert f"{scene.color} {scene.shape}" in caption
        assert f"{scene.background} background" in caption
        claims = scenes.mentioned_labels(scene, caption)
        words = scenes.claimed_words(claims)
        assert all(getattr(scene, name) == word for name, word in words.items())
        assert ("size" in words) == any(size in caption for size in scenes.ATTRIBUTES["size"])
        seen.add(tuple(claim >= 0 for claim in claims))
    assert len(seen) == 4


@pytest.mark.parametrize("attribute", scenes.ATTRIBUTES)
def test_an_altered_scene_differs_in_one_word_and_stays_visible(attribute: str) -> None:
    """Breaks if a wrong caption is right after all, or asks for a shape that nobody can see."""
    rng = np.random.default_rng(8)
    for _ in range(40):
        scene = scenes.sample_scene(rng)
        other = scenes.altered(scene, attribute, rng)
        before, after = scenes.words_of(scene), scenes.words_of(other)
        assert [name for name in before if before[name] != after[name]] == [attribute]
        assert other.color != other.background


def test_given_attributes_are_kept_and_the_shape_stays_visible() -> None:
    """Breaks if a requested attribute is resampled, or a shape takes its background's colour."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = scenes.sample_scene(rng, {"color": "white", "shape": "cross"})
        assert (scene.color, scene.shape) == ("white", "cross")
        assert scene.background != "white"
        assert scenes.sample_scene(rng, {"background": "blue"}).color != "blue"


def test_validation_prompts_ask_for_combinations_never_used_in_training() -> None:
    """Breaks if a combination leaks from validation to training, or prompts repeat."""
    training = scenes.prompt_scenes(300, 0, held_out=False)
    validation = scenes.prompt_scenes(80, 0, held_out=True)
    combinations = [
        {(scene.shape, scene.color, scene.background) for scene in drawn.values()}
        for drawn in (training, validation)
    ]
    assert combinations[0].isdisjoint(combinations[1])
    assert scenes.training_prompts(300, 0) == list(training)
    assert scenes.validation_prompts(80, 0) == list(validation)
    assert len(training) == 300


def test_incomplete_captions_are_true_and_leave_something_out() -> None:
    """Breaks if an incomplete caption names what the picture does not show, or names all."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        scene = scenes.sample_scene(rng)
        text = scenes.caption(scene, rng, complete=False)
        named = {
            name: [word for word in words if word in text.split()]
            for name, words in scenes.ATTRIBUTES.items()
        }
        said = ("background" in text, scene.shape in text, f"{scene.color} {scene.shape}" in text)
        assert said.count(True) < len(said)
        for name in ("shape", "position"):
            assert set(named[name]) <= {getattr(scene, name)}
