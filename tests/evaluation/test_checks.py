"""``soc_ft.evaluate`` refuses what it cannot do in one line, and plans what it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.evaluation.checks import check_evaluation
from tests.conftest import composed, write_weights
from tests.evaluation.conftest import BASE_ALONE, assert_refused, checked_run, planned


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """What checking needs of a finished run."""
    return checked_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["run, model, images", "give one of"]),
        (["run=a", "images=b"], ["run and images", "give one of"]),
        (["run=/nowhere"], ["run=/nowhere", "config.yaml"]),
        (["run=" + 32 * "0", "tracking={option: mlflow, path: /nowhere}"], ["MLflow", "not exist"]),
        (["checkpoint=/nowhere.ckpt"], ["checkpoint=/nowhere.ckpt", "no such file"]),
        (["images=/nowhere", "metrics=[shapes]"], ["images=/nowhere", "metadata.jsonl"]),
        (["images=/nowhere", "eta=0"], ["eta=[0.0]", "means nothing with images="]),
        ([*BASE_ALONE, "checkpoint=best"], ["checkpoint=best", "means nothing with model="]),
        ([*BASE_ALONE, "metrics=null"], ["metrics", "choose at least one", "shapes_diversity"]),
        ([*BASE_ALONE, "metrics=[shape]"], ["metrics=shape", "did you mean shapes"]),
        ([*BASE_ALONE, "prompts=null"], ["prompts", "conf/prompts"]),
        ([*BASE_ALONE, "prompts=[]"], ["prompts=[]", "at least one"]),
        ([*BASE_ALONE, "prompts=/nowhere.txt"], ["/nowhere.txt", "no such file"]),
        ([*BASE_ALONE, "scheduler=[memoryles]"], ["memoryles", "did you mean memoryless"]),
        ([*BASE_ALONE, "eta=[0,-1]"], ["eta.1", "-1", "greater than or equal to 0"]),
        ([*BASE_ALONE, "num_steps=1"], ["num_steps", "1"]),
        ([*BASE_ALONE, "samples_per_prompt=0"], ["samples_per_prompt", "0"]),
        ([*BASE_ALONE, "model=shaps"], ["model=shaps", "did you mean shapes"]),
        ([*BASE_ALONE, "model=shapes", "model_path=/nowhere"], ["model.path=/nowhere"]),
        (
            [*BASE_ALONE, "metrics=[shapes_diversity]", "samples_per_prompt=1"],
            ["shapes_diversity", "at least 2", "samples_per_prompt"],
        ),
        (
            [*BASE_ALONE, "metrics=[{option: dreamsim_diversity, cache: /nowhere}]"],
            ["metrics.dreamsim_diversity.cache", "/nowhere"],
        ),
        ([*BASE_ALONE, "metrics=[{option: shapes, weigth: 1}]"], ["weigth", "did you mean"]),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(overrides: list[str], words: list[str]) -> None:
    """Breaks when a mistake gets past the check, to fail after the model has loaded."""
    assert_refused(overrides, words)


def test_every_schedule_meets_every_eta(run_dir: Path) -> None:
    """Breaks when the four blocks of the reference table are not those four."""
    blocks = planned(f"run={run_dir}", "eta=[0,1]", "scheduler=[memoryless,pretrained]").blocks
    assert [(block.schedule, block.eta) for block in blocks] == [
        ("memoryless", 0),
        ("memoryless", 1),
        ("pretrained", 0),
        ("pretrained", 1),
    ]
    assert {block.num_steps for block in blocks} == {4}, "as in the run"
    assert blocks[0].noise_levels["beta_start"] == 0.002
    assert blocks[2].noise_levels["beta_start"] is None


def test_a_run_says_what_is_not_said(run_dir: Path) -> None:
    """Breaks when evaluating a run needs more than its folder."""
    found = planned(f"run={run_dir}")
    assert [(block.schedule, block.eta) for block in found.blocks] == [("memoryless", 1)]
    assert list(found.measures) == ["redness"]
    assert found.prompts[0] == "a small house number 1"
    assert found.source is not None
    assert found.source.weights == run_dir / "checkpoints" / "last.ckpt"
    assert found.source.guidance_scale == 1.2


def test_a_run_is_sampled_with_the_guidance_of_its_validations(tmp_path: Path) -> None:
    """Breaks when what a run said of its pictures is compared with pictures of another law."""
    unguided = checked_run(tmp_path / "run", "validation.guidance_scale=1.0")
    for overrides, scale in (([], 1.0), (["guidance_scale=3"], 3.0)):
        source = planned(f"run={unguided}", *overrides).source
        assert source is not None
        assert source.guidance_scale == scale


def test_a_checkpoint_is_found_by_name_and_by_file(run_dir: Path, tmp_path: Path) -> None:
    """Breaks when a file alone does not lead to its run, or a copy elsewhere cannot be used."""
    best = run_dir / "checkpoints" / "best.safetensors"
    copy = write_weights(tmp_path / "copy.safetensors")
    for overrides, weights in (
        ([f"checkpoint={best}"], best),
        ([f"run={run_dir}", "checkpoint=best"], best),
        ([f"run={run_dir}", f"checkpoint={copy}"], copy),
    ):
        source = planned(*overrides).source
        assert source is not None
        assert source.weights == weights
        assert source.run_dir == run_dir
    with pytest.raises(ConfigError, match=r"copy\.safetensors: lies in no run folder.*run="):
        planned(f"checkpoint={copy}")
    with pytest.raises(ConfigError, match=r"checkpoint=worst: .*best, last"):
        planned(f"run={run_dir}", "checkpoint=worst")


def test_an_evaluation_is_tracked_where_its_run_was(run_dir: Path) -> None:
    """Breaks when the evaluation of a run lands in another MLflow store than the run."""
    assert planned(f"run={run_dir}", "tracking=null").tracking["_target_"].endswith(".no_tracker")
    own = planned(f"run={run_dir}", "tracking={option: mlflow, experiment: mine}")
    assert own.tracking["experiment"] == "mine"


def test_prompts_come_from_anywhere(run_dir: Path, tmp_path: Path) -> None:
    """Breaks when prompts other than the run's cannot be given."""
    table = tmp_path / "prompts.csv"
    table.write_text("caption\na\nb\nc\n")
    assert planned(f"run={run_dir}", "prompts=[x,y]").prompts == ["x", "y"]
    given = [f"prompts={table}", "column=caption"]
    assert planned(f"run={run_dir}", *given).prompts == ["a", "b", "c"]
    assert planned(f"run={run_dir}", *given, "num_prompts=2").prompts == ["a", "b"]
    assert len(planned(f"run={run_dir}", "prompts=default", "num_prompts=null").prompts) == 64


def test_metrics_are_options_and_mappings(run_dir: Path) -> None:
    """Breaks when a metric cannot be changed, or one of one's own cannot be named."""
    own = "{_target_: tests.scorers.MeanColour}"
    measures = planned(f"run={run_dir}", f"metrics=[shapes,shapes_diversity,{own}]").measures
    assert list(measures) == ["shapes", "shapes_diversity", "MeanColour"]
    assert [measure.embeds for measure in measures.values()] == [False, True, True]


def test_the_environment_counts_where_its_tracker_is_used(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when an address that nobody uses bars an evaluation, or a wrong one is found late."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://host")
    overrides = (f"run={run_dir}", "trust=[tests.scorers.Redness]")
    check_evaluation(composed(*overrides, config="evaluate", folder="commands"))
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI=ftp://host"):
        check_evaluation(composed(*BASE_ALONE, config="evaluate", folder="commands"))
