"""Tab completion: what is offered, how fast, and what real shells make of it."""

from __future__ import annotations

import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from soc_ft.commands.completion import SCRIPTS, candidates, script
from soc_ft.commands.main import COMMANDS
from soc_ft.errors import ConfigError
from tests.conftest import TESTS, command, composed

PATIENCE = 30.0
"""Seconds to wait for a shell before a test fails."""


def offered(*words: str) -> list[str]:
    return candidates(words, COMMANDS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sam"], ["sample"]),
        (["tra"], ["tracking.", "tracking=", "train", "trainer.", "trainer="]),
        (["method=adj"], ["method=adjoint_matching"]),
        (["train", "cfg_mode=f"], ["cfg_mode=full"]),
        (["hydra/launcher=slurm_n"], ["hydra/launcher=slurm_node", "hydra/launcher=slurm_nodes"]),
        (["trainer.l"], ["trainer.lr="]),
        (["+trainer.l"], ["+trainer.lr="]),
        (["export="], ["export=false", "export=true"]),
        (["finetune=lora", "finetune.r"], ["finetune.rank="]),
        (["-m", "cfg_mode=none,"], ["cfg_mode=none,full", "cfg_mode=none,trajectories"]),
        (["cfg_mode=none,"], []),
        (["--cfg", "j"], ["job"]),
        (["--mul"], ["--multirun"]),
        (["--completion", ""], ["bash", "fish", "zsh"]),
        (["bench", "bench.s"], ["bench.steps="]),
        (["sample", "samples"], ["samples_per_prompt="]),
        (["sample", "base=t"], ["base=true"]),
        (["evaluate", "model=sd2"], ["model=sd21", "model=sd21_base"]),
        (["evaluate", "metrics=[clip,shapes_d"], ["metrics=[clip,shapes_diversity"]),
        (["report", "--re"], ["--rerun-failed"]),
    ],
)
def test_candidates(words: list[str], expected: list[str]) -> None:
    """Breaks when a command, an option, a key or a value is not offered where it belongs."""
    assert offered(*words) == expected


@pytest.mark.parametrize(
    "words", [["run_dir=runs/"], ["sample", "run="], ["report", "mult"], ["--config-dir", ""]]
)
def test_file_names_are_left_to_the_shell(words: list[str]) -> None:
    """Breaks when words are offered where a path belongs: the shell then offers no path."""
    assert offered(*words) == []


def flat(tree: Any, above: str = "") -> set[str]:
    """Dotted names of the leaves, without those that begin with an underscore."""
    if not isinstance(tree, dict) or not tree:
        return {above}
    named = {f"{above}.{name}".lstrip("."): value for name, value in tree.items() if name[0] != "_"}
    return {leaf for name, value in named.items() for leaf in flat(value, name)}


def reachable(words: Sequence[str], start: str = "") -> set[str]:
    """The keys that one Tab after the other leads to."""
    found: set[str] = set()
    for word in offered(*words, start):
        if word.endswith("."):
            found |= reachable(words, word)
        elif word.endswith("="):
            found.add(word[:-1])
    return found


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("train", []),
        ("train", ["experiment=quickstart"]),
        ("train", ["reward=weighted", "buffer=replay", "finetune=lora"]),
        ("bench", []),
        ("sample", ["run=somewhere"]),
        ("evaluate", []),
    ],
)
def test_every_key_is_offered_and_no_other(name: str, overrides: list[str]) -> None:
    """Breaks when the YAML files are put together in another way than Hydra does it."""
    from omegaconf import OmegaConf

    config, folder = {"train": ("config", "."), "bench": ("bench", ".")}.get(
        name, (name, "commands")
    )
    plain = OmegaConf.to_container(composed(*overrides, config=config, folder=folder))
    words = reachable([name, *overrides])
    keys = {key for key in words if not key.startswith(("hydra.", "hydra/"))}
    groups = {key for key in keys if (Path(TESTS.parent) / "conf" / key).is_dir()}
    assert keys - groups == flat(plain) - groups


def test_the_flags_of_the_report_are_those_of_its_parser() -> None:
    """Breaks when a flag is added to, or leaves, ``soc-ft report`` without the completion."""
    text = subprocess.run(
        command("soc_ft", "report", "--help"), capture_output=True, text=True, check=True
    ).stdout
    assert set(offered("report", "--")) == {*re.findall(r"--[a-z][a-z-]+", text)} | {"--help"}


def test_options_of_an_own_configuration_folder(tmp_path: Path) -> None:
    """Breaks when ``--config-dir`` is not looked into, or what an option builds upon is not."""
    (tmp_path / "hydra/launcher").mkdir(parents=True)
    own = tmp_path / "hydra/launcher/ours.yaml"
    own.write_text("defaults: [slurm_gpu]\nqueue: short\n")
    for given in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        assert offered(*given, "hydra/launcher=o") == ["hydra/launcher=ours"]
        chosen = offered(*given, "hydra/launcher=ours", "hydra.launcher.")
        assert {"hydra.launcher.queue=", "hydra.launcher.partition="} <= set(chosen)


