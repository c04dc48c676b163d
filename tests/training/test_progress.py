"""What a run says of the time that it will take."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from soc_ft.training import run, session
from soc_ft.training.progress import duration, remaining_seconds


def test_a_collection_counts_once_a_round() -> None:
    """Breaks if replay, whose first step collects for all passes, seems many times as long."""
    assert remaining_seconds(10.0, collecting=0.0, step=1, last=5, per_round=1) == 40.0
    # Steps 2 to 4 use the first collection, 5 to 8 the second, 9 and 10 the third.
    assert remaining_seconds(10.0, collecting=8.0, step=1, last=10, per_round=4) == 9 * 2 + 2 * 8


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.14, "3.1 s"), (45, "45 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_times_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    """Breaks if a run of hours is foretold in seconds."""
    assert duration(seconds) == said


def test_a_message_has_a_line_of_its_own_beside_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks if what a run says while a bar is shown is glued to the bar."""

    def shows_a_bar(*_: object) -> None:
        with tqdm(total=2, file=sys.stdout):
            logging.getLogger("soc_ft").warning("Asked to stop")

    for name in ("prepare_torch", "build_scorers"):
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(session, "carry_out", shows_a_bar)
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stdout)])
    nothing: Any = None
    run.train(nothing, nothing, Path())
    assert re.search(r"[\r\n]Asked to stop\n", capsys.readouterr().out)
