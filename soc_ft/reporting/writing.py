"""Writing a report into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from soc_ft.files import replace_file
from soc_ft.reporting.aggregating import BaseModel, Summary, base_models, summarise
from soc_ft.reporting.content import NO_RESULT, RESULTS_FILE, compose
from soc_ft.reporting.html import to_html
from soc_ft.reporting.markdown import to_markdown
from soc_ft.reporting.reading import Sweep, read
from soc_ft.reporting.settings import Setting, group_by_setting
from soc_ft.reporting.tables import counts, csv_table, job_table, result_table, to_terminal
from soc_ft.summary import shown

REPORTS = Path("multirun_reports")
NOTES_FILE = "notes.md"


@dataclass(frozen=True)
class Report:
    """A sweep and what follows from it."""

    sweep: Sweep

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
        from soc_ft.reporting.comparison import Comparison
        from soc_ft.reporting.pictures import draw_grids
        from soc_ft.reporting.plots import draw

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
    print(f"report: {shown(folder / 'README.md')}, {shown(folder / 'index.html')}")
    return folder


def _default_folder(sweep: Sweep) -> Path:
    """Below the current folder."""
    return REPORTS / sweep.name
