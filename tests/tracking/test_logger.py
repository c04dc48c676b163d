"""The logger records through Lightning what the run folder and the tracker then hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from soc_ft.records.journal import Journal
from soc_ft.tracking.logger import RunLogger
from soc_ft.tracking.mlflow_tracker import MLflowTracker


class TwoStageModule(LightningModule):
    """Records by hand in every step, as a module with manual optimisation does."""

    logger: RunLogger

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> list[int]:
        return [0] * 4

    def val_dataloader(self) -> list[int]:
        return [0]

    def training_step(self, batch: int, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        self.manual_backward((self.weight - 1) ** 2)
        optimizer.step()
        self.logger.log_metrics({"train/weight": self.weight.detach()}, self.global_step)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        self.logger.log_metrics({"val/weight": float(self.weight)}, self.global_step)


def fit(run_dir: Path, tracker: MLflowTracker | None) -> RunLogger:
    logger = RunLogger(run_dir, tracker)
    logger.start({"lambda": "10"}, {})
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        max_epochs=-1,
        val_check_interval=2,
        num_sanity_val_steps=0,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = TwoStageModule()
    trainer.validate(module, verbose=False)
    trainer.fit(module)
    return logger


def test_a_lightning_run_is_recorded_and_delivered(
    run_dir: Path, uri: str, recorded: Any, delivered: Any
) -> None:
    """Breaks if Lightning adds or loses records, or its finalize ends the run too early."""
    logger = fit(run_dir, MLflowTracker(uri=uri, interval=0.05, flush_timeout=60.0))
    (run_dir / "sheet.png").write_bytes(b"png")
    logger.log_picture(run_dir / "sheet.png", "samples", 4)
    logger.end("interrupted")
    steps = [(record.step, *record.metrics) for record in Journal(run_dir / "metrics.jsonl").read()]
    assert steps == [
        (0, "val/weight"),
        (1, "train/weight"),
        (2, "train/weight"),
        (2, "val/weight"),
        (3, "train/weight"),
        (4, "train/weight"),
        (4, "val/weight"),
    ]
    assert delivered() == recorded()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("soc_ft")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    pictures = client.list_artifacts(run.info.run_id, "pictures/samples")
    assert [picture.path for picture in pictures] == ["pictures/samples/00000004.png"]


def test_without_a_tracker_the_journal_is_all_there_is(run_dir: Path) -> None:
    """Breaks if ``tracking=none`` needs MLflow, or stops recording curves."""
    logger = fit(run_dir, None)
    logger.log_picture(run_dir / "sheet.png", "samples", 4)
    logger.end("success")
    assert len(Journal(run_dir / "metrics.jsonl").read()) == 7
    assert [path.name for path in run_dir.iterdir()] == ["metrics.jsonl"]


def test_other_ranks_record_nothing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if two ranks write to one journal."""
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = RunLogger(run_dir, MLflowTracker(path=str(run_dir)))
    logger.start({}, {})
    logger.log_metrics({"loss": 1.0}, 1)
    logger.log_artifact(run_dir / "config.yaml")
    logger.rewind(0)
    logger.end("success")
    assert logger.position() == 0
    assert not run_dir.exists()


def test_metrics_without_a_step_are_refused(run_dir: Path) -> None:
    """Breaks if a forgotten step puts all points of a curve on top of each other."""
    with pytest.raises(ValueError, match="step must be given"):
        RunLogger(run_dir).log_metrics({"loss": 1.0})
