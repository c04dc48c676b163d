"""ImageReward (Xu et al. 2023, https://arxiv.org/abs/2304.05977) on the BLIP of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from soc_ft.errors import ConfigError
from soc_ft.rewards.networks.clip import linear_head
from soc_ft.rewards.networks.loading import ScoringNetwork
from soc_ft.rewards.networks.pixels import at_least_float32, crop_centre, normalise

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw scores, measured by the authors."""

MAX_TOKENS = 35
BERT_VOCABULARY = 30522
"""Entries of bert-base-uncased, to which BLIP adds two."""

IGNORED = r"blip\.(vision|text)_proj\.(weight|bias)|.*\.position_ids"
"""Keys of the published weights that the score does not use."""

_OFFICIAL_NAMES = (
    ("vision.embeddings.class_embedding", "blip.visual_encoder.cls_token"),
    ("vision.embeddings.position_embedding", "blip.visual_encoder.pos_embed"),
    ("vision.embeddings.patch_embedding", "blip.visual_encoder.patch_embed.proj"),
    ("vision.post_layernorm", "blip.visual_encoder.norm"),
    ("vision.encoder.layers", "blip.visual_encoder.blocks"),
    ("layer_norm", "norm"),
    ("self_attn.qkv", "attn.qkv"),
    ("self_attn.projection", "attn.proj"),
)


class ImageRewardNetwork(ScoringNetwork):
    """A vision transformer, a text encoder that attends to it, and a linear head."""

    tokenizer: BertTokenizer

    def __init__(self, vision_layers: int = 24, text_layers: int = 12) -> None:
        """Lay out the network; weights and tokenizer come from files.

        Args:
            vision_layers: depth of the picture part; by default that of the published weights.
            text_layers: depth of the text part, likewise.
        """
        super().__init__()
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=vision_layers,
                num_attention_heads=16,
                image_size=224,
                patch_size=16,
                layer_norm_eps=1e-6,
            )
        )
        # A decoder in its configuration only: without that it would have no cross-attention.
        self.text = BlipTextModel(
            BlipTextConfig(
                vocab_size=BERT_VOCABULARY + 2,
                num_hidden_layers=text_layers,
                num_attention_heads=12,
                encoder_hidden_size=1024,
                is_decoder=True,
            ),
            add_pooling_layer=False,
        )
        self.head = linear_head()

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) scores, standardised as published."""
        pixels = normalise(crop_centre(at_least_float32(images), 224))
        tokens = self.tokenize(prompts)
        weight = self.vision.embeddings.patch_embedding.weight
        seen = self.vision(pixel_values=pixels.to(weight.dtype)).last_hidden_state
        read = self.text(
            input_ids=tokens["input_ids"].to(weight.device),
            attention_mask=tokens["attention_mask"].to(weight.device),
            encoder_hidden_states=seen,
            is_decoder=False,
        ).last_hidden_state
        raw: Tensor = self.head(at_least_float32(read[:, 0])).squeeze(-1)
        return (raw - MEAN) / STD

    def tokenize(self, prompts: Sequence[str]) -> Mapping[str, Tensor]:
        """``input_ids`` and ``attention_mask``, each (B, 35)."""
        found: Mapping[str, Tensor] = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        return found


def official_key(name: str) -> str:
    """Name in the published weights of a weight of :class:`ImageRewardNetwork`."""
    if name.startswith("head."):
        return f"mlp.layers.{name.removeprefix('head.')}"
    if name.startswith("text."):
        return f"blip.text_encoder.{name.removeprefix('text.')}"
    for own, official in _OFFICIAL_NAMES:
        name = name.replace(own, official)
    return name


def load_tokenizer(vocabulary: Path, named: str) -> BertTokenizer:
    """The tokenizer of BLIP from a ``vocab.txt`` of bert-base-uncased.

    Args:
        vocabulary: the file.
        named: how error messages call it.

    Raises:
        ConfigError: the file is not that vocabulary.
    """
    try:
        words = vocabulary.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{named}: {vocabulary} is not a text file ({error})") from error
    entries = {word: index for index, word in enumerate(words) if word}
    if len(entries) != BERT_VOCABULARY or "[CLS]" not in entries:
        raise ConfigError(
            f"{named}: {vocabulary} has {len(entries)} entries; the vocabulary of "
            f"bert-base-uncased has {BERT_VOCABULARY}, one a line"
        )
    tokenizer = BertTokenizer(vocab=entries)
    # BLIP's own marks; a prompt may hold them literally.
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]})
    return tokenizer
