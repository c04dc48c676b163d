"""``python -m soc_ft.report SWEEP``: the state of a sweep's jobs, and a report of their results.

The report goes to ``multirun_reports/<sweep>/``, or to ``--output FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soc_ft.errors import ConfigError
from soc_ft.summary import shown


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m soc_ft.report",
        description="The state of a sweep's jobs, and a report of their results.",
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep, or of several runs")
    parser.add_argument(
        "--output", type=Path, help="folder of the report (default: multirun_reports/<sweep>)"
    )
    arguments = parser.parse_args()
    try:
        report(arguments.sweep, arguments.output)
    except ConfigError as error:
        sys.exit(f"soc_ft: error: {error}")


def report(folder: Path, output: Path | None) -> None:
    """Print the state of the jobs and the results so far, and write the report.

    Raises:
        ConfigError: there is no run in the folder.
    """
    from soc_ft.reporting.content import NO_RESULT
    from soc_ft.reporting.reading import read
    from soc_ft.reporting.tables import counts, job_table, result_table, to_terminal
    from soc_ft.reporting.writing import Report, report_folder

    found = Report(read(folder))
    runs = found.sweep.runs
    print(f"{counts(runs)}\n\n{to_terminal(job_table(found.sweep, found.settings))}\n", flush=True)
    table = (
        to_terminal(result_table(found.summaries, found.bases)) if found.summaries else NO_RESULT
    )
    print(f"{table}\n", flush=True)
    output = output or report_folder(found.sweep)
    found.write(output)
    print(f"report: {shown(output / 'README.md')}, {shown(output / 'index.html')}")


if __name__ == "__main__":
    main()
