"""Runs on a surrogate: what is asked, what is kept, and that nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from soc_ft.config import check
from soc_ft.errors import AwaitingAnswers, ConfigError
from soc_ft.feedback.asking import prompts_of
from soc_ft.feedback.options import People
from soc_ft.training.run import train
from soc_ft.training.scorers import build_scorers
from tests.conftest import TINY, composed, curve, train_tiny
from tests.scorers import Counting
from tests.trained import crash_at, weights

ASKED = "reward._target_=tests.scorers.Counting"
SMALL = (
    "features._target_=tests.feedback.test_online.Means",
    "features=shapes",
    "feedback.questions=[6,4]",
    "feedback.surrogate.epochs=20",
    "feedback.surrogate.widths=[8]",
    "feedback.surrogate.dropout=[]",
    "feedback.noise=0.1",
    ASKED,
    "finetune=lora",
    "validation.every=100",
    "validation.at_end=false",
)
BASE = ("feedback=greedy", *SMALL)
TRIED = 2
"""Pictures that a reward is tried on whenever a run starts."""
VALIDATED = TRIED + 4
"""With those of the first validation: two prompts, two of each."""


class Means:
    """The mean of each colour: enough to predict redness from."""

    def __init__(self, weights: None = None) -> None:
        """The options of what it stands in for."""

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return images.mean(dim=(2, 3))

    def to(self, device: torch.device) -> Self:
        return self


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    Counting.asked = 0


OPTIMISTS = {
    "nonadaptive": ("feedback=nonadaptive", "feedback.questions=[8]"),
    "ucb": ("feedback=ucb",),
    "bootstrap": ("feedback=bootstrap", "feedback.surrogate.heads=2"),
    "ts": ("feedback=ts", "feedback.surrogate.langevin.steps=5"),
}


@pytest.mark.parametrize("name", OPTIMISTS)
def test_every_way_to_be_optimistic_trains(name: str, tmp_path: Path) -> None:
    """Breaks if an option's surrogate does not reach the method, or asks more than it says."""
    folder = train_tiny(tmp_path / "run", *SMALL, *OPTIMISTS[name])
    trained = [metrics for _, metrics in curve(folder) if "train/loss" in metrics]
    questions = 8 if name == "nonadaptive" else 10
    assert sum(metrics["train/reward_queries"] for metrics in trained) == questions
    assert Counting.asked == questions + VALIDATED
    assert trained[0]["train/stage"] == 1
    assert trained[0]["train/surrogate/held_out_error"] > 0


def test_a_reward_without_gradient_is_followed(tmp_path: Path) -> None:
    """Breaks if the surrogate's gradient is not what Adjoint Matching gets."""
    jpeg = "reward._target_=tests.feedback.test_online.Blind"
    folder = train_tiny(tmp_path / "run", *BASE, jpeg)
    trained = [metrics for _, metrics in curve(folder) if "train/loss" in metrics]
    assert trained[-1]["train/control_cost"] > 0
    with pytest.raises(ConfigError, match="feedback=greedy, whose"):
        train_tiny(tmp_path / "direct", jpeg)


