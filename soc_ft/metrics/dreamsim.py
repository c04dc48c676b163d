"""Image embedding of DreamSim, in which the diversity of any pictures is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from soc_ft.errors import ConfigError, MissingFile, MissingWeights
from soc_ft.files import unreadable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CACHE_VARIABLE = "DREAMSIM_CACHE"
BACKBONE = "dino_vitb16"
BACKBONE_WEIGHTS = "checkpoints/dino_vitbase16_pretrain.pth"
ADAPTER = "ensemble_lora"
FILES = (
    BACKBONE_WEIGHTS,
    "clip_vitb16_pretrain.pth.tar",
    "open_clip_vitb16_pretrain.pth.tar",
    f"{ADAPTER}/adapter_config.json",
)
"""What the ensemble needs of the folder that ``dreamsim()`` fills."""


class DreamSimEmbedding:
    """Embedding of the DreamSim ensemble (Fu et al. 2023), as ``dreamsim()`` of its package.

    The squared distance of two embeddings is twice their DreamSim distance.
    """

    name = "dreamsim"
    embeds = True

    def __init__(self, cache: str | None = None) -> None:
        """Load the ensemble, which takes seconds.

        Args:
            cache: folder that ``dreamsim(cache_dir=...)`` has filled; None takes the environment's
                ``DREAMSIM_CACHE``, or else ``~/.cache/dreamsim``.

        Raises:
            ConfigError: the folder lacks a file, or one of them does not hold the ensemble's
                weights.
        """
        self.check_arguments({"cache": cache})
        folder = cache_folder(cache)
        try:
            self._model = _load(folder)
        except Exception as error:  # torch, pickle and PEFT raise a dozen unrelated types
            raise ConfigError(
                f"{folder}: does not hold the weights of DreamSim's ensemble ({unreadable(error)})"
            ) from error

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str = "metrics") -> None:
        """Check that the files are there, without importing torch.

        Args:
            arguments: of the constructor.
            key: of the metric in the configuration.

        Raises:
            ConfigError: names the missing file and says how to get it.
        """
        folder = cache_folder(arguments.get("cache"))
        for name in FILES:
            if not (folder / name).is_file():
                filling = f"from dreamsim import dreamsim; dreamsim(cache_dir='{folder}')"
                missing = MissingFile(
                    f"{key}.cache={folder}",
                    f'python -c "{filling}"',
                    f"{key}.cache=/folder, {CACHE_VARIABLE}=/folder",
                )
                raise MissingWeights(f"the folder {folder} has no {name}", [missing])

    @classmethod
    def download(cls, arguments: Mapping[str, Any]) -> None:
        """Let dreamsim fill the folder; arguments as of the constructor."""
        from dreamsim import dreamsim

        dreamsim(device="cpu", cache_dir=str(cache_folder(arguments.get("cache"))))

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to a device."""
        self._model.to(device)
        for extractor in self._model.extractor_list:
            extractor.device = device  # its projections are no parameters of the module
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1] as (B, D) vectors of unit L2 norm.

        They are rounded to 8 bits and squashed to DreamSim's square by PIL, as the package does.
        """
        import torch
        from dreamsim.config import dreamsim_args
        from PIL import Image
        from torchvision.transforms.functional import to_pil_image, to_tensor

        size = (dreamsim_args["img_size"], dreamsim_args["img_size"])
        pictures = [to_pil_image((image * 255).round().to(torch.uint8).cpu()) for image in images]
        squares = [to_tensor(each.resize(size, Image.Resampling.BICUBIC)) for each in pictures]
        return self._model.embed(torch.stack(squares).to(images.device))


def cache_folder(given: str | None) -> Path:
    """The folder with the weights."""
    return Path(given or os.environ.get(CACHE_VARIABLE) or "~/.cache/dreamsim").expanduser()


def _load(folder: Path) -> Any:
    """The ensemble, frozen, on the CPU.

    ``dreamsim()`` itself would fetch code for the backbone, move the global folder of torch.hub,
    and attach a second adapter that it then overwrites.
    """
    from dreamsim import PerceptualModel
    from dreamsim.config import dreamsim_args
    from peft import PeftModel

    settings = dreamsim_args["model_config"]["ensemble"]
    with _local_backbone(folder):
        model = PerceptualModel(
            **settings, normalize_embeds=True, device="cpu", load_dir=str(folder)
        )
    adapted = PeftModel.from_pretrained(model, str(folder / ADAPTER))
    return adapted.eval().requires_grad_(False)


@contextmanager
def _local_backbone(folder: Path) -> Iterator[None]:
    """Let dreamsim take the DINO backbone from ``folder`` instead of torch.hub."""
    import torch
    from dreamsim.feature_extraction import vision_transformer
    from dreamsim.feature_extraction.extractor import ViTExtractor

    original = ViTExtractor.create_model

    def create(model_type: str, load_dir: str) -> Any:
        if model_type != BACKBONE:
            return original(model_type, load_dir)
        backbone = vision_transformer.vit_base(patch_size=16)
        backbone.load_state_dict(torch.load(folder / BACKBONE_WEIGHTS, weights_only=True))
        return backbone

    ViTExtractor.create_model = staticmethod(create)
    try:
        yield
    finally:
        ViTExtractor.create_model = staticmethod(original)
