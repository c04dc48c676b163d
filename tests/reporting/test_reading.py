"""A sweep is read from disk, whatever state its runs are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.job import JobState
from soc_ft.reporting.reading import read
from tests.reporting.synthetic import configuration, make_job, make_sweep, metrics, write_run


def test_half_a_run_gives_the_validations_of_its_journal(tmp_path: Path) -> None:
    """Breaks if a run counts only once results.json is there, which is written at its end."""
    half = {0: metrics(1.0), 2: metrics(1.5, 0.5)}
    write_run(tmp_path / "s/0", validations=half, finished=False, train_steps=3)
    (run,) = read(tmp_path / "s").runs
    assert run.last_step == 2
    assert run.validations[2] == half[2]
    assert run.base == half[0]


def test_totals_are_sums_over_the_journal(tmp_path: Path) -> None:
    """Breaks if the cost of a run is that of its last step, or goes on after the step asked for."""
    write_run(tmp_path / "s/0")
    (run,) = read(tmp_path / "s").runs
    assert run.totals("evaluations_") == {"forward": 80.0, "backward": 40.0}
    assert run.totals("seconds_", until=3) == {"rollout": 21.0, "regression": 9.0}
    assert run.peak_memory == 104.0


def test_a_queued_job_tells_its_configuration(tmp_path: Path) -> None:
    """Breaks if a job that has not started stops the report, or has no seed in it."""
    sweep = make_sweep(tmp_path / "s")
    choices = {"cfg_mode": "none"}
    make_job(sweep, 0, JobState.QUEUED, ["seed=7"], config=configuration(seed=7), choices=choices)
    (run,) = read(sweep).runs
    assert run.seed == 7
    assert run.choices == choices
    assert run.base is None
    assert len(run.hash) == 12


def test_damage_to_one_run_is_told_and_leaves_the_others(tmp_path: Path) -> None:
    """Breaks if one unreadable file, such as one that is just being written, ends the report."""
    for number in (0, 1):
        write_run(tmp_path / f"s/{number}")
    (tmp_path / "s/0/metrics.jsonl").write_text("{nonsense\n")
    (tmp_path / "s/0/results.json").write_text('{"0": {')
    damaged, whole = read(tmp_path / "s").runs
    assert "metrics.jsonl cannot be read" in damaged.problem
    assert "results.json cannot be read" in damaged.problem
    assert "\n" not in damaged.problem
    assert whole.problem == ""
    assert whole.last_step == 4


def test_tags_are_those_of_the_last_start(tmp_path: Path) -> None:
    """Breaks if a report names the commit of a run's first attempt, or needs MLflow to name it."""
    run = write_run(tmp_path / "s/0")
    entries = [{"kind": "start", "tags": {"commit": c}} for c in ("old", "new")]
    (run / "tracking").mkdir()
    lines = [json.dumps(entry) for entry in [*entries, {"kind": "end", "status": "FINISHED"}]]
    (run / "tracking/outbox.jsonl").write_text("\n".join(lines) + "\n")
    assert read(tmp_path / "s").runs[0].tags == {"commit": "new"}


def test_an_untracked_job_has_the_commit_of_the_code_it_was_given(tmp_path: Path) -> None:
    """Breaks if a sweep with tracking=none does not say which code it ran."""
    sweep = make_sweep(tmp_path / "s")
    make_job(sweep, 0, JobState.FINISHED, log="done\n", validations=None)
    (sweep / "code-1").mkdir()
    (sweep / "code-1/tags.json").write_text('{"git.dirty": "false"}')
    assert read(sweep).runs[0].tags == {"git.dirty": "false"}


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    """Breaks when an empty folder, or none at all, gives an empty report."""
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=str(folder)):
            read(folder)
