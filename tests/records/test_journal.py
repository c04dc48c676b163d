"""The journal loses nothing, whatever happens to the process that writes it."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soc_ft.errors import RunError
from soc_ft.records.journal import Journal

ENDLESS_WRITER = """
import sys
from pathlib import Path
from soc_ft.records.journal import Journal
journal = Journal(Path(sys.argv[1]))
step = journal.position()
while True:
    step += 1
    journal.append(step, {"train/loss": step / 7})
"""

WRITER_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from soc_ft.errors import RunError
from soc_ft.records.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]))
try:
    for step in range(1000):
        journal.append(step, {"train/loss": 0.5})
except RunError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_records_come_back_in_order_with_their_numbers(path: Path) -> None:
    """Breaks if a value is rounded, a record is lost, or numbering does not start at 1."""
    journal = Journal(path)
    journal.append(5, {"train/loss": 0.1 + 0.2, "lr": 3e-6})
    journal.append(10, {"val/reward": -1})
    first, second = Journal(path).read()
    assert (first.seq, first.step, first.metrics) == (1, 5, {"train/loss": 0.1 + 0.2, "lr": 3e-6})
    assert (second.seq, second.step, second.metrics) == (2, 10, {"val/reward": -1.0})
    assert abs(first.time - time.time()) < 60


def test_a_run_without_records_has_an_empty_journal(path: Path) -> None:
    """Breaks if reading needs the file, or creates it."""
    assert Journal(path).read() == []
    assert Journal(path).position() == 0
    assert not path.exists()


def test_values_that_are_not_finite_survive_as_strict_json(path: Path) -> None:
    """Breaks if NaN makes the file unreadable for other programs, or changes."""
    Journal(path).append(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    (record,) = Journal(path).read()
    assert math.isnan(record.metrics["a"])
    assert (record.metrics["b"], record.metrics["c"]) == (math.inf, -math.inf)


def test_a_torn_last_line_is_ignored_and_then_repaired(path: Path) -> None:
    """Breaks if a kill in the middle of a write makes the journal unreadable or glues lines."""
    journal = Journal(path)
    for step in (1, 2, 3):
        journal.append(step, {"loss": step})
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)
    assert [record.step for record in Journal(path).read()] == [1, 2]
    assert path.read_bytes() == torn
    Journal(path).append(3, {"loss": 3})
    assert [(record.seq, record.step) for record in Journal(path).read()] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_a_killed_writer_leaves_every_complete_record(path: Path) -> None:
    """Breaks if records wait in a buffer of the process, or a second writer cannot go on."""
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", ENDLESS_WRITER, str(path)])
        size = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size < size + 20_000:
            time.sleep(0.01)
        writer.kill()
        writer.wait()
    records = Journal(path).read()
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert all(record.metrics == {"train/loss": record.step / 7} for record in records)


def test_a_full_disk_is_one_error_and_a_readable_journal(path: Path) -> None:
    """Breaks if a short write leaves half a line in the middle, or its error is not a RunError."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER_ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "metrics.jsonl: cannot be appended to" in done.stdout
    assert path.read_bytes().endswith(b"\n")
    assert len(Journal(path).read()) > 5


def test_a_damaged_line_is_named(path: Path) -> None:
    """Breaks if damage before the last line is silently skipped."""
    journal = Journal(path)
    for step in (1, 2, 3):
        journal.append(step, {"loss": step})
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "\0\0\0\n" + lines[2])
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2: is damaged"):
        Journal(path).read()


def test_a_rewound_journal_goes_on_as_if_never_interrupted(path: Path) -> None:
    """Breaks if a resumed run keeps records past its checkpoint, or numbers them differently."""
    journal = Journal(path)
    for step in (1, 2, 3):
        journal.append(step, {"loss": step})
    position = journal.position()
    journal.append(3, {"val/reward": 0.5})
    journal.append(4, {"loss": 4})
    resumed = Journal(path)
    resumed.rewind(position)
    assert [record.seq for record in resumed.read()] == [1, 2, 3]
    assert resumed.append(3, {"val/reward": 0.5}).seq == 4
    assert resumed.append(4, {"loss": 4}).seq == 5


def test_the_writing_journal_can_be_rewound(path: Path) -> None:
    """Breaks if appends after a rewind go to the file that was replaced."""
    journal = Journal(path)
    for step in (1, 2, 3):
        journal.append(step, {"loss": step})
    journal.rewind(0)
    journal.append(9, {"loss": 9})
    assert [(record.seq, record.step) for record in journal.read()] == [(1, 9)]
