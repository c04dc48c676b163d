from __future__ import annotations

import io
import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from soc_ft.core import ReplayBuffer

BATCH, BATCHES, PASSES, SEED = 8, 5, 3, 11


def filled(columns: range | None = None, round_: int = 0, group_size: int = 1) -> ReplayBuffer:
    """A buffer whose samples carry their index in the round, over all ranks."""
    buffer = ReplayBuffer(BATCH, BATCHES, PASSES, SEED, columns, group_size)
    index = torch.arange(BATCH * BATCHES).view(BATCHES, BATCH)
    buffer.fill(round_, {"index": index[:, buffer.columns].flatten()})
    return buffer


def batch_of(buffer: ReplayBuffer, round_: int, pass_: int, batch: int) -> list[int]:
    return buffer.get(buffer.rows(round_, pass_, batch))["index"].tolist()


@pytest.mark.parametrize("pass_", range(PASSES))
def test_every_sample_is_used_once_per_pass(pass_: int) -> None:
    """Breaks if samples are missed or repeated within a pass."""
    buffer = filled()
    seen = [i for batch in range(BATCHES) for i in batch_of(buffer, 0, pass_, batch)]
    assert sorted(seen) == list(range(BATCH * BATCHES))


def test_first_pass_keeps_the_order_of_collection() -> None:
    """Breaks if on-policy training, which is the first pass, reorders its prompts."""
    buffer = filled()
    for batch in range(BATCHES):
        assert batch_of(buffer, 4, 0, batch) == list(range(batch * BATCH, (batch + 1) * BATCH))


@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_optimizer_batches_are_the_same_for_any_number_of_ranks(
    ranks: int, group_size: int
) -> None:
    """Breaks if the number of devices changes which samples share an optimizer step."""
    width = BATCH // ranks
    alone = filled(group_size=group_size)
    sharded = [
        filled(range(rank * width, (rank + 1) * width), group_size=group_size)
        for rank in range(ranks)
    ]
    for pass_ in range(PASSES):
        for batch in range(BATCHES):
            together = [i for buffer in sharded for i in batch_of(buffer, 2, pass_, batch)]
            assert together == batch_of(alone, 2, pass_, batch)


def test_passes_reshuffle_samples_and_not_whole_batches() -> None:
    """Breaks if the same samples always meet in one batch."""
    buffer = filled()
    first = [set(batch_of(buffer, 0, 0, batch)) for batch in range(BATCHES)]
    later = [set(batch_of(buffer, 0, 1, batch)) for batch in range(BATCHES)]
    assert all(batch not in first for batch in later)
    assert max(len(a & b) for a in first for b in later) < BATCH - 1


def test_rounds_and_passes_differ() -> None:
    """Breaks if the permutation ignores the round or the pass, or is stale."""
    buffer = filled()
    orders = {
        tuple(i for batch in range(BATCHES) for i in batch_of(buffer, round_, pass_, batch))
        for round_ in range(3)
        for pass_ in range(1, PASSES)
    }
    assert len(orders) == 3 * (PASSES - 1)


def test_locates_steps_across_boundaries() -> None:
    """Breaks if a refresh comes one step early or late."""
    buffer = ReplayBuffer(BATCH, BATCHES, PASSES, SEED)
    assert buffer.steps_per_round == 15
    assert [buffer.locate(step) for step in (0, 4, 5, 14, 15, 16)] == [
        (0, 0, 0),
        (0, 0, 4),
        (0, 1, 0),
        (0, 2, 4),
        (1, 0, 0),
        (1, 0, 1),
    ]


@pytest.mark.parametrize("steps", [1, 14, 15, 16, 30])
def test_no_round_is_collected_in_vain(steps: int) -> None:
    """Breaks if the last refresh of a run is never trained on."""
    buffer = ReplayBuffer(BATCH, BATCHES, PASSES, SEED)
    collected = []
    for step in range(steps):
        round_, _, _ = buffer.locate(step)
        if not buffer.is_filled(round_):
            collected.append(round_)
            buffer.fill(round_, {"x": torch.zeros(buffer.samples_per_round)})
    assert collected == list(range(math.ceil(steps / buffer.steps_per_round)))


