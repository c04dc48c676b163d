"""What is measured of the shipped reward, judge and autoencoder."""

from __future__ import annotations

import pytest
import torch

from soc_ft.world import JUDGE, REWARD
from soc_ft.world.agreement import flawless_scores, judged
from soc_ft.world.scorer import ShapesScorer


def test_judge_and_autoencoder_know_the_web() -> None:
    """Breaks if the judge is asked in other units, truth and answers are of other pictures, or the
    autoencoder is given pictures in [0, 1]."""
    found = judged(JUDGE, count=96, seed=3)
    assert 25.0 < found["autoencoder, PSNR (dB)"] < 35.0
    assert found["judge, every attribute right, drawn, flawless"] > 0.95
    assert found["judge, every attribute right, drawn"] > 0.75
    assert found["judge, quality's correlation, autoencoded"] > 0.6
    assert found["judge, mean quality, drawn, flawless"] == pytest.approx(0.75, abs=0.08)


def test_flawless_pictures_score_above_the_base_models() -> None:
    """Breaks if pictures and prompts are shuffled: base samples have mean 0 and deviation 1."""
    with torch.no_grad():
        found = flawless_scores(ShapesScorer.load(REWARD), count=96, seed=3)
    assert 1.2 < found["mean"] < 1.8
    assert 0.2 < found["standard deviation"] < 0.7
