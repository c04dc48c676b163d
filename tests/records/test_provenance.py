"""A run says which code produced it, and gives nothing away."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from soc_ft.records.provenance import flatten, git_tags, provenance


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@localhost"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    return package


def test_versions_and_machine_but_not_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a library's version is missing, or environment variables leak into the tags."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    tags = provenance()
    assert tags["version.torch"] == metadata.version("torch")
    assert tags["slurm_job_id"] == "123"
    assert "slurm_restart_count" not in tags
    assert tags["hostname"]
    assert tags["python"].startswith("3.")
    assert "hf_secret" not in str(tags)


def test_the_commit_is_told_with_whether_files_differ(checkout: Path) -> None:
    """Breaks if uncommitted changes pass for the commit, or untracked files for changes."""
    clean = git_tags(checkout)
    assert len(clean["mlflow.source.git.commit"]) == 40
    assert clean["git.dirty"] == "false"
    (checkout / "notes.txt").write_text("untracked")
    assert git_tags(checkout) == clean
    (checkout / "__init__.py").write_text("x = 1")
    assert git_tags(checkout) == clean | {"git.dirty": "true"}


def test_somebody_elses_repository_does_not_describe_the_package(checkout: Path) -> None:
    """Breaks if a package installed inside a checkout is labelled with that checkout's commit."""
    installed = checkout.parent / ".venv" / "soc_ft"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_tags(installed) == {}


def test_no_repository_is_no_error(tmp_path: Path) -> None:
    """Breaks if an installed wheel cannot start a run."""
    assert git_tags(tmp_path) == {}


def test_configurations_flatten() -> None:
    """Breaks if a key cannot be found again in MLflow, or short lists are torn apart."""
    config = {
        "lambda": 10.0,
        "trainer": {"betas": [0.9, 0.95], "clip": None, "empty": {}},
        "rewards": [{"name": "a"}, {"name": "b"}],
        "names": [],
    }
    expected = {
        "lambda": "10.0",
        "trainer.betas": "[0.9, 0.95]",
        "trainer.clip": "None",
        "trainer.empty": "{}",
        "rewards.0.name": "a",
        "rewards.1.name": "b",
        "names": "[]",
    }
    assert flatten(config) == expected
    assert flatten(OmegaConf.create(config)) == expected  # type: ignore[arg-type]


def test_addresses_lose_their_passwords() -> None:
    """Breaks if the tracking URI's password becomes a param that everybody can read."""
    flat = flatten({"tracking": {"uri": "postgresql://me:p@ss@host:5432/db"}})
    assert flat == {"tracking.uri": "postgresql://host:5432/db"}
