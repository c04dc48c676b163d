"""Where a reward's files are looked for, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from soc_ft.errors import ConfigError
from soc_ft.rewards.weights import WeightFile
from tests.conftest import write_weights

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which is out of reach."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def weight_file(given: str | None = None) -> WeightFile:
    return WeightFile("hpsv2", "weights", "xswu/HPSv2", "HPS.pt", given, "reward.rewards.hps")


def cached(cache: Path, repository: str) -> Path:
    """Put a file into the cache as the hub's client does."""
    repo = cache / f"models--{repository.replace('/', '--')}"
    file = repo / "snapshots" / REVISION / "HPS.pt"
    file.parent.mkdir(parents=True)
    write_weights(file)
    for name in ("main", "v1"):
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / name).write_text(REVISION)
    return file


def test_a_file_and_a_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    """Breaks when a local path is taken for a hub id, or the file in a folder is not found."""
    file = write_weights(tmp_path / "HPS.pt")
    for given in (str(file), str(tmp_path)):
        weight_file(given).check()
        assert weight_file(given).fetch() == file


def test_a_damaged_file_is_told_before_torch_reads_it(tmp_path: Path) -> None:
    """Breaks when half a download is met after the libraries were imported."""
    file = tmp_path / "HPS.pt"
    file.write_bytes(b"<html>")
    with pytest.raises(
        ConfigError, match=r"^reward\.rewards\.hps\.weights=.* is cut off or damaged"
    ):
        weight_file(str(file)).check()


@pytest.mark.parametrize("given", [None, "xswu/HPSv2", "someone/other@v1", "someone/other@main"])
def test_a_cached_hub_id_needs_no_network(hub_cache: Path, given: str | None) -> None:
    """Breaks when the cache is not asked first, or a revision is not split off."""
    file = cached(hub_cache, (given or "xswu/HPSv2").partition("@")[0])
    weight_file(given).check()
    assert weight_file(given).fetch() == file


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ["xswu/HPSv2", "revision main", "HF_HUB_OFFLINE"]),
        ("someone/other@v9", ["someone/other@v9", "revision v9"]),
        ("/nowhere/HPS.pt", ["there is no file /nowhere/HPS.pt"]),
        ("", ["xswu/HPSv2"]),
    ],
)
def test_a_missing_file_is_one_line_with_a_way_out(given: str | None, words: list[str]) -> None:
    """Breaks when the line does not say where it was looked for, or how to provide the file."""
    for find in (weight_file(given).check, weight_file(given).fetch):
        with pytest.raises(ConfigError) as caught:
            find()
        line = str(caught.value)
        assert "\n" not in line
        for word in (*words[:1], "(of hpsv2)", "hf download xswu/HPSv2 HPS.pt"):
            assert word in line
        assert "reward.rewards.hps.weights=/path/HPS.pt" in line
    with pytest.raises(ConfigError) as caught:
        weight_file(given).check()
    for word in words:
        assert word in str(caught.value)


def test_a_folder_without_the_file_says_so(tmp_path: Path) -> None:
    """Breaks when a wrong folder is searched on the hub instead."""
    with pytest.raises(ConfigError, match=r"has no HPS\.pt"):
        weight_file(str(tmp_path)).check()
