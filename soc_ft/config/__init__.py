"""Composition and validation of configurations, without heavy imports."""

from soc_ft.config.checks import check, parse
from soc_ft.config.resume import check_resume
from soc_ft.config.schema import Run

__all__ = ["Run", "check", "check_resume", "parse"]
