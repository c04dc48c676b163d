"""``soc-ft weights`` fetches what a configuration needs; what is missing is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from soc_ft.commands.weights import download
from soc_ft.config import check
from soc_ft.errors import MissingWeights
from soc_ft.rewards.weights import WeightFile
from tests.conftest import composed

MISSING = (
    "reward=weighted",
    "+reward@validation.metrics.score=clip",
    "model=sd15",
    "prompts=shapes",
)


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_all_missing_weights_are_told_at_once() -> None:
    """Breaks when a person learns of the second missing file after the first was downloaded."""
    with pytest.raises(MissingWeights) as caught:
        check(composed(*MISSING))
    line = str(caught.value)
    assert "\n" not in line
    for words in (
        "reward.rewards.imagereward.weights=THUDM",
        "hf download THUDM/ImageReward ImageReward.pt",
        "hf download google-bert/bert-base-uncased vocab.txt",
        "hf download xswu/HPSv2 HPS_v2.1_compressed.pt",
        "validation.metrics.score.weights=/path/model.safetensors",
        "hf download stable-diffusion-v1-5/stable-diffusion-v1-5",
        "soc-ft weights with the same arguments",
    ):
        assert line.count(words) == 1


def test_everything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Breaks when the weights of a part, a metric or the model are left for the run to fetch."""
    fetched: list[str] = []

    def fetch(file: WeightFile) -> Path:
        fetched.append(file.repository)
        return tmp_path

    from soc_ft.models import availability, pipelines

    monkeypatch.setattr(WeightFile, "fetch", fetch)
    monkeypatch.setattr(availability, "obstacle", lambda *_: None)
    monkeypatch.setattr(pipelines, "download", lambda path, *_: fetched.append(path))
    download(composed(*MISSING))
    assert fetched == [
        "THUDM/ImageReward",
        "google-bert/bert-base-uncased",
        "xswu/HPSv2",
        "openai/clip-vit-large-patch14",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
    ]
    assert "validation.metrics.score" in capsys.readouterr().out


def test_an_embedded_model_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Breaks when the quickstart asks the hub."""
    download(composed("experiment=quickstart"))
    assert capsys.readouterr().out.strip().endswith("all weights are here")
