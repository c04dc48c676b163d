"""Adjoint Matching against its formulas, written out in full and without its economies."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.methods import Batch
from soc_ft.training.module import RewardFineTuning
from tests.methods.test_contract import REPLAY, collected, configured, module_of

GUIDED_CONTROL = ("cfg_mode=full", "cfg_mode.guided=[trajectories,control]")
MODES = {
    "trajectories": ("cfg_mode=trajectories",),
    "none": ("cfg_mode=none",),
    "full": ("cfg_mode=full",),
    "guided control alone": GUIDED_CONTROL,
}
SMALL = (
    "scheduler.num_steps=6",
    "method.regression_steps=3",
    "method.adjoint_batch=2",
    "trainer.batch_size=3",
)


def adjoint_matching(*overrides: str) -> RewardFineTuning:
    return module_of("adjoint_matching", *SMALL, *overrides)


class Paths:
    """The round that a module collects, sampled again and solved down to the first step."""

    def __init__(self, module: RewardFineTuning, batch: Batch) -> None:
        problem = module.problem
        self.module, self.batch = module, batch
        steps = problem.process.num_steps
        shape = (steps + 1, *module.model.latent_shape)
        noise = core.normal(shape, batch.seed, "trajectory", batch.addresses)
        self.condition = module.model.encode(batch.sample_prompts)
        self.trajectory = core.rollout(
            problem.trained, problem.process, self.condition, noise, keep_predictions=True
        )
        _, gradient = problem.reward_and_gradient(
            self.trajectory.states[:, -1], batch.sample_prompts
        )
        self.adjoints = core.lean_adjoint(
            partial(problem.base, place="adjoint"),
            problem.process,
            self.trajectory.states,
            -problem.reward_scale * gradient,
            self.condition,
            torch.zeros(len(noise), dtype=torch.int64),
        ).adjoints

    @torch.no_grad()
    def control(self, row: int, k: int, without_prompt: bool) -> Tensor:
        """sqrt(delta) u_k, both predictions evaluated here and now."""
        module = self.module
        x = self.trajectory.states[row, k][None]
        t = module.problem.process.times_of(k, x)
        condition = self.condition[row : row + 1]
        if without_prompt:
            condition = module.model.null_condition()
        scale = module.problem.scale("control")
        trained = module.model.trained(x, t, condition, scale)
        base = module.model.base(x, t, condition, scale)
        return (module.problem.process.control_gain[k] * (trained - base))[0]


@pytest.mark.parametrize("adjoint_at", ["current", "next"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pass_index", [0, 1])
def test_the_loss_is_its_formula(mode: str, adjoint_at: str, pass_index: int) -> None:
    """Breaks when a_k and a_{k+1} are swapped, a base prediction of other guidance is used again, a
    pair gets the state, adjoint, prompt or dropout of another pair or pass, or a factor is lost."""
    module = adjoint_matching(
        *MODES[mode], *REPLAY, f"method.adjoint_at={adjoint_at}", "method.prompt_dropout=0.5"
    )
    batch = collected(module, pass_index)
    paths = Paths(module, batch)
    terms = module.method.loss(module.problem, batch)
    process = module.problem.process
    dropped = batch.tensors["without_prompt"][:, pass_index]
    assert bool(dropped.any()) == (not module.problem.is_guided("control"))
    assert not dropped.all()
    for pair, (row, slot) in enumerate(zip(batch.rows.tolist(), batch.slots.tolist(), strict=True)):
        k = int(batch.tensors["steps"][row, pass_index, slot])
        u = paths.control(row, k, bool(dropped[row]))
        a = paths.adjoints[row, k if adjoint_at == "current" else k + 1]
        expected = (u + process.sigma[k] * a).square().sum()
        torch.testing.assert_close(terms.loss[pair].detach(), expected, rtol=2e-3, atol=1e-5)
        # Of six steps one of the first four and two of the last two are drawn; the mean over the
        # three pairs of a sample shall be the cost of all six.
        cost = u.square().sum() / 2 * (4 if k < 4 else 1) * 3
        torch.testing.assert_close(terms.stats["control_cost"][pair], cost, rtol=2e-3, atol=1e-6)


def test_the_control_cost_of_all_steps_is_that_of_the_path() -> None:
    """Breaks when the factor 1/2 is lost, or drawn steps are not weighted to stand for all."""
    module = adjoint_matching(
        "method.regression_steps=6", "method.prompt_dropout=0", "cfg_mode=none"
    )
    batch = collected(module)
    paths = Paths(module, batch)
    cost = module.method.loss(module.problem, batch).stats["control_cost"].view(-1, 6).mean(dim=1)
    expected = core.path_control_cost(
        module.problem.base, module.problem.process, paths.trajectory, paths.condition
    )
    torch.testing.assert_close(cost, expected, rtol=1e-3, atol=1e-6)


def test_each_pass_drops_prompts_and_draws_steps_anew() -> None:
    """Breaks when every pass of the buffer repeats the first one's dropout or steps."""
    module = adjoint_matching("buffer.passes=8", "method.prompt_dropout=0.5")
    batch = collected(module)
    for name in ("without_prompt", "steps"):
        passes = batch.tensors[name].unbind(dim=1)
        assert any(not torch.equal(passes[0], other) for other in passes[1:]), name
    share = batch.tensors["without_prompt"].float().mean()
    assert 0.2 < share < 0.8


