"""What scores pictures is built and tried before the libraries that take long are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.training.scorers import build_scorers
from tests.conftest import TINY, composed
from tests.scorers import Informed

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


def test_a_run_tells_its_reward_and_its_metrics_what_files_say(
    tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when one is not told, or more than once, or a prompt's metadata are another's."""
    monkeypatch.setattr(Informed, "told", [])
    known = {"a house": {"bonus": 2.0}, "a tree": {}, "a car": {"bonus": 5.0}}
    lines = [json.dumps({"prompt": prompt} | said) for prompt, said in known.items()]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    folder = tiny_run(
        "reward._target_=tests.scorers.Informed",
        *("+validation.metrics.plain._target_=tests.scorers.Redness",),
        *("+validation.metrics.plain.scale=20", "validation.every=1", "trainer.steps=1"),
        *("+validation.metrics.other._target_=tests.scorers.Informed",),
        *(f"prompts.train={tmp_path / 'own.jsonl'}", "prompts.validation=null"),
        *("prompts.held_out=2", "validation.prompts=2"),
    )
    assert Informed.told == [known, known], "the reward and the metric"
    results = json.loads((folder / "results.json").read_text())
    for measured in results.values():
        assert measured["reward"] - measured["plain"] == pytest.approx(2.5, abs=1e-4)


def test_a_contradiction_is_told_before_the_model_loads(tmp_path: Path) -> None:
    """Breaks when a reward that is given in Python is told one of two contradicting metadata."""
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "n": 1}\n{"prompt": "a", "n": 2}')
    files = [f"prompts.{use}={tmp_path / 'own.jsonl'}" for use in ("train", "validation")]
    config = composed(*TINY, *files)
    run = check(config)  # of the configuration's own reward, which uses none
    with pytest.raises(ConfigError, match=r"own\.jsonl, line 2: .*own\.jsonl, line 1, and"):
        build_scorers(config, run, Informed())


def test_a_wrong_embedding_is_named() -> None:
    """Breaks when an embedding is tried as a reward, or not at all."""
    config = composed(*TINY, "validation.embedding={_target_: tests.scorers.Redness}")
    with pytest.raises(ConfigError, match=r"validation\.embedding"):
        build_scorers(config, check(config))
