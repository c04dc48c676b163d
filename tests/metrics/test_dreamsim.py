"""DreamSim embeddings against ``dreamsim()`` itself, from a folder in its own layout."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from soc_ft.errors import ConfigError
from soc_ft.metrics.dreamsim import CACHE_VARIABLE, DreamSimEmbedding

HUB_CODE = """
import os, torch
from dreamsim.feature_extraction import vision_transformer

def dino_vitb16(pretrained=True):
    model = vision_transformer.vit_base(patch_size=16)
    path = os.path.join(torch.hub.get_dir(), "checkpoints", "dino_vitbase16_pretrain.pth")
    model.load_state_dict(torch.load(path, weights_only=True))
    return model
"""


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve layers as in the published networks, but 48 channels instead of 768."""
    from dreamsim.feature_extraction import (
        load_clip_as_dino,
        load_open_clip_as_dino,
        vision_transformer,
    )

    def small(patch_size: int = 16) -> torch.nn.Module:
        return vision_transformer.VisionTransformer(
            patch_size=patch_size,
            embed_dim=48,
            num_heads=3,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )

    for module in (vision_transformer, load_clip_as_dino, load_open_clip_as_dino):
        monkeypatch.setattr(module, "vit_base", small)


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    """Put back what ``dreamsim()`` changes for the whole process."""
    folder = torch.hub.get_dir()
    yield
    torch.hub.set_dir(folder)
    for name in ("hubconf", "utils"):
        sys.modules.pop(name, None)


def random_state(network: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v + 0.05 * torch.randn_like(v) for k, v in network.state_dict().items()}


def write_cache(folder: Path) -> Path:
    """Random weights of the ensemble under the names of the published files."""
    from dreamsim import PerceptualModel
    from dreamsim.config import dreamsim_args
    from dreamsim.feature_extraction import vision_transformer
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "facebookresearch_dino_main").mkdir()
    (folder / "facebookresearch_dino_main" / "hubconf.py").write_text(HUB_CODE)
    backbone = vision_transformer.vit_base(patch_size=16)
    torch.save(random_state(backbone), folder / "checkpoints" / "dino_vitbase16_pretrain.pth")
    head = vision_transformer.DINOHead(8, 8).state_dict() | {"last_layer.weight": torch.zeros(8, 8)}
    student = {f"module.head.{name}": tensor for name, tensor in head.items()}
    torch.save({"student": student}, folder / "dino_vitb16_pretrain.pth")
    for name in ("clip", "open_clip"):
        network = vision_transformer.vit_base(patch_size=16)
        network.pos_drop = torch.nn.LayerNorm(network.embed_dim)
        projection = torch.randn(network.embed_dim, 2 * network.embed_dim // 3)
        state = random_state(network) | {"proj": projection}
        torch.save({"state_dict": state}, folder / f"{name}_vitb16_pretrain.pth.tar")
    settings = dreamsim_args["model_config"]["ensemble"]
    model = PerceptualModel(**settings, device="cpu", load_dir=str(folder))
    config = LoraConfig(r=4, lora_alpha=2, lora_dropout=0.3, target_modules=["qkv"])
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(folder / "ensemble_lora"))
    return folder


def compare(cache: Path) -> tuple[Tensor, Tensor]:
    """Embeddings of pictures of several sizes by ``dreamsim()`` and by ours."""
    from dreamsim import dreamsim

    official, preprocess = dreamsim(device="cpu", cache_dir=str(cache))
    ours = DreamSimEmbedding(str(cache))
    generator = np.random.default_rng(1)
    theirs, mine = [], []
    for size in ((64, 64), (300, 200)):
        small = generator.integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
        pictures = [Image.fromarray(array).resize(size) for array in small]
        theirs.append(official.embed(torch.cat([preprocess(picture) for picture in pictures])))
        mine.append(ours(torch.stack([to_tensor(picture) for picture in pictures])))
    return torch.cat(theirs), torch.cat(mine)


@pytest.mark.usefixtures("small_networks")
def test_embeddings_equal_those_of_the_official_package(tmp_path: Path) -> None:
    """Breaks when a backbone, the adapter, the preprocessing or the normalisation differs."""
    theirs, mine = compare(write_cache(tmp_path / "cache"))
    assert theirs.std(dim=0).max() > 0.01, "the pictures must not look alike to the networks"
    assert (theirs - mine).abs().max() < 1e-6
    torch.testing.assert_close(mine.norm(dim=1), torch.ones(4))


@pytest.mark.slow
def test_embeddings_at_full_size_equal_those_of_the_official_package(tmp_path: Path) -> None:
    """Breaks when the published sizes do not go through our loader."""
    theirs, mine = compare(write_cache(tmp_path / "cache"))
    assert mine.shape == (4, 768 + 2 * 512)
    assert (theirs - mine).abs().max() < 1e-6


@pytest.mark.usefixtures("small_networks")
def test_loading_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """Breaks when loading moves the folder of torch.hub, warns, or stays patched."""
    from dreamsim.feature_extraction.extractor import ViTExtractor

    cache = write_cache(tmp_path / "cache")
    torch.hub.set_dir("elsewhere")
    sys.modules.pop("hubconf", None)
    original = ViTExtractor.create_model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DreamSimEmbedding(str(cache))
    assert torch.hub.get_dir() == "elsewhere"
    assert "hubconf" not in sys.modules
    assert ViTExtractor.create_model is original


@pytest.mark.usefixtures("small_networks")
def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    """Breaks when a truncated download ends in a traceback of torch."""
    cache = write_cache(tmp_path / "cache")
    file = cache / "clip_vitb16_pretrain.pth.tar"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cache: does not hold") as caught:
        DreamSimEmbedding(str(cache))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when the folder is not looked for where it is said to be."""
    with pytest.raises(ConfigError, match=r"metrics\.x\.cache=.*dino_vitbase16.*cache_dir="):
        DreamSimEmbedding.check_arguments({"cache": str(tmp_path)}, "metrics.x")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "variable"))
    with pytest.raises(ConfigError, match="variable"):
        DreamSimEmbedding.check_arguments({})
