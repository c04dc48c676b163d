from __future__ import annotations

import os

import pytest


@pytest.fixture
def slurm_environment():
    return {**os.environ, "SLURM_CONF": "/tmp/myslurm/slurm.conf"}
