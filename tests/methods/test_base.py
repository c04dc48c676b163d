"""What methods are given: requests, rounds, batches and anchors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from soc_ft.core import Condition
from soc_ft.methods import Batch, Request
from soc_ft.training.module import RewardFineTuning
from tests.methods.test_contract import collected, module_of, trained
from tests.trained import largest_difference


def request(numbers: range, group_size: int = 2) -> Request:
    addresses = [(3, number) for number in numbers]
    condition = Condition(sequence=torch.zeros(len(addresses), 1, 1))
    return Request(["p"] * len(addresses), condition, (2,), 0, addresses, group_size=group_size)


def test_shared_noise_is_that_of_the_group() -> None:
    """Breaks when samples of a group start apart, groups start together, or a chunk decides."""
    draws = request(range(6)).normal("start", (4,), shared=True)
    assert torch.equal(draws[0::2], draws[1::2])
    assert len(draws.unique(dim=0)) == 3
    second = request(range(2, 6)).normal("start", (4,), shared=True)
    assert torch.equal(draws[2:], second)
    own = request(range(6)).normal("start", (4,))
    assert len(torch.cat([own, draws]).unique(dim=0)) == 6 + 3, "not the draws of single samples"
    levels = request(range(6)).uniform("level", (), shared=True)
    assert torch.equal(levels[0::2], levels[1::2])


def batch(pass_index: int = 0) -> Batch:
    """Three samples with two slots each; values tell where they come from."""
    rows, slots = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 0, 1, 0, 1])
    values = torch.arange(3 * 4 * 2).view(3, 4, 2)  # sample, pass, slot
    return Batch(
        tensors={"values": values, "number": torch.tensor([10, 11, 12])},
        conditions=Condition(sequence=torch.arange(3.0)[:, None]),
        sample_prompts=["a", "b", "c"],
        addresses=[(0, 4), (0, 5), (0, 6)],
        seed=0,
        pass_index=pass_index,
        rows=rows,
        slots=slots,
    )


def test_a_batch_gives_each_pair_its_own() -> None:
    """Breaks when samples, passes and slots are taken for one another."""
    pairs = batch(pass_index=2).select(torch.tensor([5, 0, 3]))
    assert len(pairs) == 3
    assert pairs["number"].tolist() == [12, 10, 11]
    assert pairs.slot("values").tolist() == [2 * 8 + 2 * 2 + 1, 2 * 2, 8 + 2 * 2 + 1]
    assert pairs.at("values", torch.tensor([3, 0, 1]))[:, 0].tolist() == [16 + 6, 0, 8 + 2]
    assert pairs.prompts == ["c", "a", "b"]
    assert pairs.condition.sequence.flatten().tolist() == [2, 0, 1]


def test_noise_of_a_pair_is_its_own_in_each_pass() -> None:
    """Breaks when passes, slots or samples share noise, or a micro-batch decides about it."""
    draws = [batch(pass_index).normal("noise", (3,)) for pass_index in range(4)]
    assert len(torch.cat(draws).unique(dim=0)) == 4 * 6
    assert torch.equal(batch(1).select(slice(2, 5)).normal("noise", (3,)), draws[1][2:5])
    levels = [batch(pass_index).uniform("level", ()) for pass_index in range(4)]
    assert len(torch.cat(levels).unique()) == 4 * 6


def test_groups_share_prompt_and_start_and_are_prepared_together() -> None:
    """Breaks when a group is cut, or what follows from a round reaches other samples."""
    module = module_of("grouped_regression", "trainer.rollout_batch=3", "buffer.batches=2")
    samples = collected(module)
    assert samples.sample_prompts[0::2] == samples.sample_prompts[1::2]
    assert samples.sample_prompts[0] != samples.sample_prompts[2]
    start = samples.tensors["start"]
    assert torch.equal(start[0::2], start[1::2])
    assert not torch.equal(start[0], start[2])
    better = samples.tensors["reward"].view(-1, 2).diff(dim=1).sign()
    assert torch.equal(samples.tensors["advantage"].view(-1, 2).diff(dim=1).sign(), better)
    assert samples.tensors["advantage"].view(-1, 2).sum(dim=1).abs().max() < 1e-5


def test_anchors_follow_when_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when an anchor is refreshed at another moment, or forgets its decay."""
    seen: list[dict[str, Tensor]] = []
    optimize = RewardFineTuning._optimize

    def watch(module: RewardFineTuning, *arguments: object) -> dict[str, float]:
        seen.append({n: t.clone() for n, t in module.model.trainable_state().items()})
        return optimize(module, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RewardFineTuning, "_optimize", watch)
    module = trained(
        "grouped_regression",
        tmp_path,
        "buffer=replay",
        "buffer.batches=1",
        "buffer.passes=2",
        "buffer.log_ess=false",
        "trainer.steps=4",
        "trainer.lr=1e-2",
    )
    states = [*seen, module.model.trainable_state()]  # before each step, and at the end
    anchors = module.model.anchor_states()
    assert largest_difference(anchors["old"], states[2]) == 0, "as the second round began"
    average = states[0]
    for state in states[1:]:
        average = {name: 0.5 * average[name] + 0.5 * state[name] for name in state}
    assert largest_difference(anchors["average"], average) < 1e-6
    assert largest_difference(states[0], states[4]) > 1e-3
