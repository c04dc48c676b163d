"""What the command lines share: Hydra's entry point with our help and one-line errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import types
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.plugin import Plugin
from hydra.types import RunMode
from omegaconf import DictConfig

from soc_ft.commands.completion import own_folders
from soc_ft.commands.help import help_of
from soc_ft.commands.texts import quote_texts
from soc_ft.config.hydra_errors import closest_key, one_line
from soc_ft.errors import AwaitingAnswers, ConfigError, Interrupted, SocFtError
from soc_ft.files import conf_dir, reason, remove_if_empty
from soc_ft.processes import ending_in_one_line
from soc_ft.records.provenance import without_password
from soc_ft.reporting.callback import SweepReport
from soc_ft.sweeps.launcher import forget
from soc_ft.sweeps.local import LocalLauncher
from soc_ft.sweeps.slurm import SlurmLauncher

Task = Callable[[DictConfig], Any]

HELP = {"--help", "-h"}
INFORMATION = {*HELP, "--cfg", "-c", "--info", "-i", "--hydra-help"}
"""Flags that print and run nothing."""
MULTIRUN = {"--multirun", "-m"}
FOLDERS = ("run_dir", "hydra.run.dir", "hydra.sweep.dir", "output", "store")
"""Keys that name a folder to write to."""


def run_command(
    task: Task, config_name: str, folder: str = ".", texts: Collection[str] = ()
) -> None:
    """Compose ``config_name`` from the command line and call ``task`` with it.

    ``folder`` below conf/ is where groups are looked for: a command with a key of a group's name,
    such as ``prompts``, keeps its configuration apart from the groups. Values of the keys ``texts``
    need no quotation marks.

    Errors meant for the user are printed as one line; the process then exits with 2 for a wrong
    configuration, with 1 for a run that failed, with 75 for one that waits for people, and with 128
    + its number for a signal that ended it. Anything else keeps its traceback.
    """
    arguments = sys.argv[1:]
    if INFORMATION & set(arguments):
        # As other programs that print: who closes the pipe has read enough.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if HELP & set(arguments):
        print(help_of(config_name, folder, arguments), end="")
        return
    # Hydra otherwise prints errors itself, over several lines, and exits.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    started: list[bool] = []
    try:
        _check_flags(arguments, sweeps=config_name == "config")
        sys.argv[1:] = quote_texts(_flags_last(arguments), texts)
        _register_plugins()
        main = hydra.main(
            version_base="1.3", config_path=str(conf_dir() / folder), config_name=config_name
        )
        with ending_in_one_line():
            main(_exiting(task, started))()
    except Exception as error:
        composing = not started and (isinstance(error, HydraException) or not _is_ours(error))
        if composing:  # some of Hydra's are OSErrors
            if SweepReport.begun is not None:
                forget(SweepReport.begun)
            advice = _advice(config_name, folder, arguments)
            _exit(2, one_line(error, _overrides(arguments), advice))
        if not _is_ours(error):
            raise
        _exit_for(error)


def _is_ours(error: Exception) -> bool:
    return isinstance(error, SocFtError | OSError)


def _check_flags(arguments: Sequence[str], sweeps: bool) -> None:
    """Refuse flags that are not Hydra's, of which it would guess the rest.

    Args:
        arguments: of the command line.
        sweeps: whether the command can be a job of a sweep.

    Raises:
        ConfigError: says how the key is written that was meant.
    """
    parser = get_args_parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-") or flag in known or (flag[:2] in known and flag[1] != "-"):
            continue
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if not equals:
            value = following if following and "=" not in following else "VALUE"
        key = flag.lstrip("-").replace("-", "_")
        raise ConfigError(f"{flag}: is no flag; keys are written without dashes: {key}={value}")
    if not sweeps and MULTIRUN & set(arguments):
        raise ConfigError("-m: makes the jobs of a sweep of python -m soc_ft alone; leave it out")
    parser.exit_on_error = False
    try:
        parser.parse_known_args([each for each in arguments if each != "--version"])
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from None


def _flags_last(arguments: Sequence[str]) -> list[str]:
    """The same, with the flags behind the overrides: argparse takes no overrides on both sides."""
    parsed, behind = get_args_parser().parse_known_args(list(arguments))
    overrides = [*parsed.overrides, *behind]
    flags = list(arguments)
    for each in overrides:
        flags.remove(each)
    return [*overrides, *flags]


def _overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments that are no flags."""
    return [each for each in arguments if "=" in each and not each.startswith("-")]


def _advice(config_name: str, folder: str, arguments: Sequence[str]) -> Callable[[str], str]:
    """What to say of a key that does not exist."""
    command = "soc_ft" if config_name == "config" else f"soc_ft.{config_name}"

    def said(key: str) -> str:
        hint = closest_key(key, config_name, folder, _overrides(arguments), own_folders(arguments))
        return hint or f" (see python -m {command} --cfg job for all keys)"

    return said


def _register_plugins() -> None:
    """Let Hydra use the launchers of ``conf/hydra/launcher`` and the sweeper that suits them.

    It takes plugins from the package ``hydra_plugins`` alone, so they get a second name there.
    """
    registry = Plugins.instance()
    from soc_ft.sweeps.sweeper import Sweeper

    module = types.ModuleType("hydra_plugins.soc_ft")
    plugins: tuple[type[Plugin], ...] = (LocalLauncher, SlurmLauncher, Sweeper)
    for plugin in plugins:
        plugin.__module__ = module.__name__
        setattr(module, plugin.__name__, plugin)
        registry.register(plugin)
    sys.modules[module.__name__] = module


def _exiting(task: Task, started: list[bool]) -> Task:
    """Exit with one line where Hydra would first print the overrides; a sweep goes on.

    ``started`` is no longer empty when the configuration is composed.
    """

    def wrapped(config: DictConfig) -> Any:
        started.append(True)
        try:
            return task(config)
        except (KeyboardInterrupt, Interrupted):
            remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
            raise
        except (SocFtError, OSError) as error:
            settings = HydraConfig.get()
            if isinstance(error, ConfigError):
                remove_if_empty(Path(settings.runtime.output_dir))
            if settings.mode == RunMode.MULTIRUN:
                raise
            _exit_for(error)

    return wrapped


def _exit_for(error: Exception) -> NoReturn:
    if isinstance(error, AwaitingAnswers):
        print(f"soc_ft: {error}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    line = _os_line(error) if isinstance(error, OSError) else str(error)
    _exit(2 if isinstance(error, ConfigError | FileExistsError | NotADirectoryError) else 1, line)


def _exit(code: int, line: str) -> NoReturn:
    print(f"soc_ft: error: {without_password(line)}", file=sys.stderr)
    sys.exit(code)


def _os_line(error: OSError) -> str:
    """What the system says of a file, with the key that names it if it was typed."""
    where = f"{error.filename}: " if error.filename else ""
    for override in _overrides(sys.argv[1:]):
        key, _, value = override.lstrip("+").partition("=")
        if error.filename and key in FOLDERS and _is_below(str(error.filename), value):
            where = f"{key}={value}: "
    said = reason(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        said = "is a file, or lies below one; name a folder"
    return f"{where}{said}"


def _is_below(file: str, folder: str) -> bool:
    return Path(file).absolute().is_relative_to(Path(folder).absolute())
