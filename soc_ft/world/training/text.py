"""The tokenizer and the text encoder that the diffusion model and the reward start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soc_ft.world import scenes

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import CLIPTextConfig, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(config: DictConfig, folder: Path) -> CLIPTokenizer:
    """Learn byte-pair merges on captions and write Stable Diffusion's tokenizer folder.

    The folder holds ``vocab.json`` and ``merges.txt`` besides the ``tokenizer.json`` that
    ``save_pretrained`` writes, so that older libraries read it too.
    """
    from tokenizers import trainers
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=config.text.vocabulary,
        special_tokens=[START, END],
        initial_alphabet=_byte_alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_captions(config), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    learned = CLIPTokenizer(
        vocab=model["vocab"], merges=merges, model_max_length=config.text.max_length
    )
    learned.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def tokenizer_of(config: DictConfig, output_dir: Path) -> CLIPTokenizer:
    """The run's tokenizer, learned on the first call."""
    from transformers import CLIPTokenizer

    folder = output_dir / "tokenizer"
    if (folder / "merges.txt").exists():
        return CLIPTokenizer.from_pretrained(folder)
    return train_tokenizer(config, folder)


def text_config(config: DictConfig, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Architecture of the small text encoders."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.text.hidden,
        intermediate_size=4 * config.text.hidden,
        num_hidden_layers=config.text.layers,
        num_attention_heads=config.text.heads,
        projection_dim=config.text.hidden,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _captions(config: DictConfig) -> list[str]:
    rng = np.random.default_rng((config.seed, 4))
    drawn = (scenes.sample_scene(rng) for _ in range(config.text.captions))
    return [scenes.caption(scene, rng, complete=rng.random() < 0.8) for scene in drawn]


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
