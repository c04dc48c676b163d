"""A sweep is read from disk, whatever state its runs are in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.job import JobState
from soc_ft.reporting.content import compose
from soc_ft.reporting.pictures import draw_grids
from soc_ft.reporting.reading import read
from soc_ft.reporting.writing import Report
from tests.reporting.synthetic import (
    configuration,
    make_job,
    make_sweep,
    metrics,
    save_pictures,
    write_run,
)


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


DAMAGES = {
    "nothing": b"",
    "a number": b"3\n",
    "a list": b"[1, 2]\n",
    "other values": b'{"0": 3, "seed": "many", "lambda": [1], "validation": 3, "step": 1}\n',
    "a record of words": b'{"seq": 1, "step": 3, "time": 0, "metrics": {"val/reward": "many"}}\n',
    "a tag": b"seed: !!python/object/apply:os.system ['touch witness']\n",
    "depth": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_of_a_job_leaves_the_report_of_the_others(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if one file of one job, whatever is in it, ends the report or runs code."""
    monkeypatch.chdir(tmp_path)
    sweep = make_sweep(tmp_path / "s")
    for number in (0, 1):
        choices, config = {"reward": "shapes"}, configuration(strength=number + 1.0)
        job = make_job(
            sweep, number, JobState.FINISHED, [], "", "x\n", choices=choices, config=config
        )
        write_run(job, config=config, choices=choices)
        save_pictures(job, 100)
    (job / "tracking").mkdir()
    (job / "tracking/outbox.jsonl").touch()
    for file in [path for path in job.rglob("*") if path.is_file()]:
        before = file.read_bytes()
        file.write_bytes(DAMAGES[damage])
        report = Report(read(sweep))
        whole, damaged = report.sweep.runs
        assert (whole.problem, whole.last_step) == ("", 4), file
        assert "\n" not in damaged.problem + damaged.job.reason
        compose(report.sweep, report.settings, report.summaries, report.bases, [], [], "")
        draw_grids(report.bases, tmp_path)
        file.write_bytes(before)
    assert not (tmp_path / "witness").exists()


def test_a_job_that_cannot_be_read_is_lost_and_says_why(tmp_path: Path) -> None:
    """Breaks if a damaged record of a job is taken for an end of it, or not named."""
    sweep = make_sweep(tmp_path / "s")
    for file in ("job.yaml", "status.json", "submissions.jsonl"):
        job = make_job(sweep, 0, JobState.FINISHED, log="x\n")
        (job / file).write_text("{nonsense\n")
        (run,) = read(sweep).runs
        assert run.job.state == JobState.LOST
        assert re.search(rf"{file}(, line \d)?: is damaged", run.job.reason)
        (job / file).unlink()


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
