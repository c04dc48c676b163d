"""Fine-tune text-to-image diffusion models on a reward by stochastic optimal control.

The Python API does what the commands do::

    import soc_ft

    def redness(images, prompts):  # (B, 3, H, W) in [0, 1] -> (B,)
        red, green, blue = images.unbind(dim=1)
        return (red - (green + blue) / 2).mean(dim=(1, 2))

    model = soc_ft.load_model("shapes", finetune="lora")
    run = soc_ft.fine_tune(model, redness, "experiment=quickstart", run_dir="runs/red")
    pictures = soc_ft.sample(model, ["a small blue circle on a white background"])
    print(soc_ft.evaluate(model, {"redness": redness}, ["a green square", "a blue star"]))

Importing the package imports nothing else; each name is imported when it is used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soc_ft.api import evaluate, fine_tune, load_model, sample
    from soc_ft.methods import Method, Needs
    from soc_ft.rewards.base import Reward

__version__ = "0.1.0"

__all__ = [
    "Method",
    "Needs",
    "Reward",
    "__version__",
    "evaluate",
    "fine_tune",
    "load_model",
    "sample",
]

_MODULES = {
    "api": ("evaluate", "fine_tune", "load_model", "sample"),
    "methods": ("Method", "Needs"),
    "rewards.base": ("Reward",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for.

    Raises:
        AttributeError: the API has nothing of this name.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """The API, and what is imported already."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps the API's names: the commands ``soc_ft.sample`` and ``soc_ft.evaluate`` share two."""

    def __setattr__(self, name: str, value: object) -> None:
        """Leave out what an import of such a module would set."""
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
