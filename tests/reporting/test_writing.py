"""The report as a whole, on sweeps in every state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soc_ft.records.job import JobState
from soc_ft.reporting.writing import report_on
from tests.reporting.synthetic import (
    configuration,
    make_job,
    make_sweep,
    metrics,
    save_pictures,
    write_evaluation,
    write_run,
)

FILES = {
    "README.md",
    "index.html",
    "results.csv",
    "reward.png",
    "reward_diversity.png",
    "training.png",
    "control_cost.png",
    "adjoint_norm.png",
    "samples.png",
}


def make_mixed_sweep(folder: Path) -> Path:
    """A job that finished, one that failed in its middle, one killed at once, and one queued."""
    sweep = make_sweep(folder)
    jobs: list[tuple[JobState, str, str | None, dict]] = [
        (JobState.FINISHED, "", "done\n", {"validations": None}),
        (
            JobState.FAILED,
            "RunError: <b> | 3 & 4",
            "Fine-tuning: 1%\rFine-tuning: 75%\x1b[A\nRunError: <b> | `3`\n",
            {"validations": {0: metrics(1.0), 2: metrics(1.5)}, "train_steps": 3},
        ),
        (JobState.OUT_OF_MEMORY, "killed", None, {}),
        (JobState.QUEUED, "", None, {}),
    ]
    for number, (state, reason, log, run) in enumerate(jobs):
        overrides = ["experiment=x", f"lambda={10**number}", "seed=0", "prompts='[a|b]'"]
        config = configuration(strength=10.0**number)
        make_job(sweep, number, state, overrides, reason, log, config=config, **run)
    save_pictures(sweep / "0", 50)
    return sweep


def test_a_finished_sweep_has_every_part(tmp_path: Path) -> None:
    """Breaks if a part is missing, or the page does not show what README.md links."""
    for number, strength in enumerate([1.0, 10.0]):
        config = configuration(strength=strength)
        run = write_run(tmp_path / f"s/{number}", [f"lambda={strength:g}"], config=config)
        save_pictures(run, 50)
    folder = report_on(tmp_path / "s", tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == FILES
    readme, page = (folder / "README.md").read_text(), (folder / "index.html").read_text()
    for file in FILES - {"README.md", "index.html"}:
        assert f"]({file})" in readme
    assert page.count("data:image/png;base64,") == 6
    for text in (readme, page):
        assert "2 jobs: 2 finished." in text
        assert "Seed 0 after 4 optimizer steps" in text


def test_other_samplings_have_a_table(tmp_path: Path) -> None:
    """Breaks if evaluations in the jobs' folders are not shown, or damage to one stops the rest."""
    for number, strength in enumerate([1.0, 10.0]):
        config = configuration(strength=strength)
        run = write_run(tmp_path / f"s/{number}", [f"lambda={strength:g}"], config=config)
        write_evaluation(run, {"memoryless": (1.0, 2.0), "pretrained": (0.5, 1.5)})
    readme = (report_on(tmp_path / "s", tmp_path / "out") / "README.md").read_text()
    assert "## Under other samplings" in readme
    row = "| pretrained, eta 0, 5 steps | `lambda=10` | prompts (1 seed) | 1.50 ± 0.20 |"
    assert f"{row} 1.000 ± 0.098 |" in readme
    (tmp_path / "s/1/evaluation/metrics.csv").write_text("schedule,eta\nmemoryless,none\n")
    readme = (report_on(tmp_path / "s", tmp_path / "out") / "README.md").read_text()
    assert "metrics.csv cannot be read" in readme
    assert "| pretrained, eta 0, 5 steps | `lambda=1` |" in readme


