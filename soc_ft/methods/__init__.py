"""Fine-tuning methods: each one file.

A method of your own derives from :class:`Method`; nothing else has to change.
"""

from soc_ft.methods.base import Anchor, Batch, Experience, Method, Needs, Request, Round, Terms

__all__ = ["Anchor", "Batch", "Experience", "Method", "Needs", "Request", "Round", "Terms"]
