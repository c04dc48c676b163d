"""Wrong values of every kind, each answered by one line that names its key."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from soc_ft.config import check
from soc_ft.config.checks import resolved
from soc_ft.errors import ConfigError
from tests.conftest import composed


@cache
def _plain(*overrides: str) -> dict[str, Any]:
    return resolved(composed("experiment=quickstart", "model.path=random:tiny", *overrides))


def refused(key: str, value: str, *overrides: str) -> str:
    """What the check says of a configuration with one more value, in YAML."""
    config: Any = OmegaConf.create(copy.deepcopy(_plain(*overrides)))
    assert isinstance(config, DictConfig)
    OmegaConf.update(config, key, yaml.safe_load(value), force_add=True)
    with pytest.raises(ConfigError) as caught:
        check(config)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        # ranges and types
        ("lambda", "true", "must be a valid number"),
        ("lambda", "null", "lambda=null"),
        ("lambda", "[1, 2]", "lambda=[1, 2]"),
        ("lambda", ".inf", "finite"),
        ("seed", "1.5", "integer"),
        ("seed", "true", "integer"),
        ("name", "a/b", "without a slash"),
        ("name", "''", "name=''"),
        ("resume", "maybe", "'auto' or 'never'"),
        ("export", "perhaps", "boolean"),
        ("trainer.lr", "fast", "number"),
        ("trainer.betas", "[0.9, 1.0]", "trainer.betas.1=1.0: must be less than 1"),
        ("trainer.betas", "[0.9]", "trainer.betas.1: this key is missing"),
        ("trainer.betas", "0.9", "must be a list"),
        ("trainer.eps", "0", "greater than 0"),
        ("trainer.precision", "16-mixed", "bf16-mixed"),
        ("trainer.accelerator", "gppu", "'cpu', 'gpu' or 'cuda'"),
        ("trainer.strategy", "fsdp", "ddp"),
        ("trainer.strategy", "deepspeed", "ddp"),
        ("trainer.devices", "0", "greater than or equal to 1"),
        ("trainer.devices", "auto", "integer"),
        ("trainer.threads", "0", "greater than or equal to 1"),
        ("trainer.max_dropped", "2", "less than or equal to 1"),
        ("trainer.gradient_clip", "-1", "greater than 0"),
        ("buffer.device", "cud", "choose cpu, cuda"),
        ("buffer.device", "cuda:x", "choose cpu, cuda"),
        ("buffer.passes", "0", "greater than or equal to 1"),
        ("scheduler.num_steps", "1", "greater than or equal to 2"),
        ("scheduler.num_steps", "1500", "less than or equal to 1000"),
        ("scheduler.beta_schedule", "cosine", "squaredcos_cap_v2"),
        ("scheduler.timestep_spacing", "even", "trailing"),
        ("cfg_mode.guided", "[everywhere]", "cfg_mode.guided.0=everywhere"),
        ("validation.metrics", "3", "must be a section"),
        ("validation.at_end", "2", "boolean"),
        # a component's own arguments
        ("model.frozen_dtype", "float16", "'float32' or 'bfloat16'"),
        ("model.attention", "flash", "'auto' or 'plain'"),
        ("model.network_checkpointing", "maybe", "boolean"),
        ("model.network_checkpointing", "'no'", "boolean"),
        ("model.guidance_scale", "-1", "greater than or equal to 0"),
        ("model.revision", "3", "string"),
        ("model.bogus", "1", "model.bogus: unknown key"),
        ("model.finetune", "x", "model.finetune: unknown key"),
        ("method.clip", "1", "method.clip: unknown key"),
        ("method.mask_decay", "1", "less than 1"),
        ("reward.scal", "3", "reward.scal: unknown key"),
        ("reward.weights", "3", "string"),
        ("finetune.rank", "4", "finetune.rank: unknown key"),
        ("tracking.server", "x", "tracking.server: unknown key"),
        ("tracking.interval", "0", "greater than 0"),
        ("tracking.path", "3", "string"),
        ("validation.embedding.dim", "3", "validation.embedding.dim: unknown key"),
        ("validation.metrics.accuracy.weigths", "x", "did you mean weights?"),
        # hints at keys at every level
        ("lamda", "10", "did you mean lambda?"),
        ("trainer.batchsize", "4", "did you mean batch_size?"),
        ("buffer.bathces", "2", "did you mean batches?"),
        ("prompts.colum", "x", "did you mean column?"),
        ("method.regresion_steps", "2", "did you mean regression_steps?"),
        # what may be built
        ("method._target_", "mine.Nope", "cannot be imported"),
        ("method._target_", "tests.scorers.Redness", "is no method; derive it from"),
        ("method._target_", "soc_ft.methods.Method", "lacks collect, loss"),
        ("method._target_", "nonsense", "dotted name"),
        ("finetune._target_", "subprocess.getoutput", "is a function and no fine-tuning mode"),
        ("finetune._target_", "collections.OrderedDict", "it lacks attach"),
        ("reward._target_", "tests.api.small.redness", "is a function and no reward"),
        ("reward._target_", "tests.scorers.MeanColour", "it lacks name, differentiable"),
        ("reward._target_", "soc_ft.rewards.shapes.ShapeReward", "did you mean ShapesReward?"),
        ("reward._target_", "soc_ft.files.os", "is a module and no reward"),
        ("model._target_", "os.system", "a function and no model"),
        ("tracking._target_", "os.system", "no tracker"),
        ("reward._partial_", "true", "reward._partial_: unknown key"),
        ("validation.metrics.m", "{_target_: tests.scorers.Redness, scale: big}", "valid number"),
        ("validation.metrics.m", "{_target_: os.system, command: ls}", "and no metric"),
        ("validation.metrics.m", "{_target_: tests.scorers.MeanColour}", "gives vectors"),
        ("validation.embedding._target_", "tests.scorers.Redness", "it lacks embeds"),
    ],
)
def test_one_line_names_the_key(key: str, value: str, words: str) -> None:
    """Breaks when a key is no longer checked, or the line says neither which it is nor why."""
    line = refused(key, value)
    assert line.startswith(key.partition("._target_")[0].partition(".m")[0][:6])
    assert words in line


@pytest.mark.parametrize(
    ("overrides", "key", "value", "words"),
    [
        ("finetune=lora", "finetune.rank", "2.5", "integer"),
        ("finetune=lora", "finetune.alpha", "x", "number"),
        ("finetune=lora", "finetune.targets", "3", "must be a list"),
        ("finetune=lora", "finetune.rnk", "3", "did you mean rank?"),
        ("finetune=offset", "finetune.init_scale", "-1", "greater than or equal to 0"),
        ("reward=jpeg_compressibility", "reward.quality", "200", "less than or equal to 95"),
        ("reward=hpsv2", "reward.version", "v3", "'v2.0' or 'v2.1'"),
        ("reward=weighted", "reward.rewards.hpsv2.dtype", "half", "reward.rewards.hpsv2.dtype"),
        ("reward=weighted", "reward.rewards.hpsv2._target_", "os.system", "no reward"),
    ],
)
def test_options_are_checked_as_their_classes_say(
    overrides: str, key: str, value: str, words: str
) -> None:
    """Breaks when what a constructor declares is not heeded."""
    assert words in refused(key, value, overrides)


def test_nothing_is_called_by_the_check(tmp_path: Any) -> None:
    """Breaks when a function that a configuration names is run before anybody looks at it."""
    witness = tmp_path / "witness"
    call = f"{{_target_: subprocess.getoutput, cmd: touch {witness}}}"
    for section in ("method", "reward", "model", "finetune", "tracking", "validation.embedding"):
        refused(section, call)
    assert not witness.exists()


def test_nested_errors_are_said_once() -> None:
    """Breaks when the types of a union are told as further problems."""
    assert refused("validation.embedding", "3").endswith("must be a section with keys of its own")