class Blind(Counting):
    """Redness without a gradient."""

    differentiable: ClassVar[bool] = False

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return super().__call__(images.detach(), prompts)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_crash_changes_nothing_and_asks_nothing_again(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if answers, the surrogate, the stage or the optimizer's new start are lost.

    Step 2 is the first of the second stage, whose questions are answered when it crashes.
    """
    optimistic = (*SMALL, "feedback=ucb", "trainer.checkpoint_every=1")
    whole = train_tiny(tmp_path / "whole", *optimistic)
    Counting.asked = 0
    with monkeypatch.context() as patch:
        crash_at(step, patch)
        with pytest.raises(MemoryError):
            train_tiny(tmp_path / "crashed", *optimistic)
    resumed = train_tiny(tmp_path / "crashed", *optimistic)
    assert Counting.asked == 10 + VALIDATED + TRIED
    expected = weights(whole)
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name
    assert curve(resumed) == curve(whole)


def test_a_crash_while_asking_keeps_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if answers are kept only when all of a stage are there, or noise is drawn anew."""
    small = (*BASE, "trainer.rollout_batch=2", "trainer.checkpoint_every=1")
    whole = train_tiny(tmp_path / "whole", *small)
    Counting.asked = 0

    def dying(self: Counting, images: Tensor, prompts: Sequence[str]) -> Tensor:
        if Counting.asked == VALIDATED + 6 + 2:
            raise MemoryError("crash")
        return score(self, images, prompts)

    score = Counting.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "__call__", dying)
        with pytest.raises(MemoryError):
            train_tiny(tmp_path / "crashed", *small)
    parts = tmp_path / "crashed" / "feedback" / "stage-2"
    assert len(list(parts.iterdir())) == 1
    resumed = train_tiny(tmp_path / "crashed", *small)
    assert Counting.asked == 10 + VALIDATED + TRIED
    assert not parts.exists()
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[n]) for n, tensor in weights(resumed).items())


def test_answers_of_another_configuration_are_not_used(tmp_path: Path) -> None:
    """Breaks if a folder that is started over trains on answers about other pictures."""
    train_tiny(tmp_path / "run", *BASE)
    Counting.asked = 0
    train_tiny(tmp_path / "run", *BASE, "resume=never")
    assert Counting.asked == VALIDATED
    train_tiny(tmp_path / "run", *BASE, "resume=never", "seed=1")
    assert Counting.asked == VALIDATED + 10 + VALIDATED


def test_a_run_waits_for_people_and_goes_on(tmp_path: Path) -> None:
    """Breaks if pictures change while people look at them, or the reward is asked after all."""
    people = (*BASE, "feedback.people={kind: scores}")
    run = tmp_path / "run"
    with pytest.raises(AwaitingAnswers, match="6 pictures wait"):
        train_tiny(run, *people)
    first = run / "feedback" / "stage-1"
    pictures = {path: path.read_bytes() for path in (first / "pictures").iterdir()}
    with pytest.raises(AwaitingAnswers, match="6 pictures wait"):
        train_tiny(run, *people)
    assert pictures == {path: path.read_bytes() for path in (first / "pictures").iterdir()}
    _answer(first, 1, 6)
    with pytest.raises(AwaitingAnswers, match="4 pictures wait"):
        train_tiny(run, *people)
    _answer(run / "feedback" / "stage-2", 2, 4)
    train_tiny(run, *people)
    trained = [metrics for _, metrics in curve(run) if "train/loss" in metrics]
    assert [metrics["train/reward_queries"] for metrics in trained] == [6, 0, 4, 0]
    assert Counting.asked == 3 * VALIDATED + TRIED


def _answer(folder: Path, stage: int, number: int) -> None:
    answers = {str(i): 1 + i % 5 for i in range(number)}
    content = {"stage": stage, "kind": "scores", "answers": answers}
    (folder / "labels.json").write_text(json.dumps(content))


def test_a_stage_starts_the_optimizer_and_its_reference_anew(tmp_path: Path) -> None:
    """Breaks if moments of the last objective are kept, or the KL stays one to the first model."""
    shared = [each for each in TINY if not each.startswith("method.")]
    pathwise = ("method=alignprop", "method.kl=true", "trainer.schedule=constant")
    costs = {}
    for reference in ("previous", "base"):
        folder = tmp_path / reference
        config = composed(*shared, *BASE, *pathwise, f"method.reference={reference}")
        train(config, check(config), folder)
        trained = [metrics for _, metrics in curve(folder) if "train/loss" in metrics]
        costs[reference] = [metrics["train/control_cost"] for metrics in trained]
    assert costs["previous"][2] == costs["previous"][0] == costs["base"][0] == 0
    assert costs["base"][2] > 0 < costs["previous"][3]
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert {float(each["step"]) for each in saved["optimizer_states"][0]["state"].values()} == {2}


