"""What every method must hold to; a new one is here by existing (see ``citizens``)."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from soc_ft.config import check, parse
from soc_ft.errors import ConfigError
from soc_ft.methods import Batch, Method
from soc_ft.training.collector import FINITE
from soc_ft.training.module import RewardFineTuning
from soc_ft.training.run import train
from tests.conftest import TINY, composed, curve, untrained
from tests.methods.citizens import citizens
from tests.trained import crash_at, largest_difference, weights

METHODS = citizens()
SHARED = (
    *(override for override in TINY if not override.startswith("method.")),
    "validation.every=100",
    "validation.at_end=false",
)
REPLAY = ("buffer=replay", "buffer.batches=2", "buffer.passes=2", "buffer.log_ess=false")
TWO_PASSES = ("buffer.batches=1", "trainer.steps=2")

every_method = pytest.mark.parametrize("name", METHODS)

KINDS = (
    "adjoint_matching",
    "ddpo",
    "reinforce",
    "draft",
    "sdpo",
    "best_of_group",
    "grouped_regression",
)
"""One of each way to collect and to learn; the others share theirs with one of these."""

every_kind = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in METHODS],
)
"""Every method too, where it takes whole runs."""


def configured(name: str, *overrides: str) -> DictConfig:
    return composed(*SHARED, *METHODS[name], "finetune=lora", *overrides)


def replayed(name: str) -> tuple[str, ...]:
    """Settings under which samples are used twice, weighted by what they are worth if possible."""
    needs = method_of(name).needs
    if needs.importance:
        return (*REPLAY, "buffer.importance=future")
    return REPLAY if needs.replay else ("buffer=on_policy",)


def trained(name: str, folder: Path, *overrides: str) -> RewardFineTuning:
    config = configured(name, *overrides)
    return train(config, check(config), folder)


def module_of(name: str, *overrides: str) -> RewardFineTuning:
    """What would train, without a trainer; the trained weights have moved a little."""
    config = configured(name, *overrides)
    module = untrained(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.model.trainable_parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    for anchor in module.method.needs.anchors:
        module.model.networks.refresh_anchor(anchor.name)
    module.prepare_buffer(rank=0, ranks=1)
    return module


def collected(module: RewardFineTuning, pass_index: int = 0) -> Batch:
    """All pairs of the first optimizer batch of a fresh round."""
    module.buffer.fill(0, module.collector.collect(module.buffer, 0))
    rows = module.buffer.rows(0, pass_index, 0)
    samples = module.collector.batch(module.buffer, 0, pass_index, rows, torch.device("cpu"))
    return module.pairs_of(samples, samples.tensors[FINITE].nonzero().flatten())


def method_of(name: str) -> Method:
    return parse(configured(name))[1]


@every_kind
def test_batch_sizes_change_nothing(name: str, tmp_path: Path) -> None:
    """Breaks when statistics are taken within a chunk, or noise is consumed, not addressed."""
    fields = type(method_of(name)).Config.model_fields
    free = [key for key in fields if not _changes_result(fields[key])]
    splits = []
    for size in (1, 4):
        sizes = [f"trainer.{key}={size}" for key in ("rollout_batch", "reward_batch")]
        sizes += [
            f"trainer.micro_batch={3 * size}",
            *(f"method.{key}={size}" for key in free),
        ]
        trained(name, tmp_path / str(size), *replayed(name), *sizes, *TWO_PASSES)
        splits.append(tmp_path / str(size))
    assert largest_difference(*map(weights, splits)) < 1e-4
    for (_, one), (_, four) in zip(*map(curve, splits), strict=True):
        assert one == pytest.approx(four, rel=1e-3, abs=1e-4)


def _changes_result(option: Any) -> bool:
    extra = option.json_schema_extra or {}
    metadata = [getattr(each, "json_schema_extra", None) or {} for each in option.metadata]
    return all(each.get("changes_result", True) for each in (extra, *metadata))


@every_kind
def test_a_crashed_run_resumes_bit_by_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when anything of a method, its anchors or its buffer is missing in a checkpoint."""
    steps = (*replayed(name), *TWO_PASSES, "trainer.steps=3", "trainer.checkpoint_every=1")
    trained(name, tmp_path / "undisturbed", *steps)
    with monkeypatch.context() as patch:
        crash_at(1, patch)  # in the second pass of the first round
        with pytest.raises(MemoryError):
            trained(name, tmp_path / "crashed", *steps)
    resumed = trained(name, tmp_path / "crashed", *steps)
    assert largest_difference(weights(tmp_path / "undisturbed"), weights(tmp_path / "crashed")) == 0
    assert curve(tmp_path / "undisturbed") == curve(tmp_path / "crashed")
    last = tmp_path / "undisturbed" / "checkpoints" / "last.ckpt"
    undisturbed = torch.load(last, weights_only=True)["soc_ft"]
    assert resumed.method.state_dict() == undisturbed["method"]
    for anchor, state in resumed.model.anchor_states().items():
        assert largest_difference(state, undisturbed["anchors"][anchor]) == 0


@every_method
def test_pairs_do_not_interact(name: str) -> None:
    """Breaks when the loss of a pair depends on its place, or on its micro-batch."""
    module = module_of(name)
    batch = collected(module)
    together = module.method.loss(module.problem, batch).loss.detach()
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    permuted = module.method.loss(module.problem, batch.select(order)).loss.detach()
    torch.testing.assert_close(permuted, together[order], rtol=1e-4, atol=1e-5)
    for pair in (0, len(batch) - 1):
        alone = module.method.loss(module.problem, batch.select(slice(pair, pair + 1))).loss
        torch.testing.assert_close(alone[0].detach(), together[pair], rtol=1e-4, atol=1e-5)


