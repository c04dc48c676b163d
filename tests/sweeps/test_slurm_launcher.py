"""What is checked of a Slurm job before it is submitted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soc_ft.config import parse
from soc_ft.errors import ConfigError
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.slurm import SlurmLauncher, submit
from tests.conftest import composed

TIMES = {"timeout_min": 240, "signal_delay_s": 120}
ONE = {
    "tasks_per_node": 1,
    "nodes": 1,
    "gpus_per_node": None,
    "cpus_per_task": 2,
    "mem_gb": None,
    "array_parallelism": 256,
    **TIMES,
}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tasks_per_node": 2}, "tasks_per_node=2: must be trainer.devices=1"),
        ({"nodes": 2}, "nodes=2: must be trainer.num_nodes=1"),
        ({"gpus_per_node": 4}, "gpus_per_node=4: must be trainer.devices=1"),
        ({"timeout_min": 4}, "signal_delay_s=120: is more than half of the time limit"),
    ],
)
def test_tasks_and_gpus_must_fit_the_processes(given: dict[str, int], named: str) -> None:
    """Breaks if a job waits for ever for processes that nobody starts, or wastes GPUs."""
    run, _ = parse(composed())
    SlurmLauncher(**ONE).check_resources(run)
    with pytest.raises(ConfigError, match=named):
        SlurmLauncher(**ONE | given).check_resources(run)


@pytest.mark.parametrize(("name", "value"), [("mem_gb", -1), ("cpus_per_task", 0), ("mem_gb", "x")])
def test_resources_are_whole_numbers_that_there_can_be(name: str, value: object) -> None:
    """Breaks if Slurm is asked for what it cannot give, or a changed parameter raises."""
    with pytest.raises(ConfigError, match=rf"launcher.{name}={value}: must be a whole number"):
        SlurmLauncher(**ONE | {name: value}).check_machine()


def test_what_sbatch_says_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Breaks if a refusal of Slurm's is several lines, or does not say how the jobs go on."""
    program = tmp_path / "sbatch"
    program.write_text("#!/bin/sh\necho sbatch: error: no partition nope >&2\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "srun").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    sweep = Sweep(tmp_path / "s", "s", "slurm", {}, ["python"])
    parameters = {"submitit_folder": str(tmp_path / "logs"), "max_num_timeout": 1, **TIMES}
    with pytest.raises(ConfigError, match=r"no partition nope; mend it, .* --rerun-failed"):
        submit(sweep, [tmp_path / "s" / "0"], parameters)
    assert capfd.readouterr().err == ""


def test_processes_on_cpus_need_no_gpu() -> None:
    """Breaks if several processes on CPUs cannot be tried with a launcher made for GPUs."""
    run, _ = parse(composed("trainer.devices=2", "trainer.accelerator=cpu", "trainer.batch_size=4"))
    SlurmLauncher(**ONE | {"tasks_per_node": 2, "gpus_per_node": 1}).check_resources(run)


@pytest.mark.parametrize("inside", [True, False])
def test_jobs_are_submitted_from_outside_an_allocation(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if salloc's --mem-per-cpu meets the jobs' --mem, or a person's own account is lost."""
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\necho Submitted batch job 7\n")
    program.chmod(0o755)
    (tmp_path / "srun").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    allocation = {"SLURM_MEM_PER_CPU": "700", "SRUN_DEBUG": "1", "SBATCH_ACCOUNT": "me"}
    for name, value in {**allocation, "SLURM_CONF": "here"}.items():
        monkeypatch.setenv(name, value)
    if inside:
        monkeypatch.setenv("SLURM_JOB_ID", "3")
    sweep = Sweep(tmp_path / "s", "s", "slurm", {}, ["python"])
    parameters = {"submitit_folder": str(tmp_path / "logs"), "max_num_timeout": 1, **TIMES}
    submit(sweep, [tmp_path / "s" / "0"], parameters)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert "SLURM_CONF=here" in seen
    for name, value in allocation.items():
        assert (f"{name}={value}" in seen) is not inside
        assert os.environ[name] == value
