"""The Python API: what the commands do, from a script or a notebook.

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from soc_ft.config import RunConfig, check
from soc_ft.config.components import check_arguments, component_class, validated
from soc_ft.config.groups import chosen, options, unknown_option
from soc_ft.config.schema import Model, Scheduler
from soc_ft.data.prompts import load_prompts
from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.evaluation.statistics import BASE, FINE_TUNED, Estimate, Scores
from soc_ft.evaluation.tables import markdown_table, shown, terminal_table
from soc_ft.files import conf_dir, displayed, remove_if_empty, replace_file
from soc_ft.models.availability import SINGLE_FILE_SUFFIXES, check_available
from soc_ft.options import Component, Count, CountOrZero, NonNegative, Section
from soc_ft.records.identity import check_resume, is_below, leaves
from soc_ft.records.layout import CHECKPOINT_FOLDER, LAST_CHECKPOINT
from soc_ft.records.runs import Origin, choices_of
from soc_ft.rewards.base import Reward
from soc_ft.rewards.function import FunctionReward, as_reward, name_of, record_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soc_ft.models.model import DiffusionModel

    ScoreFunction = Callable[[Tensor, Sequence[str]], Tensor]
    """(images (B, 3, H, W) in [0, 1], B prompts) -> (B,), higher is better."""

_RECORD = "_soc_ft_loaded"
"""Where a model keeps what it was loaded with."""

_UNNAMED = "sd15"
"""Option of conf/model whose settings are those of a model that is named by its path."""


@dataclass
class _Loaded:
    """What a model was loaded with, for the record of its run.

    Attributes:
        choices: option of each configuration group.
        sections: settings of ``model`` and ``finetune``, and noise levels of ``scheduler``.
        run: folder of the run that its weights are from; None as long as they are as loaded.
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: Path | None = None


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


