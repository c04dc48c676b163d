from __future__ import annotations

import copy
import pickle

import pytest
import torch

from soc_ft.core import Condition


def numbered(rows: int = 4, start: int = 0) -> Condition:
    """Row i of every tensor is made of i."""
    index = torch.arange(start, start + rows)
    return Condition(
        sequence=index.double().view(-1, 1, 1).expand(-1, 3, 2).contiguous(),
        pooled=10.0 * index[:, None],
        size=index,
    )


def rows_of(condition: Condition) -> list[int]:
    """The numbers of the rows, which all tensors have to agree on."""
    rows = condition.size.tolist()
    assert (condition.sequence == condition.size.view(-1, 1, 1)).all()
    assert (condition.pooled == 10 * condition.size[:, None]).all()
    assert len(condition) == len(rows)
    return rows


def test_tensors_are_attributes() -> None:
    """Breaks if a family cannot read its own tensors, or they change shape or type."""
    condition = numbered()
    assert set(condition.tensors) == {"sequence", "pooled", "size"}
    assert condition.sequence.shape == (4, 3, 2)
    assert condition.sequence.dtype == torch.float64
    assert condition.pooled.dtype == torch.float32
    assert condition.size.dtype == torch.int64
    assert len(condition) == 4
    assert condition.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(0), []),
        (slice(None, None, 2), [0, 2]),
        (torch.tensor([3, 0, 0]), [3, 0, 0]),
        (torch.tensor([True, False, False, True]), [0, 3]),
    ],
)
def test_rows_are_taken_of_every_tensor(rows: slice | torch.Tensor, expected: list[int]) -> None:
    """Breaks if a tensor keeps its rows while others lose theirs, or the order is lost."""
    condition = numbered()
    assert rows_of(condition[rows]) == expected
    assert rows_of(condition) == [0, 1, 2, 3]


def test_unequal_rows_are_refused() -> None:
    """Breaks if a prompt meets the size or the pooled text of another one."""
    with pytest.raises(ValueError, match="'a': 2, 'b': 3"):
        Condition(a=torch.zeros(2, 1), b=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="same number of rows"):
        Condition()


def test_unknown_names_are_refused() -> None:
    """Breaks if a misspelt tensor reads as something else, or the message names no remedy."""
    with pytest.raises(AttributeError, match="no poled, only sequence, pooled, size"):
        _ = numbered().poled
    assert not hasattr(numbered(), "guidance")


def test_one_row_expands_without_copies() -> None:
    """Breaks if a whole batch of negative prompts is written to memory, or gets other rows."""
    one = numbered(1, start=7)
    assert rows_of(one.expand(3)) == [7, 7, 7]
    assert one.expand(3).sequence.data_ptr() == one.sequence.data_ptr()
    with pytest.raises(RuntimeError):
        numbered(2).expand(3)


def test_rows_come_from_one_or_the_other() -> None:
    """Breaks if dropout replaces the wrong rows, or a tensor along the wrong dim."""
    mask = torch.tensor([True, False, True, False])
    assert rows_of(numbered().where(mask, numbered(4, start=50))) == [0, 51, 2, 53]
    assert rows_of(numbered().where(mask, numbered(1, start=50))) == [0, 50, 2, 50]
    assert rows_of(numbered().where(~mask, numbered(1, start=50))) == [50, 1, 50, 3]


def test_rows_of_another_type_follow_the_condition() -> None:
    """Breaks if a float32 negative prompt promotes a batch in low precision."""
    low = Condition(sequence=torch.ones(2, 3, dtype=torch.bfloat16))
    mixed = low.where(torch.tensor([True, False]), Condition(sequence=torch.zeros(1, 3)))
    assert mixed.sequence.dtype == torch.bfloat16
    assert mixed.sequence[:, 0].tolist() == [1, 0]


def test_conditions_are_joined_row_by_row() -> None:
    """Breaks if a guided batch is joined in another order for one of its tensors."""
    assert rows_of(Condition.cat([numbered(2, 5), numbered(1), numbered(3, 1)])) == [
        5,
        6,
        0,
        1,
        2,
        3,
    ]
    assert rows_of(Condition.cat([numbered(2)])) == [0, 1]


def test_moves_as_a_whole() -> None:
    """Breaks if a tensor stays on the host, or a move changes types."""
    moved = numbered().to("meta")
    assert moved.device == torch.device("meta")
    assert all(tensor.device.type == "meta" for tensor in moved.tensors.values())
    assert moved.size.dtype == torch.int64
    assert rows_of(numbered().to(torch.device("cpu"))) == [0, 1, 2, 3]


def test_copies_and_survives_another_process() -> None:
    """Breaks if looking up attributes before there are any recurses without end."""
    assert rows_of(copy.deepcopy(numbered())) == [0, 1, 2, 3]
    assert rows_of(pickle.loads(pickle.dumps(numbered()))) == [0, 1, 2, 3]
