"""A scheduler's warning against the time that optimizer steps turn out to take."""

from __future__ import annotations

import signal

import pytest

from soc_ft.errors import Preempted, RunError
from soc_ft.training.preemption import Preemption, StopRequest
from soc_ft.training.time_limit import TimeLimit


class Clock:
    """Stands in for ``time.time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("soc_ft.training.time_limit.time.time", clock)
    return clock


def after_steps(clock: Clock, limit: TimeLimit, *seconds: float) -> TimeLimit:
    limit.begin()
    for each in seconds:
        clock.now += each
        limit.note_step()
    return limit


def test_short_steps_leave_it_to_the_scheduler(clock: Clock) -> None:
    """Breaks if a job stops before it is asked to, though its warning comes in time."""
    limit = after_steps(clock, TimeLimit(3600, 90, {}), *[50] * 71)
    assert not limit.too_short_for_a_step
    assert limit.patience == 90


def test_a_warning_that_comes_too_late_is_raised(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks if steps of 200 s with a warning of 90 s are killed and repeated for ever."""
    limit = after_steps(clock, TimeLimit(3600, 90, {}), *[200] * 16)
    assert limit.patience == 250
    assert not limit.too_short_for_a_step  # 400 s are left
    clock.now += 200
    limit.note_step()
    assert limit.too_short_for_a_step
    (line,) = caplog.messages
    assert "takes 200 s, and the scheduler's warning leaves it 90 s" in line
    assert "hydra.launcher.signal_delay_s=400" in line


def test_slurm_knows_better_when_it_ends(clock: Clock) -> None:
    """Breaks if a job whose limit somebody shortened believes what it was submitted with."""
    limit = after_steps(clock, TimeLimit(3600, 90, {"SLURM_JOB_END_TIME": "1300"}), 200)
    assert limit.too_short_for_a_step


def test_a_job_stops_before_a_step_that_does_not_fit(clock: Clock) -> None:
    """Breaks if the training does not heed the time limit between its steps."""
    with Preemption(signal.SIGUSR2, 90, 3600) as preemption:
        preemption.defer()
        polled = []
        for _ in range(17):
            clock.now += 200
            polled.append(preemption.poll())
    assert polled == [StopRequest.NOTHING] * 16 + [StopRequest.STOP]


def test_steps_longer_than_the_time_limit_are_refused(clock: Clock) -> None:
    """Breaks if a job that can never end a step is requeued a hundred times."""
    with Preemption(signal.SIGUSR2, 90, 3600):
        clock.now += 60  # preempted early: another attempt may come further
        with pytest.raises(Preempted):
            signal.raise_signal(signal.SIGUSR2)
        clock.now += 3420
        with pytest.raises(RunError, match="no optimizer step ended within the time limit of 60"):
            signal.raise_signal(signal.SIGUSR2)
