"""The check of a whole configuration, before torch or any other heavy package is imported."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from soc_ft.checking import validated
from soc_ft.config.components import (
    any_uses_metadata,
    build_feedback,
    build_method,
    check_components,
    check_tracker,
    component_class,
    components_in,
)
from soc_ft.config.kinds import EMBEDDING, FEATURES, FINETUNE, METRIC, MODEL, REWARD, Kind
from soc_ft.config.prompts import held_out_prompts, metadata_of, training_prompts
from soc_ft.config.schema import RunConfig
from soc_ft.data.prompts import load_prompts
from soc_ft.errors import ConfigError, check_all
from soc_ft.feedback import Feedback
from soc_ft.files import package_path
from soc_ft.integrity import tensor_names
from soc_ft.methods import Method
from soc_ft.models.availability import check_available
from soc_ft.models.distillation import check_sampler
from soc_ft.models.starting import check_start


def check(config: DictConfig) -> RunConfig:
    """Validate a composed configuration.

    Returns:
        The typed configuration.

    Raises:
        ConfigError: names the key, its value and what is allowed. It is also raised for prompt
            files that cannot be read and for weights that are not there.
    """
    run, method = parse(config)
    feedback = build_feedback(run.feedback)
    _check_model(run, method)
    _check_sizes(run, method)
    _check_stages(run, feedback)
    _check_needs(run, method, feedback)
    _check_metrics(run)
    for source in feedback.prompt_sources:
        load_prompts(source)
    training_prompts(run.prompts)
    held_out_prompts(run.prompts, limit=None)
    if any(any_uses_metadata(*each) for each in scorers_of(run)):
        metadata_of(run.prompts)
    _check_base_rewards(run)
    _check_weights(run)
    return run


def parse(config: DictConfig) -> tuple[RunConfig, Method]:
    """Check every key's name, type and range, and build the method; nothing is opened.

    Raises:
        ConfigError: names the first offending key.
    """
    run = validated(RunConfig, resolved(config))
    method = build_method(run.method)
    build_feedback(run.feedback)
    component_class(run.model, "model", MODEL)
    component_class(run.finetune, "finetune", FINETUNE)
    if run.tracking is not None:
        check_tracker(run.tracking)
    return run, method


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values.

    Raises:
        ConfigError: a key has no value, or refers to one that does not exist.
    """
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: has no value; give it one") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).partition(chr(10))[0]}") from None
    return plain


def _check_model(run: RunConfig, method: Method) -> None:
    """Check that the model is one for the method, and for the sampler."""
    distilled, scheduler = run.model.distilled, run.scheduler
    if method.needs.denoiser and distilled is not None:
        raise ConfigError(
            f"model.distilled={distilled}: method {_name(run)} needs the velocity field of a "
            "diffusion model, which a step-distilled one does not predict; choose another model, "
            "or a method such as rebel, ddpo, sdpo, d3po or draft"
        )
    check_sampler(distilled, scheduler.noise_levels(), scheduler.num_steps, scheduler.eta)


def _check_sizes(run: RunConfig, method: Method) -> None:
    """Check what numbers must satisfy together."""
    trainer, group = run.trainer, method.needs.group_size
    method.pairs_per_sample(run.scheduler.num_steps)
    ranks = trainer.devices * trainer.num_nodes
    if trainer.batch_size % (ranks * group):
        groups = f" and method {_name(run)}'s groups of {group}" if group > 1 else ""
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size}: must be a multiple of the number of "
            f"processes, trainer.devices x trainer.num_nodes = {ranks}{groups}"
        )
    buffer = run.buffer
    if buffer.importance != "none" and buffer.batches * buffer.passes == 1:
        raise ConfigError(
            f"buffer.importance={buffer.importance}: has no effect on-policy, where all samples "
            "are from the current model; use buffer=replay"
        )


def _check_stages(run: RunConfig, feedback: Feedback) -> None:
    """Check that a stage is a whole number of rounds."""
    steps, stages, buffer = run.trainer.steps, feedback.stages, run.buffer
    rounds = buffer.batches * buffer.passes
    if stages > 1 and steps % (stages * rounds):
        whole = "" if rounds == 1 else f" of {rounds} optimizer steps (buffer.batches x passes)"
        raise ConfigError(
            f"trainer.steps={steps}: cannot be divided into the {stages} stages of feedback, each "
            f"of whole rounds{whole}"
        )


