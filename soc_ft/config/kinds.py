"""What each part of a configuration may be built from.

A ``_target_`` names code that is called, so it may not be just anything: a class has to be of the
kind that its key asks for, by its base class or by what it has, and a function has to be marked
(``soc_ft.options.builds``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soc_ft.feedback import Feedback
from soc_ft.methods import Method
from soc_ft.options import built_by


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Attributes:
        name: how messages call it.
        like: what to derive a class from, or to model it on.
        has: names that a class of it has.
        base: class that it must be derived from.
        supplied: arguments that the program gives, and a configuration may not.
    """

    name: str
    like: str
    has: tuple[str, ...] = ()
    base: type | None = None
    supplied: frozenset[str] = frozenset()

    def objection(self, found: Any) -> str | None:
        """Why something is not of this kind; None if it is."""
        if not inspect.isclass(found):
            if inspect.isroutine(found) and built_by(found) == self.name:
                return None
            what = "a function" if inspect.isroutine(found) else f"a {type(found).__name__}"
            return f"is {what} and no {self.name}; give a class like {self.like}"
        if self.base is not None and not issubclass(found, self.base):
            return f"is no {self.name}; derive it from {self.like}"
        abstract = sorted(getattr(found, "__abstractmethods__", ()))
        lacking = abstract or [name for name in self.has if not _has(found, name)]
        if lacking:
            return f"is no {self.name}, it lacks {', '.join(lacking)}; see {self.like}"
        return None


def _has(found: type, name: str) -> bool:
    if name == "__call__":  # every class has that of its metaclass
        return issubclass(found, Callable)  # type: ignore[arg-type]
    return hasattr(found, name)


METHOD = Kind("method", "soc_ft.methods.Method", base=Method)
FEEDBACK = Kind("feedback", "soc_ft.feedback.Feedback", base=Feedback)
FEATURES = Kind("features", "soc_ft.feedback.features.ShapesFeatures", has=("__call__", "to"))
REWARD = Kind("reward", "soc_ft.Reward", has=("__call__", "to", "name", "differentiable"))
METRIC = Kind("metric", "soc_ft.Reward", has=("__call__", "to"))
EMBEDDING = Kind(
    "embedding", "soc_ft.metrics.world.ShapesEmbedding", has=("__call__", "to", "embeds")
)
FINETUNE = Kind("fine-tuning mode", "soc_ft.models.finetune.LoRA", has=("attach",))
MODEL = Kind(
    "model",
    "soc_ft.models.loading.load_model",
    supplied=frozenset({"finetune", "scheduler"}),
)
TRACKER = Kind(
    "tracker",
    "soc_ft.tracking.mlflow_tracker.MLflowTracker",
    has=("start", "notify", "upload", "end", "flush", "close"),
)