@every_method
def test_a_loss_can_be_asked_for_twice(name: str) -> None:
    """Breaks when a loss consumes randomness or changes its own state: a retry would differ."""
    module = module_of(name)
    batch = collected(module)
    first, second = (module.method.loss(module.problem, batch).loss for _ in range(2))
    assert torch.equal(first, second)


@every_method
def test_the_ratio_of_the_policy_that_sampled_is_one(name: str) -> None:
    """Breaks when the two sides of an importance ratio are different laws."""
    if not method_of(name).needs.importance:
        pytest.skip("the method gives no ratio")
    for mode in ("trajectories", "full"):
        module = module_of(name, f"cfg_mode={mode}", *REPLAY, WEIGHTED)
        batch = collected(module)
        assert module.method.log_ratio(module.problem, batch).abs().max() < 1e-3


@every_kind
def test_only_the_trained_weights_are_trained(name: str, tmp_path: Path) -> None:
    """Breaks when a gradient reaches the base model or an anchor, or an update does."""
    config = configured(name, "finetune=full", "trainer.steps=2", "trainer.lr=1e-3")
    fresh = untrained(config).model
    module = train(config, check(config), tmp_path / "run")
    own = {id(parameter) for parameter in module.model.trainable_parameters()}
    before = dict(fresh.named_parameters())
    for key, parameter in module.model.named_parameters():
        if id(parameter) in own:
            continue
        assert parameter.grad is None, key
        if ".anchors." not in key:
            assert torch.equal(parameter, before[key]), key
    assert largest_difference(module.model.trainable_state(), fresh.trainable_state()) > 0


@every_kind
def test_questions_and_evaluations_are_counted(name: str, tmp_path: Path) -> None:
    """Breaks when a method scores pictures or evaluates networks behind the counters' backs."""
    from tests.scorers import Counting

    Counting.asked = Counting.differentiated = 0
    trained(name, tmp_path, "reward._target_=tests.scorers.Counting", "trainer.steps=2")
    records = [m for _, m in curve(tmp_path) if "train/reward_queries" in m]
    tried = 2  # pictures, before the model loads
    validated = 2 * 2  # prompts and pictures of each, of the base model
    assert sum(m["train/reward_queries"] for m in records) == Counting.asked - validated - tried > 0
    assert all(m["train/evaluations_forward"] > 0 for m in records)
    assert all(m["train/evaluations_backward"] > 0 for m in records)
    assert bool(Counting.differentiated) == method_of(name).needs.reward_gradient


@every_kind
def test_what_it_needs_is_asked_for(name: str) -> None:
    """Breaks when a configuration that cannot work is found out after the model has loaded."""
    needs = method_of(name).needs
    asked: list[tuple[bool, tuple[str, ...], str]] = [
        (needs.memoryless, ("scheduler.eta=0.5",), "needs eta >= 1"),
        (needs.denoiser, ("model.distilled=few_step",), "needs the velocity field"),
        (needs.noise or needs.memoryless, ("scheduler.eta=0.0",), "needs eta >"),
        (needs.reward_gradient, ("~reward.scale", NO_GRADIENT), "has no gradient"),
        (not needs.replay, ("buffer.passes=2",), "uses its samples once"),
        (not needs.replay, ("buffer.batches=2",), "uses its samples once"),
        (not needs.importance, (*REPLAY, WEIGHTED), "gives no importance ratio"),
        (needs.group_size > 1, ("trainer.batch_size=5",), f"groups of {needs.group_size}"),
    ]
    for refused, overrides, words in asked:
        if refused:
            with pytest.raises(ConfigError, match=words):
                check(configured(name, *overrides))
        else:
            check(configured(name, *overrides))


NO_GRADIENT = "reward._target_=soc_ft.rewards.jpeg.JPEGCompressibility"
WEIGHTED = "buffer.importance=step"


@every_method
def test_its_options_are_checked(name: str) -> None:
    """Breaks when a method's own options are not, whoever wrote it."""
    with pytest.raises(ConfigError, match=r"^method\.beat: unknown key"):
        check(configured(name, "+method.beat=1"))
    whole = configured(name)
    for option, field in type(method_of(name)).Config.model_fields.items():
        assert field.description, f"{option} says nothing"
        config = copy.deepcopy(whole)
        with open_dict(config):
            OmegaConf.update(config, f"method.{option}", "nonsense")
        with pytest.raises(ConfigError, match=rf"^method\.{option}=nonsense: "):
            check(config)


@every_method
def test_it_is_checked_before_torch_is_imported(name: str) -> None:
    """Breaks when a method's file imports torch: a wrong option would be answered seconds later."""
    target = parse(configured(name))[0].method.target
    if not target.startswith("soc_ft."):
        pytest.skip("a person's own file may do as it likes")
    module, _, method = target.rpartition(".")
    script = f"import sys; from {module} import {method}; {method}(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("adjoint_matching",), id="adjoint_matching"),
        pytest.param(KINDS[1:], id="others", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_every_kind_as_one_does(
    names: tuple[str, ...], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Breaks when ranks repeat noise or prompts, or statistics or gradients are not global."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.methods.two_processes", str(tmp_path), *names],
            env=os.environ
            | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2", "RANK": str(rank)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    for name in names:
        alone = tmp_path_factory.mktemp(name)
        trained(name, alone, *replayed(name), *TWO_PASSES)
        both = tmp_path / name
        uncounted = {"train/evaluations_forward", "train/evaluations_backward"}
        for (_, one), (_, two) in zip(curve(alone), curve(both), strict=True):
            for key in one.keys() - uncounted:
                assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), (name, key)
        assert largest_difference(weights(alone), weights(both)) < 1e-4
