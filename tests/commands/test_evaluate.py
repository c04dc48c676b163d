"""Evaluations of a tiny run, from the command to the files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from soc_ft.errors import ConfigError, Interrupted
from soc_ft.evaluation import pictures, sampling
from soc_ft.evaluation.checks import check_evaluation
from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.evaluation.run import run_evaluation
from soc_ft.evaluation.statistics import Scores
from tests.conftest import command, composed, light_answer, train_tiny
from tests.rewards.test_weighted import SUM
from tests.scorers import Informed

TinyRun = Callable[..., Path]
Evaluate = Callable[..., list[Scores]]

DIVERSITY = "{_target_: tests.scorers.MeanColour}"
REDNESS = "{_target_: tests.scorers.Redness}"


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluate:
    """Evaluate in a folder of this test, with few pictures; more overrides may be given."""

    def run(*overrides: str) -> list[Scores]:
        config = composed(
            f"output={tmp_path / 'evaluation'}",
            f"store={tmp_path / 'store'}",
            "tracking=none",
            "trust=[tests.scorers.Redness]",
            "device=cpu",
            "num_prompts=2",
            "samples_per_prompt=2",
            "num_steps=4",
            *overrides,
            config="evaluate",
            folder="commands",
        )
        return run_evaluation(check_evaluation(config), config)

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train_tiny(folder, "trainer.steps=2", "trainer.lr=1e-2")


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may write into."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def stored(tmp_path: Path) -> dict[Path, int]:
    """The pictures made so far, with the time of each."""
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.png")}


def test_several_numbers_of_steps_are_blocks_of_their_own(
    evaluated: Evaluate, run_dir: Path
) -> None:
    """Breaks if only one number of steps is sampled, or blocks share their pictures."""
    results = evaluated(f"run={run_dir}", "num_steps=[2,3,2]", f"metrics=[{REDNESS}]")
    assert [s.heading for s in results[::2]] == [f"memoryless, eta 1, {n} steps" for n in (2, 3)]
    assert len({s.estimates["Redness"].mean for s in results}) == 4, "all differ"


def test_four_blocks_of_base_and_fine_tuned(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks when a block or a model is missing, or one of the files that show them."""
    results = evaluated(
        f"run={run_dir}",
        "eta=[0,1]",
        "scheduler=[memoryless,pretrained]",
        f"metrics=[{REDNESS},{DIVERSITY}]",
    )
    assert [(s.heading, s.model) for s in results] == [
        (f"{schedule}, eta {eta}, 4 steps", model)
        for schedule in ("memoryless", "pretrained")
        for eta in (0, 1)
        for model in (BASE, FINE_TUNED)
    ]
    assert all(set(s.differences) == {"Redness", "MeanColour"} for s in results[1::2])
    assert len({s.estimates["Redness"].mean for s in results}) == 8, "all differ"
    output = tmp_path / "evaluation"
    assert {path.name for path in output.iterdir() if path.is_file()} >= {
        "metrics.csv",
        "table.md",
        "samples.png",
        "config.yaml",
    }
    rows = list(csv.DictReader((output / "metrics.csv").open()))
    assert len(rows) == 16
    printed = capsys.readouterr().out
    assert printed.count("difference to the base model") == 4
    assert "pretrained, eta 1, 4 steps" in printed


