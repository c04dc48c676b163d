"""Every wrong configuration is answered by one line that says what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.records.identity import check_resume
from tests.conftest import TINY, composed


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(composed(*TINY, *overrides))
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["lambda=0"], ["lambda", "0", "greater than 0"]),
        (["lambda=-3"], ["lambda", "-3", "greater than 0"]),
        (["lambda=nan"], ["lambda", "nan", "finite"]),
        (["lambda=inf"], ["lambda", "inf", "finite"]),
        (["lambda=much"], ["lambda", "much", "number"]),
        (["scheduler.eta=0.5"], ["scheduler.eta", "0.5", "eta >= 1"]),
        (["method.regression_steps=7"], ["method.regression_steps", "7", "scheduler.num_steps=4"]),
        (["method.regression_steps=0"], ["method.regression_steps", "0"]),
        (["method.adjoint_at=both"], ["method.adjoint_at", "both", "current"]),
        (["method.prompt_dropout=1.5"], ["method.prompt_dropout", "1.5"]),
        (["trainer.batch_size=5", "trainer.devices=2"], ["trainer.batch_size", "5", "2"]),
        (["trainer.batch_size=2.5"], ["trainer.batch_size", "2.5"]),
        (["trainer.lr=0"], ["trainer.lr", "0"]),
        (["trainer.precision=16-mixed"], ["trainer.precision", "16-mixed"]),
        (["+trainer.epochs=3"], ["trainer.epochs", "unknown key"]),
        (["+method.temperature=3"], ["method.temperature", "unknown key"]),
        (["+finetune.rank=3"], ["finetune.rank"]),
        (["finetune=lora", "finetune.rank=0"], ["finetune.rank", "0"]),
        (["buffer.importance=step"], ["buffer.importance=step", "buffer=replay"]),
        (["+reward.scal=3"], ["reward.scal", "did you mean scale"]),
        (["reward._target_=tests.scorers.Greenness"], ["Greenness", "cannot be imported"]),
        (["model.path=/nowhere"], ["model.path", "/nowhere", "experiment=quickstart"]),
        (["seed=-1"], ["seed", "-1"]),
        ([f"seed={2**63}"], ["seed", str(2**63)]),
    ],
)
def test_wrong_values_are_named(overrides: list[str], words: list[str]) -> None:
    """Breaks when a key loses its range, or when the line no longer says which key it is."""
    line = refused(*overrides)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("raise SystemExit('bye')", "cannot be imported (SystemExit: bye)"),
        ("1 / 0", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("Own = 3", "is a int and no reward; give a class"),
        ("class Own:\n    name = 'own'", "is no reward, it lacks __call__, to"),
    ],
)
def test_a_module_that_holds_no_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: str
) -> None:
    """Breaks when what a person's own module does, or lacks, ends the check without a line."""
    (tmp_path / "own_module.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_module", raising=False)
    line = refused("reward._target_=own_module.Own")
    assert line.startswith("reward._target_=own_module.Own: ")
    assert words in line


def test_a_reward_without_gradient_is_refused_for_a_method_that_needs_it() -> None:
    """Breaks when the refusal waits for the first backward pass."""
    config = composed("prompts=shapes", "model.path=random:tiny", "reward=jpeg_compressibility")
    with pytest.raises(ConfigError) as caught:
        check(config)
    line = str(caught.value)
    assert "jpeg_compressibility" in line
    assert "AdjointMatching" in line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", "", ["no prompts"]),
        ("bad.jsonl", '{"prompt": "a"}\n{"prompt": 3}\n', ["line 2"]),
        ("bad.json", "[", ["line 1"]),
    ],
)
def test_prompt_files_are_read_before_anything_loads(
    tmp_path: Path, name: str, content: str, words: list[str]
) -> None:
    """Breaks when a prompt file is first opened after the model has loaded."""
    file = tmp_path / name
    file.write_text(content)
    line = refused(f"prompts.train={file}")
    assert str(file) in line
    for word in words:
        assert word in line


def test_a_valid_configuration_is_typed() -> None:
    """Breaks when the schema and the shipped YAML drift apart."""
    run = check(composed(*TINY))
    assert run.lambda_ == 100
    assert run.trainer.betas == (0.9, 0.95)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    """Breaks when a run folder is gone on with under settings that change the result."""
    from omegaconf import OmegaConf

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    OmegaConf.save(composed(*TINY), tmp_path / "config.yaml", resolve=True)

    check_resume(composed(*TINY, "trainer.steps=9", "trainer.devices=2"), tmp_path)
    falling = ("trainer.schedule=linear", "trainer.steps=9")
    with pytest.raises(ConfigError, match=r"trainer\.schedule .* trainer\.steps \(4 in the"):
        check_resume(composed(*TINY, *falling), tmp_path)
    check_resume(composed(*TINY, "lambda=3", "resume=never"), tmp_path)
    with pytest.raises(ConfigError, match=r"lambda \(100\.?0? in the checkpoint, 3"):
        check_resume(composed(*TINY, "lambda=3"), tmp_path)


def test_base_rewards_are_looked_at_before_anything_loads(tmp_path: Path) -> None:
    """Breaks if a file of another kind is noticed only once the model has been loaded."""
    other = tmp_path / "weights.safetensors"
    for content, said in (
        (b"nothing", "no safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{}", "no rewards"),
    ):
        other.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^validation\.base_rewards=.*{said}"):
            check(composed(*TINY, f"validation.base_rewards={other}"))
