"""Stopping between two optimizer steps when a scheduler asks for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.errors import Preempted
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.preemption import Preemption, StopRequest
from tests.conftest import curve, train_tiny
from tests.trained import largest_difference, weights


@pytest.fixture
def preemption() -> Iterator[Preemption]:
    with Preemption(signal.SIGUSR2, patience=0.2) as preemption:
        yield preemption


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_a_request_waits_for_the_end_of_the_step(preemption: Preemption) -> None:
    """Breaks if the job stops in mid-step, or not at all."""
    preemption.defer()
    assert preemption.poll() == StopRequest.NOTHING
    send(signal.SIGUSR2)
    assert preemption.poll() == StopRequest.STOP
    assert preemption.poll() == StopRequest.STOP
    assert preemption.release() == StopRequest.STOP
    with pytest.raises(Preempted, match="goes on from optimizer step 7"):
        preemption.grant("optimizer step 7")


def test_a_request_outside_of_optimizer_steps_does_not_wait(preemption: Preemption) -> None:
    """Breaks if a job that loads, or writes its results, is killed at its time limit."""
    with pytest.raises(Preempted):
        send(signal.SIGUSR2)
    preemption.defer()
    preemption.release()
    with pytest.raises(Preempted):
        send(signal.SIGUSR2)


def test_a_step_that_takes_too_long_is_given_up(preemption: Preemption) -> None:
    """Breaks if a job that cannot save in time is killed instead of requeued."""
    preemption.defer()
    send(signal.SIGUSR2)
    send(signal.SIGUSR2)
    began = time.monotonic()
    with pytest.raises(Preempted, match="goes on from its last checkpoint"):
        time.sleep(5)
    assert time.monotonic() - began < 2


def test_the_announcement_of_a_kill_makes_it_save_and_carry_on(preemption: Preemption) -> None:
    """Breaks if a job exits by itself when a scheduler that would requeue it says SIGTERM."""
    preemption.defer()
    send(signal.SIGTERM)
    assert preemption.poll() == StopRequest.SAVE
    assert preemption.poll() == StopRequest.NOTHING


def test_handlers_are_given_back() -> None:
    """Breaks if signals after the job would be noted by nobody, or a timer still runs."""
    before = [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)]
    with Preemption(signal.SIGUSR2, patience=60) as preemption:
        preemption.defer()
        send(signal.SIGUSR2)
    assert [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def resume_and_compare(
    tmp_path: Path,
    undisturbed: Path,
    owner: type,
    method: str,
    replacement: Callable[..., Any],
    patience: float = 60,
) -> None:
    """A run that is preempted in a method, and then resumed, must end as an undisturbed one."""
    with (
        Preemption(signal.SIGUSR2, patience) as preemption,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(owner, method, replacement)
        with pytest.raises(Preempted):
            train_tiny(tmp_path / "run", preemption=preemption)
    train_tiny(tmp_path / "run")
    assert largest_difference(weights(tmp_path / "run"), weights(undisturbed)) == 0
    assert curve(tmp_path / "run") == curve(undisturbed)


slow = pytest.mark.slow


# A validation follows the second step; the fourth is the last.
@pytest.mark.parametrize("step", [pytest.param(1, marks=slow), 2, pytest.param(4, marks=slow)])
def test_a_run_that_is_preempted_in_a_step_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Callable[..., Path], step: int
) -> None:
    """Breaks if something of the state between two steps is not saved on a request to stop."""
    regress = RewardFineTuning._regress

    def interrupted(self: RewardFineTuning, *args: Any) -> dict[str, float]:
        if self.global_step == step - 1:
            send(signal.SIGUSR2)
        return regress(self, *args)

    resume_and_compare(tmp_path, undisturbed(), RewardFineTuning, "_regress", interrupted)


def test_a_run_whose_step_is_given_up_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    """Breaks if giving up a step counts as a failure of the run, or leaves half a step behind."""

    def stuck(self: RewardFineTuning, *args: Any) -> dict[str, float]:
        send(signal.SIGUSR2)
        time.sleep(30)
        raise AssertionError("the step was not given up")

    resume_and_compare(tmp_path, undisturbed(), RewardFineTuning, "_regress", stuck, patience=0.2)


@pytest.mark.parametrize(
    "method", ["on_validation_start", pytest.param("on_train_end", marks=slow)]
)
def test_a_run_that_is_preempted_beside_its_steps_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Callable[..., Path], method: str
) -> None:
    """Breaks if a request that comes before the first step or after the last one is a failure."""

    def signalled(self: RewardFineTuning) -> None:
        send(signal.SIGUSR2)

    resume_and_compare(tmp_path, undisturbed(), RewardFineTuning, method, signalled)
