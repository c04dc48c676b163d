"""Fine-tuning a model on a reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from soc_ft.api.composing import composed, refuse_override, set_key, typed_keys
from soc_ft.api.loading import Loaded, is_trained, loaded_with
from soc_ft.api.prompts import record_prompts, written
from soc_ft.api.recording import record_folder, record_model
from soc_ft.config import RunConfig, check
from soc_ft.config.machine import check_accelerator
from soc_ft.errors import ConfigError, Interrupted, RunError
from soc_ft.evaluation.folders import BASE
from soc_ft.evaluation.statistics import Estimate
from soc_ft.evaluation.tables import shown
from soc_ft.files import displayed
from soc_ft.layout import CHECKPOINT_FOLDER, LAST_CHECKPOINT
from soc_ft.records.identity import check_resume
from soc_ft.records.lock import alone_in
from soc_ft.records.runs import Origin
from soc_ft.rewards.base import Reward
from soc_ft.rewards.function import as_reward, record_of

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.models.model import DiffusionModel
    from soc_ft.rewards.function import ScoreFunction


@dataclass(frozen=True)
class FineTuned:
    """A finished run.

    Attributes:
        folder: of the run, as the command line leaves it.
        results: metrics of the held-out prompts by optimizer step; 0 is the base model.
        model: the model that was given, with the trained weights.
    """

    folder: Path
    results: dict[int, dict[str, float]]
    model: DiffusionModel = field(repr=False)

    def __str__(self) -> str:
        """One line: where it is and what was gained."""
        last = self.results[max(self.results)]
        gain = Estimate(last["gain"], last["gain_error"], count=0)
        return (
            f"{displayed(self.folder)}: {max(self.results)} optimizer steps, reward "
            f"{last['reward']:.3f}, {shown(gain, signed=True)} to the {BASE}"
        )


def fine_tune(
    model: DiffusionModel,
    reward: Reward | ScoreFunction | str,
    *overrides: str,
    run_dir: str | Path | None = None,
    prompts: Sequence[str] | str | None = None,
    validation_prompts: Sequence[str] | str | None = None,
) -> FineTuned:
    """Fine-tune a model on a reward, as ``python -m soc_ft`` does.

    The run leaves the same folder, with a ``config.yaml`` that says what was used: the settings
    that the model was loaded with take the place of those of an experiment, and of a reward that
    was given in Python there are the name and a digest of the source. MLflow is told too, in
    ``runs/``, unless ``tracking=none`` is among the overrides.

    The same call with the same ``run_dir`` goes on with a run that was interrupted, and returns one
    that is finished as it is. A model is fine-tuned in one run: for another one it is loaded anew.

    Args:
        model: from :func:`load_model`; its weights are trained in place. What a model from
            elsewhere is, the overrides say: ``model=``, ``finetune=`` and ``scheduler=``.
        reward: a function (images (B, 3, H, W) in [0, 1], B prompts) -> (B,), higher is better; an
            object like ``soc_ft.Reward``; or the name of an option of conf/reward. A function
            without a gradient has an attribute ``differentiable = False``.
        *overrides: as on the command line, such as ``experiment=quickstart`` or
            ``trainer.steps=8``. A model on the CPU is trained there (``trainer.accelerator``).
        run_dir: folder of the run; None is a new one below ``runs/``.
        prompts: to train on: a list, or a file or data set as for ``prompts=file``; None are those
            of the configuration. A list is kept in the run folder.
        validation_prompts: to measure on; None are ``prompts`` if these are given (or the last of
            them, with the override ``+prompts.held_out=``), and else those of the configuration.

    Raises:
        ConfigError: an argument or an override is wrong; nothing was started.
        RunError: the run cannot go on, or was interrupted; what was saved stays intact.
    """
    loaded = loaded_with(model)
    if not is_trained(model):
        raise ConfigError(
            "model: has nothing to train (finetune=None); load it with finetune=lora, full or "
            "offset"
        )
    typed = typed_keys(overrides)
    if isinstance(reward, str):
        refuse_override(typed, "reward", exactly=True, instead=f"the argument reward={reward}")
        overrides = (*overrides, f"reward={reward}")
    config, choices = composed(overrides)
    if choices.get("sweep") is not None:
        raise ConfigError(
            f"sweep={choices['sweep']}: is a list of jobs; start it with python -m soc_ft -m"
        )
    record_model(config, choices, loaded, typed)
    given = None
    if not isinstance(reward, str):
        given = as_reward(reward)
        refuse_override(typed, "reward", instead="the argument reward")
        set_key(config, "reward", record_of(given))
        choices["reward"] = given.name
    folder = record_folder(config, run_dir, typed)
    files = record_prompts(config, choices, prompts, validation_prompts, typed)
    if model.device.type == "cpu" and "trainer.accelerator" not in typed:
        set_key(config, "trainer.accelerator", "cpu")
    with written(files, folder):
        run = check(config)
        check_accelerator(run.trainer)
        _check_run(config, run, folder, loaded, named=run_dir is not None or "run_dir" in typed)
        check_resume(config, folder)

    from soc_ft.training.run import train

    origin = Origin(overrides, choices)
    try:
        with alone_in(folder), _kept_track_of(model, loaded, folder):
            module = train(config, run, folder, origin, model=model, reward=given)
    except Interrupted as stop:
        raise RunError(str(stop)) from None
    return FineTuned(folder, module.validator.results, model)


def _check_run(
    config: DictConfig, run: RunConfig, folder: Path, loaded: Loaded, named: bool
) -> None:
    """Check what the command line has no need to."""
    processes = run.trainer.devices * run.trainer.num_nodes
    if processes > 1 and not named:
        raise ConfigError(f"run_dir: name one, for all of {processes} processes to find the same")
    resumes = run.resume == "auto" and (folder / CHECKPOINT_FOLDER / LAST_CHECKPOINT).is_file()
    if loaded.run is not None and not resumes:
        raise ConfigError(
            f"model: was fine-tuned in {displayed(loaded.run)}; load it anew for another run, or "
            "go on with that one by its run_dir"
        )


@contextmanager
def _kept_track_of(model: DiffusionModel, loaded: Loaded, folder: Path) -> Iterator[None]:
    """Bring the model back to its device after a run, and note whether it has changed."""
    import torch

    def norms() -> Tensor:
        squares = [p.detach().square().sum(dtype=torch.float64) for p in parameters]
        return torch.stack(squares).cpu()

    parameters = list(model.trainable_parameters())
    device, before = model.device, norms()
    try:
        yield
    finally:
        model.to(device)
        model.zero_grad(set_to_none=True)
        # Not exactly: the order of a sum may depend on the number of threads.
        if not torch.allclose(before, norms(), rtol=1e-11, atol=0):
            loaded.run = folder
