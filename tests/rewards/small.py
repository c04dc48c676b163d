"""Rewards of one layer with random weights, loaded from files in the layout of the published ones.

What is left out is depth alone: widths, names, tokenizers, preprocessing and loading are real.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from soc_ft.rewards.aesthetic import Aesthetic
from soc_ft.rewards.clip import CLIPScore
from soc_ft.rewards.hpsv2 import HPSv2
from soc_ft.rewards.imagereward import ImageReward
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.networks import clip, hpsv2, imagereward
from soc_ft.rewards.networks.loading import key_in_clip
from soc_ft.rewards.pickscore import PickScore
from tests.rewards.inputs import randomise, vocabulary

LAYERS = (1, 1)


class SmallImageReward(ImageReward):
    layers = LAYERS


class SmallHPSv2(HPSv2):
    layers = LAYERS


class SmallPickScore(PickScore):
    layers = LAYERS


class SmallCLIPScore(CLIPScore):
    layers = LAYERS


class SmallAesthetic(Aesthetic):
    layers = LAYERS


def write_imagereward(folder: Path) -> dict[str, str]:
    """Arguments of a small ImageReward, whose files are in the folder."""
    network = imagereward.ImageRewardNetwork(*LAYERS)
    weights = published(network, imagereward.official_key)
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    weights["blip.text_proj.bias"] = torch.zeros(256)
    torch.save(weights, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text(vocabulary(), encoding="utf-8")
    return {"weights": str(folder / "ImageReward.pt"), "vocabulary": str(folder / "vocab.txt")}


def write_hpsv2(folder: Path) -> dict[str, str]:
    """Arguments of a small HPSv2, whose files are in the folder."""
    weights = published(hpsv2.HPSv2Network(*LAYERS), key_in_clip)
    torch.save({"epoch": 3, "state_dict": weights}, folder / "HPS_v2.1_compressed.pt")
    return {"weights": str(folder / "HPS_v2.1_compressed.pt")}


def write_pickscore(folder: Path) -> dict[str, str]:
    """Arguments of a small PickScore, whose files are in the folder."""
    weights = published(clip.vit_h_14(*LAYERS), key_in_clip)
    save_file(weights, folder / "model.safetensors")
    return {"weights": str(folder / "model.safetensors")}


def write_clip(folder: Path) -> dict[str, str]:
    """Arguments of a small CLIP score, whose files are in the folder."""
    weights = published(clip.vit_l_14(*LAYERS), key_in_clip)
    save_file(weights, folder / "model.safetensors")
    return {"weights": str(folder / "model.safetensors")}


def write_aesthetic(folder: Path) -> dict[str, str]:
    """Arguments of a small aesthetic predictor, whose files are in the folder."""
    head = clip.AestheticHead()
    torch.save(published(head, str), folder / "aesthetic-model.pth")
    return {
        "weights": str(folder / "aesthetic-model.pth"),
        "clip_weights": write_clip(folder)["weights"],
    }


def published(network: nn.Module, key_in_file: Callable[[str], str]) -> dict[str, Tensor]:
    """Random weights of a network under the names of the published file."""
    randomise(network)
    return {key_in_file(name): weight for name, weight in network.state_dict().items()}


SMALL: dict[str, tuple[type[NetworkReward], Callable[[Path], dict[str, str]]]] = {
    "imagereward": (SmallImageReward, write_imagereward),
    "hpsv2": (SmallHPSv2, write_hpsv2),
    "pickscore": (SmallPickScore, write_pickscore),
    "clip": (SmallCLIPScore, write_clip),
    "aesthetic": (SmallAesthetic, write_aesthetic),
}
"""Class and writer of its files, by the name of the option ``reward=``."""