class Evaluation(list[Scores]):
    """Scores of the base and, if one is trained, of the fine-tuned model; prints as a table."""

    def __str__(self) -> str:
        """The table of the command line."""
        return terminal_table(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return markdown_table(self)


class _Sampling(Section):
    """How pictures are made."""

    samples_per_prompt: Count
    num_steps: Annotated[int, Field(ge=2, strict=True)]
    eta: NonNegative
    guidance_scale: NonNegative | None
    seed: CountOrZero
    batch_size: Count


@dataclass(frozen=True)
class _Metric:
    """A metric that was asked for: how it is come by, and whether it gives vectors."""

    build: Callable[[], Any]
    embeds: bool


def load_model(
    name_or_path: str | Path,
    *,
    finetune: str | Mapping[str, Any] | None = "full",
    device: str | torch.device | None = None,
    scheduler: str | Mapping[str, Any] = "memoryless",
    **settings: Any,
) -> DiffusionModel:
    """Load a model and prepare it for fine-tuning.

    Args:
        name_or_path: an option of conf/model; or a folder in diffusers format, a single-file
            checkpoint or an id on the Hugging Face hub, with the settings of ``sd15``.
        finetune: which weights are trained, an option of conf/finetune: ``full``, ``lora`` or
            ``offset``; or a mapping of ``option`` and what differs from it, such as
            ``{"option": "lora", "rank": 4}``. None trains nothing: a model to sample from.
        device: of the weights; None is a GPU if there is one.
        scheduler: noise levels of sampling and fine-tuning, an option of conf/scheduler or a
            mapping as above.
        **settings: of conf/model, such as ``guidance_scale``, ``frozen_dtype`` or ``revision``.

    Raises:
        ConfigError: names the argument that is wrong, or says where weights were looked for.
    """
    groups: dict[str, tuple[str, dict[str, Any]]] = {
        "model": _named_model(str(name_or_path), settings),
        "scheduler": _option("scheduler", scheduler),
    }
    if finetune is not None:
        groups["finetune"] = _option("finetune", finetune)
    config, _ = _composed([f"{group}={option}" for group, (option, _) in groups.items()])
    sections: dict[str, dict[str, Any]] = {
        group: _plain(config[group]) | changes for group, (_, changes) in groups.items()
    }
    model = validated(Model, sections["model"], ("model",))
    component_class(model, "model")
    levels = validated(Scheduler, sections["scheduler"], ("scheduler",)).noise_levels()
    if finetune is not None:
        mode = validated(Component, sections["finetune"], ("finetune",))
        component_class(mode, "finetune")(**mode.arguments)
    given = sections["model"]
    check_available(given.get("path"), given.get("revision"), given.get("variant"))

    from soc_ft.models.loading import build_model

    place = _device(device)
    loaded = build_model(given, sections.get("finetune"), levels).to(place)
    choices: dict[str, str | None] = {group: option for group, (option, _) in groups.items()}
    vars(loaded)[_RECORD] = _Loaded(choices, sections | {"scheduler": levels})
    return loaded


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
        validation_prompts: to measure on; None are ``prompts`` if these are given, and else those
            of the configuration.

    Raises:
        ConfigError: an argument or an override is wrong; nothing was started.
        RunError: the run cannot go on; what was saved stays intact.
    """
    loaded = _loaded(model)
    if not _is_trained(model):
        raise ConfigError(
            "model: has nothing to train (finetune=None); load it with finetune=lora, full or "
            "offset"
        )
    typed = _keys(overrides)
    if isinstance(reward, str):
        _require_absent(typed, "reward", exactly=True, instead=f"the argument reward={reward}")
        overrides = (*overrides, f"reward={reward}")
    config, choices = _composed(overrides)
    if choices.get("sweep") is not None:
        raise ConfigError(
            f"sweep={choices['sweep']}: is a list of jobs; start it with python -m soc_ft -m"
        )
    _record_model(config, choices, loaded, typed)
    given = None
    if not isinstance(reward, str):
        given = as_reward(reward)
        _require_absent(typed, "reward", instead="the argument reward")
        _set(config, "reward", record_of(given))
        choices["reward"] = given.name
    folder = _record_folder(config, run_dir, typed)
    files = _record_prompts(config, choices, prompts, validation_prompts, typed)
    if model.device.type == "cpu" and "trainer.accelerator" not in typed:
        _set(config, "trainer.accelerator", "cpu")
    with _written(files, folder):
        run = check(config)
        _check_run(config, run, folder, loaded, named=run_dir is not None or "run_dir" in typed)
        check_resume(config, folder)

    from soc_ft.training.run import train

    with _kept_track_of(model, loaded, folder):
        module = train(config, run, folder, Origin(overrides, choices), model=model, reward=given)
    return FineTuned(folder, module.validator.results, model)


def sample(
    model: DiffusionModel,
    prompts: Sequence[str] | str,
    *,
    samples_per_prompt: int = 1,
    num_steps: int = 50,
    eta: float = 1.0,
    guidance_scale: float | None = None,
    base: bool = False,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """Sample pictures, with the noise levels that the model was loaded with.

    Picture j of prompt i has its own noise: it does not depend on the batch size, and is the same
    for the base and the fine-tuned model.

    Args:
        model: from :func:`load_model`, fine-tuned or not.
        prompts: P prompts; or a file or data set of them, as for ``prompts=file``.
        samples_per_prompt: n.
        num_steps: of the sampler, at least 2.
        eta: noise level; 1 is that of fine-tuning, 0 is deterministic.
        guidance_scale: w; None is the model's own.
        base: sample the base model instead of the fine-tuned one.
        seed: of the noise.
        batch_size: pictures sampled together; changes no result.

    Returns:
        (P * n, 3, H, W) uint8 on the CPU, those of a prompt together.

    Raises:
        ConfigError: names the argument that is wrong.
    """
    _loaded(model)
    given = {
        "samples_per_prompt": samples_per_prompt,
        "num_steps": num_steps,
        "eta": eta,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "batch_size": batch_size,
    }
    return _sampled(model, _prompts("prompts", prompts), validated(_Sampling, given), base)


def evaluate(
    model: DiffusionModel,
    metrics: Mapping[str, Any] | Sequence[Any] | str,
    prompts: Sequence[str] | str,
    *,
    samples_per_prompt: int = 2,
    num_steps: int = 50,
    eta: float = 1.0,
    guidance_scale: float | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Evaluation:
    """Measure the base and the fine-tuned model on the same prompts and noise.

    Args:
        model: from :func:`load_model`; with ``finetune=None`` there is the base model alone.
        metrics: by their names in the table, or a list of them: functions (images (B, 3, H, W) in
            [0, 1], B prompts) -> (B,), metric objects (with ``embeds`` if they give vectors, whose
            spread within a prompt is measured), names of options of conf/metric and conf/reward, or
            settings of one as a mapping.
        prompts: P prompts; or a file or data set of them, as for ``prompts=file``.
        samples_per_prompt: n, at least 2 for metrics that give vectors.
        num_steps: of the sampler, at least 2.
        eta: noise level; 1 is that of fine-tuning, 0 is deterministic.
        guidance_scale: w; None is the model's own.
        seed: of the noise, which is that of :func:`sample`.
        batch_size: pictures sampled and scored together; changes no result.

    Returns:
        A list: means over prompts with their standard errors of the base model; of the fine-tuned
        model these and paired differences. It prints as a table.

    Raises:
        ConfigError: names the argument or the metric that is wrong.
    """
    loaded = _loaded(model)
    given = {
        "samples_per_prompt": samples_per_prompt,
        "num_steps": num_steps,
        "eta": eta,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "batch_size": batch_size,
    }
    settings = validated(_Sampling, given)
    texts = _prompts("prompts", prompts)
    with _hydra_of_our_own():
        measures = _metrics(metrics, samples_per_prompt)
        schedule = _schedule(loaded)

    from soc_ft.evaluation.measuring import compared

    models = [BASE, FINE_TUNED] if _is_trained(model) else [BASE]
    pictures = {of: _sampled(model, texts, settings, base=of == BASE) for of in models}
    values: dict[str, dict[str, Any]] = {of: {} for of in models}
    for label, metric in measures.items():
        measured = _measured(metric, list(pictures.values()), texts, batch_size, model.device)
        for of, own in zip(models, measured, strict=True):
            values[of][label] = own
    block = {"schedule": schedule, "eta": eta, "num_steps": num_steps}
    return Evaluation(
        compared(
            Scores(block, of, len(pictures[of])),
            values[of],
            values[BASE] if of != BASE else None,
        )
        for of in models
    )


def _named_model(name: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The option of conf/model that a name or path stands for, and what differs from it."""
    known = options("model")
    if name in known:
        return name, dict(settings)
    is_path = "/" in name or name.startswith(("embedded:", "random:"))
    if not (is_path or name.endswith(SINGLE_FILE_SUFFIXES) or Path(name).exists()):
        raise ConfigError(
            f"{unknown_option('name_or_path', name, known)}, and there is no such folder or file"
        )
    if "path" in settings:
        raise ConfigError(f"path={settings['path']}: name_or_path={name} is the path already")
    return _UNNAMED, {**settings, "path": name}


def _option(group: str, value: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The option of a group that was given, and what differs from it."""
    changes = dict(value) if isinstance(value, Mapping) else {"option": value}
    option, known = str(changes.pop("option", None)), options(group)
    if option not in known:
        raise unknown_option(group, option, known)
    return option, changes


def _schedule(loaded: _Loaded) -> str:
    """What a table calls the noise levels: the option with the same ones, if they are known."""
    option, own = loaded.choices.get("scheduler"), loaded.sections.get("scheduler", {})
    if option is not None:
        settings = chosen("scheduler", "scheduler", option)
        if own == {key: settings[key] for key in own}:
            return option
    return "the model's schedule"


def _device(given: str | torch.device | None) -> torch.device:
    import torch

    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device={given}: cannot be used ({reason})") from None
    return device


def _loaded(model: Any) -> _Loaded:
    """What a model was loaded with; nothing is known of one from elsewhere."""
    from soc_ft.models.model import DiffusionModel

    if not isinstance(model, DiffusionModel):
        raise ConfigError(
            f"model={type(model).__name__}: is no model of soc_ft; get one from soc_ft.load_model"
        )
    record: _Loaded = vars(model).setdefault(_RECORD, _Loaded())
    return record


def _is_trained(model: DiffusionModel) -> bool:
    return next(model.trainable_parameters(), None) is not None


@contextmanager
def _hydra_of_our_own() -> Iterator[None]:
    """Let Hydra be initialised anew, and afterwards be as it was."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def _composed(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """conf/config.yaml with overrides, and the option of each group."""
    try:
        with (
            _hydra_of_our_own(),
            initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())),
        ):
            config = compose("config", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from None
    choices = choices_of(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _plain(section: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(section, resolve=True)
    return plain


def _set(config: DictConfig, key: str, value: Any) -> None:
    """Set a key, a section as a whole."""
    OmegaConf.update(config, key, value, merge=False, force_add=True)


def _one_line(error: Exception) -> str:
    """Hydra's message in one line, with the closest existing option or key."""
    text = str(error)
    option = re.search(r"Could not find '(\w+)/([^']+)'", text)
    if option:
        return str(unknown_option(option[1], option[2], options(option[1])))
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        known = _composed([])[0]
        keys = [*known, *leaves(OmegaConf.to_container(known))]
        return f"{key[1]}: unknown key{did_you_mean(key[1], keys)}"
    cause = error.__cause__
    detail = f" ({' '.join(str(cause).split())})" if cause is not None else ""
    return " ".join(text.split()) + detail


def _keys(overrides: Sequence[Any]) -> dict[str, str]:
    """The keys that overrides set, with the overrides."""
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(
                f"overrides: {override!r} is no text; give them as on the command line, such as "
                "'trainer.steps=8'"
            )
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_one_line(error)) from None
    typed = {each.key_or_group: str(each.input_line) for each in parsed}
    for key, override in typed.items():
        if is_below(key.replace("/", "."), ["hydra"]) and key != "hydra.searchpath":
            raise ConfigError(f"{override}: means something on the command line only")
    return typed


def _require_absent(
    typed: Mapping[str, str], section: str, *, instead: str, exactly: bool = False
) -> None:
    """Refuse an override of what an argument says."""
    for key, override in typed.items():
        if key == section if exactly else is_below(key, [section]):
            raise ConfigError(f"{override}: {instead} says this already; leave the override out")


def _record_model(
    config: DictConfig,
    choices: dict[str, str | None],
    loaded: _Loaded,
    typed: Mapping[str, str],
) -> None:
    """Let the configuration say what the model was loaded with.

    Raises:
        ConfigError: overrides say something else, or nothing is known of the model.
    """
    if not loaded.sections and not any(is_below(key, ["model"]) for key in typed):
        raise ConfigError(
            "model: is not from soc_ft.load_model; say with the overrides model=..., finetune=... "
            "and scheduler=... what it is, for the record of the run"
        )
    for group, own in loaded.sections.items():
        section, whole = _plain(config[group]), "_target_" in own
        differing = [key for key in (section | own if whole else own) if _differ(key, section, own)]
        for key, override in typed.items():
            said = [
                f"{group}.{each}={own.get(each, 'absent')}"
                for each in differing
                if is_below(f"{group}.{each}", [key]) or is_below(key, [f"{group}.{each}"])
            ]
            if said:
                raise ConfigError(
                    f"{override}: the model was loaded with {', '.join(said)}; leave the override "
                    "out, or load the model with the same settings"
                )
        _set(config, group, own if whole else section | own)
    choices |= loaded.choices


def _differ(key: str, section: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return key not in section or key not in own or section[key] != own[key]


def _record_folder(
    config: DictConfig, run_dir: str | Path | None, typed: Mapping[str, str]
) -> Path:
    """The folder of the run, absolute."""
    if run_dir is not None:
        _require_absent(typed, "run_dir", instead="the argument run_dir")
        _set(config, "run_dir", str(Path(run_dir).expanduser()))
    _set(config, "run_dir", str(config.run_dir))  # with the time that it has now
    return Path(config.run_dir).absolute()


def _record_prompts(
    config: DictConfig,
    choices: dict[str, str | None],
    train: Sequence[str] | str | None,
    validation: Sequence[str] | str | None,
    typed: Mapping[str, str],
) -> dict[Path, bytes]:
    """Let the configuration name the prompts; the files of lists, which are still to be written."""
    files: dict[Path, bytes] = {}
    if validation is None:
        validation = train
    for use, given in (("train", train), ("validation", validation)):
        if given is None:
            continue
        argument = "prompts" if use == "train" else "validation_prompts"
        _require_absent(typed, "prompts", exactly=True, instead=f"the argument {argument}")
        _require_absent(typed, f"prompts.{use}", instead=f"the argument {argument}")
        if not isinstance(given, str):
            lines = [json.dumps(text, ensure_ascii=False) for text in _prompts(argument, given)]
            content = "".join(f"{line}\n" for line in lines).encode()
            # A name that tells lists apart: a run does not go on with other prompts.
            name = f"prompts-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
            given = str(Path(config.run_dir) / name)
            files[Path(given).absolute()] = content
        _set(config, f"prompts.{use}", given)
        choices["prompts"] = "file"
    return files


@contextmanager
def _written(files: Mapping[Path, bytes], folder: Path) -> Iterator[None]:
    """Write files for a check, and leave nothing behind if it fails."""
    new = [path for path in files if not path.exists()]
    for path in new:
        replace_file(path, files[path])
    try:
        yield
    except ConfigError:
        for path in new:
            path.unlink(missing_ok=True)
        remove_if_empty(folder)
        raise


def _check_run(
    config: DictConfig, run: RunConfig, folder: Path, loaded: _Loaded, named: bool
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
def _kept_track_of(model: DiffusionModel, loaded: _Loaded, folder: Path) -> Iterator[None]:
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


def _sampled(
    model: DiffusionModel, prompts: Sequence[str], settings: _Sampling, base: bool
) -> Tensor:
    from soc_ft.evaluation.sampling import sample_pictures

    scale = settings.guidance_scale
    return sample_pictures(
        model,
        model.scheduler.control_process(settings.num_steps, settings.eta),
        prompts,
        guidance_scale=model.guidance_scale if scale is None else scale,
        base=base,
        samples_per_prompt=settings.samples_per_prompt,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )


def _prompts(argument: str, given: Any) -> list[str]:
    """Prompts as a list, from a list or a source."""
    if isinstance(given, str):
        try:
            return load_prompts(given)
        except ConfigError as error:
            raise ConfigError(f"{argument}={error} (a prompt goes into a list)") from None
    texts = list(given) if isinstance(given, Iterable) else []
    if not texts:
        raise ConfigError(f"{argument}={given}: give at least one prompt, in a list")
    for place, text in enumerate(texts):
        if not (isinstance(text, str) and text.strip()):
            raise ConfigError(f"{argument}[{place}]={text!r}: must be a prompt, which is text")
    return [text.strip() for text in texts]


def _metrics(given: Any, samples_per_prompt: int) -> dict[str, _Metric]:
    """The metrics by their names in the table."""
    known = sorted([*options("metric"), *options("reward")])
    if isinstance(given, str) or callable(given) or not isinstance(given, Iterable):
        given = [given]
    if not isinstance(given, Mapping):
        given = {each if isinstance(each, str) else name_of(each): each for each in given}
    if not given:
        raise ConfigError(f"metrics: choose at least one ({', '.join(known)}), or give a function")
    metrics = {str(label): _metric(str(label), each, known) for label, each in given.items()}
    for label, metric in metrics.items():
        if metric.embeds and samples_per_prompt < 2:
            raise ConfigError(
                f"metrics: {label} compares the pictures of a prompt, of which there must be at "
                f"least 2 (samples_per_prompt), not {samples_per_prompt}"
            )
    return metrics


def _metric(label: str, given: Any, known: Sequence[str]) -> _Metric:
    if isinstance(given, str | Mapping):
        name = given if isinstance(given, str) else given.get("option")
        if name is not None and name not in known:
            raise unknown_option(f"metrics.{label}", name, known)
        group = "metric" if name in options("metric") else "reward"
        component = chosen(f"metrics.{label}", group, given)
        typed = validated(Component, component, ("metrics", label))
        found = component_class(typed, f"metrics.{label}")
        check_arguments(component, f"metrics.{label}")
        return _Metric(partial(instantiate, component), getattr(found, "embeds", False))
    if isinstance(given, type) or not callable(given):
        raise ConfigError(
            f"metrics.{label}={given!r}: give a function (images, prompts) -> (B,), a metric "
            f"object, or the name of an option ({', '.join(known)})"
        )
    embeds = getattr(given, "embeds", False)
    return _Metric(lambda: given if embeds else FunctionReward(given), embeds)


def _measured(
    metric: _Metric,
    sets: Sequence[Tensor],
    prompts: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> list[Any]:
    """(P,) what a metric says of each set of (P * n, 3, H, W) uint8 pictures; then it is gone."""
    import torch

    from soc_ft.evaluation.measuring import measured, of_prompts
    from soc_ft.evaluation.pictures import release_memory
    from soc_ft.methods.problem import chunks

    built = metric.build()
    if hasattr(built, "to"):
        built.to(device)
    found = []
    with torch.no_grad():
        for pictures in sets:
            texts = [each for each in prompts for _ in range(len(pictures) // len(prompts))]
            values = [
                measured(built, pictures[part].to(device).float() / 255, texts[part]).cpu()
                for part in chunks(len(pictures), batch_size)
            ]
            by_prompt = torch.cat(values).unflatten(0, (len(prompts), -1))
            found.append(of_prompts(by_prompt, metric.embeds))
    del built
    release_memory()
    return found
