"""Types that options are declared with: ranges of numbers, and what is built from options."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Value = TypeVar("Value")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Quantile = Annotated[float, Field(gt=0, le=1, strict=True)]
Decay = Annotated[float, Field(ge=0, lt=1, strict=True)]
"""What a moving average keeps of itself."""
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
"""What PyTorch takes, and YAML keeps as a number."""
WithoutEffect = Annotated[Value, Field(json_schema_extra={"changes_result": False})]
"""An option that never changes a result: where, how fast or in what memory it is computed, or what
is kept. It neither bars a resume nor is part of the configuration's hash."""
NeutralDefault = Annotated[Value, Field(json_schema_extra={"default_changes_result": False})]
"""An argument of a component that came later than the component: with its default a result is what
it was without the argument, and so are the configuration's hash and what may be resumed."""
BatchSize = WithoutEffect[Count]
"""How much is computed together: it changes memory and speed, never a result."""
Threads = Annotated[int, Field(ge=1, le=1024, strict=True)]
"""Of a process; PyTorch does not survive an absurd number of them."""
Steps = Annotated[int, Field(ge=1, le=1000, strict=True)]
"""Of a sampler: no more than the timesteps that every Stable Diffusion was trained with."""
Precision = Literal["float32", "bfloat16"]
"""Of weights that are not trained."""


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", value):
        raise ValueError("choose cpu, cuda, cuda:<number> or mps")
    return value


Device = Annotated[str, AfterValidator(_device)]
"""Where tensors are, by PyTorch's names."""

Built = TypeVar("Built", bound=Callable[..., object])
_MARK = "builds"


def builds(kind: str) -> Callable[[Built], Built]:
    """Mark a function as one that a ``_target_`` may name for what it builds, such as a model."""

    def mark(function: Built) -> Built:
        setattr(function, _MARK, kind)
        return function

    return mark


def built_by(function: object) -> str | None:
    """What a function that is marked with :func:`builds` builds."""
    return getattr(function, _MARK, None)


def listed(value: object) -> list[object]:
    """A list as it is, another value as a list of it, and nothing as an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def _dotted(value: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", value):
        raise ValueError("must be the dotted name of a class, such as module.Class")
    return value


class Component(BaseModel):
    """A section that is built by calling its ``_target_`` with its other keys."""

    model_config = ConfigDict(extra="allow")
    target: Annotated[str, AfterValidator(_dotted)] = Field(alias="_target_")

    @property
    def arguments(self) -> dict[str, object]:
        """The other keys."""
        return dict(self.model_extra or {})
