"""The shipped files: complete, small, safe, and as good as the model card says."""

from __future__ import annotations

import torch

from soc_ft.world import ASSETS, DIFFUSION, JUDGE, STUDENT, drawing, scenes
from soc_ft.world.judge import ShapesJudge
from soc_ft.world.quality import Setting, accuracies, best_of, sample_images

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".pkl"}


def test_shipped_weights_are_small_and_safe() -> None:
    """Breaks if the package grows over 20 MB, or ships a format that runs code when loaded."""
    shipped = [path for path in ASSETS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in shipped) <= 20_000_000
    assert {path.suffix for path in shipped} & WEIGHTS == {".safetensors"}


def test_shipped_prompts_are_the_generators() -> None:
    """Breaks if the prompt files drift from the generator, or validation leaks into training."""
    for name, prompts in (
        ("train", scenes.training_prompts(256, 0)),
        ("validation", scenes.validation_prompts(64, 0)),
    ):
        assert (ASSETS / "prompts" / f"{name}.txt").read_text().splitlines() == prompts


def test_judge_knows_the_generator() -> None:
    """Breaks if the ground truth itself cannot be trusted on clean pictures."""
    pictures, _, drawn = drawing.sample(256, 123)
    truth = torch.tensor([scenes.labels(scene) for scene in drawn])
    right = ShapesJudge.load(JUDGE).predict(torch.from_numpy(pictures)) == truth
    assert right.float().mean(dim=0).min() > 0.95


def test_pipeline_draws_what_prompts_say() -> None:
    """Breaks if a shipped part is damaged, mismatched or loaded with wrong settings."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(DIFFUSION, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    truth = scenes.prompt_scenes(24, 5)
    claims = torch.tensor([scenes.mentioned_labels(scene, text) for text, scene in truth.items()])
    setting = Setting("pretrained", guidance_scale=5.0, eta=0.0)
    images = sample_images(pipeline, list(truth), setting, steps=15, seed=0, batch_size=24)
    assert images.shape == (24, 3, 64, 64)
    assert 0.0 <= float(images.min()) <= float(images.max()) <= 1.0
    shares = accuracies(ShapesJudge.load(JUDGE).predict(images), claims)
    assert shares["color"] > 0.75
    assert shares["background"] > 0.85


def test_the_student_draws_in_two_steps_what_its_teacher_cannot() -> None:
    """Breaks if the student is damaged, was distilled at other noise levels than its scheduler's,
    or is not told the guidance scale: it would draw no better than the teacher in two steps."""
    from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline

    truth = scenes.prompt_scenes(48, 5)
    claims = torch.tensor([scenes.mentioned_labels(scene, text) for text, scene in truth.items()])
    judge = ShapesJudge.load(JUDGE)
    right = {}
    for kind, folder in (
        (LatentConsistencyModelPipeline, STUDENT),
        (StableDiffusionPipeline, DIFFUSION),
    ):
        pipeline = kind.from_pretrained(folder, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(
            list(truth),
            num_inference_steps=2,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        right[folder] = accuracies(judge.predict(images), claims)["color"]
    assert right[STUDENT] > 0.75
    assert right[STUDENT] > right[DIFFUSION] + 0.2


def test_the_best_of_several_is_the_one_that_the_reward_prefers() -> None:
    """Breaks if a later draw replaces a better one, or draws of another prompt are compared."""
    scores = torch.tensor([[1.0, 5.0], [3.0, 2.0], [2.0, 9.0]])

    def draw(number: int) -> torch.Tensor:
        return torch.full((2, 3, 1, 1), float(number))

    def score(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return scores[images[:, 0, 0, 0].long(), torch.arange(len(prompts))]

    best = best_of(score, draw, ["a", "b"], 3)
    assert best[:, 0, 0, 0].tolist() == [1.0, 2.0]


def test_accuracy_counts_only_what_the_prompt_mentions() -> None:
    """Breaks if an attribute left open counts as wrong, or dilutes the share of right ones."""
    predicted = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    claims = torch.tensor([[0, 0, -1, 1, 0], [0, 0, 0, -1, 0]])
    shares = accuracies(predicted, claims)
    assert shares["shape"] == shares["size"] == shares["background"] == 1.0
    assert shares["color"] == 0.5
    assert shares["position"] == shares["all"] == 0.0