def test_an_answer_is_quick_and_imports_nothing_heavy() -> None:
    """Breaks when a Tab waits for Hydra or PyTorch. Measured in CPU time."""
    code = (
        "import sys; from soc_ft.commands.main import main\n"
        "sys.argv = ['soc-ft', '--complete', 'experiment=quickstart', 'reward=']\n"
        "main()\n"
        "print(sorted({'hydra', 'omegaconf', 'torch', 'numpy'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    *words, heavy = done.stdout.splitlines()
    assert "reward=imagereward" in words
    assert heavy == "[]"


@pytest.mark.parametrize("arguments", [["bsh"], [], ["bash", "zsh"]])
def test_another_shell_is_refused_in_one_line(arguments: list[str]) -> None:
    """Breaks when a wrong name prints nothing, which ``eval`` would take without a word."""
    with pytest.raises(ConfigError, match="choose bash, zsh or fish"):
        script(arguments)
    done = subprocess.run(
        command("soc_ft", "--completion", *arguments), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("soc_ft: error: --completion")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a shell with a ``soc-ft`` on its PATH that writes what it is called with to a file."""
    program = tmp_path / "bin" / "soc-ft"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'case $1 in --comp*) exec "{sys.executable}" -m soc_ft "$@" ;; esac\n'
        f'printf "%s\\n" "$@" >"{tmp_path}/draft" && mv "{tmp_path}/draft" "{tmp_path}/called"\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {
        "PATH": path,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(TESTS.parent),
        "TERM": "dumb",
        "LC_ALL": "C",
    }


def required(shell: str) -> str:
    """The shell's program; the test is skipped where there is none."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    return found


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        ("soc-ft sam", ["soc-ft", "sam"], ["sample "]),
        (
            "soc-ft experiment=qui",
            ["soc-ft", "experiment", "=", "qui"],
            ["quickstart ", "quickstart_lcm "],
        ),
        ("soc-ft experiment=", ["soc-ft", "experiment", "="], None),
        ("soc-ft trainer.l", ["soc-ft", "trainer.l"], ["trainer.lr="]),
        ("soc-ft -m cfg_mode=no", ["soc-ft", "-m", "cfg_mode", "=", "no"], ["none "]),
        ("soc-ft sample ", ["soc-ft", "sample", ""], None),
        ("soc-ft sample run=", ["soc-ft", "sample", "run", "="], []),
    ],
)
def test_the_function_of_bash(
    line: str, words: list[str], expected: list[str] | None, environment: dict[str, str]
) -> None:
    """Breaks when what Bash is given does not fit the part of a word that it replaces."""
    code = (
        'eval "$(soc-ft --completion bash)"\n'
        'COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2))\n'
        '_soc_ft soc-ft "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"\n'
        '(( ! ${#COMPREPLY[@]} )) || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [required("bash"), "--norc", "-c", code, "bash", line, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    reply = done.stdout.splitlines()
    if expected is None:
        *before, last = line.split(" ")[1:]
        kept = last.rpartition("=")[0] + "=" if "=" in last else ""
        assert [kept + word.rstrip() for word in reply] == offered(*before, last)
        assert reply
    else:
        assert reply == expected


def type_into(shell: Sequence[str], load: str, typed: str, cwd: Path, env: dict[str, str]) -> None:
    """Type two lines into a shell, as on a terminal, and wait until it has called ``soc-ft``."""
    process, terminal = pty.fork()
    if process == 0:
        try:
            os.chdir(cwd)
            os.execve(shell[0], list(shell), env)
        finally:
            os._exit(127)
    shown = b""
    deadline = time.monotonic() + PATIENCE
    # The prompt alone has the mark in one piece, not the line that sets it.
    os.write(terminal, f"{load}; PS1='LOA''DED '\n".encode())
    try:
        while not (cwd / "called").exists() and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.05)[0]:
                shown += os.read(terminal, 65536)
            if typed and b"LOADED" in shown:
                os.write(terminal, f"{typed}\n".encode())
                typed = ""
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    assert (cwd / "called").exists(), shown.decode(errors="replace")


@pytest.mark.parametrize("shell", ["bash --norc --noprofile -i", "zsh -f -i"])
def test_a_tab_completes_the_line(shell: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Breaks when the script does not work where it is used: in a shell, at a Tab."""
    name, *flags = shell.split()
    (tmp_path / "some_run").mkdir()
    load = f'eval "$(soc-ft --completion {name})"'
    typed = "soc-ft sam\trun=some_r\t samples_per\t3"  # no space after a folder, nor after "="
    type_into([required(name), *flags], load, typed, tmp_path, environment)
    word, run, samples = (tmp_path / "called").read_text().split()
    assert (word, run.rstrip("/")) == ("sample", "run=some_run")
    assert samples == "samples_per_prompt=3"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("soc-ft sam", ["sample"]),
        ("soc-ft experiment=qui", ["experiment=quickstart", "experiment=quickstart_lcm"]),
        ("soc-ft sample run=some_r", ["run=some_run/"]),
    ],
)
def test_the_function_of_fish(
    line: str, expected: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    """Breaks when fish offers something else, or no files where no word is known."""
    (tmp_path / "some_run").mkdir()
    code = "soc-ft --completion fish | source; complete -C $argv[1]"
    done = subprocess.run(
        [required("fish"), "--no-config", "-c", code, line],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert [each.split("\t")[0] for each in done.stdout.splitlines()] == expected


def test_every_script_names_its_program() -> None:
    """Breaks when a script is registered for another command than the installed one."""
    for shell in SCRIPTS:
        assert "soc-ft" in script([shell]).splitlines()[-1]
