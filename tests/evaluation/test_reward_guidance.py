"""What may guide the base model, and that it does: checks, surrogates, and the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from soc_ft.errors import ConfigError
from soc_ft.evaluation.checks import check_evaluation
from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.evaluation.reward_guidance import checked_guidance
from soc_ft.evaluation.run import run_evaluation
from soc_ft.evaluation.statistics import Scores
from tests.conftest import composed, train_tiny
from tests.feedback.test_online import SMALL

REDNESS: dict[str, Any] = {"_target_": "tests.scorers.Redness"}
JPEG: dict[str, Any] = {"_target_": "soc_ft.rewards.jpeg.JPEGCompressibility"}
TRUST = "tests.scorers.Redness,tests.scorers.Counting,tests.feedback.test_online.Means"


def evaluation(tmp_path: Path, *overrides: str) -> DictConfig:
    return composed(
        f"output={tmp_path / 'evaluation'}",
        f"store={tmp_path / 'store'}",
        "tracking=none",
        f"trust=[{TRUST}]",
        "device=cpu",
        "num_prompts=2",
        "samples_per_prompt=2",
        "num_steps=4",
        *overrides,
        config="evaluate",
        folder="commands",
    )


def evaluated(tmp_path: Path, *overrides: str) -> list[Scores]:
    config = evaluation(tmp_path, *overrides)
    return run_evaluation(check_evaluation(config), config)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a surrogate of redness."""
    folder = tmp_path_factory.mktemp("asked") / "run"
    return train_tiny(folder, *SMALL, "feedback=nonadaptive", "feedback.questions=[24]")


@pytest.mark.parametrize("surrogate", [False, True])
def test_guided_pictures_score_higher(
    surrogate: bool, asked: Path, tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    """Breaks if the reward (or what was learned of it) does not guide, guides down, guides the
    model that was trained, or if models with other scales share pictures."""
    folder = asked if surrogate else undisturbed()
    results = evaluated(tmp_path, f"run={folder}", "reward_guidance=[5,20]")
    names = [each.model for each in results]
    assert names == [BASE, FINE_TUNED, "reward-guided, lambda 5", "reward-guided, lambda 20"]
    (label, *_) = results[0].estimates
    gains = [each.differences[label].mean for each in results[2:]]
    assert 0.005 < gains[0] < gains[1]
    again = evaluated(tmp_path, f"run={folder}", "reward_guidance=20")
    assert [each.model for each in again] == [names[0], names[1], names[3]]
    assert again[2].estimates == results[3].estimates


@pytest.mark.parametrize(
    ("reward", "feedback", "weights", "message"),
    [
        (JPEG, None, "last.ckpt", "jpeg_compressibility has no gradient.*feedback=nonadaptive"),
        (REDNESS, "nonadaptive", "best.safetensors", "no surrogate.*checkpoint=last"),
    ],
)
def test_what_cannot_guide_is_refused(
    reward: dict[str, Any], feedback: str | None, weights: str, message: str
) -> None:
    """Breaks if minutes of sampling come before one of these mistakes is told."""
    section = None
    if feedback is not None:
        config = composed(f"feedback={feedback}", "features=shapes")
        section = OmegaConf.to_container(config.feedback, resolve=True)
    with pytest.raises(ConfigError, match=message):
        checked_guidance([1.0], reward, section, Path("checkpoints") / weights)


@pytest.mark.parametrize("source", ["model=shapes", "images=."])
def test_without_a_run_nothing_guides(source: str, tmp_path: Path) -> None:
    """Breaks if the key is silently ignored."""
    with pytest.raises(ConfigError, match=r"reward_guidance.*means nothing with"):
        check_evaluation(evaluation(tmp_path, source, "metrics=[shapes]", "reward_guidance=1"))
