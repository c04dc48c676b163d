"""``python -m soc_ft.report SWEEP``: the state of a sweep's jobs, and a report of their results.

The report goes to ``multirun_reports/<sweep>/``, or to ``--output FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soc_ft.errors import ConfigError


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
    from soc_ft.reporting import report_on

    try:
        report_on(arguments.sweep, arguments.output)
    except ConfigError as error:
        sys.exit(f"soc_ft: error: {error}")


if __name__ == "__main__":
    main()
