"""Types that options are declared with: ranges of numbers, and what is built from options."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Quantile = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
BatchSize = Annotated[int, Field(ge=1, strict=True, json_schema_extra={"changes_result": False})]
"""How much is computed together: it changes memory and speed, never a result."""
CountOrZero = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Component(BaseModel):
    """A section that is built by calling its ``_target_`` with its other keys."""

    model_config = ConfigDict(extra="allow")
    target: str = Field(alias="_target_", pattern=r"^\w+(\.\w+)+$")

    @property
    def arguments(self) -> dict[str, object]:
        """The other keys."""
        return dict(self.model_extra or {})
