"""The official side of the parity tests; runs in the environment of the official packages.

``python -m tests.reference.oracle SUBJECT FOLDER`` reads ``inputs.pt`` (see :class:`Inputs`) from a
folder, draws random weights for the official modules, and leaves there the weights as the authors
publish them and, as ``expected.pt``, what the modules make of the inputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tests.rewards.inputs import randomise

Score = Callable[[Tensor], Tensor]


class Inputs(TypedDict):
    """What both sides are given."""

    awkward: list[str]
    """Prompts to tokenize."""
    images: Tensor
    """(B, 3, 224, 224) in [0, 1], which no preprocessing resizes."""
    prompts: list[str]
    """B prompts."""
    pictures: list[Tensor]
    """(3, H, W) uint8, to be scored for the first prompt by way of Pillow."""


class Expected(TypedDict):
    """What the official module makes of it."""

    tokens: Tensor
    scores: Tensor
    gradient: Tensor
    pillow: Tensor
    """Scores of the pictures; empty where that would take too long."""


def scored(score: Score, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) scores and their gradient with respect to the images."""
    images = images.clone().requires_grad_()
    scores = score(images)
    return scores.detach(), torch.autograd.grad(scores.sum(), images)[0]


def imagereward(folder: Path, inputs: Inputs) -> dict[str, Expected]:
    """ImageReward in full; CLIP score and aesthetic score, of the same package, at two layers."""
    import transformers

    (folder / "config.json").write_text(
        json.dumps({"vocab_size": 30524, "add_cross_attention": True})
    )
    # The package asks the hub for the tokenizer.
    tokenizer = transformers.BertTokenizer(folder / "vocab.txt")
    transformers.BertTokenizer.from_pretrained = lambda _: tokenizer
    from ImageReward.ImageReward import ImageReward

    model = ImageReward(med_config=str(folder / "config.json"))
    freeze(model, folder / "ImageReward.pt")
    tokens, read = (
        model.blip.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
        )
        for prompts in (inputs["awkward"], inputs["prompts"])
    )
    normalise = model.preprocess.transforms[-1]
    scores, gradient = scored(
        lambda x: model.score_gard(read.input_ids, read.attention_mask, normalise(x))[:, 0],
        inputs["images"],
    )
    pillow = [model.score(inputs["prompts"][0], picture) for picture in opened(inputs)]
    found: Expected = {
        "tokens": tokens.input_ids,
        "scores": scores,
        "gradient": gradient,
        "pillow": torch.tensor(pillow),
    }
    return {"imagereward": found, **clip_scores(folder, inputs)}


def clip_scores(folder: Path, inputs: Inputs) -> dict[str, Expected]:
    """The scores that are computed with the original CLIP package."""
    import clip
    from ImageReward.models.AestheticScore import AestheticScore
    from ImageReward.models.CLIPScore import CLIPScore

    network = clip.model.CLIP(768, 224, 2, 1024, 14, 77, 49408, 768, 12, 2)
    freeze(network, folder / "clip.pt")
    preprocess = clip.clip._transform(224)
    clip.load = lambda *_, **__: (network, preprocess)  # instead of downloading
    tokens = clip.tokenize(inputs["awkward"], truncate=True)
    read = network.encode_text(clip.tokenize(inputs["prompts"], truncate=True))
    normalise = preprocess.transforms[-1]

    def embed(images: Tensor) -> Tensor:
        return F.normalize(network.encode_image(normalise(images)))

    files = []
    for i, picture in enumerate(opened(inputs)):
        files.append(str(folder / f"{i}.png"))
        picture.save(files[-1])
    aesthetic = AestheticScore(None)
    freeze(aesthetic.mlp, folder / "aesthetic.pt")
    found: dict[str, Expected] = {}
    for name, official, score in (
        ("clip", CLIPScore(None), lambda x: (embed(x) * F.normalize(read)).sum(dim=1)),
        ("aesthetic", aesthetic, lambda x: aesthetic.mlp(embed(x))[:, 0]),
    ):
        scores, gradient = scored(score, inputs["images"])
        pillow = [official.score(inputs["prompts"][0], file) for file in files]
        found[name] = {
            "tokens": tokens,
            "scores": scores,
            "gradient": gradient,
            "pillow": torch.tensor(pillow),
        }
    return found


def hpsv2(folder: Path, inputs: Inputs, layers: int | None = 3) -> dict[str, Expected]:
    """HPSv2 with so many layers a tower; None is the full size, at which no picture is scored."""
    # The package imports a drawing program by mistake, which asks for a display.
    sys.modules["turtle"] = ModuleType("turtle")
    sys.modules["turtle"].forward = None
    from hpsv2 import img_score
    from hpsv2.src.open_clip import factory, tokenize

    if layers is not None:
        for tower in ("vision_cfg", "text_cfg"):
            factory._MODEL_CONFIGS["ViT-H-14"][tower]["layers"] = layers
    create = img_score.create_model_and_transforms
    # The package downloads weights of LAION and then overwrites them.
    img_score.create_model_and_transforms = lambda name, _, **options: create(name, None, **options)
    img_score.initialize_model()
    model: Any = img_score.model_dict["model"]
    file = folder / "HPS_v2.1_compressed.pt"
    freeze(model, file, wrapped=True)
    normalise = img_score.model_dict["preprocess_val"].transforms[-1].normalize

    def score(images: Tensor) -> Tensor:
        found = model(normalise(images), tokenize(inputs["prompts"]))
        return (found["image_features"] @ found["text_features"].T).diagonal()

    scores, gradient = scored(score, inputs["images"])
    pillow = (
        [] if layers is None else img_score.score(opened(inputs), inputs["prompts"][0], cp=file)
    )
    return {
        "hpsv2": {
            "tokens": tokenize(inputs["awkward"]),
            "scores": scores,
            "gradient": gradient,
            "pillow": torch.tensor([float(value) for value in pillow]),
        }
    }


def freeze(network: nn.Module, file: Path, wrapped: bool = False) -> None:
    """Draw a network's weights, write them to a file, and freeze it."""
    randomise(network)
    weights = network.eval().requires_grad_(False).state_dict()
    torch.save({"state_dict": weights} if wrapped else weights, file)


def opened(inputs: Inputs) -> list[Image.Image]:
    """The pictures as Pillow's."""
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in inputs["pictures"]]


SUBJECTS: dict[str, Callable[[Path, Inputs], dict[str, Expected]]] = {
    "imagereward": imagereward,
    "hpsv2": hpsv2,
    "hpsv2-full": lambda folder, inputs: hpsv2(folder, inputs, layers=None),
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    subject, place = sys.argv[1], Path(sys.argv[2])
    given: Inputs = torch.load(place / "inputs.pt", weights_only=True)
    torch.save(SUBJECTS[subject](place, given), place / "expected.pt")
