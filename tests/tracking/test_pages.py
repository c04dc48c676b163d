"""MLflow's own pages, opened in a browser: a sweep can be read there without knowing the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.tracking.sweep_report import link_report
from tests.tracking.sweeps import parent_of, put_lambda_sweep, runs_of

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]

README = "## Result\n\n| setting | reward |\n| --- | --- |\n| base model | 0.123 |\n"


class Browser:
    """Opens pages of a server, each as if for the first time."""

    def __init__(self, server: str, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._pages = 0

    def text(self, address: str) -> str:
        """What is written on a page once it stands still."""
        self._pages += 1
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={self._folder / str(self._pages)}"]
        command += ["--window-size=1900,1400", "--virtual-time-budget=60000"]
        page = f"{self._server}/{address}"
        done = subprocess.run([*command, page], capture_output=True, text=True, timeout=300)
        return " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", done.stdout, flags=re.S).split())


@pytest.fixture
def parent(server: Any, sweep: Path, tmp_path: Path) -> Any:
    """The run of a sweep over lambda on a server, with its report."""
    server.start()
    put_lambda_sweep(sweep, server.uri)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "README.md").write_text(README)
    assert "report attached to http://" in link_report(sweep, tmp_path / "report")
    return parent_of(server.uri)


@pytest.fixture
def pages(parent: Any) -> dict[str, str]:
    """Addresses that the description of the sweep links to, by the words of the link."""
    return dict(re.findall(r"\[([^\]]*)\]\((#[^)]*)\)", parent.data.tags["mlflow.note.content"]))


@pytest.fixture
def browser(server: Any, tmp_path: Path) -> Iterator[Browser]:
    return Browser(server.uri, tmp_path / "browser")


def test_the_sweep_has_a_page(browser: Browser, parent: Any) -> None:
    """Breaks if the description is not rendered, or the jobs are not listed by their names."""
    info = parent.info
    text = browser.text(f"#/experiments/{info.experiment_id}/runs/{info.run_id}")
    assert "2026-11-21_09-30-00-quickstart" in text
    assert "report · table of the jobs · curves · all parameters" in text
    assert "base model 0.123" in text
    assert "lambda=31.6 cfg=trajectories seed=1 (mine)" in text


def test_the_table_shows_the_jobs_by_lambda(browser: Browser, pages: dict[str, str]) -> None:
    """Breaks if MLflow no longer understands the view, and folds the jobs or hides lambda."""
    text = browser.text(pages["table of the jobs"])
    for strength in ("1", "10", "31.6", "100"):
        assert f"Group: {strength} 2" in text
        assert f"lambda={strength} cfg=trajectories seed=0" in text
    assert "val/reward" in text


def test_the_jobs_can_be_compared(
    browser: Browser, server: Any, parent: Any, pages: dict[str, str]
) -> None:
    """Breaks if the page that compares runs does not tell them apart by name and by lambda."""
    text = browser.text(pages["all parameters"])
    assert "Comparing 8 Runs from 1 Experiment" in text
    _, children = runs_of(server.uri)
    for child in children:
        assert child.info.run_name in text
    # The axes of the plot: what differs between the jobs, and the first metric.
    plot = text[text.index("Parameters:") : text.index("Run details")]
    for name in ("lambda", "seed", "val/reward"):
        assert name in plot
    assert "run_dir" not in plot
