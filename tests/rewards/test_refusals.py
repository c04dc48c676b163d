"""What the command line says before anything loads: missing files, missing gradients."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from huggingface_hub import constants

from soc_ft.config import check
from soc_ft.errors import ConfigError
from tests.conftest import TINY, command, composed

NETWORKS = ("imagereward", "hpsv2", "pickscore", "aesthetic", "clip")
RUN = [override for override in TINY if not override.startswith("reward")]


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(composed(*RUN, *overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_missing_weights_are_named(name: str) -> None:
    """Breaks when a reward is first looked for after the configuration was accepted."""
    line = refused(f"reward={name}")
    assert line.startswith("reward.weights=")
    assert f"(of {name})" in line
    assert "reward.weights=/path/" in line


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_that_are_there_are_accepted(name: str, tmp_path: Path) -> None:
    """Breaks when a check reads what only the loading should, or asks the hub for a local file."""
    file = tmp_path / "file"
    file.touch()
    others = {"imagereward": "vocabulary", "aesthetic": "clip_weights"}
    more = [f"reward.{others[name]}={file}"] if name in others else []
    check(composed(*RUN, f"reward={name}", f"reward.weights={file}", *more))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["reward=imagereward", "reward.weights={file}"], ["reward.vocabulary=", "vocab.txt"]),
        (["reward=aesthetic", "reward.weights={file}"], ["reward.clip_weights="]),
        (["reward=hpsv2", "reward.version=v3"], ["reward.version=v3", "v2.0"]),
        (["reward=clip", "reward.batch_size=0"], ["reward.batch_size=0"]),
        (["reward=clip", "reward.dtype=half"], ["reward.dtype=half"]),
        (["reward=clip", "+reward.weight=a"], ["reward.weight", "did you mean weights"]),
        (["reward=weighted"], ["reward.rewards.imagereward.weights="]),
        (["reward=weighted", "reward.coefficients.hpsv2=many"], ["reward.coefficients.hpsv2=many"]),
        (
            ["reward=shapes", "+reward@validation.metrics.score=clip"],
            ["validation.metrics.score.weights=", "(of clip)"],
        ),
        (["reward=clip", "model.path=/nowhere"], ["reward.weights="]),
        (["reward=jpeg_incompressibility"], ["reward=jpeg_incompressibility", "AdjointMatching"]),
    ],
)
def test_refusals_name_the_key(overrides: list[str], words: list[str], tmp_path: Path) -> None:
    """Breaks when a wrong reward is met late, under another key, or after the model's weights."""
    file = tmp_path / "file"
    file.touch()
    line = refused(*(override.format(file=file) for override in overrides))
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["reward=imagereward", "reward.weights=/nowhere/ImageReward.pt"],
        ["reward=jpeg_compressibility"],
    ],
)
def test_the_program_exits_with_one_line(arguments: list[str], tmp_path: Path) -> None:
    """Breaks when a refusal comes as a traceback, or leaves a run folder behind."""
    done = subprocess.run(
        command("soc_ft", *RUN, *arguments),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("soc_ft: error: reward")
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