def test_on_policy_is_one_batch_passed_through_once() -> None:
    """Breaks if on-policy training needs another code path."""
    buffer = ReplayBuffer(BATCH, batches=1, passes=1, seed=SEED)
    assert [buffer.locate(step) for step in (0, 1, 7)] == [(0, 0, 0), (1, 0, 0), (7, 0, 0)]
    assert buffer.rows(7, 0, 0).tolist() == list(range(BATCH))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def ranks_of(count: int, group_size: int = 1) -> list[ReplayBuffer]:
    width = BATCH // count
    return [filled(range(r * width, (r + 1) * width), 3, group_size) for r in range(count)]


@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("before", [1, 2, 4])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_state_survives_a_safe_checkpoint_and_a_change_of_ranks(
    before: int, after: int, group_size: int
) -> None:
    """Breaks if a run resumed in the middle of a round collects it again or differently."""
    states = [through_a_file(rank.state_dict()) for rank in ranks_of(before, group_size)]
    for uninterrupted in ranks_of(after, group_size):
        resumed = ReplayBuffer(BATCH, BATCHES, PASSES, SEED, uninterrupted.columns, group_size)
        resumed.load_state_dicts(states)
        assert resumed.is_filled(3)
        assert batch_of(resumed, 3, 2, 1) == batch_of(uninterrupted, 3, 2, 1)


def test_state_of_an_empty_buffer_empties() -> None:
    """Breaks if a checkpoint between two rounds cannot be loaded."""
    buffer = filled(round_=3)
    buffer.load_state_dicts([ReplayBuffer(BATCH, BATCHES, PASSES, SEED).state_dict()])
    assert not buffer.is_filled(3)
    buffer = filled(round_=3)
    buffer.load_state_dicts([])
    assert not buffer.is_filled(3)


def test_clear_forgets_the_round() -> None:
    """Breaks if stale samples could be trained on, or memory stays in use."""
    buffer = filled()
    buffer.clear()
    assert not buffer.is_filled(0)
    with pytest.raises(RuntimeError, match="empty"):
        buffer.get(torch.tensor([0]))


def test_chunks_of_another_size_are_refused() -> None:
    """Breaks if a checkpoint of another batch size is indexed past its end."""
    buffer = ReplayBuffer(BATCH, BATCHES, PASSES, SEED)
    with pytest.raises(ValueError, match="x holds 3 samples, a round has 40"):
        buffer.fill(0, {"x": torch.zeros(3)})
    with pytest.raises(ValueError, match="x holds 2 samples, a round of columns 0 to 8 has 40"):
        buffer.load_state_dicts([{"round": 0, "columns": [0, 8], "tensors": {"x": torch.zeros(2)}}])
    half = {"round": 0, "columns": [0, 4], "tensors": {"x": torch.zeros(20)}}
    with pytest.raises(ValueError, match="x holds 20 samples, a round has 40"):
        buffer.load_state_dicts([half])


