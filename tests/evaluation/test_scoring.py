"""Scores of pictures in files are means over prompts, paired with the base model's."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from soc_ft.errors import ConfigError
from soc_ft.evaluation.folders import BASE, FINE_TUNED, PictureSet
from soc_ft.evaluation.plan import Measure
from soc_ft.evaluation.scoring import estimated, picture_values
from soc_ft.evaluation.statistics import Scores
from tests.evaluation.conftest import MakeSet

REDNESS = {"redness": Measure({"_target_": "tests.scorers.Redness"}, embeds=False)}
COLOURS = {"colours": Measure({"_target_": "tests.scorers.MeanColour"}, embeds=True)}
CPU = torch.device("cpu")
RED, BLACK, DARK = (255, 0, 0), (0, 0, 0), (51, 0, 0)


def score(sets: list[PictureSet], measures: dict[str, Measure], batch_size: int) -> list[Scores]:
    return estimated(sets, measures, picture_values(sets, measures, batch_size, CPU, {}))


def test_the_mean_is_over_prompts_not_over_pictures(picture_set: MakeSet) -> None:
    """Breaks when a prompt with more pictures counts for more."""
    sets = [picture_set("any", {"a": [RED], "b": [BLACK, BLACK, BLACK]})]
    (scores,) = score(sets, REDNESS, 8)
    assert scores.estimates["redness"].mean == pytest.approx(0.5)
    assert scores.estimates["redness"].error == pytest.approx(0.5)
    assert scores.estimates["redness"].count == 2
    assert scores.pictures == 4


def test_differences_are_paired_by_prompt_within_a_block(picture_set: MakeSet) -> None:
    """Breaks when the spread between prompts enters the error, or blocks are mixed up."""
    sets = [
        picture_set(BASE, {"a": [BLACK], "b": [(204, 0, 0)]}),
        picture_set(FINE_TUNED, {"a": [DARK], "b": [RED]}),
        picture_set(FINE_TUNED, {"a": [DARK], "b": [RED]}, eta=0.0),
    ]
    base, tuned, elsewhere = score(sets, REDNESS, 8)
    assert tuned.differences["redness"].mean == pytest.approx(0.2)
    assert tuned.differences["redness"].error == pytest.approx(0, abs=1e-7)
    assert tuned.estimates["redness"].error == pytest.approx(0.4)
    assert not base.differences
    assert not elsewhere.differences


def test_as_many_values_count_as_a_set_has_pictures(picture_set: MakeSet) -> None:
    """Breaks when pictures that were measured for the optimum enter a paired comparison."""
    base = picture_set(BASE, {"a": [BLACK, DARK, RED, RED], "b": [BLACK, BLACK, RED, RED]})
    tuned = picture_set(FINE_TUNED, {"a": [DARK, DARK], "b": [DARK, DARK]})
    values = picture_values([base, tuned], REDNESS, 8, CPU, {})
    found, compared = estimated([base.first(2), tuned], REDNESS, values)
    assert found.estimates["redness"].mean == pytest.approx(0.05)
    assert compared.differences["redness"].mean == pytest.approx(0.15)


def test_diversity_is_the_spread_within_prompts(picture_set: MakeSet) -> None:
    """Breaks when the difference between prompts passes for diversity."""
    same = picture_set("same", {"a": [RED, RED], "b": [BLACK, BLACK]})
    varied = picture_set("varied", {"a": [RED, BLACK], "b": [BLACK, RED]})
    alike, different = score([same, varied], COLOURS, 8)
    assert alike.estimates["colours"].mean == 0
    assert different.estimates["colours"].mean == pytest.approx(0.5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_scores_do_not_depend_on_the_batch_size(picture_set: MakeSet, batch_size: int) -> None:
    """Breaks when a batch that spans prompts is attributed to one of them."""
    sets = [picture_set("any", {"a": [RED, DARK], "b": [BLACK, DARK], "c": [RED, RED]})]
    (scores,) = score(sets, REDNESS, batch_size)
    assert scores.estimates["redness"].mean == pytest.approx((0.6 + 0.1 + 1) / 3)


def test_one_prompt_has_no_error(picture_set: MakeSet) -> None:
    """Breaks when a single prompt ends in a division by zero."""
    (scores,) = score([picture_set("any", {"a": [RED]})], REDNESS, 8)
    assert math.isnan(scores.estimates["redness"].error)


def test_only_one_metric_is_in_memory_at_a_time(
    picture_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when metric models pile up, which a GPU has no room for."""
    from tests import scorers

    alive: list[int] = []

    class Counted(scorers.Redness):
        def __init__(self) -> None:
            super().__init__()
            alive.append(1)
            assert len(alive) == 1

        def __del__(self) -> None:
            alive.pop()

    monkeypatch.setattr(scorers, "Counted", Counted, raising=False)
    measure = Measure({"_target_": "tests.scorers.Counted"}, embeds=False)
    score([picture_set("any", {"a": [RED]})], {"first": measure, "second": measure}, 8)
    assert not alive


def test_pictures_that_cannot_be_scored_are_named(picture_set: MakeSet) -> None:
    """Breaks when a damaged file or one of another size ends in a traceback."""
    pictures = picture_set("any", {"a": [RED, RED]})
    second = pictures.paths[0][1]
    Image.new("RGB", (9, 9)).save(second)
    with pytest.raises(ConfigError, match=r"0-1\.png: is of another size .*metric_batch=1"):
        score([pictures], REDNESS, 8)
    assert score([pictures], REDNESS, 1)[0].estimates["redness"].mean == pytest.approx(0.5)
    second.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"0-1\.png: is not a picture"):
        score([pictures], REDNESS, 8)
