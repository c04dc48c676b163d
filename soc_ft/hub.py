"""The Hugging Face hub: what is cached and what can be downloaded, without heavy imports."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass

HUB_TIMEOUT = 2.0
"""Seconds to wait for the hub's answer."""


@dataclass
class _Silence:
    """A hub that did not answer is not asked again for a moment: a check has many files."""

    reason: str | None = None
    until: float = 0.0

    def begin(self, reason: str | None) -> None:
        self.reason, self.until = reason, time.monotonic() + HUB_TIMEOUT


_silence = _Silence()


def is_hub_id(text: str) -> bool:
    """Whether a text has the form owner/name."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) is not None


def obstacle(repository: str, filename: str, revision: str | None) -> str | None:
    """Say, within seconds, why a file cannot be downloaded; None if it can."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return "and HF_HUB_OFFLINE forbids downloading"
    if time.monotonic() < _silence.until:
        return _silence.reason
    answer = f"and the hub did not answer within {HUB_TIMEOUT:g} seconds"
    found: list[str | None] = []

    def ask() -> None:
        url = hf_hub_url(repository, filename, revision=revision)
        try:
            get_hf_file_metadata(url, token=None, timeout=HUB_TIMEOUT)
            found.append(None)
        except HfHubHTTPError as error:
            found.append(f"and the hub refuses it ({type(error).__name__})")
        except Exception as error:
            found.append(f"and the hub cannot be reached ({type(error).__name__})")
            _silence.begin(found[0])

    # Resolving a host name has no timeout of its own, hence the thread.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    if not found:
        _silence.begin(answer)
    return found[0] if found else answer
