"""The curves of a run, kept in its folder: the source of truth for reports and for MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soc_ft.records.json_lines import JsonLines

POSSIBLE_GAIN, POSSIBLE_OBJECTIVE = "possible_gain", "possible_objective"
POSSIBLE_AT_COST, POSSIBLE_AT_LEAST = "possible_gain_at_cost", "possible_gain_at_least"
EFFICIENCY = "efficiency"
OF_THE_OPTIMUM = (
    POSSIBLE_GAIN,
    POSSIBLE_AT_LEAST,
    POSSIBLE_AT_COST,
    POSSIBLE_OBJECTIVE,
    EFFICIENCY,
)
"""Validation metrics of a run that knows the exact optimum of its law, without their stage."""

_OF_A_PROFILE = re.compile(r"/\d+$")


@dataclass(frozen=True)
class Record:
    """Metrics of one optimizer step. ``seq`` counts the records of a journal from 1."""

    seq: int
    step: int
    time: float
    metrics: dict[str, float]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Record:
        """The record that :meth:`to_json` wrote."""
        metrics = {name: float(value) for name, value in entry["metrics"].items()}
        return cls(entry["seq"], entry["step"], entry["time"], metrics)

    def to_json(self) -> dict[str, Any]:
        """The record as strict JSON has it."""
        # JSON has no NaN and no infinities: they travel as the strings that float() understands.
        metrics = {
            name: value if value - value == 0 else repr(value)
            for name, value in self.metrics.items()
        }
        return {"seq": self.seq, "step": self.step, "time": self.time, "metrics": metrics}


def of_a_profile(name: str) -> bool:
    """Whether a metric is one point of a curve over the steps of a trajectory, as ``norm/07``."""
    return _OF_A_PROFILE.search(name) is not None


class Journal:
    """Append-only file of :class:`Record`, one JSON object a line.

    Reading never changes the file, so a journal can be read while its run goes on. Only one
    process may append.
    """

    def __init__(self, path: Path) -> None:
        """Name the file, which the first record creates.

        Args:
            path: of the file.
        """
        self.path = path
        self._lines = JsonLines(path)
        self._last_seq: int | None = None

    def append(self, step: int, metrics: Mapping[str, float]) -> Record:
        """Record metrics of an optimizer step; NaN and infinities are values like any other.

        Raises:
            WriteError: the file cannot be written.
        """
        position = self.position()
        values = {name: float(value) for name, value in metrics.items()}
        record = Record(position + 1, int(step), time.time(), values)
        self._lines.append(record.to_json())
        self._last_seq = record.seq
        return record

    def read(self) -> list[Record]:
        """All records in the order of appending; none if nothing was recorded yet."""
        return [Record.from_json(entry) for entry in self._lines.read()]

    def position(self) -> int:
        """``seq`` of the last record, 0 if there is none: what a checkpoint remembers."""
        if self._last_seq is None:
            records = self.read()
            self._last_seq = records[-1].seq if records else 0
        return self._last_seq

    def rewind(self, position: int) -> None:
        """Drop what was recorded after ``position``, which the resumed run records again."""
        records = self.read()
        kept = [record for record in records if record.seq <= position]
        if len(kept) < len(records):
            self._lines.rewrite(record.to_json() for record in kept)
        self._last_seq = None
