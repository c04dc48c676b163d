"""Methods that compare two pictures of a prompt, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.methods import Batch
from soc_ft.methods.d3po import D3PO
from soc_ft.methods.online_dpo import OnlineDPO
from soc_ft.methods.rebel import Rebel
from soc_ft.methods.sdpo import SDPO
from tests.core.closed_forms import no_condition
from tests.methods.plane import Plane

COUNT = 12


@pytest.fixture
def plane() -> Plane:
    plane = Plane()
    plane.move()
    return plane


def pair_states(plane: Plane, shared_start: bool) -> Tensor:
    """(B, 2, K+1, 2), the pairs of a round, sampled again."""
    process = plane.problem.process
    shape = (2, process.num_steps + 1, 2)
    noise = core.normal(shape, 0, "trajectory", [(0, i) for i in range(COUNT)])
    if shared_start:
        noise[:, 1, 0] = noise[:, 0, 0]
    with torch.no_grad():
        states = [
            core.rollout(plane.policies.trained, process, no_condition(COUNT), each).states
            for each in noise.unbind(dim=1)
        ]
    return torch.stack(states, dim=1)


def density(plane: Plane, which: str, states: Tensor, k: int) -> Tensor:
    """(B, 2), of the transitions of step k, per dimension."""
    process = plane.problem.process
    found = []
    for path in states.unbind(dim=1):
        x = path[:, k]
        f = getattr(plane.policies, which)(x, process.times_of(k, x), no_condition(COUNT))
        found.append(core.log_density(process, k, x, path[:, k + 1], f))
    return torch.stack(found, dim=1)


def rewards(plane: Plane, states: Tensor) -> Tensor:
    return plane.problem.reward_of(states[:, :, -1].flatten(0, 1), [""] * 2 * COUNT).view(-1, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_d3po_is_its_formula(plane: Plane, shared: bool) -> None:
    """Breaks if a pair is mixed with another, the worse is preferred, or the ratio is to the policy
    that sampled instead of the base model."""
    method = D3PO(beta=3.0, clip=0.02, shared_start=shared)
    batch = plane.round(method, 0, COUNT)
    plane.move(0.1)
    terms = method.loss(plane.problem, batch)
    states = pair_states(plane_before(), shared)
    sign = (rewards(plane, states)[:, 0] - rewards(plane, states)[:, 1]).sign()
    for pair in range(len(batch)):
        row, k = int(batch.rows[pair]), int(batch.slot("steps")[pair])
        ratio = (density(plane, "trained", states, k) - density(plane, "base", states, k))[row]
        log = ratio.exp().clamp(0.98, 1.02).log()
        expected = -torch.nn.functional.logsigmoid(3.0 * sign[row] * (log[0] - log[1]))
        torch.testing.assert_close(terms.loss[pair], expected, rtol=1e-3, atol=1e-5)
    assert (states[:, 0, 0] == states[:, 1, 0]).all() == shared


def plane_before() -> Plane:
    plane = Plane()
    plane.move()
    return plane


def test_equal_rewards_do_not_count(plane: Plane) -> None:
    """Breaks if a tie pulls on the model, or is told from a preference by its loss alone."""
    for method in (D3PO(), OnlineDPO()):
        batch = plane.round(method, 0, COUNT)
        batch.tensors["preference"][3] = 0.0
        weight = method.loss(plane.problem, batch).weight
        assert weight is not None
        assert torch.equal(weight == 0, batch.rows == 3)


def test_rebel_is_its_formula(plane: Plane) -> None:
    """Breaks if densities of one pair are summed into another's, as in the reference for batches
    above one, or the sum is a mean."""
    method = Rebel(eta=2.0, statistics_minimum=1)
    batch = plane.round(method, 0, COUNT)
    plane.move(0.1)
    found = method.loss(plane.problem, batch).loss
    before, states = plane_before(), pair_states(plane_before(), shared_start=False)
    steps = range(plane.problem.process.num_steps)
    new, old = (
        torch.stack([density(each, "trained", states, k) for k in steps]).sum(dim=0)
        for each in (plane, before)
    )
    scores = rewards(plane, states).T.flatten()
    kept = scores[-32:]  # of the one prompt, at most as many as are kept
    advantage = ((scores - kept.mean()) / kept.std(correction=0)).view(2, -1)
    change = (new - old)[:, 0] - (new - old)[:, 1]
    expected = (2.0 * change - (advantage[0] - advantage[1])).square()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)


def test_rebel_may_sum_some_of_the_transitions(plane: Plane) -> None:
    """Breaks if steps and densities are of different places."""
    method = Rebel(transitions=4)
    batch = plane.round(method, 0, COUNT)
    terms = method.loss(plane.problem, batch)
    assert batch.tensors["steps"].shape == (COUNT, 1, 4)
    assert terms.stats["log_ratio"].max() < 1e-4, "before an update"


def swapped(batch: Batch) -> Batch:
    tensors = dict(batch.tensors)
    tensors["clean"] = tensors["clean"].flip(1)
    tensors["preference"] = -tensors["preference"]
    return Batch(**{**vars(batch), "tensors": tensors})


def test_online_dpo_is_its_formula(plane: Plane) -> None:
    """Breaks if the pictures of a pair get other noise, errors are sums, or signs are turned."""
    method = OnlineDPO(levels=3, beta=5.0)
    batch = plane.round(method, 0, COUNT)
    terms = method.loss(plane.problem, batch)
    process, states = plane.problem.process, pair_states(plane, shared_start=False)
    better = rewards(plane, states).argmax(dim=1)[batch.rows]
    k = (batch.uniform("level", ()) * process.num_steps).long()
    noise = batch.normal("noise", (2,))
    assert k.unique().numel() > 3
    changes = []
    for which in (better, 1 - better):
        clean = states[batch.rows, which, -1]
        signal, level = process.signal[k].float()[:, None], process.noise[k].float()[:, None]
        x = signal * clean + level * noise
        t = process.times_of(k, x)
        errors = [
            (getattr(plane.policies, name)(x, t, batch.condition) - noise).square().mean(dim=1)
            for name in ("trained", "base")
        ]
        changes.append(errors[0] - errors[1])
    expected = -torch.nn.functional.logsigmoid(-5.0 / 2 * (changes[0] - changes[1]))
    torch.testing.assert_close(terms.loss, expected, rtol=2e-3, atol=1e-4)
    turned = method.loss(plane.problem, swapped(batch)).loss
    torch.testing.assert_close(turned, terms.loss, rtol=1e-4, atol=1e-5)


def test_sdpo_interpolates_rewards_between_three_scored_predictions(plane: Plane) -> None:
    """Breaks if the anchor is not the step least like both ends, weights are of other steps, the
    three are not met exactly, or returns are discounted the other way."""
    method = SDPO(discount=0.5)
    process, K = plane.problem.process, plane.problem.process.num_steps
    batch = plane.round(method, 0, COUNT)
    states = pair_states(plane, shared_start=True)
    row, which = 2, 1
    path = states[row, which]
    clean = []
    for k in range(K):
        x = path[k][None]
        f = plane.policies.trained(x, process.times_of(k, x), no_condition(1))
        clean.append(process.clean(k, x, f)[0].detach())
    z = torch.stack(clean)

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    first, last = ([cosine(z[k], z[end]) for k in range(K)] for end in (0, -1))
    anchor = min(range(K), key=lambda k: first[k] + last[k])
    scored = [float(plane.problem.reward_of(z[k][None], [""])) for k in (0, anchor, K - 1)]
    dense = []
    for k in range(K):
        weights = [max(w, 1e-3) for w in (first[k], cosine(z[k], z[anchor]), last[k])]
        dense.append(sum(w * r for w, r in zip(weights, scored, strict=True)) / sum(weights))
    dense[0], dense[-1] = scored[0], scored[2]
    dense[anchor] = scored[1]
    expected = [sum(0.5**j * r for j, r in enumerate(dense[k:])) for k in range(K)]
    assert plane.found is not None
    returns = plane.found.stats["second_return"][row]
    torch.testing.assert_close(returns, torch.tensor(expected), rtol=1e-3, atol=1e-4)
    assert 0 < anchor < K - 1
    assert float(batch.tensors["reward"][row]) == pytest.approx(
        float(plane.problem.reward_of(plane_clean_ends(plane, states[row]), ["", ""]).mean()),
        rel=1e-3,
    )


def plane_clean_ends(plane: Plane, pair: Tensor) -> Tensor:
    """(2, 2), the last clean predictions of a pair."""
    process, k = plane.problem.process, plane.problem.process.num_steps - 1
    x = pair[:, k]
    with torch.no_grad():
        f = plane.policies.trained(x, process.times_of(k, x), no_condition(2))
    return process.clean(k, x, f)


def test_sdpo_is_its_formula(plane: Plane) -> None:
    """Breaks if the clipped side is not the larger, the weight is of another step, or passes take
    the same step again."""
    K = plane.problem.process.num_steps
    method = SDPO(clip=0.01, decay=0.5, statistics_minimum=1)
    batch = plane.round(method, 0, COUNT)
    plane.move(0.1)
    taken = []
    states, before = pair_states(plane_before(), shared_start=True), plane_before()
    for pass_index in (0, 1, K):
        at_pass = Batch(**{**vars(batch), "pass_index": pass_index})
        found = method.loss(plane.problem, at_pass).loss
        order = batch.tensors["order"][:, pass_index % K]
        taken.append(order)
        for row in range(0, COUNT, 5):
            k = int(order[row])
            new, old = (density(each, "trained", states, k)[row] for each in (plane, before))
            wanted = batch.tensors["difference"][row, k]
            change = new - old
            sides = [
                (0.5**k * (each[0] - each[1]) - wanted) ** 2
                for each in (change, change.clamp(-0.01, 0.01))
            ]
            torch.testing.assert_close(found[row], max(sides), rtol=1e-3, atol=1e-4)
    assert (taken[0] != taken[1]).all()
    assert torch.equal(taken[0], taken[2])
