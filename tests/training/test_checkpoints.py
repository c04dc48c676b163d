"""Checkpoints of whole runs: what is saved, resumed after a crash, and refused."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from soc_ft.errors import ConfigError, RunError
from soc_ft.models.weights import load_weights
from soc_ft.training.checkpoints import Checkpoints
from tests.conftest import TINY, command, curve
from tests.trained import crash_at, largest_difference, weights

TinyRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("overrides", "step"),
    [
        pytest.param((), 1, marks=pytest.mark.slow),
        ((), 2),
        pytest.param(
            ("buffer=replay", "buffer.batches=2", "buffer.passes=2"), 1, marks=pytest.mark.slow
        ),
        pytest.param(
            ("buffer=replay", "buffer.batches=2", "buffer.passes=2"), 3, marks=pytest.mark.slow
        ),
        pytest.param(("finetune=lora",), 3, marks=pytest.mark.slow),
    ],
    ids=["first step", "validated step", "first pass", "second pass", "lora"],
)
def test_a_crashed_run_ends_like_an_undisturbed_one(
    tiny_run: TinyRun,
    undisturbed: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    overrides: tuple[str, ...],
    step: int,
) -> None:
    """Breaks when a resume loses the optimizer, the warm-up, the mask, the buffer or a seed."""
    often = "trainer.checkpoint_every=1"
    with monkeypatch.context() as patch:
        crash_at(step, patch)
        with pytest.raises(MemoryError):
            tiny_run(*overrides, often)
    resumed = tiny_run(*overrides)
    expected = undisturbed(*overrides)
    assert largest_difference(weights(expected), weights(resumed)) == 0
    assert curve(expected) == curve(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [2, 4, 5, 6])
def test_a_killed_process_is_resumed_by_the_same_command(tmp_path: Path, lines: int) -> None:
    """Breaks when `kill -9` leaves a file that the next start cannot go on from."""
    line = [*command("soc_ft", "--config-dir", str(Path(__file__).parent)), "+reward.scale=20"]
    line += [override for override in TINY if not override.startswith("reward.scale")]
    line += ["trainer.checkpoint_every=1"]
    folder = tmp_path / "killed"
    process = subprocess.Popen([*line, f"run_dir={folder}"], stderr=subprocess.DEVNULL)
    journal = folder / "metrics.jsonl"
    while not journal.exists() or journal.read_text().count("\n") < lines:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for run_dir in (folder, tmp_path / "undisturbed"):
        subprocess.run([*line, f"run_dir={run_dir}"], check=True, capture_output=True)
    assert largest_difference(weights(folder), weights(tmp_path / "undisturbed")) == 0
    assert curve(folder) == curve(tmp_path / "undisturbed")


def test_kept_and_best_weights_are_safetensors_that_load(tiny_run: TinyRun) -> None:
    """Breaks when a checkpoint that a person would reuse is missing or of another model."""
    folder = tiny_run("trainer.keep_every=2")
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {
        "last.ckpt",
        "best.safetensors",
        "step-000002.safetensors",
        "step-000004.safetensors",
    }
    kept = load_weights(folder / "checkpoints" / "step-000004.safetensors")
    assert largest_difference(kept, weights(folder)) == 0


def test_a_longer_run_goes_on_from_a_finished_one(tiny_run: TinyRun, undisturbed: TinyRun) -> None:
    """Breaks when a finished run cannot be extended by asking for more steps."""
    tiny_run("trainer.steps=2")
    extended = tiny_run("trainer.steps=4")
    assert largest_difference(weights(extended), weights(undisturbed())) == 0


def test_a_failed_save_leaves_the_previous_checkpoint(tiny_run: TinyRun) -> None:
    """Breaks when a checkpoint is overwritten in place: a full disk would take both.

    The disk is "full" at the largest file that the process may write.
    """
    folder = tiny_run("trainer.steps=2")
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot be saved .* previous .* intact"):
            tiny_run("trainer.steps=4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list((folder / "checkpoints").glob(".last*"))


def test_a_damaged_checkpoint_is_named(tiny_run: TinyRun) -> None:
    """Breaks when a truncated file ends in a traceback of pickle's."""
    folder = tiny_run("trainer.steps=1")
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=re.escape(str(last))):
        tiny_run("trainer.steps=2")


def test_a_checkpoint_of_another_model_is_refused(tiny_run: TinyRun) -> None:
    """Breaks when weights of another fine-tuning mode are loaded in part."""
    full, lora = (
        tiny_run("trainer.steps=1"),
        tiny_run("trainer.steps=1", "finetune=lora", folder="l"),
    )
    with pytest.raises(ConfigError, match=r"finetune.*in the checkpoint"):
        tiny_run("trainer.steps=2", "finetune=lora")
    (lora / "checkpoints" / "last.ckpt").write_bytes(
        (full / "checkpoints" / "last.ckpt").read_bytes()
    )
    with pytest.raises(ConfigError, match="does not fit the model"):
        tiny_run("trainer.steps=2", "finetune=lora", folder="l")


def test_checkpoints_load_without_running_code(tiny_run: TinyRun) -> None:
    """Breaks when something that only an unsafe load can read gets into a checkpoint."""
    folder = tiny_run("buffer=replay", "buffer.batches=2", "buffer.passes=2", "trainer.steps=3")
    torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("rewards", "best"), [((9.0, 1.0, 3.0, 2.0), 2), ((-9.0, -5.0, -2.0, -1.0), 3)]
)
def test_best_is_the_validation_with_the_largest_reward(
    tmp_path: Path, rewards: tuple[float, ...], best: int
) -> None:
    """Breaks when `best` holds the base model's, the worst or the first weights, or if the
    measurement after the last step, which is no part of the fit, does not count."""
    callback = Checkpoints(tmp_path, every=100, keep_every=None, validate_every=1, stage_steps=100)
    for step, reward in enumerate(rewards):
        weights_of_step = {"w": torch.tensor([step])}
        outside = step in (0, len(rewards) - 1)
        trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn=TrainerFn.VALIDATING if outside else TrainerFn.FITTING),
            callback_metrics={"val/reward": torch.tensor(reward)},
            global_step=step,
            max_steps=100,
            is_global_zero=True,
            lightning_module=SimpleNamespace(final_weights=lambda w=weights_of_step: w),
        )
        callback.on_validation_end(trainer, trainer)
    assert load_weights(tmp_path / "best.safetensors")["w"] == best
    assert callback.state_dict() == {"best": rewards[best]}
