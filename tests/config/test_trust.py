"""Of a run's configuration only soc_ft's own code is built, and what a person names."""

from __future__ import annotations

from typing import Any

import pytest

from soc_ft.config.components import check_trusted, code_beyond_ours
from soc_ft.errors import ConfigError

OURS = {"_target_": "soc_ft.models.finetune.LoRA", "rank": 4}
GIVEN = {"_target_": "soc_ft.rewards.function.FunctionReward", "function": "mine.redness"}
THEIRS = {"_target_": "theirs.Metric"}


@pytest.mark.parametrize(
    ("config", "trusted", "refused"),
    [
        ({"finetune": OURS}, [], None),
        ({"finetune": THEIRS}, [], r"finetune\._target_=theirs\.Metric.*trust=\[theirs\.Metric\]"),
        ({"finetune": THEIRS}, ["theirs.Metric"], None),
        ({"finetune": THEIRS}, ["theirs.*"], None),
        ({"finetune": THEIRS}, ["theirs.Other", "the.*"], "finetune"),
        ({"reward": GIVEN}, [], r"reward\.function=mine\.redness"),
        ({"reward": GIVEN}, ["mine.redness"], None),
        ({"validation": {"metrics": {"m": THEIRS}}}, [], r"validation\.metrics\.m\._target_"),
        ({"model": {"_target_": "soc_ft.models.loading.load_model", "x": [THEIRS]}}, [], "x.0"),
    ],
)
def test_other_code_must_be_named(
    config: dict[str, Any], trusted: list[str], refused: str | None
) -> None:
    """Breaks when a stranger's configuration is imported, or one's own cannot be opened."""
    sections = ("model", "finetune", "reward", "validation.metrics")
    if refused is None:
        check_trusted(config, sections, trusted)
        return
    with pytest.raises(ConfigError, match=refused):
        check_trusted(config, sections, trusted)


def test_what_must_be_named_can_be_listed() -> None:
    """Breaks when a finished run shows a command that is then refused."""
    config = {"finetune": OURS, "reward": GIVEN, "validation": {"embedding": THEIRS}}
    assert dict(code_beyond_ours(config)) == {
        "reward.function": "mine.redness",
        "validation.embedding._target_": "theirs.Metric",
    }