@pytest.mark.parametrize(("share", "dropped"), [(0.0, False), (1.0, True)])
def test_prompt_dropout_is_a_share(share: float, dropped: bool) -> None:
    """Breaks when the comparison is turned round."""
    module = adjoint_matching(f"method.prompt_dropout={share}")
    assert (collected(module).tensors["without_prompt"] == dropped).all()


@pytest.mark.parametrize(
    ("mode", "scale", "dropped"), [("full", 3, False), ("full", 1, True), ("trajectories", 3, True)]
)
def test_no_prompt_is_dropped_where_the_control_is_guided(
    mode: str, scale: float, dropped: bool
) -> None:
    """Breaks when a guided control is regressed with two empty prompts, or a scale of one counts
    as guidance."""
    module = adjoint_matching(
        "method.prompt_dropout=1", *MODES[mode], f"cfg_mode.guidance_scale={scale}"
    )
    assert (collected(module).tensors["without_prompt"] == dropped).all()


def test_the_loss_can_stand_for_all_steps() -> None:
    """Breaks when the inverse probabilities are not those of the draws, or change the scale.

    Of six steps one of the first four and two of the last two are drawn: each pair stands for 4 or
    1 of 6 steps, in a mean over 3 pairs.
    """
    module = adjoint_matching("method.step_weighting=unbiased")
    batch = collected(module)
    k = batch.slot("steps")
    weight = module.method.loss(module.problem, batch).weight
    assert weight is not None
    assert weight.tolist() == [pytest.approx((4 if step < 4 else 1) * 3 / 6) for step in k.tolist()]
    plain = adjoint_matching().method.loss(module.problem, batch).weight
    assert plain is not None
    assert (plain == 1).all()


def test_steps_that_are_never_drawn_cannot_be_stood_for() -> None:
    """Breaks when half of one draw, rounded down, leaves the early steps with infinite weights."""
    with pytest.raises(ConfigError, match=r"step_weighting=unbiased: some steps are never drawn"):
        check(configured("adjoint_matching", *REGRESS_ONE, "method.step_weighting=unbiased"))
    check(configured("adjoint_matching", *REGRESS_ONE))


REGRESS_ONE = ("method.regression_steps=1",)


def test_pairs_beyond_the_threshold_are_not_kept() -> None:
    """Breaks when the mask is made and not applied, or applied the other way round."""
    module = adjoint_matching()
    batch = collected(module)
    free = module.method.loss(module.problem, batch)
    assert free.weight is not None
    assert (free.weight == 1).all(), "there is no threshold before the first update"
    limit = float(free.loss.detach().sqrt().median())
    threshold = {"average": 0.1 * limit, "updates": 1}
    module.method.load_state_dict({"mask": threshold, "target": {"strength": 0.0}})
    masked = module.method.loss(module.problem, batch)
    assert torch.equal(masked.weight == 1, free.loss.detach().sqrt() <= limit)
    assert 0 < int(masked.weight.sum()) < len(batch)
    stats = module.method.finish_step(free.loss.detach(), {})
    assert stats["masked_share"] == pytest.approx(float((masked.weight == 0).float().mean()))


