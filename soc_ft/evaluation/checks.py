"""The configuration of ``python -m soc_ft.evaluate``: keys, types, ranges, and what they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from soc_ft.checking import check_folder, validated
from soc_ft.config.checks import resolved
from soc_ft.config.components import (
    check_components,
    check_tracker,
    check_trusted,
    component_class,
)
from soc_ft.config.groups import chosen, options, unknown_option
from soc_ft.config.kinds import EMBEDDING, FINETUNE, METRIC, MODEL, REWARD
from soc_ft.config.machine import check_device
from soc_ft.config.schema import Model, Prompts, Scheduler
from soc_ft.data.metadata import Metadata
from soc_ft.errors import ConfigError
from soc_ft.evaluation.exact_checks import (
    TiltedLaw,
    check_exact,
    check_exact_keys,
    tilted_law,
)
from soc_ft.evaluation.folders import folder_metadata, read_folder
from soc_ft.evaluation.plan import (
    Choice,
    Exact,
    Measure,
    ModelSource,
    Plan,
    SamplingSetup,
    Settings,
    guidance_of_run,
)
from soc_ft.evaluation.prompts import chosen_metadata, chosen_prompts, used_metadata
from soc_ft.evaluation.reward_guidance import checked_guidance
from soc_ft.layout import STATISTICS_FILE
from soc_ft.options import Component
from soc_ft.records.runs import (
    find_weights,
    open_run,
    run_of_checkpoint,
)
from soc_ft.records.saved import read_config
from soc_ft.rewards.base import Standardises
from soc_ft.tracking.address import default_uri
from soc_ft.tracking.store import folder_of_mlflow_run, looks_like_mlflow_id

OF_SAMPLING = ("model_path", "prompts", "scheduler", "eta", "num_steps", "guidance_scale")
"""Keys that say how pictures are made."""


def check_evaluation(config: DictConfig) -> Plan:
    """Validate a composed configuration; torch is not imported.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    settings = validated(Settings, resolved(config))
    check_device(settings.device)
    check_folder(settings.output, "output")
    check_folder(settings.store, "store")
    _check_source(settings)
    check_exact_keys(settings)
    tracking = chosen("tracking", "tracking", settings.tracking or "mlflow")
    if settings.tracking or (settings.run, settings.checkpoint) == (None, None):
        check_tracker(validated(Component, tracking, ("tracking",)))
    if settings.images is not None:
        measures = _measures(settings)
        sets = read_folder(Path(settings.images))
        check_sizes(_embedding(measures), min(len(group) for each in sets for group in each.paths))
        metadata = used_metadata(measures, partial(folder_metadata, Path(settings.images)))
        return Plan(settings, None, [], [], sets, measures, metadata, tracking)
    run_dir, run_config = _run(settings, tracking)
    if run_config is not None:
        _check_run(run_config, settings)
        if settings.tracking is None:
            tracking = run_config.get("tracking") or chosen("tracking", "tracking", "none")
    measures = _measures(settings, run_dir, run_config)
    check_sizes(_embedding(measures), settings.samples_per_prompt)
    prompts, metadata = _prompts(settings, run_config, measures)
    blocks = _blocks(settings, run_config)
    law = tilted_law(run_config) if settings.exact and run_config is not None else None
    exact = _exact(settings, law, run_config, blocks, measures)
    scale = settings.guidance_scale if law is None else law.guidance_scale
    source = _source(settings, run_dir, run_config, blocks, scale)
    guidance = None
    if settings.reward_guidance and run_dir is not None and run_config is not None:
        assert source.weights is not None
        ((_, reward),) = _reward_of_run(run_dir, run_config).items()
        feedback = run_config.get("feedback")
        guidance = checked_guidance(settings.reward_guidance, reward, feedback, source.weights)
    return Plan(
        settings, source, prompts, blocks, [], measures, metadata, tracking, exact, guidance
    )


