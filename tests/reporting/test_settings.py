"""Only runs that differ in nothing but the seed are averaged."""

from __future__ import annotations

from pathlib import Path

from soc_ft.reporting.reading import RunResult, read
from soc_ft.reporting.settings import (
    differing_values,
    group_by_setting,
    shared_choices,
    shared_overrides,
)
from tests.reporting.synthetic import configuration, metrics, write_run


def runs_in(folder: Path) -> list[RunResult]:
    return list(read(folder).runs)


def labels_in(folder: Path) -> list[str]:
    return [setting.label for setting in group_by_setting(runs_in(folder))]


def test_seeds_share_a_setting_and_shared_overrides_are_left_out(tmp_path: Path) -> None:
    """Breaks when seeds are settings of their own, or every label repeats what all runs have."""
    for number, (strength, seed) in enumerate([(1, 0), (1, 1), (10, 0)]):
        overrides = ["experiment=x", f"lambda={strength}", f"seed={seed}", "tracking=none"]
        write_run(tmp_path / f"s/{number}", overrides, config=configuration(seed, strength))
    runs = runs_in(tmp_path / "s")
    settings = group_by_setting(runs)
    assert [setting.label for setting in settings] == ["lambda=1", "lambda=10"]
    assert [sorted(setting.measured) for setting in settings] == [[0, 1], [0]]
    assert shared_overrides(runs) == ["experiment=x"]


def test_jobs_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Breaks when job 10 comes before job 2, which puts a sweep over lambda out of order."""
    for job, strength in (("2", 3), ("10", 100), ("10.5", 200)):
        config = configuration(strength=strength)
        write_run(tmp_path / "s" / job, [f"lambda={strength}"], config=config)
    assert labels_in(tmp_path / "s") == ["lambda=3", "lambda=100", "lambda=200"]


def test_runs_of_two_experiments_are_two_settings(tmp_path: Path) -> None:
    """Breaks when runs of two experiments are averaged as if they were two seeds of one."""
    for number, name in enumerate(["one", "two"]):
        write_run(tmp_path / f"s/{number}", [f"experiment={name}"])
    assert labels_in(tmp_path / "s") == ["experiment=one", "experiment=two"]


def test_the_same_overrides_with_another_configuration_are_another_setting(
    tmp_path: Path,
) -> None:
    """Breaks if a YAML file was edited between two jobs and the report averages them."""
    for number, lr in enumerate([1e-5, 1e-4]):
        config = configuration(seed=number, trainer={"steps": 4, "lr": lr})
        write_run(tmp_path / f"s/{number}", [f"seed={number}"], config=config)
    assert labels_in(tmp_path / "s") == [
        "fine-tuned (trainer.lr=1e-05)",
        "fine-tuned (trainer.lr=0.0001)",
    ]


def test_another_option_with_the_same_values_is_another_setting(tmp_path: Path) -> None:
    """Breaks if choices are ignored: a model of another name may differ in its weights alone."""
    for number, model in enumerate(["sd15", "mine"]):
        write_run(tmp_path / f"s/{number}", choices={"model": model, "tracking": model})
    assert labels_in(tmp_path / "s") == ["fine-tuned (model=sd15)", "fine-tuned (model=mine)"]


def test_where_a_run_is_made_does_not_make_a_setting(tmp_path: Path) -> None:
    """Breaks if a job that ran on other threads, or was tracked elsewhere, is not averaged."""
    for number in (0, 1):
        config = configuration(
            seed=number,
            name=f"name {number}",
            trainer={"steps": 4, "threads": number},
            tracking={"uri": str(number)},
        )
        write_run(tmp_path / f"s/{number}", [f"seed={number}"], config=config)
    assert labels_in(tmp_path / "s") == ["fine-tuned"]


def test_a_setting_is_measured_at_its_last_step(tmp_path: Path) -> None:
    """Breaks if a seed that is half done is averaged with one that is done."""
    done = {0: metrics(1.0), 2: metrics(1.5), 4: metrics(2.0)}
    half = {0: metrics(1.0), 2: metrics(1.5)}
    for seed, validations in enumerate([half, done]):
        config = configuration(seed)
        write_run(tmp_path / f"s/{seed}", validations=validations, config=config)
    (setting,) = group_by_setting(runs_in(tmp_path / "s"))
    assert setting.step == 4
    assert list(setting.measured) == [1]
    assert setting.seeds == {0, 1}


def test_a_seed_that_was_run_twice_counts_once(tmp_path: Path) -> None:
    """Breaks if a repeated job narrows the interval, which it cannot."""
    for number in (0, 1):
        write_run(tmp_path / f"s/{number}", ["seed=0"])
    (setting,) = group_by_setting(runs_in(tmp_path / "s"))
    assert [run.job.number for run in setting.measured.values()] == [1]


def test_values_that_were_not_typed_are_the_runs_own(tmp_path: Path) -> None:
    """Breaks if the column of a setting is empty for the jobs that kept its default."""
    write_run(tmp_path / "s/0", ["lambda=1"], {}, configuration(0, 1.0), {"cfg_mode": "none"})
    write_run(tmp_path / "s/1", ["cfg_mode=full"], {}, choices={"cfg_mode": "full"})
    values = differing_values(runs_in(tmp_path / "s"))
    assert values == {"lambda": ["1", "100.0"], "cfg_mode": ["none", "full"]}


def test_choices_that_all_runs_share(tmp_path: Path) -> None:
    """Breaks if the report names an option that only some jobs have."""
    write_run(tmp_path / "s/0", choices={"cfg_mode": "none", "model": "sd15"})
    write_run(tmp_path / "s/1", choices={"cfg_mode": "full", "model": "sd15"})
    assert shared_choices(runs_in(tmp_path / "s")) == {"model": "sd15"}


def test_base_models_are_told_apart_by_what_measures_them(tmp_path: Path) -> None:
    """Breaks if two rewards share a base model, or two lambdas need one each."""
    configs = [
        configuration(strength=1.0),
        configuration(strength=10.0, validation={"every": 1, "prompts": 3}),
        configuration(reward={"_target_": "soc_ft.rewards.clip.ClipReward"}),
    ]
    for number, config in enumerate(configs):
        write_run(tmp_path / f"s/{number}", [f"job={number}"], config=config)
    keys = [setting.base_key for setting in group_by_setting(runs_in(tmp_path / "s"))]
    assert keys[0] == keys[1] != keys[2]
