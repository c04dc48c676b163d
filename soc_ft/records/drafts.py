"""Drafts in a run folder, which a killed process leaves beside the files that it was replacing."""

from __future__ import annotations

from pathlib import Path

from soc_ft.files import remove_drafts
from soc_ft.layout import (
    BASE_PICTURES,
    BUFFER_FOLDER,
    CHECKPOINT_FOLDER,
    CHOICES_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    JOURNAL_FILE,
    LATEST_PICTURES,
    OVERRIDES_FILE,
    RESULTS_FILE,
    RUN_LOCK,
    SAMPLE_FOLDER,
    STATISTICS_FILE,
)

_FILES = (
    *(CONFIG_FILE, OVERRIDES_FILE, CHOICES_FILE),
    *(JOURNAL_FILE, RESULTS_FILE, STATISTICS_FILE, CURVES_FILE, RUN_LOCK),
)


def remove_drafts_of_run(folder: Path) -> None:
    """Remove those of the files that training alone writes; for the holder of the folder's lock."""
    for name in _FILES:
        remove_drafts(folder, name)
    checkpoints, samples = folder / CHECKPOINT_FOLDER, folder / SAMPLE_FOLDER
    for below in (
        checkpoints,
        checkpoints / BUFFER_FOLDER,
        samples,
        samples / BASE_PICTURES,
        samples / LATEST_PICTURES,
    ):
        remove_drafts(below)