def test_answers_are_noisy_by_as_much_as_is_asked(tmp_path: Path) -> None:
    """Breaks if the noise is left out, of another size, or the same for all pictures."""

    def answers(noise: float) -> Tensor:
        sixty = ("feedback.questions=[60]", f"feedback.noise={noise}")
        folder = train_tiny(tmp_path / str(noise), *BASE, *sixty)
        return load_file(folder / "feedback" / "stage-1.safetensors")["answer"]

    exact, noisy = answers(0.0), answers(3.0)
    assert 2.3 < float((noisy - exact).std()) < 3.7


def test_a_staged_run_is_not_extended(tmp_path: Path) -> None:
    """Breaks if more steps would divide a begun run into other stages."""
    constant = (*BASE, "trainer.schedule=constant")
    train_tiny(tmp_path / "run", *constant)
    with pytest.raises(ConfigError, match=r"trainer\.steps \(4"):
        train_tiny(tmp_path / "run", *constant, "trainer.steps=8")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("trainer.steps=5",), r"trainer\.steps=5: cannot be divided into the 2 stages"),
        (("feedback.questions=[2,4]",), "ask about 4 pictures at least"),
        (("feedback.optimism=heads",), "needs surrogate.heads > 1"),
        (("feedback.surrogate.heads=2", "feedback.optimism=bonus"), "is of one network"),
        (("feedback.surrogate.dropout=[0.1,0.1]",), "more numbers than surrogate.widths"),
        (("feedback.questions=[5,4]", "feedback.people={kind: pairs}"), "pairs need even numbers"),
        (("feedback.surrogate.epoch=3",), "did you mean"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_loads(
    overrides: tuple[str, ...], told: str
) -> None:
    """Breaks if a wrong option is found by a run that has asked its questions."""
    given = tuple(f"+{each}" if "epoch=" in each else each for each in overrides)
    with pytest.raises(ConfigError, match=told):
        check(composed(*TINY, *BASE, *given))


def test_features_are_tried_before_the_model_loads() -> None:
    """Breaks if features that do not fit are found when the model is loaded and sampled."""
    config = composed(*TINY, *BASE, "features._target_=tests.feedback.test_online.Flat")
    with pytest.raises(ConfigError, match=r"feedback\.features \(Flat\): returned shape \(2,\)"):
        build_scorers(config, check(config))


class Flat(Means):
    """One number where a vector is wanted."""

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return super().__call__(images, prompts)[:, 0]


def test_the_budget_of_direct_feedback_ends_a_run(tmp_path: Path) -> None:
    """Breaks if a run asks more than its budget, stops too early, or goes on when it is resumed."""
    budget = (ASKED, "feedback.budget=11", "validation.every=100", "validation.at_end=false")
    folder = train_tiny(tmp_path / "run", *budget)
    steps = [step for step, metrics in curve(folder) if "train/loss" in metrics]
    assert steps == [1, 2]
    measured = VALIDATED + 4  # Lightning validates where a run is stopped
    assert Counting.asked == 8 + measured
    train_tiny(tmp_path / "run", *budget)
    assert Counting.asked == 8 + measured + TRIED


def test_people_compare_pictures_of_the_same_prompt() -> None:
    """Breaks if the two of a pair have two prompts, or stages begin with the same prompts."""
    prompts = [f"prompt {i}" for i in range(5)]
    circumstances: Any = SimpleNamespace(prompts=prompts, seed=0)
    pairs = prompts_of(circumstances, range(10), People(kind="pairs"))
    assert pairs[::2] == pairs[1::2] == prompts_of(circumstances, range(5), None)
    assert sorted(pairs[::2]) == prompts
    later = prompts_of(circumstances, range(2, 5), None)
    assert later == pairs[4::2]
