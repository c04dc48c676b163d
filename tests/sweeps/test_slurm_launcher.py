"""What is checked of a Slurm job before it is submitted."""

from __future__ import annotations

import pytest

from soc_ft.config import parse
from soc_ft.errors import ConfigError
from soc_ft.sweeps.slurm import SlurmLauncher
from tests.conftest import composed

ONE = {"tasks_per_node": 1, "nodes": 1, "gpus_per_node": None}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tasks_per_node": 2}, "tasks_per_node=2: must be trainer.devices=1"),
        ({"nodes": 2}, "nodes=2: must be trainer.num_nodes=1"),
        ({"gpus_per_node": 4}, "gpus_per_node=4: must be trainer.devices=1"),
    ],
)
def test_tasks_and_gpus_must_fit_the_processes(given: dict[str, int], named: str) -> None:
    """Breaks if a job waits for ever for processes that nobody starts, or wastes GPUs."""
    run, _ = parse(composed())
    SlurmLauncher(**ONE).check_resources(run)
    with pytest.raises(ConfigError, match=named):
        SlurmLauncher(**ONE | given).check_resources(run)


def test_processes_on_cpus_need_no_gpu() -> None:
    """Breaks if several processes on CPUs cannot be tried with a launcher made for GPUs."""
    run, _ = parse(composed("trainer.devices=2", "trainer.accelerator=cpu", "trainer.batch_size=4"))
    SlurmLauncher(tasks_per_node=2, nodes=1, gpus_per_node=1).check_resources(run)
