"""Deliver to MLflow what a run could not: ``python -m soc_ft.tracking <run folder>...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soc_ft.tracking.delivery import Delivery, backlog
from soc_ft.tracking.outbox import outbox_path
from soc_ft.tracking.store import reason


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the command line.

    Args:
        arguments: None takes those of the process.

    Returns:
        The exit code, the worst of all folders: 0 delivered, 1 not delivered, 2 never tracked.
    """
    parser = argparse.ArgumentParser(prog="python -m soc_ft.tracking", description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="run folder")
    parser.add_argument("--uri", help="tracking URI to use instead of the recorded one")
    options = parser.parse_args(arguments)
    return max(_deliver(run_dir, options.uri) for run_dir in options.run_dirs)


def _deliver(run_dir: Path, uri: str | None) -> int:
    if not outbox_path(run_dir).is_file():
        print(f"{run_dir}: holds no run that was tracked with MLflow", file=sys.stderr)
        return 2
    waiting = backlog(run_dir)
    delivery = Delivery(run_dir, uri)
    try:
        delivery.deliver()
    except Exception as error:  # of MLflow, its database driver or its HTTP client
        print(f"{run_dir}: {backlog(run_dir)} are not delivered ({reason(error)})", file=sys.stderr)
        return 1
    finally:
        delivery.close()
    print(f"{run_dir}: delivered {waiting}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
