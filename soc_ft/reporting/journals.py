"""The journal of a run by metric: arrays, a tenth of what its records take in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soc_ft.records.json_lines import JsonLines

Series = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Optimizer steps (n,) and values (n,) of a metric, in the order of the journal."""


@dataclass(frozen=True)
class _Table:
    """Records with the same metrics.

    Optimizer steps (n,), places in the journal (n,) and values (n, metrics).
    """

    names: tuple[str, ...]
    steps: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.float64]


class JournalColumns:
    """What a journal holds, without its time stamps."""

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        """Sort the records by the metrics that they hold.

        Args:
            records: as JSON has them, see :class:`soc_ft.records.journal.Record`.
        """
        rows: dict[tuple[str, ...], list[tuple[int, int, list[Any]]]] = {}
        for place, record in enumerate(records):
            metrics = record["metrics"]
            entry = (record["step"], place, list(metrics.values()))
            rows.setdefault(tuple(metrics), []).append(entry)
        self._tables = [
            _Table(
                names,
                np.array([step for step, _, _ in entries], dtype=np.int64),
                np.array([place for _, place, _ in entries], dtype=np.int64),
                # NaN and infinities are strings in JSON, which numpy reads as float() does.
                np.array([values for _, _, values in entries], dtype=np.float64),
            )
            for names, entries in rows.items()
        ]

    @classmethod
    def read(cls, path: Path) -> JournalColumns:
        """Read a journal, which need not be there.

        Raises:
            RunError: a line is damaged.
        """
        return cls(JsonLines(path).read())

    def __bool__(self) -> bool:
        """Whether anything was recorded."""
        return bool(self._tables)

    def series(self, name: str) -> Series:
        """A metric; empty if it was never recorded."""
        found = [table for table in self._tables if name in table.names]
        if not found:
            return np.array([], dtype=np.int64), np.array([], dtype=np.float64)
        order = np.argsort(np.concatenate([table.places for table in found]))
        steps = np.concatenate([table.steps for table in found])
        values = np.concatenate([table.values[:, table.names.index(name)] for table in found])
        return steps[order], values[order]

    def names(self, prefix: str) -> list[str]:
        """The metrics whose names begin like this, in the order in which they came up."""
        every = dict.fromkeys(name for table in self._tables for name in table.names)
        return [name for name in every if name.startswith(prefix)]

    def totals(self, prefix: str, until: int | None = None) -> dict[str, float]:
        """Sums of the metrics ``<prefix><name>``, by name.

        Args:
            prefix: such as ``train/seconds_``.
            until: last optimizer step that counts; None counts all.
        """
        sums: dict[str, float] = {}
        for name in self.names(prefix):
            steps, values = self.series(name)
            counted = values if until is None else values[steps <= until]
            if len(counted):
                sums[name.removeprefix(prefix)] = float(counted.sum())
        return sums

    def validations(self) -> dict[int, dict[str, float]]:
        """The metrics ``val/<name>`` by optimizer step and name; of a repeated step the last."""
        found = sorted(self._validations(), key=lambda row: row[0])
        return {step: metrics for _, step, metrics in found}

    def _validations(self) -> Iterator[tuple[int, int, dict[str, float]]]:
        for table in self._tables:
            kept = [(n, name[4:]) for n, name in enumerate(table.names) if name.startswith("val/")]
            for place, step, row in zip(
                table.places.tolist(), table.steps.tolist(), table.values, strict=True
            ):
                if kept:
                    yield place, step, {name: float(row[n]) for n, name in kept}

    def profiles(self, prefix: str) -> Iterator[tuple[Sequence[int], NDArray[np.float64]]]:
        """The metrics ``<prefix><k>`` of the records that have them: numbers k, and values (n, k).

        Args:
            prefix: such as ``train/adjoint_norm/``.
        """
        for table in self._tables:
            columns = [
                (int(name.removeprefix(prefix)), n)
                for n, name in enumerate(table.names)
                if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
            ]
            if columns:
                columns.sort()
                yield [k for k, _ in columns], table.values[:, [n for _, n in columns]]
