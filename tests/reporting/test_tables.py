"""Tables for the report, the terminal and other programs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from soc_ft.records.job import JobState
from soc_ft.reporting.aggregating import base_models, summarise
from soc_ft.reporting.document import plain
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import group_by_setting
from soc_ft.reporting.tables import counts, csv_table, job_table, result_table, to_terminal
from tests.reporting.synthetic import configuration, make_job, make_sweep, metrics, write_run


def sweep_in_every_state(folder: Path) -> Path:
    """Two settings with two seeds: finished twice, failed, running, and queued."""
    sweep = make_sweep(folder)
    half = {0: metrics(1.0), 2: metrics(1.5, 0.5)}
    done = {0: metrics(1.0), 4: metrics(2.0, 1.0)}
    jobs = [
        (JobState.FINISHED, 1, 0, "", {"validations": done}),
        (JobState.FINISHED, 1, 1, "", {"validations": done}),
        (JobState.FAILED, 10, 0, "RunError: a | b", {"validations": half, "train_steps": 3}),
        (JobState.RUNNING, 10, 1, "", {"validations": half, "train_steps": 2}),
        (JobState.QUEUED, 10, 2, "", {}),
    ]
    for number, (state, strength, seed, reason, run) in enumerate(jobs):
        overrides = [f"lambda={strength}", f"seed={seed}"]
        config = configuration(seed, strength)
        choices = {"cfg_mode": "none", "reward": "shapes"}
        make_job(sweep, number, state, overrides, reason, config=config, choices=choices, **run)
    return sweep


def test_every_run_has_a_row_with_all_its_numbers(tmp_path: Path) -> None:
    """Breaks if a column that other programs read is missing, shifted or rounded."""
    text = csv_table(read(sweep_in_every_state(tmp_path / "s")))
    rows = list(csv.DictReader(io.StringIO(text)))
    first, failed, queued = rows[0], rows[2], rows[4]
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["lambda"] for row in rows] == ["1", "1", "10", "10", "10"]
    assert {row["cfg_mode"] for row in rows} == {"none"}
    assert {row["reward"] for row in rows} == {"shapes"}
    assert (first["state"], first["seed"], first["step"], first["steps"]) == (
        "finished",
        "0",
        "4",
        "4",
    )
    assert (first["base/reward"], first["base/reward_error"]) == ("1.0", "0.1")
    assert (first["val/reward"], first["val/gain"], first["val/gain_error"]) == (
        "2.0",
        "1.0",
        "0.1",
    )
    assert (first["seconds_rollout"], first["seconds_total"]) == ("28.0", "40.0")
    assert (first["evaluations_backward"], first["evaluations_total"]) == ("40.0", "120.0")
    assert first["peak_memory_mib"] == "104.0"
    assert first["folder"].endswith("s/0")
    assert "base/gain" not in first
    assert (failed["state"], failed["reason"]) == ("failed", "RunError: a | b")
    assert (failed["step"], failed["val/reward"], failed["seconds_total"]) == ("2", "1.5", "30.0")
    assert (queued["state"], queued["seed"], queued["val/reward"], queued["step"]) == (
        "queued",
        "2",
        "",
        "",
    )
    assert first["config_hash"] != rows[1]["config_hash"]


def test_the_result_says_what_each_interval_is_over(tmp_path: Path) -> None:
    """Breaks if intervals over prompts cannot be told from those over seeds, or seeds that failed
    go unmentioned."""
    settings = group_by_setting(read(sweep_in_every_state(tmp_path / "s")).runs)
    table = result_table([summarise(s) for s in settings], base_models(settings))
    column = list(table.header).index("interval over")
    cells = [[plain(cell) for cell in row] for row in table.rows]
    assert [row[0] for row in cells] == ["base model", "lambda=1", "lambda=10"]
    assert [row[column] for row in cells] == ["2 seeds", "2 seeds", "2 of 3 seeds"]
    alone = group_by_setting(read(write_run(tmp_path / "one" / "0").parent).runs)
    table = result_table([summarise(s) for s in alone], base_models(alone))
    assert [plain(row[column]) for row in table.rows] == ["prompts (1 seed)"] * 2


def test_a_setting_without_a_result_keeps_its_row(tmp_path: Path) -> None:
    """Breaks if a setting whose jobs all failed vanishes from the result."""
    write_run(tmp_path / "s/0", ["lambda=1"])
    write_run(tmp_path / "s/1", ["lambda=10"], {0: metrics(1.0)}, finished=False)
    settings = group_by_setting(read(tmp_path / "s").runs)
    table = result_table([summarise(s) for s in settings], base_models(settings))
    assert [plain(cell) for cell in table.rows[-1]][:4] == ["lambda=10", "", "0 of 1 seed", ""]


def test_jobs_tell_their_state(tmp_path: Path) -> None:
    """Breaks if the steps of a running job, or the reason of a failure, are not shown."""
    sweep = read(sweep_in_every_state(tmp_path / "s"))
    assert counts(sweep.runs) == "5 jobs: 1 queued, 1 running, 2 finished, 1 failed"
    table = job_table(sweep, group_by_setting(sweep.runs))
    assert list(table.header) == ["job", "setting", "seed", "state", "reason", "folder"]
    states = [plain(row[3]) for row in table.rows]
    assert states == [
        "finished",
        "finished",
        "failed (step 3 of 4)",
        "running (step 2 of 4)",
        "queued",
    ]
    assert plain(table.rows[2][4]) == "RunError: a | b"


def test_the_terminal_shows_aligned_columns(tmp_path: Path) -> None:
    """Breaks if a long label shifts the numbers of its row."""
    sweep = read(sweep_in_every_state(tmp_path / "s"))
    settings = group_by_setting(sweep.runs)
    table = result_table([summarise(s) for s in settings], base_models(settings))
    header, *rows = to_terminal(table).splitlines()
    end = header.index("reward") + len("reward")
    assert [row[:end].split("  ")[-1].strip() for row in rows] == ["1", "2", "1.5"]
