"""Training of the embedded model: every stage runs, resumes exactly and writes what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from omegaconf import DictConfig
from torch import Tensor, nn

from soc_ft.errors import ConfigError, RunError
from soc_ft.models.random_weights import random_pipeline
from soc_ft.world import scenes
from soc_ft.world.judge import ShapesJudge
from soc_ft.world.scorer import ShapesScorer
from soc_ft.world.training.__main__ import run
from soc_ft.world.training.contrastive import draw_texts, is_true
from soc_ft.world.training.diffusion import loss_weights, noise_scheduler
from soc_ft.world.training.loop import LoopConfig, train
from soc_ft.world.training.preferences import scene_utility
from soc_ft.world.training.student import Levels, student_of

LOOP = LoopConfig(
    steps=6,
    lr=0.1,
    lr_factors=((0, 0.5), (1, 1.0)),
    weight_decay=0.0,
    ema=0.9,
    clip=1.0,
    save_every=2,
)


def test_all_stages_run_and_write_loadable_models(tiny_config: DictConfig, tmp_path: Path) -> None:
    """Breaks if a stage does not fit the one before it, or writes what its reader refuses."""
    from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline

    config = tiny_config.copy()
    config.output_dir = str(tmp_path)
    run(config)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    tokenizer = {path.name for path in (tmp_path / "pipeline" / "tokenizer").iterdir()}
    assert tokenizer >= {"vocab.json", "merges.txt", "tokenizer.json"}
    assert pipeline.vae.config.scaling_factor > 0.0
    student = LatentConsistencyModelPipeline.from_pretrained(
        tmp_path / "student", dtype=torch.float32
    )
    student.set_progress_bar_config(disable=True)
    images = student("a red star", num_inference_steps=1, output_type="np").images
    assert images.shape == (1, 64, 64, 3)
    ShapesJudge.load(tmp_path / "judge")
    scorer = ShapesScorer.load(tmp_path / "reward")
    assert scorer.std > 0.0
    assert not list(tmp_path.rglob("*.partial"))
    written = [p for name in ("pipeline", "student") for p in (tmp_path / name).rglob("*.json")]
    assert not [path for path in written if str(tmp_path) in path.read_text()], "names a machine"


def test_a_later_stage_names_the_one_that_is_missing(
    tiny_config: DictConfig, tmp_path: Path
) -> None:
    """Breaks if a stage started too early fails with a traceback from a library."""
    config = tiny_config.copy()
    config.output_dir = str(tmp_path)
    for stage, needed in (
        ("diffusion", "vae"),
        ("student", "diffusion"),
        ("judge", "vae"),
        ("reward", "diffusion"),
    ):
        config.stage = stage
        with pytest.raises(RunError, match=f"stage={needed}"):
            run(config)
    config.stage = "unet"
    with pytest.raises(ConfigError, match="stage=unet"):
        run(config)


def test_a_student_starts_as_its_teacher_whatever_it_is_told() -> None:
    """Breaks if distillation starts from other weights, or the guidance scale disturbs at once."""
    teacher = random_pipeline("tiny").unet.eval()
    student = student_of(teacher, 8).eval()
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([7.0, 900.0]), torch.randn(2, 5, 32)
    told = torch.randn(2, 8)
    with torch.no_grad():
        of_student = student(x, t, text, timestep_cond=told).sample
        torch.testing.assert_close(of_student, teacher(x, t, text).sample)


def test_levels_of_the_student_are_those_of_its_scheduler() -> None:
    """Breaks if the student is distilled at other times than it is sampled at, or its last target
    is not a latent with next to no noise."""
    scheduler = LCMScheduler(original_inference_steps=10)
    levels = Levels(scheduler)
    scheduler.set_timesteps(10)
    assert levels.consistency.times.tolist() == levels.teacher.times.tolist()
    assert levels.consistency.times.tolist() == scheduler.timesteps.tolist()
    clean = torch.randn(2, 3, dtype=torch.float64)
    noise = torch.randn(2, 3, dtype=torch.float64)
    for k in range(10):
        x = levels.consistency.noised(k, clean, noise)
        after = levels.teacher.mean(k, x, noise)
        last = k == 9
        level = scheduler.alphas_cumprod[0].double() if last else None
        expected = (
            level.sqrt() * clean + (1 - level).sqrt() * noise
            if level is not None
            else levels.consistency.noised(k + 1, clean, noise)
        )
        torch.testing.assert_close(after, expected, atol=1e-6, rtol=1e-6)


def test_an_interrupted_training_resumes_exactly(tmp_path: Path) -> None:
    """Breaks if weights, optimiser, average or step are lost or replayed after a kill."""

    def fit(path: Path, die_at: int | None = None) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss(step: int) -> tuple[Tensor, dict[str, float]]:
            if step == die_at:
                raise KeyboardInterrupt
            inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            return model(inputs).square().mean(), {}

        train(model, loss, LOOP, path)
        return model.weight.detach()

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a.pt", die_at=5)
    assert torch.equal(fit(tmp_path / "a.pt"), fit(tmp_path / "b.pt"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """Breaks if changing the architecture ends in a traceback, or silently starts over."""
    small, large = nn.Linear(1, 1), nn.Linear(2, 1)
    train(small, lambda _: (small.weight.sum(), {}), LOOP, tmp_path / "model.pt")
    with pytest.raises(RunError, match="another model"):
        train(large, lambda _: (large.weight.sum(), {}), LOOP, tmp_path / "model.pt")


def test_learning_rate_follows_its_factors() -> None:
    """Breaks if a step before the first or after the last pair fails, or a jump comes late."""
    loop = replace(LOOP, lr_factors=((1, 0.5), (3, 1.0), (5, 0.8), (5, 1.0), (10, 0.0)))
    factors = [loop.lr_factor(step) for step in (0, 1, 2, 3, 4, 5, 6, 10, 11)]
    assert factors == pytest.approx([0.5, 0.5, 0.75, 1.0, 0.9, 1.0, 0.8, 0.0, 0.0])


def test_a_claim_left_open_is_true_of_every_picture() -> None:
    """Breaks if contrastive positives confuse what is claimed with what is left open."""
    truth = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 1, 3, 4]])
    claims = torch.tensor([[0, 1, -1, -1, 4], [0, 1, 2, -1, 4], [1, 1, -1, -1, 4]])
    assert is_true(claims, truth).tolist() == [[True, True, False], [True, False, False]]


def test_the_near_miss_is_the_caption_with_one_false_word() -> None:
    """Breaks if a negative is true of its picture, or if it differs in more than one word."""
    rng = np.random.default_rng(3)
    drawn = [scenes.sample_scene(rng) for _ in range(50)]
    texts, claims = draw_texts(drawn, rng)
    truth = torch.tensor([scenes.labels(scene) for scene in drawn])
    holds = is_true(torch.tensor(claims), truth)
    for row in range(len(drawn)):
        caption, wrong, _ = claims[3 * row : 3 * row + 3]
        assert holds[row, 3 * row : 3 * row + 3].tolist() == [True, False, True]
        assert sum(a != b for a, b in zip(caption, wrong, strict=True)) == 1
        assert texts[3 * row] != texts[3 * row + 1]


def test_loss_weights_bound_the_error_of_the_clean_latents(tiny_config: DictConfig) -> None:
    """Breaks if the noisiest or the cleanest timesteps take over, or drop out of, the loss."""
    scheduler = noise_scheduler(tiny_config)
    signal = scheduler.alphas_cumprod
    on_clean = loss_weights(scheduler, 0.3, 5.0) * signal / (1.0 - signal)
    torch.testing.assert_close(on_clean[0], torch.tensor(5.0))
    torch.testing.assert_close(on_clean[-1], torch.tensor(0.3))
    assert (on_clean.diff() <= 1e-6).all()


def test_utility_prefers_truth_then_composition(tiny_config: DictConfig) -> None:
    """Breaks if the annotator punishes what was asked for, or fails to see what is wrong."""
    import numpy as np

    rng = np.random.default_rng(0)
    words = {"shape": "star", "color": "red", "background": "gray"}
    large = words | {"size": "large", "position": "center"}
    small = words | {"size": "small", "position": "left"}
    centred = scenes.sample_scene(rng, large, contrast=(1.0, 1.0))
    aside = scenes.sample_scene(rng, small, contrast=(1.0, 1.0))
    penalty = tiny_config.preferences.penalty

    def utility(scene: scenes.Scene, prompt_scene: scenes.Scene, share: float) -> float:
        prompt = scenes.caption(prompt_scene, rng, size_share=share, position_share=share)
        return scene_utility(scene, scenes.mentioned_labels(prompt_scene, prompt), penalty)

    assert utility(centred, centred, 0.0) > utility(aside, centred, 0.0)
    assert utility(aside, aside, 1.0) == 0.0
    assert utility(centred, aside, 1.0) == pytest.approx(-2 * penalty.wrong)
