"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme_tables import selected, updated

README = Path(__file__).parent.parent / "README.md"
SMALL = (
    "model.path=random:tiny",
    "tracking=none",
    "trainer.steps=2",
    "trainer.batch_size=4",
    "scheduler.num_steps=5",
    "validation.every=2",
    "validation.prompts=2",
    "trainer.accelerator=cpu",
)


def write_examples(folder: Path) -> None:
    """Write every block behind an ``example`` comment to the file that the comment names."""
    pattern = r"<!-- example: (\S+) -->\n```\w*\n(.*?)```"
    for name, code in re.findall(pattern, README.read_text(), re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)


COMMANDS = re.findall(r"<!-- run -->\n```\n(.*?)\n```", README.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_worked_examples_run(line: str, tmp_path: Path) -> None:
    """Breaks when a worked example no longer fits the interfaces that it shows."""
    write_examples(tmp_path)
    environment, arguments = line.replace("\\\n", " ").split(" python -m ", 1)
    assert environment == "PYTHONPATH=."
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(arguments), *SMALL, "run_dir=run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model").is_dir()


def test_there_are_examples_of_rewards_and_of_a_method() -> None:
    """Breaks when the marks get lost and the test above would run nothing."""
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_the_two_commands_are_marked_for_ci(name: str) -> None:
    """Breaks when `.ci/run` would not find the line that a newcomer types."""
    assert re.search(rf"<!-- ci: {name} -->\n```\n[^\n]+\n```", README.read_text())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_a_page_shows_or_links_to_exists(page: str) -> None:
    """Breaks when a picture or a page is renamed."""
    for path in re.findall(r"\[[^]]*\]\(([^):#]+)\)", (README.parent / page).read_text()):
        assert (README.parent / path).exists(), path


def test_the_folders_that_the_pages_name_exist() -> None:
    """Breaks when a newcomer is sent to a file or a folder that has moved."""
    for page in ("README.md", "CONTRIBUTING.md"):
        named = re.findall(r"`((?:soc_ft|conf|tests)/[\w/.]+)`", (README.parent / page).read_text())
        assert named
        for path in named:
            assert (README.parent / path).exists(), f"{page}: {path}"


def test_tables_are_those_of_the_reports() -> None:
    """Breaks if a report is made anew and the README keeps the numbers of the old one."""
    readme = README.read_text()
    assert updated(readme, README.parent / "multirun_reports") == readme
    assert "<!-- table: " in readme


def test_a_table_is_taken_by_its_columns() -> None:
    """Breaks if columns are swapped, or cells with several words are cut."""
    report = (
        "# x\n\ntext\n\n| setting | a b | c |\n| --- | ---: | ---: |\n| `x | 1` | 2 ± 1 | 3 |\n"
    )
    assert selected(report.replace("x | 1", "x=1"), ["c", "setting"]) == (
        "| c | setting |\n| --- | --- |\n| 3 | `x=1` |\n"
    )
    with pytest.raises(ValueError, match="is not in list"):
        selected(report, ["d"])
