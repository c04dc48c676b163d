"""Run folders as training leaves them, written without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.job import Job, JobState, Submission, write_state
from soc_ft.records.journal import Journal

Validations = Mapping[int, Mapping[str, float]]


def metrics(reward: float, gain: float = 0.0, **others: float) -> dict[str, float]:
    """Of a validation; every standard error is a tenth."""
    named = {"reward": reward, "gain": gain, "control_cost": 2 * gain, "diversity": 0.5, **others}
    return {key: value for n, v in named.items() for key, value in ((n, v), (f"{n}_error", 0.1))}


def configuration(seed: int = 0, strength: float = 100.0, **others: Any) -> dict[str, Any]:
    """Resolved, of a run; ``others`` replace whole sections."""
    return {
        "lambda": strength,
        "seed": seed,
        "name": "test",
        "reward": {"_target_": "soc_ft.rewards.shapes.ShapesReward"},
        "model": {"path": "random:tiny"},
        "scheduler": {"num_steps": 2},
        "prompts": {"validation": "prompts.txt", "column": None},
        "trainer": {"steps": 4, "lr": 1e-5},
        "validation": {"every": 2, "prompts": 3},
        **others,
    }


def write_run(
    folder: Path,
    overrides: Sequence[str] = (),
    validations: Validations | None = None,
    config: Mapping[str, Any] | None = None,
    choices: Mapping[str, str] | None = None,
    finished: bool = True,
    train_steps: int = 4,
) -> Path:
    """A run with optimizer steps of 10 s and 30 evaluations, and a norm of the adjoint."""
    folder.mkdir(parents=True, exist_ok=True)
    validations = {0: metrics(1.0), 4: metrics(2.0, 1.0)} if validations is None else validations
    config = configuration() if config is None else config
    OmegaConf.save(OmegaConf.create(dict(config)), folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / "overrides.yaml")
    if choices:
        OmegaConf.save(OmegaConf.create(dict(choices)), folder / "choices.yaml")
    journal = Journal(folder / JOURNAL_FILE)
    for step in range(train_steps + 1):
        if step:
            journal.append(step, _training(step))
        if step in validations:
            journal.append(step, {f"val/{name}": v for name, v in validations[step].items()})
    if finished:
        (folder / "results.json").write_text(json.dumps(validations))
    return folder


def _training(step: int) -> dict[str, float]:
    return {
        "train/reward": step / 10,
        "train/control_cost": float(step - 1),
        "train/seconds_rollout": 7.0,
        "train/seconds_regression": 3.0,
        "train/evaluations_forward": 20.0,
        "train/evaluations_backward": 10.0,
        "train/peak_memory_mib": 100.0 + step,
        "train/adjoint_norm/01": 8.0 * step,
        "train/adjoint_norm/02": 4.0 * step,
    }


def make_job(
    sweep: Path,
    number: int,
    state: JobState,
    overrides: Sequence[str] = (),
    reason: str = "",
    log: str | None = None,
    **run: Any,
) -> Path:
    """A job of a sweep; with ``validations`` it has started, and with ``log`` printed something."""
    folder = sweep / str(number)
    config = run.setdefault("config", configuration())
    Job(number, tuple(overrides), run.get("choices") or {}, config).save(folder)
    write_state(folder, state, reason)
    if log is not None:
        (folder / "log.txt").write_text(log)
        Submission("local", "log.txt", "code-1").append(folder)
    if "validations" in run:
        write_run(folder, overrides, finished=state == JobState.FINISHED, **run)
    return folder


def make_sweep(folder: Path, **more: Any) -> Path:
    """The folder of a sweep, its jobs to come."""
    folder.mkdir(parents=True)
    submission = {
        "folder": str(folder),
        "name": "test",
        "launcher": "local",
        "parameters": {},
        "command": ["python", "-m", "soc_ft", "-m", "lambda=1,10"],
        "cwd": str(folder),
        "submitted": 1_795_242_888.0,
    }
    (folder / "sweep.json").write_text(json.dumps({**submission, **more}))
    return folder


def save_pictures(run: Path, shade: int, prompts: Sequence[str] = ("a", "b")) -> None:
    """White pictures of the base model and grey ones of the fine-tuned one."""
    for which, colour in (("base", 255), ("latest", shade)):
        (run / "samples" / which).mkdir(parents=True)
        for number in range(len(prompts)):
            picture = Image.new("RGB", (8, 8), (colour,) * 3)
            picture.save(run / "samples" / which / f"{number:02d}.png")
    (run / "samples" / "prompts.json").write_text(json.dumps(list(prompts)))


def write_evaluation(
    run: Path, rewards: Mapping[str, tuple[float, float]], tuned_model: str = "fine-tuned"
) -> None:
    """What ``soc-ft evaluate`` leaves: base and fine-tuned rewards by schedule; errors are 0.1."""
    lines = ["schedule,eta,num_steps,model,metric,mean,error,difference,difference_error"]
    for schedule, (base, tuned) in rewards.items():
        lines.append(f"{schedule},0.0,5,base model,reward,{base},0.1,,")
        lines.append(f'{schedule},0.0,5,"{tuned_model}",reward,{tuned},0.1,{tuned - base},0.05')
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "metrics.csv").write_text("\n".join(lines) + "\n")
