"""``soc-ft`` and its subcommands, as ``python -m soc_ft``."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

import soc_ft
from soc_ft.commands.main import COMMANDS
from tests.conftest import command


def run(module: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(module, *arguments), capture_output=True, text=True, cwd=cwd, check=False
    )


def test_the_version_comes_at_once() -> None:
    """Breaks when Hydra prints its own version, or its import is waited for. In CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("soc_ft", "--version")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (0, f"soc_ft {soc_ft.__version__}\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("name", ["sample", "evaluate", "report", "bench"])
def test_a_command_is_the_module_of_its_name(name: str) -> None:
    """Breaks when ``soc-ft sample`` is another program than ``python -m soc_ft.sample``."""
    ours, modules = run("soc_ft", name, "--help"), run(f"soc_ft.{name}", "--help")
    assert ours.returncode == 0
    assert ours.stdout
    assert (ours.stdout, ours.stderr) == (modules.stdout, modules.stderr)


def test_training_can_be_named() -> None:
    """Breaks when ``soc-ft train`` takes its own name for an override."""
    named, bare = run("soc_ft", "train", "--help"), run("soc_ft", "--help")
    assert named.returncode == 0
    assert named.stdout == bare.stdout


def test_the_help_lists_the_commands() -> None:
    """Breaks when a command is added that nobody finds, or its purpose reads otherwise there."""
    text = run("soc_ft", "--help").stdout
    for name in COMMANDS:
        assert f"  soc-ft {'[train]' if name == 'train' else name} ...  " in text
    for name in COMMANDS.keys() - {"train"}:
        assert COMMANDS[name] in text
    assert 'eval "$(soc-ft --completion bash)"' in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampel", "run=x"], ["sampel: no such command; did you mean sample?"]),
        (["help"], ["help: no such command", "evaluate", "key=value"]),
        ([""], ["no such command"]),
    ],
)
def test_a_word_that_is_no_command_is_one_line(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    """Breaks when a mistyped command is read as an override, of which Hydra prints its grammar."""
    done = run("soc_ft", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("soc_ft: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first", ["~validation.metrics", "+trainer.steps=1", "lambda=2"])
def test_an_override_is_no_command(first: str, tmp_path: Path) -> None:
    """Breaks when a line that begins with one of Hydra's overrides is refused."""
    done = run("soc_ft", first, "experiment=quickstart", "--cfg", "job", cwd=tmp_path)
    assert "no such command" not in done.stderr
