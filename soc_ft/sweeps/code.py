"""The copy of the code that the jobs of a sweep run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from soc_ft.files import PACKAGE, conf_dir, replace_file
from soc_ft.layout import CODE_FOLDERS, CODE_TAGS_FILE
from soc_ft.records.provenance import git_tags


def snapshot_code(sweep: Path) -> Path:
    """Copy the package and its configuration, so that a job that waits runs what was submitted.

    Returns:
        The folder of the copy below the sweep's, to be searched before all others.
    """
    code = sweep / f"{CODE_FOLDERS}{len(list(sweep.glob(f'{CODE_FOLDERS}*'))) + 1}"
    ignored = shutil.ignore_patterns("__pycache__", "conf")
    shutil.copytree(PACKAGE, code / PACKAGE.name, ignore=ignored)
    shutil.copytree(conf_dir(), code / "conf")
    replace_file(code / CODE_TAGS_FILE, json.dumps(git_tags(PACKAGE)).encode())
    return code


def job_environment(code: Path, cwd: str) -> dict[str, str]:
    """Variables that make a Python process import the copy.

    The current folder, which ``python -m`` would search first, comes last: in a clone it holds the
    package itself, elsewhere perhaps a person's own rewards.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [os.path.join(cwd, path) for path in given if path]
    return {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([str(code), *others, cwd]),
    }