def test_a_standardised_reward_is_that_of_the_run(
    evaluated: Evaluate, tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a run is evaluated by other moments than it was trained with, or by none."""
    target = "reward._target_=soc_ft.rewards.weighted.Weighted"
    folder = tiny_run(*SUM, target, "~reward.scale", "reward.normalise=true", "trainer.lr=1e-3")
    noise = sampling.normal
    monkeypatch.setattr(
        sampling, "normal", lambda shape, seed, stream, at: noise(shape, seed, "validation", at)
    )
    base, tuned = evaluated(f"run={folder}", "prompts=null")
    last = json.loads((folder / "results.json").read_text())["4"]
    # The same pictures, rounded to 256 levels: the deviation is of two of them.
    assert base.estimates["weighted"].mean == pytest.approx(0, abs=0.05)
    assert tuned.estimates["weighted"].mean == pytest.approx(last["reward"], abs=0.05)
    assert 1 < tuned.differences["weighted"].mean == pytest.approx(last["gain"], abs=0.05)

    (folder / "reward_statistics.yaml").unlink()
    with pytest.raises(ConfigError, match=r"^metrics\.weighted\.statistics: is needed"):
        evaluated(f"run={folder}")


def test_untrained_weights_differ_in_nothing(evaluated: Evaluate, tiny_run: TinyRun) -> None:
    """Breaks when base and fine-tuned pictures do not share their noise."""
    folder = tiny_run("trainer.steps=1", "trainer.lr=1e-20")
    _, tuned = evaluated(f"run={folder}", "eta=1")
    assert tuned.differences["redness"].mean == pytest.approx(0, abs=0.02)
    assert tuned.differences["redness"].error == pytest.approx(0, abs=0.02)


def test_a_second_call_makes_no_picture_again(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks when pictures are made twice, or a larger evaluation forgets the smaller one."""
    caplog.set_level("INFO")
    first = evaluated(f"run={run_dir}", f"metrics=[{REDNESS}]")
    before = stored(tmp_path)
    assert len(before) == 8
    second = evaluated(f"run={run_dir}", f"metrics=[{REDNESS},{DIVERSITY}]")
    assert stored(tmp_path) == before
    assert "8 of 8 pictures were made before" in caplog.text
    assert second[1].estimates["Redness"] == first[1].estimates["Redness"]
    evaluated(f"run={run_dir}", f"metrics=[{REDNESS}]", "samples_per_prompt=3")
    after = stored(tmp_path)
    assert len(after) == 12
    assert all(after[path] == time for path, time in before.items())


def test_an_interrupted_evaluation_goes_on(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when what was made before Ctrl-C is lost."""
    save = pictures.PictureStore.save

    def interrupted(self: pictures.PictureStore, *arguments: object) -> None:
        if len(stored(tmp_path)) == 3:
            raise KeyboardInterrupt
        save(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(pictures.PictureStore, "save", interrupted)
        with pytest.raises(Interrupted, match="kept"):
            evaluated(f"run={run_dir}")
    before = stored(tmp_path)
    assert len(before) == 3
    evaluated(f"run={run_dir}")
    assert stored(tmp_path).items() > before.items()


@pytest.mark.slow
def test_results_do_not_depend_on_the_batch_size(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path
) -> None:
    """Breaks when a picture depends on what is sampled beside it."""
    sizes = ["batch_size=1", "metric_batch=1"], ["batch_size=3", "metric_batch=3"]
    means = [
        evaluated(f"run={run_dir}", *size, f"store={tmp_path / f'store{i}'}")[1]
        .estimates["redness"]
        .mean
        for i, size in enumerate(sizes)
    ]
    assert means[0] == pytest.approx(means[1], abs=0.02)


def test_kept_pictures_give_the_same_scores_without_a_model(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when scoring a folder loads the model, or gives other numbers than the run did."""
    overrides = ["eta=[0,1]", "save_images=true", f"metrics=[{REDNESS}]"]
    made = evaluated(f"run={run_dir}", *overrides)
    kept = tmp_path / "kept"
    (tmp_path / "evaluation" / "images").rename(kept)
    monkeypatch.delattr(pictures, "_load")
    found = evaluated(f"images={kept}", "num_steps=null", f"metrics=[{REDNESS}]")
    assert [(s.block, s.model, s.estimates, s.differences) for s in found] == [
        (s.block, s.model, s.estimates, s.differences) for s in made
    ]


def test_metrics_are_told_what_files_say_of_prompts(
    evaluated: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a metric is not told, or kept pictures are scored without what it was told."""
    monkeypatch.setattr(Informed, "told", [])
    known = {"a cat": {"bonus": 2.0}, "a dog": {}}
    lines = [json.dumps({"caption": prompt} | said) for prompt, said in known.items()]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    metrics = f"metrics=[{REDNESS},{{_target_: tests.scorers.Informed}}]"
    (made,) = evaluated(
        "model={option: shapes, path: 'random:tiny'}",
        *(f"prompts={tmp_path / 'own.jsonl'}", "column=caption", "save_images=true", metrics),
    )
    assert made.estimates["Informed"].mean - made.estimates["Redness"].mean == pytest.approx(1)
    assert Informed.told == [known, known], "when it is tried, and when it scores"
    kept = tmp_path / "evaluation" / "images"
    (found,) = evaluated(f"images={kept}", "num_steps=null", metrics)
    assert found.estimates == made.estimates
    option = f"{{option: file, train: {tmp_path / 'own.jsonl'}, held_out: 1, column: caption}}"
    evaluated("model={option: shapes, path: 'random:tiny'}", f"prompts={option}", metrics)
    assert Informed.told[-1] == known


def test_a_base_model_alone(evaluated: Evaluate, tmp_path: Path) -> None:
    """Breaks when a base model cannot be evaluated before there is a run."""
    (base,) = evaluated(
        "model={option: shapes, path: 'random:tiny'}",
        "prompts=[a cat,a dog]",
        f"metrics=[{REDNESS},{DIVERSITY}]",
    )
    assert base.model == BASE
    assert not base.differences
    assert base.estimates["MeanColour"].mean > 0
    assert Image.open(tmp_path / "evaluation" / "samples.png").size[1] > 2 * 128


@pytest.mark.parametrize("finetune", ["lora", pytest.param("offset", marks=pytest.mark.slow)])
def test_every_way_of_fine_tuning(evaluated: Evaluate, tiny_run: TinyRun, finetune: str) -> None:
    """Breaks when the weights of LoRA or of an offset network are not put where they belong."""
    folder = tiny_run("trainer.steps=2", "trainer.lr=1e-2", f"finetune={finetune}")
    base, tuned = evaluated(f"run={folder}")
    assert tuned.estimates["redness"].mean != base.estimates["redness"].mean


def test_an_evaluation_is_a_run_below_the_training(
    evaluated: Evaluate, run_dir: Path, tmp_path: Path
) -> None:
    """Breaks when MLflow does not hold the numbers and files, or does not show whose they are."""
    from mlflow import MlflowClient

    from soc_ft.tracking.delivery import DeliveryState

    DeliveryState(run_id="0" * 32).save(run_dir)
    evaluated(f"run={run_dir}", f"tracking={{option: mlflow, path: '{tmp_path / 'mlflow'}'}}")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "soc_ft"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.tags["mlflow.parentRunId"] == "0" * 32
    assert found.info.status == "FINISHED"
    names = {name.rsplit("/", 1)[-1] for name in found.data.metrics}
    assert {"redness", "redness_error", "redness_difference"} <= names
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert files >= {"metrics.csv", "table.md", "samples.png", "config.yaml"}


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--help"], 0, "run=<folder or MLflow run id>"),
        (["run=/nowhere"], 2, "/nowhere"),
        (["nothing=1"], 2, "python -m soc_ft.evaluate --cfg job"),
        (["model=shapes", "prompts=shapes", "metrics=[shape]"], 2, "did you mean shapes"),
        (["model=shapes", "prompts=shapes", "metrics=[shapes]", "exact=true"], 2, "exact_lambdas"),
    ],
)
def test_answers_come_in_one_line_without_the_heavy_imports(
    arguments: list[str], code: int, word: str, tmp_path: Path
) -> None:
    """Breaks when torch is imported before the configuration is checked."""
    done = light_answer(command("soc_ft.evaluate", *arguments), tmp_path)
    assert done.returncode == code
    assert word in done.stdout + done.stderr
    assert code == 0 or (done.stderr.startswith("soc_ft: error: ") and done.stderr.count("\n") == 1)
    assert not list(tmp_path.iterdir())
