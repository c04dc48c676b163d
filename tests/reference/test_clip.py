"""CLIP score and aesthetic predictor against the original CLIP package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from soc_ft.rewards.aesthetic import Aesthetic
from soc_ft.rewards.clip import CLIPScore
from tests.reference.conftest import Answer, differences

pytestmark = [pytest.mark.reference, pytest.mark.timeout(3600)]

LAYERS = (2, 2)

TRANSFORMERS_NAMES = (
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre", "vision_model.pre_layrnorm"),
    ("visual.ln_post", "vision_model.post_layernorm"),
    ("visual.proj", "visual_projection.weight"),
    ("visual.transformer.resblocks", "vision_model.encoder.layers"),
    ("transformer.resblocks", "text_model.encoder.layers"),
    ("token_embedding", "text_model.embeddings.token_embedding"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final", "text_model.final_layer_norm"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.", "self_attn."),
)
"""Parts of names, replaced one after the other."""


def in_transformers_layout(original: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """CLIP's weights as transformers names them, with query, key and value apart."""
    for key, weight in original.items():
        name = key
        for theirs, ours in TRANSFORMERS_NAMES:
            name = name.replace(theirs, ours)
        if key == "text_projection":
            yield "text_projection.weight", weight.T.contiguous()
        elif key == "visual.proj":
            yield name, weight.T.contiguous()
        elif "in_proj_" in name:
            for part, rows in zip("qkv", weight.chunk(3), strict=True):
                yield name.replace("in_proj_", f"{part}_proj."), rows.contiguous()
        else:
            yield name, weight


@pytest.fixture(scope="module")
def weights(ask: Callable[[str], Answer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the original in the layout of transformers."""
    original = torch.load(ask("imagereward").folder / "clip.pt", weights_only=True)
    file = tmp_path_factory.mktemp("clip") / "model.safetensors"
    save_file(dict(in_transformers_layout(original)), file)
    return file


def test_clip_scores_are_those_of_the_original(ask: Callable[[str], Answer], weights: Path) -> None:
    """Breaks when the activation, the pooled token or the path of a picture is not CLIP's."""

    class Reduced(CLIPScore):
        layers = LAYERS

    found = differences(Reduced(weights=str(weights)), ask("imagereward"))
    assert found["score"] < 1e-6
    assert found["gradient"] < 1e-5
    assert found["pillow"] < 0.005


def test_aesthetic_scores_are_those_of_the_original(
    ask: Callable[[str], Answer], weights: Path
) -> None:
    """Breaks when the embedding is not normalised, or the head is not the official one."""

    class Reduced(Aesthetic):
        layers = LAYERS

    answer = ask("imagereward")
    reward = Reduced(weights=str(answer.folder / "aesthetic.pt"), clip_weights=str(weights))
    found = differences(reward, answer)
    assert found["score"] < 1e-6
    assert found["gradient"] < 1e-5
    assert found["pillow"] < 0.005


def test_prompts_are_read_as_by_the_original(ask: Callable[[str], Answer]) -> None:
    """Breaks when the tokenizer cleans, cuts or marks a prompt differently."""
    answer = ask("imagereward")
    tokens = open_clip.tokenize(answer.inputs["awkward"])
    assert torch.equal(tokens, answer.expected["clip"]["tokens"].long())
