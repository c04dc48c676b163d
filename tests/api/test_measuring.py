"""Sampling and measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import soc_ft
from soc_ft.api import FineTuned
from soc_ft.errors import ConfigError
from soc_ft.evaluation.folders import BASE, FINE_TUNED
from tests.api.small import PROMPTS, redness, tiny
from tests.scorers import Informed, MeanColour, Redness


def test_pictures_are_the_same_every_time_whatever_the_batches(red: FineTuned) -> None:
    """Breaks when noise is consumed instead of addressed."""
    settings = {"samples_per_prompt": 2, "num_steps": 4}
    first = soc_ft.sample(red.model, PROMPTS, **settings)
    assert first.shape == (6, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, soc_ft.sample(red.model, PROMPTS, **settings))
    apart = soc_ft.sample(red.model, PROMPTS, batch_size=1, **settings)
    assert (first.int() - apart.int()).abs().max() <= 1
    other = soc_ft.sample(red.model, PROMPTS, seed=1, **settings)
    assert (first.int() - other.int()).abs().max() > 1
    base = soc_ft.sample(red.model, PROMPTS, base=True, **settings)
    assert (first.int() - base.int()).abs().max() > 1
    assert torch.equal(base, soc_ft.sample(tiny(finetune=None), PROMPTS, **settings))


def test_an_evaluation_is_what_the_pictures_say(red: FineTuned) -> None:
    """Breaks when pictures, prompts or pairs get mixed up on the way to the table."""
    settings = {"samples_per_prompt": 2, "num_steps": 4, "seed": 5}
    scores = soc_ft.evaluate(
        red.model, {"red": redness, "colours": MeanColour()}, PROMPTS, batch_size=4, **settings
    )
    assert [each.model for each in scores] == [BASE, FINE_TUNED]
    means = {}
    for base in (True, False):
        pictures = soc_ft.sample(red.model, PROMPTS, base=base, **settings).double() / 255
        values = redness(pictures, []).unflatten(0, (3, 2))
        means[base] = values.mean(dim=1)
        estimate = scores[not base].estimates["red"]
        assert estimate.mean == pytest.approx(float(values.mean()), abs=1e-5)
        colours = pictures.mean(dim=(2, 3)).unflatten(0, (3, 2))
        spread = (colours[:, 0] - colours[:, 1]).square().sum(dim=1).mean() / 2
        assert scores[not base].estimates["colours"].mean == pytest.approx(float(spread), abs=1e-6)
    gains = means[False] - means[True]
    gain = scores[1].differences["red"]
    assert gain.mean == pytest.approx(float(gains.mean()), abs=1e-5)
    assert gain.error == pytest.approx(float(gains.std() / 3**0.5), abs=1e-5)
    assert gain.mean > 0
    assert not scores[0].differences
    assert "memoryless, eta 1, 4 steps" in str(scores)
    assert f"difference to the {BASE}" in str(scores)
    assert scores._repr_markdown_().startswith("| sampling |")


def test_metrics_are_named_listed_or_given(red: FineTuned) -> None:
    """Breaks when one of the ways to ask for a metric is lost."""
    settings = {"num_steps": 2, "samples_per_prompt": 1}
    given = ["shapes", redness, Redness()]
    scores = soc_ft.evaluate(red.model, given, PROMPTS[:2], **settings)
    assert list(scores[0].estimates) == ["shapes", "redness"]
    many = {"a": "shapes_accuracy", "b": {"_target_": "tests.scorers.Redness", "scale": 20}}
    many["c"] = redness  # type: ignore[assignment]
    (base,) = soc_ft.evaluate(tiny(finetune=None), many, PROMPTS[:2], **settings)
    assert base.estimates["b"].mean == pytest.approx(base.estimates["c"].mean)


def test_a_metric_object_is_told_once_what_files_say(
    red: FineTuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when an object from Python is told of prompts twice, or not at all."""
    monkeypatch.setattr(Informed, "told", [])
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "bonus": 3}\n"b"\n')
    given = {"plain": Redness(), "own": Informed()}
    settings = {"num_steps": 2, "samples_per_prompt": 1}
    scores = soc_ft.evaluate(red.model, given, str(tmp_path / "own.jsonl"), **settings)
    assert Informed.told == [{"a": {"bonus": 3}, "b": {}}]
    for each in scores:
        bonus = each.estimates["own"].mean - each.estimates["plain"].mean
        assert bonus == pytest.approx(1.5)
    soc_ft.evaluate(red.model, Informed(), ["a", "c"], **settings)
    assert Informed.told[1:] == [{"a": {}, "c": {}}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": []}, r"metrics: choose at least one \(aesthetic, "),
        ({"metrics": "shape"}, r"metrics\.shape=shape: no such option; did you mean shapes\?"),
        ({"metrics": {"mine": 3}}, r"metrics\.mine=3: give a function"),
        ({"metrics": 3}, r"give a function"),
        ({"metrics": {"a": {"option": "shapes", "x": 1}}}, r"metrics\.a\.x: unknown key"),
        ({"metrics": "shapes_diversity", "samples_per_prompt": 1}, r"at least 2 .*not 1"),
        ({"prompts": []}, r"prompts=\[\]: give at least one prompt"),
        ({"prompts": "house.txt"}, r"prompts=house\.txt: there is no such file"),
        ({"prompts": 3}, r"prompts=3: give at least one prompt, in a list"),
        ({"num_steps": 1}, r"num_steps=1: "),
        ({"num_steps": 2000}, r"num_steps=2000: "),
        ({"eta": -1}, r"eta=-1: "),
        ({"batch_size": 0}, r"batch_size=0: "),
        ({"samples_per_prompt": 0}, r"samples_per_prompt=0: "),
    ],
)
def test_wrong_arguments_of_measuring_are_named(
    red: FineTuned, arguments: dict[str, Any], message: str
) -> None:
    """Breaks when a wrong argument ends in a traceback, or is not named."""
    with pytest.raises(ConfigError, match=message) as refused:
        soc_ft.evaluate(red.model, **{"metrics": redness, "prompts": PROMPTS, **arguments})
    assert "\n" not in str(refused.value)
