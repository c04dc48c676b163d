"""Functions as rewards, and their record."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from soc_ft.errors import ConfigError
from soc_ft.rewards.function import FunctionReward, as_reward, record_of
from tests.api.small import PROMPTS, redness, without_gradient
from tests.scorers import Redness


def test_a_function_of_a_module_can_be_built_from_its_record() -> None:
    """Breaks when ``soc_ft.evaluate run=...`` cannot measure a reward that it could import."""
    record = record_of(as_reward(redness))
    arguments = {key: value for key, value in record.items() if key != "_target_"}
    FunctionReward.check_arguments(arguments, "reward")
    images = torch.rand(3, 3, 4, 4)
    rebuilt = FunctionReward(**arguments)
    torch.testing.assert_close(rebuilt(images, PROMPTS), redness(images, PROMPTS))
    assert rebuilt.name == "redness"
    with pytest.raises(ConfigError, match=r"its source is not what it was \(digest"):
        FunctionReward("tests.api.small.bluish", arguments["digest"])


@pytest.mark.parametrize(
    "given",
    [
        lambda images, prompts: images.mean((1, 2, 3)),
        Redness(),
        Redness().__call__,
        functools.partial(redness),
        nn.Bilinear(1, 1, 1),
    ],
)
def test_what_cannot_be_imported_is_refused_elsewhere(given: Any) -> None:
    """Breaks when a configuration builds another reward than the one that was given."""
    record = record_of(as_reward(given))
    FunctionReward.check_arguments(record, "reward")
    script = (
        "from soc_ft.rewards.function import FunctionReward\n"
        f"FunctionReward.check_arguments({record!r}, 'metrics.mine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert f"ConfigError: metrics.mine.function={record['function']}: cannot" in done.stderr


def test_objects_are_rewards_too() -> None:
    """Breaks when a network cannot be given as it is, or a reward loses what it has."""
    own = Redness()
    assert as_reward(own) is own

    class Network(nn.Module):
        def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            return images.mean((1, 2, 3))

    wrapped = as_reward(Network())
    assert wrapped.name == "Network"
    assert wrapped.differentiable
    assert wrapped.to(torch.device("cpu")) is wrapped
    assert wrapped(torch.ones(2, 3, 4, 4), ["a", "b"]).tolist() == [1, 1]
    assert not as_reward(without_gradient).differentiable
    assert as_reward(without_gradient)(torch.ones(2, 3, 4, 4), ["a", "b"]).tolist() == [1, 1]
