"""What the command lines share: Hydra's entry point with one-line errors."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from soc_ft.config.hydra_errors import one_line
from soc_ft.errors import ConfigError, SocFtError
from soc_ft.files import conf_dir, remove_if_empty
from soc_ft.sweeps.local import LocalLauncher
from soc_ft.sweeps.slurm import SlurmLauncher

Task = Callable[[DictConfig], Any]


def run_command(task: Task, config_name: str, folder: str = ".") -> None:
    """Compose ``config_name`` from the command line and call ``task`` with it.

    ``folder`` below conf/ is where groups are looked for: a command with a key of a group's name,
    such as ``prompts``, keeps its configuration apart from the groups.

    Errors meant for the user are printed as one line; the process then exits with 2 for a wrong
    configuration and with 1 for a run that failed. Anything else keeps its traceback.
    """
    # Hydra otherwise prints errors itself, over several lines, and exits.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _register_launchers()
    main = hydra.main(
        version_base="1.3", config_path=str(conf_dir() / folder), config_name=config_name
    )
    try:
        main(_exiting(task))()
    except (HydraException, OmegaConfBaseException) as error:
        command = "soc_ft" if config_name == "config" else f"soc_ft.{config_name}"
        _exit(2, one_line(error, lambda _: f" (see python -m {command} --cfg job for all keys)"))
    except (SocFtError, OSError) as error:
        _exit_for(error)


def _register_launchers() -> None:
    """Let Hydra use the launchers of ``conf/hydra/launcher``.

    It takes launchers from the package ``hydra_plugins`` alone, so they get a second name there.
    """
    module = types.ModuleType("hydra_plugins.soc_ft")
    for launcher in (LocalLauncher, SlurmLauncher):
        launcher.__module__ = module.__name__
        setattr(module, launcher.__name__, launcher)
        Plugins.instance().register(launcher)
    sys.modules[module.__name__] = module


def _exiting(task: Task) -> Task:
    """Exit with one line where Hydra would first print the overrides; a sweep goes on."""

    def wrapped(config: DictConfig) -> Any:
        try:
            return task(config)
        except (SocFtError, OSError) as error:
            settings = HydraConfig.get()
            if isinstance(error, ConfigError):
                remove_if_empty(Path(settings.runtime.output_dir))
            if settings.mode == RunMode.MULTIRUN:
                raise
            _exit_for(error)

    return wrapped


def _exit_for(error: SocFtError | OSError) -> NoReturn:
    line = _os_line(error) if isinstance(error, OSError) else str(error)
    _exit(2 if isinstance(error, ConfigError) else 1, line)


def _exit(code: int, line: str) -> NoReturn:
    print(f"soc_ft: error: {line}", file=sys.stderr)
    sys.exit(code)


def _os_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
