"""The CLIP of transformers, and the scores that are computed with it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from soc_ft.rewards.networks.loading import ScoringNetwork, key_in_clip, load_frozen
from soc_ft.rewards.networks.pixels import at_least_float32, crop_centre, normalise
from soc_ft.rewards.weights import WeightFile

MAX_TOKENS = 77


class Embedder(nn.Module):
    """CLIP with its preprocessing."""

    def __init__(
        self,
        config: CLIPConfig,
        tokenize: Callable[[Sequence[str]], Tensor],
        rounding: Callable[[float], int] = round,
    ) -> None:
        """Lay out CLIP; the weights come from a file.

        Args:
            config: architecture.
            tokenize: prompts -> (B, L) token ids.
            rounding: of half a pixel where the centre is cut out.
        """
        super().__init__()
        self.clip = CLIPModel(config)
        self.tokenize = tokenize
        self.rounding = rounding

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, D) L2-normalised embeddings of pictures (B, 3, H, W) in [0, 1]."""
        pixels = normalise(crop_centre(at_least_float32(images), 224, self.rounding))
        pixels = pixels.to(self.clip.visual_projection.weight.dtype)
        embedding = self.clip.get_image_features(pixel_values=pixels).pooler_output
        return F.normalize(at_least_float32(embedding), dim=-1)

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """(B, D) L2-normalised embeddings of prompts."""
        tokens = self.tokenize(prompts).to(self.clip.text_projection.weight.device)
        embedding = self.clip.get_text_features(input_ids=tokens).pooler_output
        return F.normalize(at_least_float32(embedding), dim=-1)


class CosineNetwork(ScoringNetwork):
    """Cosine of the embeddings of picture and prompt."""

    def __init__(self, embedder: Embedder, scaled: bool) -> None:
        """Score with an embedder.

        Args:
            embedder: CLIP.
            scaled: multiply by CLIP's learned scale.
        """
        super().__init__()
        self.embedder = embedder
        self.scaled = scaled

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) scores."""
        text = self.embedder.embed_text(prompts)
        cosine = (self.embedder.embed_images(images) * text).sum(dim=-1)
        return self.embedder.clip.logit_scale.exp() * cosine if self.scaled else cosine


class ImageEmbeddingNetwork(ScoringNetwork):
    """The embedding of the picture itself."""

    def __init__(self, embedder: Embedder) -> None:
        """Embed with an embedder."""
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, D) L2-normalised embeddings; the prompts do not matter."""
        return self.embedder.embed_images(images)


class AestheticNetwork(ScoringNetwork):
    """A linear head on the embedding of the picture."""

    def __init__(self, embedder: Embedder, head: nn.Module) -> None:
        """Put a head on an embedder.

        Args:
            embedder: CLIP ViT-L/14.
            head: (B, 768) embeddings -> (B, 1) scores, as :class:`AestheticHead`.
        """
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) scores; the prompts do not matter."""
        score: Tensor = self.head(self.embedder.embed_images(images)).squeeze(-1)
        return score


class AestheticHead(nn.Module):
    """The head alone, with the names of the published weights."""

    def __init__(self) -> None:
        """Lay out the layers; the weights come from a file."""
        super().__init__()
        self.layers = linear_head()

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, 768) -> (B, 1)."""
        score: Tensor = self.layers(embedding)
        return score


def linear_head(width: int = 768) -> nn.Sequential:
    """Five linear layers without activations, from an embedding to a score.

    The layers are numbered as in the published weights, where dropout, which does nothing outside
    training, has numbers of its own.
    """
    sizes = (width, 1024, 128, 64, 16, 1)
    layers = zip(("0", "2", "4", "6", "7"), pairwise(sizes), strict=True)
    return nn.Sequential(OrderedDict((name, nn.Linear(i, o)) for name, (i, o) in layers))


def vit_l_14(vision_layers: int = 24, text_layers: int = 12) -> Embedder:
    """OpenAI's CLIP ViT-L/14 with its original tokenizer."""
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    config = _config(768, "quick_gelu", text, vision, text_layers, vision_layers)
    return Embedder(config, open_clip.tokenize)


def load_vit_l_14(file: WeightFile, dtype: torch.dtype, layers: tuple[int, ...] = ()) -> Embedder:
    """OpenAI's CLIP ViT-L/14 with the weights of a file, frozen; the same one for every caller.

    Raises:
        ConfigError: the file is missing, cannot be read, or holds other weights.
    """
    return load_frozen(vit_l_14, file, dtype, layers=layers, key_in_file=key_in_clip)


def vit_h_14(vision_layers: int = 32, text_layers: int = 24) -> Embedder:
    """LAION's CLIP ViT-H/14 with the tokenizer and the image processor of transformers."""
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16}
    config = _config(1024, "gelu", text, vision, text_layers, vision_layers)
    return Embedder(config, tokenize_with_transformers, rounding=math.floor)


def tokenize_with_transformers(prompts: Sequence[str]) -> Tensor:
    """(B, 77) ids; they differ from the original tokenizer's on HTML entities and mojibake."""
    ids: Tensor = _transformers_tokenizer()(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )["input_ids"]
    return ids


@cache
def _transformers_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer from the vocabulary that open_clip ships: it is the same everywhere."""
    original = open_clip.tokenizer.SimpleTokenizer()
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {marks.get(token, token): index for token, index in original.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(original.bpe_ranks))


def _config(
    width: int,
    activation: str,
    text: dict[str, Any],
    vision: dict[str, Any],
    text_layers: int,
    vision_layers: int,
) -> CLIPConfig:
    shared = {"hidden_act": activation, "projection_dim": width}
    return CLIPConfig(
        projection_dim=width,
        text_config={**shared, **text, "num_hidden_layers": text_layers},
        vision_config={
            **shared,
            **vision,
            "num_hidden_layers": vision_layers,
            "image_size": 224,
            "patch_size": 14,
        },
    )