def test_order_of_single_columns_is_fixed() -> None:
    """Breaks if the permutation changes: a resumed run would train on other batches."""
    buffer = ReplayBuffer(4, batches=3, passes=3, seed=11)

    def order(round_: int, pass_: int) -> list[list[int]]:
        return [buffer.rows(round_, pass_, batch).tolist() for batch in range(3)]

    assert order(0, 0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert order(0, 1) == [[4, 9, 6, 7], [8, 1, 10, 3], [0, 5, 2, 11]]
    assert order(0, 2) == [[0, 1, 2, 7], [8, 9, 6, 3], [4, 5, 10, 11]]
    assert order(2, 1) == [[4, 5, 6, 11], [8, 1, 2, 3], [0, 9, 10, 7]]
    half = ReplayBuffer(4, batches=3, passes=3, seed=11, columns=range(2, 4))
    assert [half.rows(2, 1, batch).tolist() for batch in range(3)] == [[2, 5], [0, 1], [4, 3]]


@pytest.mark.parametrize("group_size", [2, 4, 8])
@pytest.mark.parametrize("pass_", range(PASSES))
def test_groups_stay_together(pass_: int, group_size: int) -> None:
    """Breaks if samples of one prompt, compared with each other, land in two optimizer batches."""
    buffer, seen = filled(group_size=group_size), []
    for batch in range(BATCHES):
        samples = torch.tensor(batch_of(buffer, 1, pass_, batch)).view(-1, group_size)
        assert (samples[:, 0] % group_size == 0).all()
        assert (samples.diff(dim=1) == 1).all()
        seen += samples.flatten().tolist()
    assert sorted(seen) == list(range(BATCH * BATCHES))


def test_groups_are_permuted_each_by_itself() -> None:
    """Breaks if whole batches move, or a group moves as the one beside it does."""
    buffer = filled(group_size=2)
    moved = [
        tuple(batch_of(buffer, 1, 1, batch)[column] // BATCH for batch in range(BATCHES))
        for column in range(BATCH)
    ]
    assert moved[::2] == moved[1::2]
    assert len(set(moved[::2])) == BATCH // 2


@pytest.mark.parametrize(
    ("columns", "group_size"),
    [
        (None, 3),
        (None, 16),
        (range(1, 4), 2),
        (range(0, 3), 2),
        (range(3, 6), 3),
        (range(2, 6), 4),
    ],
)
def test_groups_that_are_cut_in_two_are_refused(columns: range | None, group_size: int) -> None:
    """Breaks if two ranks, or two optimizer batches, share a group."""
    with pytest.raises(ValueError, match=f"groups of {group_size}"):
        ReplayBuffer(BATCH, BATCHES, PASSES, SEED, columns, group_size)
    assert len(ReplayBuffer(BATCH, BATCHES, PASSES, SEED, range(4, 8), 4).columns) == 4


@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_numbers_name_the_samples_of_every_rank(ranks: int, group_size: int) -> None:
    """Breaks if a prompt, or addressed noise, is taken for another sample than was collected."""
    for buffer in ranks_of(ranks, group_size):
        for pass_ in range(PASSES):
            for batch in range(BATCHES):
                rows = buffer.rows(3, pass_, batch)
                assert buffer.numbers(rows) == batch_of(buffer, 3, pass_, batch)
        assert buffer.numbers(torch.tensor([], dtype=torch.int64)) == []


@pytest.mark.parametrize("latent", [(), (2, 3)])
@pytest.mark.parametrize("widths", [(8,), (4, 4), (2, 2, 2, 2), (2, 6), (6, 2)])
def test_merge_and_share_undo_each_other(widths: tuple[int, ...], latent: tuple[int, ...]) -> None:
    """Breaks if statistics over a round see samples in another order than their numbers."""
    edges = torch.tensor([0, *widths]).cumsum(0).tolist()
    ranks = [filled(range(start, stop), group_size=2) for start, stop in pairwise(edges)]
    samples = torch.arange(BATCH * BATCHES)
    everything = samples.view(-1, *(1,) * len(latent)).expand(-1, *latent) * torch.ones(latent)
    parts = [rank.share(everything) for rank in ranks]
    for rank, part in zip(ranks, parts, strict=True):
        own = torch.arange(rank.samples_per_round)
        assert torch.equal(part, everything[rank.numbers(own)])
        assert torch.equal(rank.get(own)["index"], rank.share(samples))
        assert torch.equal(rank.merge(parts), everything)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batches": 0}, "batches"),
        ({"passes": 0}, "passes"),
        ({"group_size": 0}, "group_size"),
        ({"group_size": -1}, "group_size"),
        ({"columns": range(4, 9)}, "columns"),
        ({"columns": range(0)}, "columns"),
        ({"columns": range(0, 8, 2)}, "columns"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    """Breaks if ranks own columns that do not exist, or interleaved ones."""
    arguments = {"batch_size": 8, "batches": 5, "passes": 3, "seed": 0}
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(**{**arguments, **change})
