"""Collectives, with a stand-in for the other process; two real ones train in tests of methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from soc_ft import distributed
from soc_ft.distributed import (
    gather,
    gather_rows,
    largest,
    sum_gradients,
    tells_of_a_lost_process,
)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the process of rank 1 contributes; this one has rank 0."""
    contribution: dict[str, Any] = {"value": None, "gradient": 0.0, "reduced": 0}

    def all_gather_object(everyone: list[Any], value: Any) -> None:
        everyone[:] = [value, contribution["value"]]

    def all_reduce(tensor: torch.Tensor, op: Any = torch.distributed.ReduceOp.SUM) -> None:
        contribution["reduced"] += 1
        if op == torch.distributed.ReduceOp.MAX:
            tensor.clamp_(min=contribution["value"])
        else:
            tensor += contribution["gradient"]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    return contribution


def test_one_process_keeps_its_own() -> None:
    """Breaks when a single process needs a process group."""
    assert gather(3) == [3]
    assert largest(3, "cpu") == 3
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 5.0)
    sum_gradients([parameter])
    assert parameter.grad.tolist() == [5, 5]


def test_values_come_in_the_order_of_ranks(other: dict[str, Any]) -> None:
    """Breaks when ranks are mixed up: weights would go to the wrong pairs."""
    other["value"] = "b"
    assert gather("a") == ["a", "b"]


def test_rows_are_joined_though_a_rank_lacks_a_name(other: dict[str, Any]) -> None:
    """Breaks when a rank without a finite loss takes the others down."""
    other["value"] = {"reward": torch.tensor([3.0]), "loss": torch.tensor([4.0, 5.0])}
    rows = gather_rows({"reward": torch.tensor([1.0, 2.0])})
    assert rows["reward"].tolist() == [1, 2, 3]
    assert rows["loss"].tolist() == [4, 5]
    assert not rows["reward"].requires_grad


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:21889", True),
        ("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer", True),
        ("NCCL error: remote process exited or there was a network error", True),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_the_end_of_another_process_is_recognised(
    other: dict[str, Any], said: str, lost: bool
) -> None:
    """Breaks when a killed process makes the others print a traceback, or hides their own fault."""
    assert tells_of_a_lost_process(RuntimeError(said)) == lost


def test_gradients_are_summed_in_place(other: dict[str, Any]) -> None:
    """Breaks when the mean over ranks is taken: losses are divided by all pairs already."""
    other["gradient"] = 2.0
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    sum_gradients(parameters)
    assert [parameter.grad.tolist() for parameter in parameters] == [[3, 3], [3, 3]]


def test_gradients_go_together_and_come_back_to_their_places(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when every parameter is an operation of its own, or parts are mixed up."""
    other["gradient"] = 1.0
    shapes = [(3,), (2, 5, 3, 3), (), (7, 2), (4,)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, number)
    parameters[1].grad = torch.randn(shapes[1]).to(memory_format=torch.channels_last)
    expected = [parameter.grad + 1 for parameter in parameters]
    sum_gradients(parameters)
    assert other["reduced"] == 1
    assert all(
        torch.equal(each.grad, right) for each, right in zip(parameters, expected, strict=True)
    )
    monkeypatch.setattr(distributed, "_BUCKET_BYTES", 4 * 90)
    sum_gradients(parameters)
    assert other["reduced"] == 1 + 3
    assert all(
        torch.equal(each.grad, right + 1) for each, right in zip(parameters, expected, strict=True)
    )


def test_the_largest_number_is_that_of_any_rank(other: dict[str, Any]) -> None:
    """Breaks when ranks do not agree how often to call a network."""
    other["value"] = 5
    assert [largest(number, "cpu") for number in (3, 5, 8)] == [5, 5, 8]
