"""Composition and validation of configurations, without heavy imports."""

from soc_ft.config.checks import check, parse
from soc_ft.config.schema import RunConfig

__all__ = ["RunConfig", "check", "parse"]
