"""The methods that the contract is asked of: the shipped ones, README's example, and one of ours.

A shipped method is among them by having a file under conf/method.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from soc_ft import core
from soc_ft.files import conf_dir
from soc_ft.methods import Anchor, Batch, Experience, Method, Needs, Request, Round, Terms
from soc_ft.methods.problem import Problem
from soc_ft.options import NonNegative
from tests.test_readme import write_examples

FITTING: dict[str, tuple[str, ...]] = {
    "drtune": ("method.steps=2",),
    "best_of_group": ("+method.group_size=2",),
}
"""Options of methods whose defaults take more steps than the tests' trajectories have, or groups
that do not fit into half of their batches."""


class GroupedRegression(Method):
    """Advantage-weighted denoising of own samples, held back by the policy that sampled.

    Uses what the others do not: groups with shared noise, both kinds of anchors, prompts in the
    loss, a state of its own.
    """

    class Config(Method.Config):
        """Options."""

        pull: NonNegative = Field(0.5, description="weight of the distance to the old policy")

    needs = Needs(
        group_size=2,
        anchors=(Anchor("old", "round"), Anchor("average", "step", decay=0.5)),
        replay=True,
    )
    config: Config

    def __init__(self, **options: object) -> None:
        """Start without a round."""
        super().__init__(**options)
        self.rounds = 0

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Groups start from one noise."""
        steps = problem.process.num_steps
        noise = request.normal("trajectory", (steps + 1, *request.latent_shape))
        noise[:, 0] = request.normal("start", request.latent_shape, shared=True)
        states = core.rollout(problem.trained, problem.process, request.condition, noise).states
        rewards = problem.reward_of(states[:, -1], request.prompts)
        return Experience(rewards, {"clean": states[:, -1], "start": noise[:, 0]})

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """The better of a group pulls, the worse pushes."""
        self.rounds += 1
        groups = round_.rewards.view(-1, round_.group_size)
        deviation = groups - groups.mean(dim=1, keepdim=True)
        return {"advantage": (deviation / (groups.std(correction=0) + 1e-6)).flatten()}

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """At a fresh noise level of each sample."""
        process = problem.process
        last = process.num_steps - 1
        k = (batch.uniform("level", ()) * process.num_steps).long().clamp(max=last)
        x = batch["clean"] + batch.normal("noise", batch["clean"].shape[1:])
        t = process.times_of(k, x)
        f = problem.trained(x, t, batch.condition)
        old = problem.anchor("old", x, t, batch.condition)
        problem.anchor("average", x, t, batch.condition)
        error = (process.clean(k, x, f) - batch["clean"]).flatten(1).square().mean(dim=1)
        distance = (f - old).flatten(1).square().mean(dim=1)
        length = torch.tensor([float(len(prompt)) for prompt in batch.prompts])
        return Terms(
            batch["advantage"] * error + self.config.pull * distance,
            {"distance": distance.detach(), "prompt_length": length},
        )

    def state_dict(self) -> dict[str, int]:
        """The rounds so far."""
        return {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting."""
        self.rounds = state["rounds"]


@cache
def readme_folder() -> Path:
    """README's examples, where Python finds them."""
    folder = Path(tempfile.mkdtemp(prefix="readme-"))
    write_examples(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return folder


def citizens() -> dict[str, tuple[str, ...]]:
    """Overrides that choose each method, by its name."""
    shipped = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
    found = {name: (f"method={name}", *FITTING.get(name, ())) for name in shipped}
    for path in sorted((readme_folder() / "my_conf" / "method").glob("*.yaml")):
        target = next(line for line in path.read_text().splitlines() if "_target_" in line)
        found[path.stem] = (*_replacing(target.split(": ")[1]), *FITTING.get(path.stem, ()))
    found["grouped_regression"] = _replacing(f"{__name__}.GroupedRegression")
    return found


def _replacing(target: str) -> tuple[str, ...]:
    """A method without a file in conf takes the place of the default one."""
    names = [
        line.partition(":")[0]
        for line in (conf_dir() / "method" / "adjoint_matching.yaml").read_text().splitlines()
        if line[0].islower()
    ]
    # Hydra takes a key whose value is null for missing, and does not delete it.
    deleted = [each for name in names for each in (f"method.{name}=0", f"~method.{name}")]
    return (*deleted, f"method._target_={target}")
