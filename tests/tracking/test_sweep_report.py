"""The report of a sweep is linked from MLflow, and nothing there can spoil the report."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from soc_ft.tracking import sweep_report as sweep_module
from soc_ft.tracking.outbox import End, Outbox, Start
from soc_ft.tracking.store import TrackedRun
from soc_ft.tracking.sweep_report import link_report
from soc_ft.tracking.views import links, sweep_view, varied_params
from tests.tracking.sweeps import parent_of, put, put_lambda_sweep, runs_of

README = """# quickstart

2 jobs: 2 finished.

## Result

| setting | reward |
| --- | --- |
| `lambda=10` | 0.3 |

Every run: [results.csv](results.csv), [paper](https://example.org/paper).

## Reward

![Reward](reward.png)
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "multirun_reports" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(README)
    for name in ("index.html", "results.csv", "reward.png", "notes.md"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def hanging_server() -> Iterator[str]:
    """It takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def move_store(sweep: Path, uri: str) -> None:
    """Let the first job of a sweep have been tracked at another address."""
    Outbox(sweep / "0").put(Start(uri, "soc_ft", None, str(sweep), {}, {}))


def test_the_report_is_attached(sweep: Path, uri: str, report: Path, tmp_path: Path) -> None:
    """Breaks if a person in front of MLflow finds a sweep, but not what it showed."""
    put_lambda_sweep(sweep, uri)
    for _ in range(2):
        line = link_report(sweep, report)
        parent = parent_of(uri)
        assert line == (
            "MLflow: report attached to 2026-11-21_09-30-00-quickstart in "
            f"{uri.partition('?')[0]} (finished)"
        )
        folder = tmp_path / "store" / "mlartifacts" / "soc_ft" / parent.info.run_id / "artifacts"
        files = {path.name: path.read_text() for path in (folder / "report").iterdir()}
        assert files.pop("README.md") == README
        assert files == {name: name for name in ("index.html", "results.csv", "reward.png")}
        assert parent.info.status == "FINISHED"
        note = parent.data.tags["mlflow.note.content"]
        assert f"On disk: `{report}`" in note
        assert "/artifacts/report/index.html" in note
        assert "| `lambda=10` | 0.3 |" in note
        assert "Every run: results.csv, [paper](https://example.org/paper)." in note
        assert "# quickstart" not in note
        assert "reward.png" not in note


def test_a_long_report_is_cut_between_lines(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if a sweep of many jobs has no description because MLflow finds it too long."""
    put(sweep, uri, 0, "start", "FINISHED")
    (report / "README.md").write_text("| lambda | reward |\n" * 1000)
    assert "report attached" in link_report(sweep, report)
    note = parent_of(uri).data.tags["mlflow.note.content"]
    assert 4000 < len(note) <= 5000
    assert note.endswith("| lambda | reward |\n")


def test_a_sweep_in_progress_stays_in_progress(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if looking at half a sweep declares it finished."""
    put(sweep, uri, 0, "start", "FINISHED")
    put(sweep, uri, 1, "start")
    assert link_report(sweep, report).endswith("(running)")
    assert parent_of(uri).info.status == "RUNNING"


def test_killed_jobs_are_closed(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if a job that was killed runs for ever in MLflow, and its sweep with it."""
    put(sweep, uri, 0, "start", "FINISHED")
    put(sweep, uri, 1, "start")
    assert link_report(sweep, report, failed=[sweep / "1"]).endswith("(failed)")
    assert parent_of(uri).info.status == "FAILED"
    _, children = runs_of(uri)
    assert [child.info.status for child in children] == ["FINISHED", "FAILED"]
    put(sweep, uri, 1, "start", "FINISHED")
    assert link_report(sweep, report).endswith("(finished)")


def test_jobs_that_never_began_have_failed(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if a sweep waits for ever for a job that was cancelled in the queue."""
    put(sweep, uri, 0, "start", "FINISHED")
    for number in range(2):
        (sweep / str(number)).mkdir(exist_ok=True)
        (sweep / str(number) / "job.yaml").write_text("")
    assert link_report(sweep, report).endswith("(running)")
    assert link_report(sweep, report, failed=[sweep / "1"]).endswith("(failed)")


def test_the_end_of_a_sweep_does_not_move(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if writing the report again tomorrow makes the sweep a day longer."""
    put(sweep, uri, 0, "start", "FINISHED")
    ended = parent_of(uri).info.end_time
    time.sleep(0.01)
    link_report(sweep, report)
    assert parent_of(uri).info.end_time == ended


def test_a_sweep_that_was_not_tracked(sweep: Path, report: Path) -> None:
    """Breaks if tracking=none turns the end of a sweep into an error."""
    (sweep / "0").mkdir()
    assert link_report(sweep, report) == "MLflow: no job of this sweep was tracked"


def test_a_sweep_that_was_not_delivered(sweep: Path, uri: str, report: Path) -> None:
    """Breaks if a sweep whose server was down all the time does not say what to do."""
    move_store(sweep, uri)
    Outbox(sweep / "0").put(End("FINISHED"))
    line = link_report(sweep, report)
    assert line == (
        "MLflow: nothing of this sweep is delivered; to deliver the rest: "
        f"python -m soc_ft.tracking {sweep / '0'}"
    )


@pytest.mark.parametrize("ending", ["dead", "gone", "unknown", "deleted", "no report"])
def test_whatever_happens_is_one_line(
    sweep: Path, uri: str, report: Path, tmp_path: Path, empty_database: Path, ending: str
) -> None:
    """Breaks if a report that was written is followed by a traceback about MLflow."""
    from mlflow import MlflowClient

    put(sweep, uri, 0, "start", "FINISHED")
    if ending == "dead":
        move_store(sweep, "http://me:secret@127.0.0.1:9")
    elif ending == "gone":
        (tmp_path / "store" / "mlflow.db").unlink()
    elif ending == "unknown":
        shutil.copy(empty_database, tmp_path / "store" / "mlflow.db")
    elif ending == "deleted":
        MlflowClient(uri).delete_run(parent_of(uri).info.run_id)
    else:
        shutil.rmtree(report)
    began = time.monotonic()
    line = link_report(sweep, report)
    assert time.monotonic() - began < 20
    assert line.startswith("MLflow: the report is not attached (")
    assert line.endswith(f"to try again: python -m soc_ft.report {sweep}")
    assert "\n" not in line
    assert "secret" not in line
    if ending == "gone":
        assert not (tmp_path / "store" / "mlflow.db").exists()


def test_a_server_that_hangs_is_given_up(
    sweep: Path, uri: str, report: Path, hanging_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the end of a sweep waits for a server that will not answer."""
    monkeypatch.setattr(sweep_module, "PATIENCE", 0.5)
    put(sweep, uri, 0, "start", "FINISHED")
    move_store(sweep, hanging_server)
    began = time.monotonic()
    assert "(no answer for 0.5 s)" in link_report(sweep, report)
    assert time.monotonic() - began < 20


def jobs_with(*params: dict[str, str]) -> list[TrackedRun]:
    return [TrackedRun(f"{number:032x}", "FINISHED", each) for number, each in enumerate(params)]


@pytest.mark.parametrize(
    ("params", "varied"),
    [
        ([{"lambda": "1", "seed": "0"}, {"lambda": "1", "seed": "1"}], []),
        ([{"lambda": "1", "run_dir": "a"}, {"lambda": "10", "run_dir": "b"}], ["lambda"]),
        (
            [
                {"cfg_mode": "none", "cfg_mode.guidance_scale": "1.0", "trainer.lr": "1"},
                {"cfg_mode": "full", "cfg_mode.guidance_scale": "7.5", "trainer.lr": "2"},
            ],
            ["cfg_mode", "trainer.lr"],
        ),
        ([{"finetune": "full"}, {"finetune": "lora", "finetune.rank": "4"}], ["finetune"]),
        ([{"tracking.uri": "a", "trainer.devices": "1"}, {"tracking.uri": "b"}], []),
        ([dict.fromkeys("abcde", "1"), {}], ["a", "b", "c"]),
    ],
)
def test_what_tells_jobs_apart(params: list[dict[str, str]], varied: list[str]) -> None:
    """Breaks if the table of a sweep hides what was varied, or shows what follows from it."""
    assert varied_params(params) == varied


def test_seeds_are_averaged() -> None:
    """Breaks if repeats are not grouped, or every single run becomes a group."""
    lambdas = [{"lambda": "1", "seed": "0"}, {"lambda": "10", "seed": "0"}]
    _, alone = sweep_view("p", jobs_with(*lambdas))
    key, repeated = sweep_view("p", jobs_with(*lambdas, {"lambda": "10", "seed": "1"}))
    assert key == "mlflow.sharedViewState.p"
    assert "groupBy" not in json.loads(alone)
    group = json.loads(repeated)["groupBy"]["groupByKeys"]
    assert group == [{"mode": "param", "groupByData": "lambda"}]


def test_a_large_sweep_has_no_page_that_compares_all() -> None:
    """Breaks if a hundred ids push the results out of the description."""
    few, many = (jobs_with(*[{}] * count) for count in (20, 21))
    assert "#/compare-runs?" in links("1", "p", few, "report/index.html")
    assert len(links("1", "p", few, "report/index.html")) < 1500
    assert "#/compare-runs?" not in links("1", "p", many, "report/index.html")
