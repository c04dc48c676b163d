"""How many processes are started, by whom, and how many the training waits for."""

from __future__ import annotations

import pytest

from soc_ft.config import RunConfig, parse
from soc_ft.config.processes import check_processes, started_by_slurm
from soc_ft.errors import ConfigError
from tests.conftest import composed

BATCH = {"SLURM_JOB_ID": "3", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "mine"}
"""What the script of ``sbatch --ntasks=1`` sees."""
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
"""What a task of ``srun --ntasks=2`` sees."""


@pytest.mark.parametrize(
    ("environment", "devices", "nodes"),
    [
        ({}, 2, 1),
        (BATCH, 2, 1),  # the run starts its processes
        ({**BATCH, "SLURM_NTASKS": "2"}, 1, 1),
        ({**BATCH, "SLURM_NTASKS_PER_NODE": "1"}, 2, 1),
        (STEP, 2, 1),
        (STEP, 1, 2),
        ({**STEP, "SLURM_JOB_NAME": "bash"}, 1, 1),  # srun --pty bash
        ({**STEP, "TORCHELASTIC_RUN_ID": "x"}, 8, 1),
    ],
)
def test_processes_that_somebody_starts(
    environment: dict[str, str], devices: int, nodes: int
) -> None:
    """Breaks if a run that would find its processes is refused."""
    check_processes(_run(devices, nodes), environment)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "said"),
    [
        (STEP, 1, 1, "need 1 processes, and srun started 2"),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, 2, 1, "--ntasks-per-node=2"),
        (BATCH, 1, 2, "trainer.num_nodes=2: nobody starts the processes of the other nodes"),
    ],
)
def test_processes_that_nobody_starts(
    environment: dict[str, str], devices: int, nodes: int, said: str
) -> None:
    """Breaks if a run waits for processes for ever, or ends in a traceback of Lightning."""
    with pytest.raises(ConfigError, match=said):
        check_processes(_run(devices, nodes), environment)


def test_a_batch_script_is_no_task_of_srun() -> None:
    """Breaks if Lightning is told to wait for tasks because an allocation has room for them."""
    assert started_by_slurm(STEP)
    assert not started_by_slurm(BATCH)


def _run(devices: int, nodes: int) -> RunConfig:
    return parse(composed(f"trainer.devices={devices}", f"trainer.num_nodes={nodes}"))[0]
