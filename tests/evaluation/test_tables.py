"""Tables say what was measured, in every format."""

from __future__ import annotations

import csv
import io
import math

import pytest

from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.evaluation.statistics import Estimate, Scores
from soc_ft.evaluation.tables import (
    csv_table,
    flat_metrics,
    markdown_table,
    shown,
    terminal_table,
)

BLOCKS = [{"schedule": "memoryless", "eta": eta, "num_steps": 50} for eta in (0.0, 1.0)]
RESULTS = [
    scores
    for block in BLOCKS
    for scores in (
        Scores(
            block, BASE, 8, {"reward": Estimate(-0.25, 0.1, 4), "accuracy": Estimate(0.5, 0, 4)}
        ),
        Scores(
            block,
            FINE_TUNED,
            8,
            {"reward": Estimate(1 / 3, 0.1, 4), "accuracy": Estimate(0.625, 0.05, 4)},
            {"reward": Estimate(0.583, 0.0012, 4), "accuracy": Estimate(0.125, 0.05, 4)},
        ),
    )
]


def test_the_terminal_shows_blocks_models_and_differences() -> None:
    """Breaks when a block loses its heading or columns do not line up."""
    lines = terminal_table(RESULTS).splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "memoryless, eta 0, 50 steps",
        "memoryless, eta 1, 50 steps",
    ]
    rows = [line for line in lines if line.startswith("  ") and "±" in line]
    assert [row.split("  ")[1] for row in rows] == [
        BASE,
        FINE_TUNED,
        f"difference to the {BASE}",
    ] * 2
    assert {len(row) for row in rows} == {len(lines[0])}
    assert "+0.5830 ± 0.0012" in rows[2]


def test_what_only_some_models_have_is_a_column_with_empty_cells() -> None:
    """Breaks when a column is lost that the first model lacks, or cells move."""
    with_cost = Scores(BLOCKS[0], "optimum", 8, {"KL": Estimate(0.5, 0.1, 4)})
    header, _, _, base, tuned, _, optimum = terminal_table([*RESULTS[:2], with_cost]).splitlines()
    assert header.split() == ["reward", "accuracy", "KL"]
    assert {len(base), len(tuned), len(optimum)} == {len(header)}
    assert optimum.split() == ["optimum", "0.500", "±", "0.100"]
    assert base.rstrip() != base


def test_markdown_has_as_many_cells_in_every_row() -> None:
    """Breaks when the pasted table falls apart."""
    lines = markdown_table(RESULTS).splitlines()
    assert len(lines) == 2 + 6
    assert {line.count("|") for line in lines} == {5}
    assert lines[0] == "| sampling |  | reward | accuracy |"
    assert lines[3].startswith("| memoryless, eta 0, 50 steps | fine-tuned | 0.333 ± 0.100 |")


def test_csv_has_full_precision() -> None:
    """Breaks when a plot made from the file shows rounding, or a column moves."""
    rows = list(csv.DictReader(io.StringIO(csv_table(RESULTS))))
    assert len(rows) == 8
    row = rows[2]
    assert (row["schedule"], row["eta"], row["model"]) == ("memoryless", "0.0", FINE_TUNED)
    assert float(row["mean"]) == 1 / 3
    assert float(row["difference"]) == 0.583
    assert (row["prompts"], row["pictures"]) == ("4", "8")
    assert rows[0]["difference"] == ""


def test_flat_metrics_name_each_number_once() -> None:
    """Breaks when two blocks share a name in MLflow and one overwrites the other."""
    flat = flat_metrics(RESULTS)
    assert len(flat) == 2 * (2 + 4) * 2
    assert flat["memoryless, eta 1, 50 steps/fine-tuned/reward_difference_error"] == 0.0012


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.5, 0.1, 4), "0.500 ± 0.100"),
        (Estimate(0.00512, 0.000321, 4), "0.00512 ± 0.00032"),
        (Estimate(20.0, 1.5, 4), "20.000 ± 1.500"),
        (Estimate(0.5, math.nan, 1), "0.500"),
        (Estimate(1.0, 0.0, 4), "1.000 ± 0.000"),
    ],
)
def test_small_errors_get_more_decimals(estimate: Estimate, text: str) -> None:
    """Breaks when a small effect is rounded away, or one prompt shows ± nan."""
    assert shown(estimate) == text
