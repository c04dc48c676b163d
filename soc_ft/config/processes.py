"""Who starts the processes of a training: Slurm's srun, or the first of them by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping

from soc_ft.config.schema import RunConfig
from soc_ft.errors import ConfigError

_INTERACTIVE = ("bash", "interactive")
"""Names of jobs that are a shell: what is typed there is a task of its own."""


def started_by_slurm(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of the tasks of a job step, which srun starts.

    The script of a batch job is not, nor is a shell of salloc, though both have SLURM_NTASKS.
    """
    in_step = "SLURM_STEP_ID" in environment and "SLURM_NTASKS" in environment
    return in_step and environment.get("SLURM_JOB_NAME") not in _INTERACTIVE


def check_processes(run: RunConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check that as many processes are started here as the training waits for.

    Raises:
        ConfigError: there are more or fewer, or nobody starts those of other nodes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:  # torchrun has its own arithmetic
        return
    devices, nodes = run.trainer.devices, run.trainer.num_nodes
    if started_by_slurm(environment):
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"])
        if tasks != devices * nodes:
            raise ConfigError(
                f"trainer.devices={devices}, trainer.num_nodes={nodes}: need {devices * nodes} "
                f"processes, and srun started {tasks}; use srun --nodes={nodes} "
                f"--ntasks-per-node={devices}, or set trainer.devices to the tasks of a node"
            )
    elif nodes > 1 and "SLURM_JOB_ID" in environment:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: nobody starts the processes of the other nodes; put srun "
            f"--nodes={nodes} --ntasks-per-node={devices} before the command, or submit it with "
            "hydra/launcher=slurm_nodes"
        )
