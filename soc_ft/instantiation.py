"""Building what a configuration names, with errors in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from soc_ft.errors import ConfigError, SocFtError


def build(component: Mapping[str, Any], key: str, **more: Any) -> Any:
    """What the ``_target_`` of a checked section makes of its other keys.

    Args:
        component: the section, whose class has been checked.
        key: of the section, for messages.
        **more: further arguments.

    Raises:
        ConfigError: it cannot be built, whatever was raised.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        # Objects among the arguments are handed over as they are, not as configurations.
        return instantiate(component, _partial_=True)(**more)
    except SocFtError:
        raise
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, SocFtError):
            raise cause from None
        raise _unbuilt(component, key, cause) from error
    except Exception as error:  # whatever a person's own class raises
        raise _unbuilt(component, key, error) from error


def _unbuilt(component: Mapping[str, Any], key: str, cause: BaseException) -> ConfigError:
    said = " ".join(str(cause).split())[:300]
    return ConfigError(
        f"{key}: {component['_target_']} cannot be built, it raised {type(cause).__name__}"
        + (f": {said}" if said else "")
    )