def _check_source(settings: Settings) -> None:
    """One thing is to be evaluated, and nothing is set that has no effect on it."""
    named = [key for key in ("run", "model", "images") if getattr(settings, key) is not None]
    if len(named) > 1 or not (named or settings.checkpoint):
        raise ConfigError(
            f"{' and '.join(named) or 'run, model, images'}: give one of run= (a run folder or "
            "MLflow id), checkpoint= (a file in a run folder), model= (a base model) and images= "
            "(a folder of pictures)"
        )
    of_runs = ("checkpoint", "reward_guidance")
    idle = {"model": of_runs, "images": (*of_runs, *OF_SAMPLING)}
    for kind in named:
        for key in idle.get(kind, ()):
            if getattr(settings, key):
                raise ConfigError(f"{key}={getattr(settings, key)}: means nothing with {kind}=")


def _run(
    settings: Settings, tracking: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Folder and configuration of the run, if a run is evaluated."""
    run = settings.run
    if run is None:
        if settings.checkpoint is None:
            return None, None
        folder, config = run_of_checkpoint(Path(settings.checkpoint))
        return folder, config
    if looks_like_mlflow_id(run):
        uri = tracking.get("uri") or default_uri(Path(tracking.get("path", "runs")))
        run = folder_of_mlflow_run(run, uri)
    folder, config = open_run(run)
    return folder, config


def _check_run(run_config: Mapping[str, Any], settings: Settings) -> None:
    """Check what a run's configuration says of what will be built, which may be a stranger's."""
    measures = ["reward", "validation.metrics", "validation.embedding"]
    if settings.metrics:
        measures = ["reward"] if settings.exact else []
    sections = ["model", "finetune", *measures]
    sections += ["reward", "feedback"] if settings.reward_guidance else []
    sections += [] if settings.tracking else ["tracking"]
    check_trusted(run_config, sections, settings.trust)
    component_class(_typed(run_config, "finetune"), "finetune", FINETUNE)
    if "tracking" in sections and run_config.get("tracking") is not None:
        check_tracker(_typed(run_config, "tracking"))


def _typed(run_config: Mapping[str, Any], section: str) -> Component:
    return validated(Component, run_config.get(section) or {}, (section,))


def _source(
    settings: Settings,
    run_dir: Path | None,
    run_config: Mapping[str, Any] | None,
    blocks: Sequence[SamplingSetup],
    scale: float | None,
) -> ModelSource:
    from soc_ft.models.availability import check_available

    weights = finetune = None
    if run_dir is not None and run_config is not None:
        model, finetune = dict(run_config.get("model") or {}), run_config["finetune"]
        weights = find_weights(run_dir, settings.checkpoint or "last")
    else:
        model = chosen("model", "model", settings.model or "")
    if settings.model_path is not None:
        model["path"] = settings.model_path
    component_class(validated(Model, model, ("model",)), "model", MODEL)
    for block in blocks:
        check_available(model, block.noise_levels, block.num_steps, block.eta)
    if scale is None:
        scale = model["guidance_scale"] if run_config is None else guidance_of_run(run_config)
    return ModelSource(model, finetune, weights, run_dir, scale)


def _prompts(
    settings: Settings, run_config: Mapping[str, Any] | None, measures: Mapping[str, Measure]
) -> tuple[list[str], Metadata]:
    """The prompts, and what is said of them."""
    of_run = None
    if run_config is not None:
        of_run = validated(Prompts, run_config.get("prompts") or {}, ("prompts",))
    given, column = settings.prompts, settings.column
    found = chosen_prompts(given, column, settings.num_prompts, of_run)
    metadata = used_metadata(measures, partial(chosen_metadata, given, column, of_run))
    return found[: settings.num_prompts], metadata


def _blocks(settings: Settings, run_config: Mapping[str, Any] | None) -> list[SamplingSetup]:
    """Every schedule with every eta and number of steps."""
    found: dict[str, Scheduler] = {}
    own = None
    if run_config is not None:
        own = validated(Scheduler, run_config.get("scheduler") or {}, ("scheduler",))
        if not settings.scheduler:
            name = schedule_option(own.noise_levels()) or "the run's"
            found[name] = own
    for name in settings.scheduler or ([] if own else ["memoryless"]):
        option = validated(Scheduler, chosen("scheduler", "scheduler", name), ("scheduler",))
        found[name] = option
    return [
        SamplingSetup(
            schedule=name,
            noise_levels=option.noise_levels(),
            num_steps=num_steps,
            eta=eta,
        )
        for name, option in found.items()
        for eta in dict.fromkeys(settings.eta or [(own or option).eta])
        for num_steps in dict.fromkeys(settings.num_steps or [(own or option).num_steps])
    ]


def schedule_option(noise_levels: Mapping[str, Any]) -> str | None:
    """The option of conf/scheduler with the same noise levels, if there is one."""
    for name in options("scheduler"):
        option = validated(Scheduler, chosen("scheduler", "scheduler", name), ("scheduler",))
        if noise_levels == option.noise_levels():
            return name
    return None


def _measures(
    settings: Settings, run_dir: Path | None = None, run_config: Mapping[str, Any] | None = None
) -> dict[str, Measure]:
    if settings.metrics:
        components = dict(chosen_metric("metrics", value) for value in settings.metrics)
    elif run_dir is not None and run_config is not None:
        components = _metrics_of_run(run_dir, run_config)
    else:
        raise ConfigError(f"metrics: choose at least one ({', '.join(metric_options())})")
    if settings.exact and run_dir is not None and run_config is not None:
        components = _reward_of_run(run_dir, run_config) | components
    return {label: checked_measure(label, each) for label, each in components.items()}


def metric_options() -> list[str]:
    """Names of what can be measured."""
    return sorted([*options("metric"), *options("reward")])


def chosen_metric(key: str, value: Choice) -> tuple[str, dict[str, Any]]:
    """Label and component of a metric that is given by name or settings; ``key`` names it.

    Raises:
        ConfigError: there is no such option.
    """
    name = value if isinstance(value, str) else value.get("option")
    if name is None:
        component = chosen(key, "reward", value)
        return str(component["_target_"]).rpartition(".")[2], component
    if name not in metric_options():
        raise unknown_option(key, name, metric_options())
    group = "metric" if name in options("metric") else "reward"
    return name, chosen(key, group, value)


def checked_measure(label: str, component: dict[str, Any]) -> Measure:
    """A column of the table, its class and arguments checked.

    Raises:
        ConfigError: there is no such class, or an argument is wrong.
    """
    key = f"metrics.{label}"
    found = component_class(validated(Component, component, (key,)), key, METRIC)
    embeds = bool(getattr(found, "embeds", False))
    check_components(component, key, EMBEDDING if embeds else METRIC)
    return Measure(component, embeds)


def _metrics_of_run(run_dir: Path, run_config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    validation = run_config.get("validation") or {}
    components = _reward_of_run(run_dir, run_config) | (validation.get("metrics") or {})
    if validation.get("embedding") is not None:
        components["diversity"] = validation["embedding"]
    return components


def _reward_of_run(run_dir: Path, run_config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The reward by its name, with the statistics that the run has measured for it."""
    component = _typed(run_config, "reward")
    reward = component_class(component, "reward", REWARD)
    measured = {}
    if isinstance(reward, Standardises) and reward.lacks_statistics(component.arguments):
        file = run_dir / STATISTICS_FILE
        measured = {"statistics": read_config(file)} if file.is_file() else {}
    return {reward.name: run_config["reward"] | measured}


def _exact(
    settings: Settings,
    law: TiltedLaw | None,
    run_config: Mapping[str, Any] | None,
    blocks: Sequence[SamplingSetup],
    measures: Mapping[str, Measure],
) -> Exact | None:
    if not settings.exact:
        return None
    own = blocks
    if run_config is not None:
        nothing: dict[str, Any] = {"scheduler": [], "eta": [], "num_steps": []}
        own = _blocks(settings.model_copy(update=nothing), run_config)
    return check_exact(settings, law, blocks, own, measures)


def _embedding(measures: Mapping[str, Measure]) -> list[str]:
    return [label for label, measure in measures.items() if measure.embeds]


def check_sizes(embedding: Iterable[str], pictures: int) -> None:
    """Check that metrics which give vectors have two pictures of each prompt.

    Raises:
        ConfigError: there are fewer.
    """
    for label in embedding:
        if pictures < 2:
            raise ConfigError(
                f"metrics: {label} compares the pictures of a prompt, of which there must be at "
                f"least 2 (samples_per_prompt), not {pictures}"
            )
