"""``python -m soc_ft.report SWEEP``: the state of a sweep's jobs, and a report of their results.

With ``--rerun-failed`` the jobs that ended without finishing are first submitted again. The report
goes to ``multirun_reports/<sweep>/``, or to ``--output FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from soc_ft.errors import ConfigError, SocFtError
from soc_ft.sweeps.status import unfinished


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit as every command does for a wrong line."""
        self.exit(2, f"soc_ft: error: {message}; see {self.prog} --help\n")


def main() -> None:
    """Entry point of the command line."""
    parser = _Parser(
        prog="python -m soc_ft.report",
        description="The state of a sweep's jobs, and a report of their results.",
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep, or of several runs")
    parser.add_argument(
        "--output", type=Path, help="folder of the report (default: multirun_reports/<sweep>)"
    )
    parser.add_argument(
        "--rerun-failed",
        action="store_true",
        help="first submit again, into the same sweep, the jobs that ended without finishing",
    )
    parser.add_argument(
        "--launcher",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="what --rerun-failed changes of hydra.launcher, such as mem_gb=64",
    )
    arguments = parser.parse_args()
    if arguments.launcher and not arguments.rerun_failed:
        parser.error("--launcher has no effect without --rerun-failed")
    try:
        code = _report(arguments)
    except (SocFtError, OSError) as error:
        print(f"soc_ft: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    sys.exit(code)


def _report(arguments: argparse.Namespace) -> int:
    """The exit code: how many jobs have not finished after a rerun, else 0."""
    if arguments.rerun_failed:
        from soc_ft.sweeps.rerun import rerun_failed

        if not rerun_failed(arguments.sweep, arguments.launcher):
            print("no job has ended without finishing\n")
    from soc_ft.reporting.writing import report_sweep

    report_sweep(arguments.sweep, arguments.output)
    return unfinished(arguments.sweep) if arguments.rerun_failed else 0
