"""``python -m soc_ft.world.estimators``: bias and noise of estimates of the value's gradient.

At small lambda the optimal control of step k at x_k is lambda g_k, g_k = E[r z_k | x_k] under the
base model, and sum_k E||g_k||^2 is what the mean shifts of the process can use of the reward's
variance. What a fine-tuning method regresses on is an estimate of g_k from one trajectory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft import core
from soc_ft.world import DIFFUSION, REWARD, scenes
from soc_ft.world.quality import SCHEDULES, table_row

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from torch import Tensor

    from soc_ft.core import Condition, Predictor, Process
    from soc_ft.world.scorer import ShapesScorer

Value = Callable[["Tensor"], tuple["Tensor", "Tensor"]]
"""Clean latents (N, *latent) -> rewards (N,) and their gradients (N, *latent)."""


@dataclass(frozen=True)
class Draws:
    """Estimates of g_k at one state, from N continuations of it; each (N, *latent).

    Attributes:
        adjoint: -sigma_k a_{k+1}, the lean adjoint of the reward (Adjoint Matching); unbiased.
        score: (r - b) z_k with b the mean reward of the other continuations (REINFORCE); unbiased.
        clean: sigma_k times the gradient of the reward of the clean prediction at x_{k+1}.
    """

    adjoint: Tensor
    score: Tensor
    clean: Tensor


def draw_estimates(
    predict: Predictor,
    process: Process,
    condition: Condition,
    step: int,
    noise: Tensor,
    value: Value,
) -> Draws:
    """Continue a state N times under the base model and estimate g_k from each continuation.

    Args:
        predict: output of the base model.
        process: K transitions with sigma > 0.
        condition: N rows.
        step: k.
        noise: (N, K - k + 1, *latent), the state x_k at index 0 and z_k, z_{k+1}, ... after it.
        value: rewards with gradients.
    """
    import torch

    rest = _from_step(process, step)
    states = core.rollout(predict, rest, condition, noise).states
    rewards, gradient = value(states[:, -1])
    none_before = torch.zeros(len(noise), dtype=torch.long)
    solution = core.lean_adjoint(
        predict, rest, states, -gradient, condition, none_before, adjoint_at="next"
    )
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    sigma = process.sigma_of(step, gradient)
    return Draws(
        adjoint=-sigma * solution.adjoints[:, 1],
        score=core.match_leading(rewards - others, gradient) * noise[:, 1],
        clean=sigma * _clean_gradient(predict, rest, condition, states[:, 1], value),
    )


def _from_step(process: Process, step: int) -> Process:
    """The transitions from a step on."""
    import torch

    parts: dict[str, Any] = {
        each.name: getattr(process, each.name) for each in fields(process) if each.init
    }
    for name, part in parts.items():
        if isinstance(part, torch.Tensor):
            parts[name] = part[step:]
    return core.Process(**parts)


def _clean_gradient(
    predict: Predictor, rest: Process, condition: Condition, x: Tensor, value: Value
) -> Tensor:
    """Gradient at x_{k+1} of the reward of its clean prediction, through the network."""
    import torch

    if rest.num_steps == 1:
        return value(x)[1]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        clean = rest.clean(1, x, predict(x, rest.times_of(1, x), condition))
        (gradient,) = torch.autograd.grad(clean, x, value(clean.detach())[1])
    return gradient


def inner(first: Tensor, second: Tensor) -> float:
    """Unbiased estimate of E[first] . E[second] from paired draws (N, *latent).

    The mean over pairs of different draws, so that what one draw has in common with itself or
    with its partner does not count.
    """
    a, b = first.flatten(1).double(), second.flatten(1).double()
    n = len(a)
    return float((a.sum(0) @ b.sum(0) - (a * b).sum()) / (n * (n - 1)))


def summary(draws: list[Draws]) -> dict[str, float]:
    """What is known of a step from the draws of several states, means over the states.

    Returns:
        ``signal``, ||g||^2; of each estimator ``noise``, E||y - E y||^2 of one draw; of the
        adjoint also the share that its largest hundredth of draws holds of E||y||^2, and its
        median; of ``clean`` its squared bias; the noise of the best fixed weighting of adjoint and
        score, ``hybrid``; and of the adjoint with norms cut at twice their median, ``clipped``,
        noise and squared bias.
    """
    import torch

    found: dict[str, list[float]] = {}
    median = torch.cat([each.adjoint for each in draws]).flatten(1).norm(dim=1).median()

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for each in draws:
        signal = inner(each.adjoint, each.adjoint)
        note("signal", signal)
        norms = each.adjoint.flatten(1).norm(dim=1)
        cut = each.adjoint * core.match_leading((2 * median / norms).clamp(max=1), each.adjoint)
        for name, y in (
            ("adjoint", each.adjoint),
            ("score", each.score),
            ("clean", each.clean),
            ("clipped", cut),
        ):
            own = inner(y, y)
            note(f"{name} noise", float(y.flatten(1).square().sum(1).mean()) - own)
            note(f"{name} bias", own + signal - 2 * inner(y, each.adjoint))
        difference = each.adjoint - each.score
        note("difference", float(difference.flatten(1).square().sum(1).mean()))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    means["hybrid noise"] = _hybrid_noise(means)
    squares = torch.cat([each.adjoint for each in draws]).flatten(1).square().sum(1)
    largest = squares.sort(descending=True).values[: max(1, len(squares) // 100)]
    means["tail share"] = float(largest.sum() / squares.sum())
    means["adjoint median"] = float(squares.median())
    return means


def _hybrid_noise(means: dict[str, float]) -> float:
    """Least variance of w score + (1 - w) adjoint, w in [0, 1]."""
    adjoint, score = means["adjoint noise"], means["score noise"]
    total = means["difference"]  # Var(adjoint - score): both have the same mean
    covariance = (adjoint + score - total) / 2
    weight = min(max((adjoint - covariance) / total, 0.0), 1.0)
    return (1 - weight) ** 2 * adjoint + weight**2 * score + 2 * weight * (1 - weight) * covariance


COLUMNS = (
    "signal",
    "adjoint noise",
    "adjoint median",
    "tail share",
    "score noise",
    "hybrid noise",
    "clipped noise",
    "clipped bias",
    "clean noise",
    "clean bias",
)


def measure(arguments: argparse.Namespace) -> str:
    """Measure the embedded model and return a Markdown table, a row a step."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from tqdm import tqdm

    from soc_ft.world.scorer import ShapesScorer

    torch.set_num_threads(arguments.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(DIFFUSION, dtype=torch.float32)
    scorer = ShapesScorer.load(REWARD)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config | SCHEDULES["fine-tuning"])
    scheduler.set_timesteps(arguments.num_steps)
    process = core.ddim_on_grid(scheduler.alphas_cumprod.double(), scheduler.timesteps, eta=1.0)

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        output: Tensor = pipeline.unet(x, t, condition.text).sample
        return output

    shape = (pipeline.unet.config.in_channels, *(pipeline.unet.config.sample_size,) * 2)
    lines = [table_row("step", *COLUMNS), table_row(*["---:"] * (1 + len(COLUMNS)))]
    generator = torch.Generator().manual_seed(arguments.seed)
    draws: dict[int, list[Draws]] = {step: [] for step in arguments.steps}
    total = process.num_steps
    prompts = scenes.prompt_scenes(arguments.states, arguments.seed)
    for prompt in tqdm(prompts, desc="states", unit="state"):
        tokens = pipeline.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
        text = pipeline.text_encoder(tokens).last_hidden_state
        noise = torch.randn((1, total + 1, *shape), generator=generator)
        path = core.rollout(predict, process, core.Condition(text=text), noise).states[0]
        for step in arguments.steps:
            parts = []
            for start in range(0, arguments.continuations, arguments.batch_size):
                n = min(arguments.batch_size, arguments.continuations - start)
                fresh = torch.randn((n, total - step, *shape), generator=generator)
                noise = torch.cat([path[step].expand(n, 1, *shape), fresh], dim=1)
                condition = core.Condition(text=text.expand(n, -1, -1))
                parts.append(
                    draw_estimates(
                        predict, process, condition, step, noise, _value(pipeline, scorer, prompt)
                    )
                )
            draws[step].append(
                Draws(*(torch.cat([getattr(p, n) for p in parts]) for n in Draws.__annotations__))
            )
    for step in arguments.steps:
        means = summary(draws[step])
        lines.append(table_row(str(step), *(f"{means[name]:.3g}" for name in COLUMNS)))
    return "\n".join(lines) + "\n"


def _value(pipeline: StableDiffusionPipeline, scorer: ShapesScorer, prompt: str) -> Value:
    """Rewards of pictures of clean latents for a prompt, with gradients."""
    import torch

    vae = pipeline.vae

    def value(latents: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = latents.detach().requires_grad_()
            images = vae.decode(x / vae.config.scaling_factor).sample / 2 + 0.5
            rewards = scorer(images.clamp(0, 1), [prompt] * len(x))
            (gradient,) = torch.autograd.grad(rewards.sum(), x)
        return rewards.detach(), gradient

    return value


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="python -m soc_ft.world.estimators", description=__doc__)
    parser.add_argument("--states", type=int, default=8, help="prompts, with one trajectory each")
    parser.add_argument("--continuations", type=int, default=256, help="of each state")
    parser.add_argument("--num-steps", type=int, default=10, help="K")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 2, 4, 6, 8, 9], help="the k")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    table = measure(arguments)
    print(table)
    if arguments.output:
        arguments.output.write_text(table)


if __name__ == "__main__":
    main()
