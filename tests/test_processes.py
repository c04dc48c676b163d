"""How the process of a command ends when a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

COMMAND = """
import time
from soc_ft.processes import ending_in_one_line
with ending_in_one_line():
    print("in", flush=True)
    time.sleep(60)
"""


def ended_by(number: int, *, nohup: bool = False, **variables: str) -> tuple[int, str]:
    """Exit code and what is said by a process that gets a signal."""
    # Stated either way: these tests may run under nohup, or in the background of a script.
    handlers = {"SIGHUP": "SIG_IGN" if nohup else "SIG_DFL", "SIGINT": "default_int_handler"}
    lines = [f"signal.signal(signal.{name}, signal.{each})" for name, each in handlers.items()]
    setup = "\n".join(("import signal", *lines))
    process = subprocess.Popen(
        [sys.executable, "-c", setup + COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    if nohup and number == signal.SIGHUP:
        process.send_signal(signal.SIGTERM)
    return process.wait(), process.communicate()[1]


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_a_signal_is_one_line_and_the_exit_code_of_a_shell(
    number: int, code: int, name: str
) -> None:
    """Breaks if Ctrl-C prints a traceback, or SIGTERM ends a process before it has tidied up."""
    assert ended_by(number) == (code, f"soc_ft: stopped by {name}\n")


def test_nohup_goes_on() -> None:
    """Breaks if a run under `nohup` ends with the terminal."""
    assert ended_by(signal.SIGHUP, nohup=True) == (143, "soc_ft: stopped by SIGTERM\n")


def test_one_process_of_a_job_speaks() -> None:
    """Breaks if every rank prints the line, or ends with a code that ends the others."""
    assert ended_by(signal.SIGTERM, LOCAL_RANK="1") == (0, "")
