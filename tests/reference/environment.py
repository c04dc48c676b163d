"""The environment of the official packages: ``python -m tests.reference.environment`` builds it.

They pin what excludes soc_ft's own dependencies, so they live in a virtual environment of their
own, made from the extra ``reference`` of pyproject.toml, and are only ever called in a process of
their own. ``SOC_FT_REFERENCE`` says where; the default is ``.venv-reference`` in the clone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from importlib.metadata import distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMP = "requirements.txt"
"""File in the environment that holds what it was built from, written last."""


def folder() -> Path:
    """Where the environment is or will be."""
    return Path(os.environ.get("SOC_FT_REFERENCE", ROOT / ".venv-reference"))


def python() -> Path:
    """Its interpreter."""
    return folder() / "bin" / "python"


def requirements() -> list[str]:
    """The extra ``reference``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"]["reference"])


def is_built() -> bool:
    """Whether it is complete, made from the present requirements, and its links lead somewhere."""
    stamp = folder() / STAMP
    current = stamp.is_file() and stamp.read_text().split() == requirements()
    return current and (packages() / "torch").exists()


def build() -> None:
    """Make the environment unless it is there.

    Raises:
        CalledProcessError: pip failed.
    """
    if is_built():
        return
    venv.create(folder(), clear=True, with_pip=True)
    _link_torch()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("\n".join(requirements()))
        pins.flush()
        # Three of the packages are built from source with a setuptools that still has
        # pkg_resources; the first variable says so to pip before 25.3, the second after it.
        environment = {**os.environ, "PIP_CONSTRAINT": pins.name, "PIP_BUILD_CONSTRAINT": pins.name}
        install = [python(), "-m", "pip", "install", "--quiet", *requirements()]
        subprocess.run(install, env=environment, check=True)
    # hpsv2 was published without the vocabulary that it reads; it is CLIP's own.
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(packages() / "clip" / vocabulary, packages() / "hpsv2/src/open_clip" / vocabulary)
    (folder() / STAMP).write_text("\n".join(requirements()) + "\n")


def packages() -> Path:
    """Where its packages are."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(folder())}))


def _link_torch() -> None:
    """Use this interpreter's torch where it is the wanted one: it is nearly all of the download.

    pip takes what is linked for installed, and removes no more than the links if it wants another.
    """
    if not {f"{name}=={version(name)}" for name in ("torch", "torchvision")} <= set(requirements()):
        return
    for distribution in distributions():
        if re.fullmatch(r"torch|torchvision|triton|(nvidia|cuda)\b.*", distribution.name):
            for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
                link = packages() / top
                if not link.is_symlink():
                    link.symlink_to(distribution.locate_file(top))


if __name__ == "__main__":
    try:
        build()
    except subprocess.CalledProcessError as error:
        sys.exit(f"the environment of the official packages cannot be built: {error}")
    print(folder())
