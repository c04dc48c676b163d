"""What a configuration is built into, where no machine here can run it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lightning.pytorch.plugins.environments import SLURMEnvironment

from soc_ft.config import check
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.building import build_checkpoints, build_module, build_trainer
from soc_ft.training.scorers import build_scorers
from tests.conftest import TINY, composed


def test_a_task_of_slurm_is_one_process_and_is_requeued_by_submitit_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when Lightning requeues a job as well, or starts processes that Slurm has started."""
    for name, value in {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "soc_ft",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS_PER_NODE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    run = check(composed(*TINY, "trainer.devices=2"))
    trainer = build_trainer(run, tmp_path, RunLogger(tmp_path), build_checkpoints(run, tmp_path))
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    assert environment.creates_processes_externally


def test_the_script_of_a_batch_job_starts_its_processes_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a run in an allocation, without srun, trains with one process of two."""
    for name, value in {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "mine"}.items():
        monkeypatch.setenv(name, value)
    run = check(composed(*TINY, "trainer.devices=2"))
    trainer = build_trainer(run, tmp_path, RunLogger(tmp_path), build_checkpoints(run, tmp_path))
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    assert not environment.creates_processes_externally
    assert trainer.num_devices == 2


def test_lightning_announces_nothing(tmp_path: Path) -> None:
    """Breaks if its tips, and what it thinks of the machine, stand between a run's messages."""
    announcer = logging.getLogger("lightning.pytorch")
    announcer.setLevel(logging.INFO)  # as its import does
    run = check(composed(*TINY))
    build_trainer(run, tmp_path, RunLogger(tmp_path), build_checkpoints(run, tmp_path))
    assert not announcer.isEnabledFor(logging.INFO)


def test_anchors_that_a_method_needs_are_there() -> None:
    """Breaks when a method asks for a policy that nobody has made."""
    from tests.methods.test_contract import module_of

    assert set(module_of("grouped_regression").model.anchor_states()) == {"old", "average"}
    assert not module_of("adjoint_matching").model.anchor_states()


def test_a_round_is_kept_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when `buffer.device` is ignored.

    The meta device stands in for one that is not the model's.
    """
    config = composed(*TINY)
    run = check(config)
    run.buffer.device = "meta"
    module = build_module(config, run, tmp_path, build_scorers(config, run))
    module.prepare_buffer(rank=0, ranks=1)
    monkeypatch.setattr(type(module.collector), "_prepared", lambda *_: {})
    kept = module.collector.collect(module.buffer, 0)
    assert {tensor.device.type for tensor in kept.values()} == {"meta"}
    assert {len(tensor) for tensor in kept.values()} == {4}