def test_failures_are_explained_and_can_be_run_again(tmp_path: Path) -> None:
    """Breaks if the reason, the end of the log or the command is missing, or the log is shown
    with what a progress bar overwrote."""
    folder = report_on(make_mixed_sweep(tmp_path / "s"), tmp_path / "out")
    readme = (folder / "README.md").read_text()
    assert "4 jobs: 1 queued, 1 finished, 1 failed, 1 out of memory." in readme
    assert f"python -m soc_ft.report {tmp_path}/s --rerun-failed" in readme
    assert "Fine-tuning: 75%\nRunError: <b> | `3`\n```" in readme
    assert "Fine-tuning: 1%" not in readme
    assert "Job 2, out of memory (step 0 of 4): killed; there is no log" in readme
    page = (folder / "index.html").read_text()
    assert "RunError: &lt;b&gt; | 3 &amp; 4" in page
    assert "http" not in page


def test_the_origin_is_told(tmp_path: Path) -> None:
    """Breaks if a reader of the report cannot find out what was run."""
    sweep = make_mixed_sweep(tmp_path / "s")
    tags = {
        "mlflow.source.git.commit": "abc123",
        "git.dirty": "true",
        "version.torch": "2.15.0",
        "python": "3.11.2",
        "hostname": "secret-host",
    }
    (sweep / "0/tracking").mkdir()
    line = json.dumps({"kind": "start", "tags": tags})
    (sweep / "0/tracking/outbox.jsonl").write_text(f"{line}\n")
    readme = (report_on(sweep, tmp_path / "out") / "README.md").read_text()
    assert "python -m soc_ft -m lambda=1,10" in readme
    assert "Overrides of all jobs: `experiment=x 'prompts='" in readme
    assert "Git commit: abc123 with uncommitted changes" in readme
    assert "torch 2.15.0, python 3.11.2" in readme
    assert "Submitted: 2026-11-21 06:34 UTC" in readme
    assert "secret-host" not in readme


def test_nothing_finished_gives_the_states_alone(tmp_path: Path) -> None:
    """Breaks if a sweep that has just been submitted has an error, an empty table or a plot."""
    sweep = make_sweep(tmp_path / "s")
    make_job(sweep, 0, JobState.QUEUED, ["lambda=1"])
    make_job(
        sweep, 1, JobState.RUNNING, ["lambda=10"], validations={0: metrics(1.0)}, train_steps=1
    )
    folder = report_on(sweep, tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"README.md", "index.html", "results.csv"}
    readme = (folder / "README.md").read_text()
    assert "No job has been validated after some training yet" in readme
    assert "## Result" not in readme
    assert "running (step 1 of 4)" in readme


def test_notes_are_shown_first_and_kept(tmp_path: Path) -> None:
    """Breaks if what a person wrote is lost when the report is written again."""
    write_run(tmp_path / "s/0")
    notes = tmp_path / "out/notes.md"
    notes.parent.mkdir()
    notes.write_text("It *works*.\n")
    for _ in range(2):
        folder = report_on(tmp_path / "s", tmp_path / "out")
    assert notes.read_text() == "It *works*.\n"
    assert (folder / "README.md").read_text().startswith("# s\n\nIt *works*.\n\n1 job: 1 finished.")
    assert "<p>It <em>works</em>.</p>" in (folder / "index.html").read_text()


def test_the_same_sweep_gives_the_same_files(tmp_path: Path) -> None:
    """Breaks if a committed report changes without its sweep: a date in it, an unstable order."""
    sweep = make_mixed_sweep(tmp_path / "s")
    one, two = (report_on(sweep, tmp_path / name) for name in ("one", "two"))
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_reports_go_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the report of a sweep is written into the sweep, or two sweeps share a folder."""
    write_run(tmp_path / "multirun/2026-11-21/09-30-00-x/0")
    monkeypatch.chdir(tmp_path)
    folder = report_on(Path("multirun/2026-11-21/09-30-00-x"))
    assert folder == Path("multirun_reports/2026-11-21_09-30-00-x")
    assert "`multirun/2026-11-21/09-30-00-x/0`" in (folder / "README.md").read_text()
