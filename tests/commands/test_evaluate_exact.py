"""``exact=true``: the optimum beside a tiny run, from the command to the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from soc_ft.core import Tilt
from soc_ft.errors import ConfigError
from soc_ft.evaluation import pictures
from soc_ft.evaluation.checks import check_evaluation
from soc_ft.evaluation.plan import Plan
from soc_ft.evaluation.run import run_evaluation
from soc_ft.evaluation.scoring import picture_values
from tests.conftest import composed, train_tiny

Evaluate = Callable[..., tuple[Plan, dict[str, Any]]]

PROMPTS, SAMPLES = 2, 60
SMALL = 0.1


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies, and the pictures that all tests share."""
    folder = tmp_path_factory.mktemp("exact")
    train_tiny(
        folder / "run",
        "trainer.steps=1",
        "trainer.lr=1e-3",
        "validation.guidance_scale=1.0",
        "cfg_mode=none",
    )
    return folder


@pytest.fixture
def evaluated(workplace: Path, tmp_path: Path) -> Evaluate:
    """Evaluate the run; the plan, and what is in exact.json."""

    def run(*overrides: str) -> tuple[Plan, dict[str, Any]]:
        config = composed(
            f"run={workplace / 'run'}",
            f"store={workplace / 'store'}",
            f"output={tmp_path / 'evaluation'}",
            "trust=[tests.scorers.Redness]",
            "metrics=[{_target_: tests.scorers.MeanColour}]",
            f"num_prompts={PROMPTS}",
            "exact=true",
            f"exact_samples={SAMPLES}",
            "batch_size=60",
            "device=cpu",
            *overrides,
            config="evaluate",
            folder="commands",
        )
        plan = check_evaluation(config)
        run_evaluation(plan, config)
        return plan, json.loads((tmp_path / "evaluation" / "exact.json").read_text())

    return run


def test_the_optimum_stands_beside_the_run(
    evaluated: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks when numbers are not those of the base's pictures, or the run's are left out.

    The run's own lambda is far too large for as few samples.
    """
    plan, found = evaluated(f"exact_lambdas=[{SMALL},100]")
    possible, refused = found["optima"]
    (base, _) = pictures.picture_sets(plan, torch.device("cpu"))
    values = picture_values([base], plan.measures, 60, torch.device("cpu"), plan.metadata)
    rewards = torch.tensor([group.tolist() for group in values["redness"][0]])
    tilt = Tilt(rewards, SMALL)
    assert rewards.shape == (PROMPTS, SAMPLES)
    assert possible["estimates"]["gain"]["mean"] == pytest.approx(tilt.gain(rewards).value)
    assert possible["estimates"]["KL"]["error"] == pytest.approx(tilt.divergence().error)
    assert possible["effective_samples"] == pytest.approx(tilt.mean_effective_samples)
    assert possible["estimates"]["efficiency of nats"]["mean"] == pytest.approx(1, abs=0.1)
    assert possible["estimates"]["MeanColour"]["mean"] > 0
    assert refused["estimates"] == {}
    assert "lambda 100: no numbers" in refused["refusal"]
    run = found["run"]["estimates"]
    assert found["run"]["lambda"] == 100
    assert run["KL"]["mean"] >= 0
    assert run["objective gain"]["mean"] == pytest.approx(
        100 * run["gain"]["mean"] - run["KL"]["mean"]
    )
    printed = capsys.readouterr().out
    assert f"optimum, lambda {SMALL}" in printed
    assert "optimum, lambda 100" not in printed
    assert "this run, lambda 100" in printed
    assert printed.count("exact_samples=") == 1


def test_another_lambda_samples_nothing(
    evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a further lambda costs pictures, or loads a model."""
    _, first = evaluated(f"exact_lambdas={SMALL}")
    monkeypatch.delattr(pictures, "_load")
    _, second = evaluated(f"exact_lambdas=[{SMALL},{SMALL / 2}]")
    assert second["optima"][0] == first["optima"][0]
    assert (
        second["optima"][1]["estimates"]["KL"]["mean"]
        < first["optima"][0]["estimates"]["KL"]["mean"]
    )


def test_how_much_of_what_is_possible_is_said(
    evaluated: Evaluate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when the run's gain does not stand beside the possible one at its own lambda."""
    monkeypatch.setattr("soc_ft.evaluation.exact.LEAST_EFFECTIVE_SAMPLES", 1)
    evaluated()
    assert "lambda 100: the run gains" in capsys.readouterr().out


def test_a_run_of_the_same_law_is_shown_what_was_possible(
    evaluated: Evaluate, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks when kept rewards are taken for those of another law, or not for their own."""
    evaluated(f"exact_lambdas=[{SMALL}]")
    given = f"validation.base_rewards={tmp_path / 'evaluation' / 'base_rewards.safetensors'}"
    own = ("trainer.steps=1", "trainer.lr=1e-3", "cfg_mode=none", f"lambda={SMALL}", given)
    own = (*own, f"validation.prompts={PROMPTS}")
    train_tiny(tmp_path / "same", *own, "validation.guidance_scale=1.0")
    results = json.loads((tmp_path / "same" / "results.json").read_text())
    assert {"possible_gain", "possible_objective", "efficiency_error"} <= results["1"].keys()
    assert "possible_gain" not in results["0"]
    printed = capsys.readouterr().out
    assert "efficiency of nats" in printed.rpartition("differences are paired")[2]
    train_tiny(tmp_path / "other", *own, "validation.guidance_scale=2.0")
    results = json.loads((tmp_path / "other" / "results.json").read_text())
    assert "possible_gain" not in results["1"]
    with pytest.raises(ConfigError, match=r"base_rewards=nowhere: there is no such file"):
        train_tiny(tmp_path / "none", *own, "validation.base_rewards=nowhere")
