"""Writing a report into its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from soc_ft.files import displayed, replace_file
from soc_ft.records.job import JobState
from soc_ft.reporting.aggregating import BaseModel, Summary, base_models, summarise
from soc_ft.reporting.comparison import Comparison
from soc_ft.reporting.content import NO_RESULT, RESULTS_FILE, compose
from soc_ft.reporting.curve_plots import (
    plot_adjoint_norm,
    plot_budgets,
    plot_control_cost,
    plot_training,
)
from soc_ft.reporting.document import Picture
from soc_ft.reporting.html import to_html
from soc_ft.reporting.markdown import to_markdown
from soc_ft.reporting.reading import SweepResult, read
from soc_ft.reporting.reward_plots import plot_reward, plot_tradeoff
from soc_ft.reporting.settings import Setting, group_by_setting
from soc_ft.reporting.tables import counts, csv_table, job_table, result_table, to_terminal
from soc_ft.sweeps.status import read_sweep

REPORTS = Path("multirun_reports")
NOTES_FILE = "notes.md"

PLOTS: tuple[tuple[str, str, Callable[[Comparison, Path], str]], ...] = (
    ("reward.png", "Reward", plot_reward),
    ("reward_diversity.png", "Reward against diversity", plot_tradeoff),
    ("budgets.png", "Gain by what it costs", plot_budgets),
    ("training.png", "Training curves", plot_training),
    ("control_cost.png", "Control cost", plot_control_cost),
    ("adjoint_norm.png", "Norm of the adjoint", plot_adjoint_norm),
)
"""File, title, and what draws it and returns its caption, or "" without its data."""


@dataclass(frozen=True)
class Report:
    """A sweep and what follows from it."""

    sweep: SweepResult

    @cached_property
    def settings(self) -> Sequence[Setting]:
        """In the order of the jobs."""
        return group_by_setting(self.sweep.runs)

    @cached_property
    def summaries(self) -> Sequence[Summary]:
        """Of all settings, those without a result included; none if there is no result at all."""
        if not any(setting.measured for setting in self.settings):
            return []
        return [summarise(setting) for setting in self.settings]

    @cached_property
    def bases(self) -> Sequence[BaseModel]:
        """Base models of the settings."""
        return base_models(self.settings)

    def write(self, folder: Path) -> None:
        """Write README.md, index.html, results.csv and the pictures. ``notes.md`` is only read.

        Raises:
            OSError: a file cannot be written.
        """
        from soc_ft.reporting.pictures import draw_grids

        folder.mkdir(parents=True, exist_ok=True)
        measured = [summary for summary in self.summaries if summary.setting.measured]
        plots = draw(Comparison(measured, self.bases, self.settings), folder) if measured else []
        grids = draw_grids(self.bases, folder)
        notes = folder / NOTES_FILE
        document = compose(
            self.sweep,
            self.settings,
            self.summaries,
            self.bases,
            plots,
            grids,
            notes.read_text() if notes.is_file() else "",
        )
        replace_file(folder / RESULTS_FILE, csv_table(self.sweep).encode())
        replace_file(folder / "README.md", to_markdown(document).encode())
        replace_file(folder / "index.html", to_html(document, folder).encode())


def report_sweep(sweep: Path, output: Path | None = None) -> None:
    """Print the state of a sweep, write its report and attach that to the sweep's run in MLflow.

    Raises:
        ConfigError: there is no run in the folder.
        OSError: a file cannot be written.
    """
    from soc_ft.tracking.sweep_report import link_report

    folder = report_on(sweep, output)
    jobs = read_sweep(sweep)
    failed = [
        job.folder for job in jobs if not job.state.waiting and job.state != JobState.FINISHED
    ]
    print(link_report(sweep, folder, failed))


def report_on(sweep: Path, output: Path | None = None) -> Path:
    """Print the state of the jobs and the results so far, and write the report.

    Returns:
        The folder of the report.

    Raises:
        ConfigError: there is no run in the folder.
        OSError: a file cannot be written.
    """
    report = Report(read(sweep))
    jobs = job_table(report.sweep, report.settings)
    print(f"{counts(report.sweep.runs)}\n\n{to_terminal(jobs)}\n", flush=True)
    results = result_table(report.summaries, report.bases) if report.summaries else None
    print(f"{to_terminal(results) if results else NO_RESULT}\n", flush=True)
    folder = output or _default_folder(report.sweep)
    report.write(folder)
    print(f"report: {displayed(folder / 'README.md')}, {displayed(folder / 'index.html')}")
    return folder


def _default_folder(sweep: SweepResult) -> Path:
    """Below the current folder."""
    return REPORTS / sweep.name


def draw(comparison: Comparison, folder: Path) -> list[Picture]:
    """Write the plots as PNG files, which the returned pictures name.

    A plot of an earlier report whose data are gone is removed.
    """
    drawn = []
    for file, title, plot in PLOTS:
        caption = plot(comparison, folder / file)
        if caption:
            drawn.append(Picture(file, title, caption))
        else:
            (folder / file).unlink(missing_ok=True)
    return drawn
