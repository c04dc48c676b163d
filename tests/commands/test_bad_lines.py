"""Wrong command lines of every command, in this process: one line, exit code 2, nothing left."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from soc_ft.commands.main import main
from soc_ft.config.checks import resolved
from tests.conftest import TINY, composed, write_weights

QUICK = "experiment=quickstart"
BASE = "evaluate model={option:shapes} prompts=[a] metrics=[shapes] tracking=none"


STRANGERS = (
    ("calls", "finetune", {"_target_": "subprocess.getoutput", "cmd": "touch witness"}),
    ("loads", "finetune", {"_target_": "torch.load", "f": "x", "weights_only": False}),
    ("alias", "finetune", {"_target_": "soc_ft.files.os"}),
    (
        "nested",
        "model",
        {"_target_": "soc_ft.models.loading.load_model", "x": {"_target_": "os.x"}},
    ),
    ("given", "reward", {"_target_": "soc_ft.rewards.function.FunctionReward", "function": "os.x"}),
)
"""Folders whose configuration has a section that names code."""


@cache
def _tiny() -> dict[str, Any]:
    own = ("reward._target_=soc_ft.rewards.shapes.ShapesReward", "~reward.scale")
    return resolved(composed(*TINY, *own))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of which the check sees all that it needs, and what looks like one."""
    run = tmp_path / "good"
    (run / "checkpoints").mkdir(parents=True)
    write_weights(run / "checkpoints" / "last.ckpt")
    OmegaConf.save(_tiny(), run / "config.yaml")
    for name, section, change in STRANGERS:
        folder = tmp_path / name
        folder.mkdir()
        OmegaConf.save(_tiny() | {section: change}, folder / "config.yaml")
    (tmp_path / "file").touch()
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    write_weights(tmp_path / "empty" / "checkpoints" / "last.ckpt")
    (tmp_path / "empty" / "config.yaml").touch()
    (tmp_path / "nowhere").symlink_to("nothing")
    (tmp_path / "own" / "reward").mkdir(parents=True)
    (tmp_path / "own" / "reward" / "mine.yaml").touch()
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "metadata.jsonl").write_text('{"file_name": "../file", "prompt": "a"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        # keys and options, at every level
        ("lamda=10", "lamda: unknown key; did you mean lambda?"),
        ("trainer.batchsize=4", "did you mean trainer.batch_size?"),
        ("finetune=lora finetune.rnk=3", "did you mean finetune.rank?"),
        ("reward=hpsv2 reward.versoin=v2.0", "did you mean reward.version?"),
        ("modle=shapes", "did you mean model?"),
        ("reward=hpsv3", "did you mean hpsv2?"),
        ("reward=null", "reward=null: choose an option"),
        ("model=3", "model=3: choose an option"),
        # the grammar of overrides, and flags
        (f"{QUICK} +experiment=quickstart", "experiment: is chosen twice"),
        ("l\u0430mbda=1", "no key has a '\u0430' in it, which is CYRILLIC SMALL LETTER A"),
        ("lambda=1,", "lambda=1,: a value is missing"),
        ("lambda=1,10", "lambda=1,10: several values are the jobs of a sweep (-m)"),
        ("=3", "=3: has no key"),
        ("reward=shapes(", "reward=shapes(: cannot be read"),
        ("name='open", "name='open: cannot be read"),
        ("--experiment quickstart", "experiment=quickstart"),
        ("--lambda=3", "lambda=3"),
        ("-x", "-x: is no flag"),
        ("--cfg everything", "--cfg"),
        ("--help=3 lambda=1", "--help"),
        # folders
        (f"{QUICK} run_dir=", "run_dir='': string should have"),
        (f"{QUICK} run_dir=file", "run_dir=file: is a file"),
        (f"{QUICK} run_dir=file/x", "run_dir=file/x: is a file, or lies below one"),
        (f"{QUICK} prompts=file", "prompts.train: has no value"),
        (f"{QUICK} trainer.accelerator=gpu", "trainer.accelerator=gpu: there is no GPU"),
        # what nobody may read in a log
        (f"{QUICK} tracking.uri=ftp://me:secret@host", "tracking.uri=ftp://host: is no address"),
        # other commands
        ("sample", "run: has no value"),
        ("sample run=file", "run=file: "),
        ("sample run=good prompts=[", "prompts=[: is no list"),
        ("sample run=good num_steps=5000", "num_steps=5000"),
        ("sample run=good device=gpu", "device=gpu: choose cpu"),
        ("sample run=good sampels_per_prompt=3", "did you mean samples_per_prompt?"),
        ("sample run=good samples_per_prompt=0", "samples_per_prompt=0"),
        ("sample run=calls", "trust=[subprocess.getoutput]"),
        ("sample run=loads", "trust=[torch.load]"),
        ("sample run=alias", "is a module and no fine-tuning mode"),
        ("sample run=nested", "trust=[os.x]"),
        ("evaluate run=calls", "trust=[subprocess.getoutput]"),
        ("evaluate run=given", "reward.function=os.x"),
        (f"{BASE} metrics=[{{_target_:os.system}}]", "is a function and no metric"),
        (f"{BASE} metrics=[mina] --config-dir own", "did you mean mine?"),
        (f"{BASE} metrics=[mina] hydra.searchpath=[file://own]", "did you mean mine?"),
        (f"{BASE} device=cud", "device=cud"),
        (f"{BASE} output=file/x", "output=file/x: "),
        ("sample run=good output=file", "output=file: "),
        (
            f"-m {QUICK} run_dir=x seed=0,1",
            "run_dir=x: each job of a sweep has a folder",
        ),
        (f"{QUICK} model.path=random:nope", "model.path=random:nope: no such architecture"),
        (f"{QUICK} finetune.init=empty", "config.yaml: holds no keys"),
        ("sample run=good output=nowhere/x", "nowhere is a link that leads nowhere"),
        (f"-m {QUICK} lamda=1,2", "did you mean lambda?"),
        ("evaluate images=imgs metrics=[shapes]", "../file lies outside imgs"),
        ("bench bench.steps=0", "bench.steps=0: must be greater than or equal to 1"),
        ("bench bench.steps=x", "bench.steps=x: must be a valid integer"),
        (f"bench -m {QUICK} seed=0,1", "-m: makes the jobs of a sweep"),
        (f"{QUICK} -m seed=0,x", "job 1 (seed=x): seed=x: must be a valid integer"),
        ("bench bench.stepz=1", "did you mean bench.steps?"),
        ("report", "the following arguments are required: sweep"),
        ("report good --ouput x", "--ouput"),
        ("weights lamda=1", "did you mean lambda?"),
        (f"weights {QUICK} model.path=/nowhere", "model.path=/nowhere"),
    ],
)
def test_a_wrong_line_is_answered_with_one(
    line: str,
    words: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Breaks when a mistake ends in a traceback, several lines, files, or code that is run."""
    before = sorted(here.rglob("*"))
    monkeypatch.setattr("soc_ft.config.machine.visible_gpus", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["soc-ft", *line.split(" ")])
    GlobalHydra.instance().clear()
    try:
        with pytest.raises(SystemExit) as exited:
            main()
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    said = capsys.readouterr().err
    assert said.startswith("soc_ft: error: ")
    assert said.count("\n") == 1
    assert words in said
    assert exited.value.code == 2
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "train",
            [
                "hydra/launcher: local, slurm",
                "sweep: cfg, feedback, lambda",
                "cfg_mode: full, none",
            ],
        ),
        ("bench", ["finetune: full, lora, offset", "evaluations: 20"]),
        ("evaluate", ["metrics: aesthetic", "prompts: animals, default", "samples_per_prompt: 2"]),
        ("sample", ["samples_per_prompt: 4", "checkpoint: last       # last, best"]),
        ("weights", ["reward: aesthetic", "soc-ft weights reward=hpsv2"]),
    ],
)
def test_help_lists_what_can_be_used_there(
    command: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Breaks when a command's help is Hydra's, or leaves out the groups or keys that it takes."""
    monkeypatch.setattr(sys, "argv", ["soc-ft", command, "--help"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    main()
    text = capsys.readouterr().out
    for word in words:
        assert word in text
    assert "$" not in text.replace("$(soc-ft", "").replace("${", "")
    assert ("sweep: " in text) == (command == "train")
