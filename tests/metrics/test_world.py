"""Reading captions back, which the independent accuracy rests on."""

from __future__ import annotations

import torch

from soc_ft.metrics.world import ShapesAccuracy, named_attributes
from soc_ft.world.drawing import claimed_words, mentioned_labels, prompt_scenes, render


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
