"""What scores pictures is built and tried before the libraries that take long are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.training.scorers import build_scorers
from tests.conftest import TINY, composed

WRONG = """
import sys
from soc_ft.commands.main import main

class Wrong:
    name, differentiable = "wrong", True
    def to(self, device):
        return self
    def __call__(self, images, prompts):
        return images.mean()

sys.modules["wrong"] = sys.modules["__main__"]
try:
    main()
finally:
    heavy = "diffusers", "lightning", "mlflow", "peft", "scipy", "torchvision", "transformers"
    print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    "line",
    [
        "experiment=quickstart +validation.metrics.own._target_=wrong.Wrong",
        pytest.param(
            "evaluate model={option:shapes} prompts=[a] metrics=[{_target_:wrong.Wrong}]",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_wrong_scorer_is_told_before_the_libraries_load(line: str, tmp_path: Path) -> None:
    """Breaks when a module that the trial needs imports Lightning, diffusers or transformers."""
    arguments = line.split(" ")
    ended = subprocess.run(
        [sys.executable, "-c", WRONG, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert "wrong" in ended.stderr
    assert "returned shape ()" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1] == "[]"


def test_all_that_a_configuration_names_is_built() -> None:
    """Breaks when a metric goes under another name, or an absent embedding is built."""
    config = composed(
        *TINY,
        "+validation.metrics.other._target_=tests.scorers.Redness",
        "validation.embedding={_target_: tests.scorers.MeanColour}",
    )
    found = build_scorers(config, check(config))
    assert found.reward.name == "redness"
    assert found.metrics["other"].name == "redness"
    assert found.embedding is not None
    config.validation.embedding = None
    assert build_scorers(config, check(config)).embedding is None


def test_a_wrong_embedding_is_named() -> None:
    """Breaks when an embedding is tried as a reward, or not at all."""
    config = composed(*TINY, "validation.embedding={_target_: tests.scorers.Redness}")
    with pytest.raises(ConfigError, match=r"validation\.embedding"):
        build_scorers(config, check(config))
