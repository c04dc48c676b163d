"""Tables of the README, taken from the committed reports: ``python -m tests.readme_tables``.

A comment ``<!-- table: REPORT | COLUMN, COLUMN -->`` in the README stands before a table that shows
these columns of the result in ``multirun_reports/REPORT/README.md``, its first table of settings.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_TABLE = re.compile(r"(<!-- table: (\S+) \| (.*?) -->\n)((?:\|.*\n)*)")


def updated(readme: str, reports: Path) -> str:
    """The README with every marked table as the report has it.

    Args:
        readme: the text.
        reports: folder of the reports.

    Raises:
        ValueError: a report has no such column.
    """

    def table(match: re.Match[str]) -> str:
        mark, report, columns = match[1], match[2], match[3].split(", ")
        return mark + selected((reports / report / "README.md").read_text(), columns)

    return _TABLE.sub(table, readme)


def selected(report: str, columns: list[str]) -> str:
    """Some columns of a report's first table of settings, as Markdown.

    Raises:
        ValueError: there is no such column.
    """
    lines = report[report.index("\n| setting | ") + 1 :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]
    places = [rows[0].index(column) for column in columns]
    rows[1] = ["---"] * len(rows[0])
    return "".join(f"| {' | '.join(row[place] for place in places)} |\n" for row in rows)


def main() -> None:
    """Write the README anew."""
    README.write_text(updated(README.read_text(), ROOT / "multirun_reports"))


if __name__ == "__main__":
    main()
