"""Ctrl-C, SIGTERM and SIGHUP: the step under way is saved, and the run goes on from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.errors import Interrupted
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.stopping import Interruption, StopRequest
from tests.conftest import curve, train_tiny
from tests.trained import largest_difference, weights


@pytest.fixture(autouse=True)
def _heeded() -> Iterator[None]:
    """As in a terminal; these tests may run under nohup, or in the background of a script."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    with Interruption() as interruption:
        yield interruption


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_end_of_the_step(interruption: Interruption, number: int) -> None:
    """Breaks if hours of work since the last checkpoint are lost with one key."""
    interruption.defer()
    assert interruption.poll() == StopRequest.NOTHING
    send(number)
    assert interruption.poll() == StopRequest.STOP
    with pytest.raises(Interrupted) as stop:
        interruption.grant("optimizer step 7")
    assert stop.value.signal == number


def test_a_second_ctrl_c_stops_at_once(interruption: Interruption) -> None:
    """Breaks if a person who is in a hurry has to kill the run."""
    interruption.defer()
    send(signal.SIGTERM)
    send(signal.SIGTERM)  # a system repeats itself; it is no person in a hurry
    with pytest.raises(Interrupted):
        send(signal.SIGINT)


def test_outside_of_optimizer_steps_nothing_waits(interruption: Interruption) -> None:
    """Breaks if a run that loads, or measures the base model, cannot be stopped."""
    with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
        send(signal.SIGINT)


def test_what_is_ignored_stays_so_and_handlers_are_given_back() -> None:
    """Breaks if `nohup` has no effect, or a notebook's own Ctrl-C is gone after a run."""
    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            send(signal.SIGHUP)
            interruption.defer()
            send(signal.SIGHUP)
            assert interruption.poll() == StopRequest.NOTHING
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == before[0]
    finally:
        signal.signal(signal.SIGHUP, before[1])


def test_a_run_stopped_in_a_step_goes_on_from_that_very_step(
    tmp_path: Path, undisturbed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the step is not saved, the message does not name it, or the resumed run ends with
    other weights than one that nobody stopped."""
    regress = RewardFineTuning._regress

    def stopped(self: RewardFineTuning, *args: Any) -> dict[str, float]:
        if self.global_step == 0:
            send(signal.SIGINT)
        return regress(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RewardFineTuning, "_regress", stopped)
        with pytest.raises(Interrupted, match=r"Ctrl-C: optimizer step 1 is saved, .* run_dir="):
            train_tiny(tmp_path / "run")
    train_tiny(tmp_path / "run")
    assert largest_difference(weights(tmp_path / "run"), weights(undisturbed())) == 0
    assert curve(tmp_path / "run") == curve(undisturbed())


def test_nothing_is_left_of_a_run_that_is_stopped_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a container that is stopped at once leaves folders that look like runs, or a file
    of the person's in the folder goes with them."""

    def stopped(self: RewardFineTuning) -> None:
        send(signal.SIGTERM)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    monkeypatch.setattr(RewardFineTuning, "on_validation_start", stopped)
    tracking = ("tracking=mlflow", f"tracking.path={tmp_path}/mlflow")
    with pytest.raises(Interrupted, match=r"SIGTERM before the first .* nothing is left behind"):
        train_tiny(tmp_path / "run", *tracking)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "notes.txt"]
