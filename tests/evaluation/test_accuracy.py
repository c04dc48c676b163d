"""Reading captions back, which the independent accuracy rests on."""

from __future__ import annotations

from soc_ft.data.shapes import claimed_words, mentioned_labels, prompt_scenes
from soc_ft.evaluation.accuracy import named_attributes


def test_captions_are_read_back_as_they_were_written() -> None:
    """Breaks when a phrasing is added that the reader takes for another attribute."""
    for text, scene in prompt_scenes(400, seed=3).items():
        assert named_attributes(text) == claimed_words(mentioned_labels(scene, text)), text
