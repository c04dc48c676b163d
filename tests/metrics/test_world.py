"""Reading captions back, which the independent accuracy rests on."""

from __future__ import annotations

import numpy as np
import torch

from soc_ft.metrics.world import ShapesAccuracy, ShapesQuality, named_attributes
from soc_ft.world.defects import COSTS, spoil_scene
from soc_ft.world.drawing import render
from soc_ft.world.scenes import claimed_words, mentioned_labels, prompt_scenes, sample_scene
from soc_ft.world.web import paint


def test_captions_are_read_back_as_they_were_written() -> None:
    """Breaks when a phrasing is added that the reader takes for another attribute."""
    for text, scene in prompt_scenes(400, seed=3).items():
        assert named_attributes(text) == claimed_words(mentioned_labels(scene, text)), text


def test_pictures_of_the_generator_are_accurate_for_their_own_prompts_only() -> None:
    """Breaks when classes and words get out of order, or other sizes of pictures are refused."""
    scenes = prompt_scenes(24, seed=5)
    prompts, images = list(scenes), torch.from_numpy(render(list(scenes.values())))
    accuracy = ShapesAccuracy()
    assert accuracy(images, prompts).mean() > 0.9
    assert accuracy(images, prompts[1:] + prompts[:1]).mean() < 0.2
    larger = torch.nn.functional.interpolate(images, (96, 96), mode="bicubic").clamp(0, 1)
    assert accuracy(larger, prompts).mean() > 0.8


def test_quality_falls_with_every_defect_whatever_the_prompt() -> None:
    """Breaks when the judge of quality is blind to a defect, or looks at the prompt."""
    rng = np.random.default_rng(2)
    shown = [sample_scene(rng, {"size": "small", "position": "left"}) for _ in range(64)]
    images = torch.from_numpy(render(shown))
    quality = ShapesQuality()
    flawless = quality(images, ["a red star"] * len(shown))
    assert torch.equal(flawless, quality(images, ["nothing"] * len(shown)))
    assert ((flawless > 0.0) & (flawless < 1.0)).all()
    infeasible = ShapesQuality(below=0.7)
    assert torch.equal(infeasible(images, ["nothing"] * len(shown)), (flawless < 0.7).float())
    for column, kind in enumerate(COSTS):
        severities = torch.zeros(len(shown), len(COSTS))
        severities[:, column] = 1.0
        spoilt = [spoil_scene(scene, {kind: 1.0}, rng)[0] for scene in shown]
        worse = quality(paint(spoilt, severities, rng), ["a red star"] * len(shown))
        assert (worse < flawless).float().mean() > 0.85, kind
        assert (flawless - worse).mean() > 0.1, kind
