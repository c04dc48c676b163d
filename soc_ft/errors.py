"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations


class SocFtError(Exception):
    """Base of the errors that are printed as one line, without a traceback."""


class ConfigError(SocFtError):
    """The configuration or an input is wrong: says what, where, and what to do."""


class RunError(SocFtError):
    """The run cannot go on: says why and what is left on disk."""
