"""What the base model was pretrained on: defects as severe as stated, captions as often wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from soc_ft.metrics.world import named_attributes
from soc_ft.world import defects, drawing, scenes, web


def test_the_web_is_a_pure_function_of_the_seed(tiny_config: DictConfig) -> None:
    """Breaks if a resumed stage sees other pictures, captions or severities."""
    first, second, other = (web.sample(tiny_config.web, 6, (seed, 1)) for seed in (3, 3, 4))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.severities, second.severities)
    assert (first.captions, first.scenes) == (second.captions, second.scenes)
    assert not torch.equal(first.images, other.images)
    assert 0.0 <= float(first.images.min()) <= float(first.images.max()) <= 1.0


def test_shares_of_the_mixture_are_those_of_the_configuration(tiny_config: DictConfig) -> None:
    """Breaks if grades are drawn unlike their shares, or captions are wrong more or less often."""
    rng = np.random.default_rng(0)
    count = 1500
    drawn = [web.draw_scene(tiny_config.web, rng) for _ in range(count)]
    kinds = (np.array([severity for _, severity in drawn]) > 0).sum(1)
    grades = tiny_config.web.grades
    assert abs((kinds == 0).mean() - grades.good.share) < 0.05
    assert kinds.max() == grades.bad.defects[1]
    false = 0
    for scene, _ in drawn:
        said = named_attributes(web.web_caption(tiny_config.web, scene, rng))
        false += any(getattr(scene, name) != word for name, word in said.items())
    # A wrong word about what the caption leaves out, size or place, is no wrong caption.
    assert 0.5 * tiny_config.web.wrong_captions < false / count < tiny_config.web.wrong_captions


@pytest.mark.parametrize("kind", defects.COSTS)
def test_a_defect_changes_the_picture_more_the_more_severe_it_is(kind: str) -> None:
    """Breaks if a kind of defect is not painted, or its severity does not count."""
    rng = np.random.default_rng(1)
    words = {"size": "small", "position": "left"}
    shown = [scenes.sample_scene(rng, words) for _ in range(16)]
    plain = torch.from_numpy(drawing.render(shown))
    changes = []
    for severity in (0.3, 1.0):
        spoilt, real = zip(
            *(
                defects.spoil_scene(scene, {kind: severity}, np.random.default_rng(2))
                for scene in shown
            ),
            strict=True,
        )
        severities = torch.tensor([list(each.values()) for each in real])
        assert severities[:, list(defects.COSTS).index(kind)].unique().tolist() == [
            pytest.approx(severity)
        ]
        painted = web.paint(list(spoilt), severities, np.random.default_rng(3))
        changes.append(float((painted - plain).abs().mean()))
    assert 0.0 < changes[0] < changes[1]


def test_defects_that_would_make_a_word_false_are_left_out() -> None:
    """Breaks if a large shape becomes tiny, or a centred one is cut off: captions would lie."""
    rng = np.random.default_rng(0)
    scene = scenes.sample_scene(rng, {"size": "large", "position": "center"})
    spoilt, real = defects.spoil_scene(scene, {"tiny": 1.0, "cut": 1.0}, rng)
    assert spoilt == scene
    assert set(real.values()) == {0.0}


def test_quality_is_one_without_defects_and_falls_with_each() -> None:
    """Breaks if quality leaves (0, 1], or a kind of defect is free."""
    flawless, each = torch.zeros(1, len(defects.COSTS)), torch.eye(len(defects.COSTS))
    assert defects.quality(flawless).item() == 1.0
    assert (defects.quality(each) < defects.GOOD).all()
    assert (defects.quality(2.0 * each) > 0.0).all()