def _check_needs(run: RunConfig, method: Method, feedback: Feedback) -> None:
    """Check that the method gets what it asks for."""
    needs, name = method.needs, _name(run)
    if needs.memoryless and run.scheduler.eta < 1:
        raise ConfigError(
            f"scheduler.eta={run.scheduler.eta:g}: method {name} needs eta >= 1, the memoryless "
            "schedules (eta < 1 is for sampling and evaluation only)"
        )
    if needs.noise and run.scheduler.eta == 0:
        raise ConfigError(
            f"scheduler.eta=0: method {name} needs eta > 0: without noise transitions have no "
            "density"
        )
    learns_from_noise = needs.noise and not needs.reward_gradient
    if learns_from_noise and run.scheduler.num_steps == 1:
        raise ConfigError(
            f"scheduler.num_steps=1: method {name} learns from the noise of transitions before the "
            "picture, and a single step has none; use two or more"
        )
    buffer = run.buffer
    if buffer.importance != "none" and not needs.importance:
        raise ConfigError(
            f"buffer.importance={buffer.importance}: method {name} gives no importance ratio; use "
            "none"
        )
    reused = buffer.batches * buffer.passes > 1
    if reused and buffer.importance == "none" and not needs.replay:
        weighted = ", or weight them: buffer.importance=path" if needs.importance else ""
        raise ConfigError(
            f"buffer.batches={buffer.batches}, buffer.passes={buffer.passes}: method {name} uses "
            f"its samples once, before the model moves; set both to 1{weighted}"
        )
    if feedback.differentiable:
        return
    for key, component in components_in(run.reward.model_dump(by_alias=True), "reward"):
        reward = component_class(component, key, REWARD)
        if needs.reward_gradient and not getattr(reward, "differentiable", True):
            raise ConfigError(
                f"{key}={reward.name}: has no gradient, which method {name} needs; choose a reward "
                "with `differentiable = True`, such as reward=shapes, or feedback=greedy, whose "
                "surrogate has one"
            )


def _check_metrics(run: RunConfig) -> None:
    """Check that metrics give scores."""
    for name, component in run.validation.metrics.items():
        key = f"validation.metrics.{name}"
        if getattr(component_class(component, key, METRIC), "embeds", False):
            raise ConfigError(f"{key}: gives vectors; name it as validation.embedding")


def _check_base_rewards(run: RunConfig) -> None:
    """Check that what the optimum is computed from is there."""
    given = run.validation.base_rewards
    if given is None:
        return
    path, wanted = package_path(given), "`python -m soc_ft.evaluate run=... exact=true` writes one"
    if not path.is_file():
        raise ConfigError(f"validation.base_rewards={given}: there is no such file; {wanted}")
    try:
        names = tensor_names(path)
    except ConfigError as error:
        raise ConfigError(f"validation.base_rewards={given}: {error}") from None
    if "rewards" not in names:
        raise ConfigError(f"validation.base_rewards={given}: holds no rewards; {wanted}")


def _name(run: RunConfig) -> str:
    return run.method.target.rpartition(".")[2]


def _check_weights(run: RunConfig) -> None:
    """Check that weights can be had: the reward's first, which are the likelier to be missing."""
    check_start(run.finetune.arguments)
    scorers = [partial(check_components, *each) for each in scorers_of(run)]
    schedule = run.scheduler.noise_levels(), run.scheduler.num_steps, run.scheduler.eta
    check_all([*scorers, partial(check_available, run.model.model_dump(), *schedule)])


def scorers_of(run: RunConfig) -> list[tuple[Any, str, Kind]]:
    """What looks at pictures: sections as plain values, with their keys and kinds."""
    included = dict.fromkeys(("reward", "validation", "feedback"), True)
    plain = run.model_dump(by_alias=True, include=included)
    return [
        (plain["feedback"].get("features"), "feedback.features", FEATURES),
        (plain["reward"], "reward", REWARD),
        (plain["validation"]["metrics"], "validation.metrics", METRIC),
        (plain["validation"]["embedding"], "validation.embedding", EMBEDDING),
    ]
