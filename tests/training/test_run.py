"""Whole runs of the tiny model: what training must hold to whatever the method."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from soc_ft.errors import ConfigError, RunError
from soc_ft.evaluation.folders import BASE, FINE_TUNED
from tests.conftest import TINY, command, curve, train_tiny
from tests.trained import largest_difference, weights

TinyRun = Callable[..., Path]
MODELS = (BASE, FINE_TUNED)


def test_the_reward_of_held_out_prompts_rises(tiny_run: TinyRun) -> None:
    """Breaks when the sign of the reward, the adjoint or the control is wrong anywhere."""
    folder = tiny_run("trainer.steps=8", "validation.every=8")
    results = json.loads((folder / "results.json").read_text())
    last = results["8"]
    assert (folder / "curves.png").is_file()
    assert last["gain"] > 4 * last["gain_error"] > 0
    assert last["objective"] > results["0"]["objective"] == 0
    scale = OmegaConf.load(folder / "config.yaml")["lambda"]
    assert last["objective"] == pytest.approx(scale * last["gain"] - last["control_cost"])
    assert last["control_cost"] > 0


def test_training_ends_with_an_evaluation(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks when the table is missing, or says something else than the validation measured."""
    embedding = "+validation.embedding._target_=tests.scorers.MeanColour"
    folder = tiny_run(
        "trainer.steps=3", "trainer.lr=1e-3", "validation.samples_per_prompt=2", embedding
    )
    last = json.loads((folder / "results.json").read_text())["3"]
    table = list(csv.DictReader((folder / "evaluation" / "metrics.csv").open()))
    base, tuned = ({row["metric"]: row for row in table if row["model"] == m} for m in MODELS)
    assert set(base) == set(tuned) == {"redness", "diversity"}
    assert float(tuned["redness"]["mean"]) == pytest.approx(last["reward"])
    assert float(tuned["redness"]["difference"]) == pytest.approx(last["gain"])
    assert float(tuned["redness"]["difference_error"]) == pytest.approx(last["gain_error"])
    assert float(tuned["diversity"]["mean"]) == pytest.approx(last["diversity"])
    assert base["redness"]["difference"] == ""
    assert f"difference to the {BASE}" in capsys.readouterr().out
    resumed = tiny_run(
        "trainer.steps=3", "trainer.lr=1e-3", "validation.samples_per_prompt=2", embedding
    )
    assert list(csv.DictReader((resumed / "evaluation" / "metrics.csv").open())) == table


