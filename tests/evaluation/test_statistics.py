"""Estimates take the prompt as the unit of sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from soc_ft.evaluation.statistics import Estimate, diversity, mean_and_error, paired_difference


def test_mean_and_standard_error_over_prompts() -> None:
    """Breaks if the error divides by n instead of n - 1, or is not one of the mean."""
    estimate = mean_and_error([1.0, 2.0, 3.0, 6.0])
    assert estimate.mean == 3.0
    assert estimate.error == pytest.approx(math.sqrt(14 / 3 / 4))
    assert estimate.count == 4


def test_pictures_of_one_prompt_are_no_independent_evidence() -> None:
    """Breaks if samples are pooled over prompts: copies of a picture would shrink the error."""
    once = mean_and_error([1.0, 2.0, 4.0])
    assert mean_and_error(np.repeat([[1.0], [2.0], [4.0]], 50, axis=1)) == once
    assert mean_and_error([[1.0], [1.0, 3.0], [4.0, 4.0, 4.0]]) == once


def test_the_error_covers_the_mean_as_often_as_it_should() -> None:
    """Breaks if the error is off by a factor: 68 % of 2000 repetitions, give or take 3 %."""
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(2000, 40, 1))
    values = prompts + rng.normal(size=(2000, 40, 5))
    estimates = [mean_and_error(repetition) for repetition in values]
    covered = np.mean([abs(estimate.mean) < estimate.error for estimate in estimates])
    assert 0.65 < covered < 0.71


def test_a_single_prompt_has_a_mean_and_no_error() -> None:
    """Breaks if one prompt pretends to be certain, or raises a warning."""
    estimate = mean_and_error([[1.0, 3.0]])
    assert estimate.mean == 2.0
    assert math.isnan(estimate.error)


def test_pairing_removes_what_prompts_have_in_common() -> None:
    """Breaks if differences are taken after averaging: the spread of prompts would come back."""
    rng = np.random.default_rng(1)
    difficulty = 10 * rng.normal(size=(30, 1))
    base = difficulty + 0.1 * rng.normal(size=(30, 4))
    tuned = difficulty + 0.5 + 0.1 * rng.normal(size=(30, 4))
    gain = paired_difference(tuned, base)
    assert gain.mean == pytest.approx(0.5, abs=0.05)
    assert gain.error < 0.03
    assert gain.mean == pytest.approx(mean_and_error(tuned).mean - mean_and_error(base).mean)


def test_diversity_is_half_the_mean_squared_distance() -> None:
    """Breaks if the closed form differs from the sum over pairs that defines it."""
    e = np.random.default_rng(2).normal(size=(6, 5, 3))
    pairs = np.square(e[:, :, None] - e[:, None, :]).sum(axis=-1)
    by_definition = mean_and_error(pairs.sum(axis=(1, 2)) / (2 * 5 * 4))
    estimate = diversity(e)
    assert estimate.mean == pytest.approx(by_definition.mean)
    assert estimate.error == pytest.approx(by_definition.error)
    assert estimate.count == 6


def test_diversity_does_not_depend_on_the_number_of_pictures() -> None:
    """Breaks if the estimate is biased: it would then grow with pictures per prompt."""
    rng = np.random.default_rng(3)
    few, many = (diversity(rng.normal(size=(4000, n, 2))) for n in (2, 8))
    assert few.mean == pytest.approx(2, abs=4 * few.error)
    assert many.mean == pytest.approx(2, abs=4 * many.error)


def test_diversity_of_equal_embeddings_is_zero_far_from_the_origin() -> None:
    """Breaks if it is computed from squares whose difference cancels."""
    assert diversity(np.full((3, 4, 5), 1e8)).mean == 0.0


def test_estimates_print_with_their_error() -> None:
    """Breaks if tables lose the error or its sign."""
    assert str(Estimate(0.12345, 0.00421, 8)) == "0.123 ± 0.004"


def test_what_cannot_be_estimated_is_refused() -> None:
    """Breaks if a missing prompt turns into NaN in a table."""
    with pytest.raises(ValueError, match="at least one prompt"):
        mean_and_error([])
    with pytest.raises(ValueError, match="one value of each"):
        mean_and_error([[1.0], []])
    with pytest.raises(ValueError, match="cannot pair 2 prompts with 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="pictures >= 2"):
        diversity(np.zeros((3, 1, 4)))