@pytest.mark.parametrize("adjoint_at", ["current", "next"])
def test_long_adjoints_are_cut_to_a_multiple_of_their_steps_median(adjoint_at: str) -> None:
    """Breaks when the median is that of another step or counts what was not solved, short adjoints
    are stretched, or the direction changes."""
    overrides = ("method.regression_steps=6", "cfg_mode=none", f"method.adjoint_at={adjoint_at}")
    module = adjoint_matching(*overrides, "method.adjoint_clip=1.0", "method.mask_quantile=null")
    batch = collected(module)
    a = Paths(module, batch).adjoints
    length = a.flatten(2).norm(dim=2)
    median = length.sort(dim=0).values[1]  # of three samples
    free = adjoint_matching(*overrides).method.loss(module.problem, batch).loss.detach()
    cut = module.method.loss(module.problem, batch).loss.detach()
    # Before the first step of training the control is zero: the losses are ||sigma_k a||^2.
    later = batch.slot("steps") + (adjoint_at == "next")
    share = (median / length)[batch.rows, later].clamp(max=1)
    torch.testing.assert_close(cut, free * share**2, rtol=1e-3, atol=1e-7)
    assert (share < 0.99).any()
    assert (share == 1).any()
    assert "masked_share" not in module.method.finish_step(cut, {})


@pytest.mark.parametrize("importance", ["step", "path"])
def test_ratios_are_those_of_the_transition_densities(importance: str) -> None:
    """Breaks when the ratio is of another step, of unguided predictions, or of the wrong sign."""
    guided = ("cfg_mode=trajectories", "cfg_mode.guidance_scale=3")
    module = adjoint_matching(*guided, *REPLAY, f"buffer.importance={importance}")
    batch = collected(module)
    states = Paths(module, batch).trajectory.states
    process = module.problem.process
    old = module.problem.trained
    own = batch.slot("steps")
    k = own if importance == "step" else (own + 1) % process.num_steps
    x, x_next = states[batch.rows, k], states[batch.rows, k + 1]
    t = process.times_of(k, x)
    with torch.no_grad():
        before = core.log_density(process, k, x, x_next, old(x, t, batch.condition))
        for parameter in module.model.trainable_parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator())
        after = core.log_density(process, k, x, x_next, old(x, t, batch.condition))
    expected = (after - before) * x[0].numel()
    asked = None if importance == "step" else k
    ratios = module.method.log_ratio(module.problem, batch, asked)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(ratios, expected, rtol=0.02, atol=2e-2)


@pytest.mark.parametrize(
    ("passes", "stored"), [(1, 3), (2, 6), (5, 6)], ids=["on-policy", "replay", "many passes"]
)
def test_stored_is_what_the_loss_uses(passes: int, stored: int) -> None:
    """Breaks when whole trajectories are kept although a few steps of them are regressed."""
    module = adjoint_matching(f"buffer.passes={passes}", "buffer.log_ess=false")
    collected(module)
    tensors = module.buffer.get(torch.arange(module.buffer.samples_per_round))
    latents = {n: t for n, t in tensors.items() if t.dim() == 2 + len(module.model.latent_shape)}
    assert set(latents) == {"states", "adjoints", "base_predictions"}
    assert {tensor.shape[1] for tensor in latents.values()} == {stored}


def test_the_reward_gradient_is_smoothed_on_request() -> None:
    """Breaks when the copies are not taken, not perturbed by their scale, or not averaged."""
    module = adjoint_matching(
        "method.smoothing_copies=2",
        "method.smoothing_std=0.5",
        "method.smoothing_clip_quantile=1",
        "method.regression_steps=6",
        "method.adjoint_at=next",
    )
    batch = collected(module)
    latents = Paths(module, batch).trajectory.states[:, -1]
    noise = core.normal((2, *latents.shape[1:]), batch.seed, "smoothing", batch.addresses)
    copies = [
        module.problem.reward_and_gradient(latents + 0.5 * noise[:, j], batch.sample_prompts)
        for j in range(2)
    ]
    rewards, gradients = (sum(part) / 2 for part in zip(*copies, strict=True))
    torch.testing.assert_close(batch.tensors["reward"], rewards)
    terminal = batch.tensors["adjoints"][:, -1]  # a_K, which the last step is regressed on
    expected = -module.problem.reward_scale * gradients
    torch.testing.assert_close(terminal, expected, rtol=1e-3, atol=1e-5)