def test_a_failing_export_costs_the_export_alone(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks when a run of days ends without its results because one file cannot be written."""

    def failing(model: object, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "half").touch()
        raise ValueError("non contiguous tensor\nand a page more")

    monkeypatch.setattr("soc_ft.training.session.export_pipeline", failing)
    folder = tiny_run("trainer.steps=1", "validation.every=1", "export=true")
    assert (folder / "results.json").is_file()
    assert (folder / "evaluation" / "metrics.csv").is_file()
    assert not (folder / "model").exists()
    (line,) = [r.getMessage() for r in caplog.records if "is not exported" in r.getMessage()]
    assert "(non contiguous tensor)" in line
    assert "\n" not in line


def test_the_final_evaluation_can_be_switched_off(tiny_run: TinyRun) -> None:
    """Breaks when a run that is not to be evaluated samples the last step all the same."""
    folder = tiny_run("trainer.steps=3", "validation.at_end=false")
    assert set(json.loads((folder / "results.json").read_text())) == {"0", "2"}
    assert not (folder / "evaluation").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [(), ("buffer=replay", "buffer.batches=2", "buffer.passes=2", "trainer.steps=6")],
    ids=["on-policy", "replay"],
)
def test_two_processes_give_the_curve_of_one(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Breaks when ranks repeat noise or prompts, or gradients, masks or means are not global."""
    line = [*command("soc_ft"), "+reward.scale=20", *overrides]
    line += [override for override in TINY if not override.startswith("reward.scale")]
    line += [override for override in overrides if override.startswith("trainer.")]
    for devices in (1, 2):
        subprocess.run(
            [*line, f"run_dir={tmp_path / str(devices)}", f"trainer.devices={devices}"],
            check=True,
            capture_output=True,
        )
    one, two = curve(tmp_path / "1"), curve(tmp_path / "2")
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        for name in a.keys() - {"train/evaluations_forward", "train/evaluations_backward"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4), name
    assert largest_difference(weights(tmp_path / "1"), weights(tmp_path / "2")) < 1e-3


def test_a_run_is_named_by_what_tells_it_from_others(tmp_path: Path) -> None:
    """Breaks when runs of a sweep cannot be told apart in MLflow, where names are cut short."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train_tiny(
        tmp_path / "run",
        "trainer.steps=1",
        "tracking=mlflow",
        f"tracking.uri={uri}",
        "lambda=31.6",
        "cfg_mode=none",
        "seed=2",
        choices={"cfg_mode": "none", "reward": "shapes"},
    )
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("soc_ft")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "lambda=31.6 cfg=none seed=2 trainer.steps=1 (run)"
    headline = {name: run.data.params[name] for name in ("lambda", "cfg_mode", "seed", "reward")}
    assert headline == {"lambda": "31.6", "cfg_mode": "none", "seed": "2", "reward": "shapes"}


@pytest.mark.slow
def test_batch_splits_do_not_change_the_run(tiny_run: TinyRun, undisturbed: TinyRun) -> None:
    """Breaks when noise is consumed instead of addressed, or a mean is taken per micro-batch."""
    whole = undisturbed("trainer.steps=2")
    splits = ("trainer.rollout_batch=3", "method.adjoint_batch=1", "trainer.micro_batch=1")
    split = tiny_run("trainer.steps=2", *splits)
    assert largest_difference(weights(whole), weights(split)) < 1e-3
    for (_, a), (_, b) in zip(curve(whole), curve(split), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-3)


def test_the_first_optimizer_step_learns(tiny_run: TinyRun) -> None:
    """Breaks when the warm-up starts at a learning rate of zero."""
    folder = tiny_run("trainer.steps=1", "validation.every=1")
    first = next(metrics for _, metrics in curve(folder) if "train/lr" in metrics)
    assert first["train/lr"] == pytest.approx(2.5e-5)
    assert curve(folder)[-1][1]["val/control_cost"] > 0


def test_two_rounds_and_two_samples_never_share_noise(tiny_run: TinyRun) -> None:
    """Breaks when seeds repeat between rounds: the same rewards would come back."""
    folder = tiny_run("trainer.lr=1e-12", "trainer.steps=3")
    rewards = [m["train/reward"] for _, m in curve(folder) if "train/reward" in m]
    assert len(set(rewards)) == 3


def test_samples_that_are_not_finite_are_dropped_and_counted(tiny_run: TinyRun) -> None:
    """Breaks when one broken reward reaches the gradient of the whole batch."""
    folder = tiny_run(
        "reward._target_=tests.scorers.BrokenFor", "trainer.max_dropped=0.5", "trainer.steps=3"
    )
    dropped = [m["train/dropped_share"] for _, m in curve(folder) if "train/dropped_share" in m]
    assert 0.25 in dropped
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())


def test_too_many_broken_samples_stop_the_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Breaks when a run goes on although its reward does not work, or starts with such a one."""
    (tmp_path / "trees.txt").write_text("a tree\n")
    broken = ("reward._target_=tests.scorers.BrokenFor", f"prompts.train={tmp_path}/trees.txt")
    with pytest.raises(RunError, match=r"optimizer step 0: 100% .* trainer.max_dropped=0.25"):
        tiny_run(*broken, "+reward.word=tree")
    with pytest.raises(ConfigError, match=r"reward \(broken\): returned nan for 2 pictures"):
        tiny_run(*broken, "+reward.word=house")


def test_losses_that_are_all_infinite_stop_the_run(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a batch without a finite loss ends in a crash of the network instead."""
    from soc_ft.core import losses

    exact = losses.adjoint_matching_loss
    monkeypatch.setattr(losses, "adjoint_matching_loss", lambda *args: exact(*args) * math.inf)
    with pytest.raises(RunError, match="optimizer step 0: 100%"):
        tiny_run()


def evaluations(folder: Path) -> tuple[float, float]:
    """Forward and backward network evaluations of the first optimizer step."""
    first = next(m for _, m in curve(folder) if "train/evaluations_forward" in m)
    return first["train/evaluations_forward"], first["train/evaluations_backward"]


@pytest.mark.parametrize(
    ("overrides", "sampling", "adjoint", "control"),
    [
        (["cfg_mode=trajectories"], 2, 1, 1),
        (["cfg_mode=none"], 1, 1, 1),
        (["cfg_mode=full"], 2, 2, 2),
        (["cfg_mode=none", "cfg_mode.guidance_scale=2"], 2, 1, 1),
    ],
)
def test_network_evaluations_are_those_of_the_design(
    tiny_run: TinyRun, overrides: list[str], sampling: int, adjoint: int, control: int
) -> None:
    """Breaks when anything is evaluated twice, or the adjoint is solved further than needed.

    Per sample: K forward for sampling; K - k_min forward and one less backward for the adjoint; S
    forward and backward for the regression; each twice where it is guided.
    """
    from soc_ft.core import Strata, draw_steps, uniform

    folder = tiny_run(
        *overrides, "method.prompt_dropout=0", "trainer.steps=1", "validation.every=1"
    )
    samples, steps, regressed = 4, 4, 2
    addresses = [(0, i) for i in range(samples)]
    first = draw_steps(uniform((1, steps), 0, "steps", addresses), regressed, Strata())[..., 0]
    solved = int((steps - first).sum())
    assert evaluations(folder) == (
        sampling * samples * steps + adjoint * solved + control * samples * regressed,
        adjoint * (solved - samples) + control * samples * regressed,
    )


def test_dropped_prompts_cost_their_base_prediction_only(tiny_run: TinyRun) -> None:
    """Breaks when prompt dropout fails without guidance, or evaluates more than it needs."""
    kept = tiny_run("cfg_mode=none", "method.prompt_dropout=0", "trainer.steps=1")
    dropped = tiny_run(
        "cfg_mode=none", "method.prompt_dropout=1", "trainer.steps=1", folder="dropped"
    )
    forward, backward = evaluations(kept)
    assert evaluations(dropped) == (forward + 4 * 2, backward)


def test_the_effective_sample_size_is_full_while_the_model_stands_still(tiny_run: TinyRun) -> None:
    """Breaks when the two sides of the importance ratio are different laws (guidance)."""
    for mode in ("trajectories", "none", "full"):
        folder = tiny_run(
            f"cfg_mode={mode}",
            "buffer=replay",
            "buffer.batches=1",
            "buffer.passes=2",
            "trainer.lr=1e-20",
            "trainer.steps=2",
            "validation.every=2",
            folder=mode,
        )
        shares = [m["train/ess_share"] for _, m in curve(folder) if "train/ess_share" in m]
        assert shares == pytest.approx([1, 1], abs=1e-4)


def test_the_effective_sample_size_falls_as_the_model_moves(tiny_run: TinyRun) -> None:
    """Breaks when the current model is not what the ratio compares with."""
    folder = tiny_run(
        "buffer=replay", "buffer.batches=1", "buffer.passes=4", "buffer.importance=step"
    )
    shares = [m["train/ess_share"] for _, m in curve(folder) if "train/ess_share" in m]
    assert shares[0] == 1
    assert shares[-1] < 0.999


@pytest.mark.parametrize(
    "overrides",
    [
        ["finetune=offset"],
        ["finetune=lora", "cfg_mode=full"],
        ["method.adjoint_at=next"],
        ["method.smoothing_copies=2"],
        ["trainer.precision=bf16-mixed"],
        ["model.frozen_dtype=bfloat16", "finetune=lora"],
        ["buffer=replay", "buffer.device=cpu"],
    ],
    ids=lambda overrides: "+".join(overrides),
)
def test_modes_train(tiny_run: TinyRun, overrides: list[str]) -> None:
    """Breaks when a documented option does not start."""
    folder = tiny_run(*overrides, "trainer.steps=2", "export=true")
    losses = [m["train/loss"] for _, m in curve(folder) if "train/loss" in m]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert any((folder / "model").iterdir())


def test_validation_asks_for_no_gradient_and_changes_nothing(
    tiny_run: TinyRun, undisturbed: TinyRun
) -> None:
    """Breaks when a validation moves the mask, the noise or the counters of training."""
    seldom, often = tiny_run("validation.every=4"), undisturbed()
    assert largest_difference(weights(seldom), weights(often)) == 0
    training = [[m for _, m in curve(f) if "train/loss" in m] for f in (seldom, often)]
    assert training[0] == training[1]
