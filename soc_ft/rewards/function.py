"""Functions as rewards, and what a configuration says of a reward that was given in Python."""

from __future__ import annotations

import hashlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from soc_ft.errors import ConfigError
from soc_ft.rewards.base import Reward

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    ScoreFunction = Callable[[Tensor, Sequence[str]], Tensor]
    """(images (B, 3, H, W) in [0, 1], B prompts) -> (B,), higher is better."""

_given: set[str] = set()
"""Names of what this process was given, which need not be importable."""


class FunctionReward:
    """A function of pictures and prompts, as a reward.

    A configuration holds the function's name and a digest of its source. It can be built from
    that wherever the name can be imported and the source is the same; elsewhere it is refused.
    """

    name = "function"
    differentiable = True
    imported_names = ("function",)

    def __init__(self, function: ScoreFunction | str, digest: str | None = None) -> None:
        """Take a function, or the dotted name of one whose source has the digest (None: any)."""
        if isinstance(function, str):
            function = _imported(function, digest, "reward")
        self.function = function
        self.name = name_of(function)

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str) -> None:
        """Check that the function was given to this process, or can be imported.

        Raises:
            ConfigError: there is no function of this name, or its source is another.
        """
        function = str(arguments.get("function"))
        if function not in _given:
            _imported(function, arguments.get("digest"), key)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B,).

        Raises:
            ConfigError: the function returns something else, or loses the gradient.
        """
        import torch

        returned = self.function(images, prompts)
        try:
            scores = torch.as_tensor(returned, device=images.device)
            what = f"shape {tuple(scores.shape)}"
        except (TypeError, ValueError, RuntimeError):
            scores, what = torch.empty(0), type(returned).__name__
        if scores.shape != (len(images),):
            raise ConfigError(
                f"{self.name}: returned {what} for {len(images)} pictures; return one number for "
                f"each, shape ({len(images)},)"
            )
        wanted = self.differentiable and images.requires_grad and torch.is_grad_enabled()
        if wanted and not scores.requires_grad:
            raise ConfigError(
                f"{self.name}: its scores have no gradient with respect to the pictures; compute "
                "them with torch alone, or set the function's attribute `differentiable = False`"
            )
        return scores if scores.is_floating_point() else scores.float()

    def wrapped(self) -> Iterable[Any]:
        """The function, which may be an object with further methods."""
        return (self.function,)

    def to(self, device: torch.device) -> Self:
        """Move what the function holds, if it can be moved."""
        if hasattr(self.function, "to"):
            self.function.to(device)
        return self


class FunctionWithoutGradient(FunctionReward):
    """A function whose scores have no gradient, as a reward."""

    differentiable = False


def as_reward(given: Any) -> Reward:
    """A reward as it is, and a function (images, prompts) -> (B,) as a reward.

    It is differentiable unless its attribute ``differentiable`` says otherwise.

    Raises:
        ConfigError: it is neither.
    """
    shown = getattr(given, "__qualname__", None) or repr(given)
    if isinstance(given, type) or not callable(given):
        raise ConfigError(
            f"reward={shown}: give a function (images, prompts) -> (B,), an object like "
            "soc_ft.Reward, or the name of an option of conf/reward"
        )
    try:
        inspect.signature(given).bind(None, None)
    except TypeError:
        raise ConfigError(
            f"reward={shown}: must take two arguments, images (B, 3, H, W) and B prompts"
        ) from None
    except ValueError:  # of a function that is not written in Python
        pass
    is_reward = all(hasattr(given, attribute) for attribute in ("name", "differentiable", "to"))
    reward: Any = given if is_reward else _kind(given)(given)
    return reward


def record_of(reward: Any) -> dict[str, Any]:
    """The section of a configuration that says which reward (of :func:`as_reward`) was given.

    It has a name that tells functions (``module.function``) from objects (``module.Class()``), and
    a digest of the source of the function or the class; of an object's attributes it says nothing.
    """
    given = reward.function if isinstance(reward, FunctionReward) else reward
    named = given if hasattr(given, "__qualname__") else type(given)
    is_method = inspect.ismethod(given) and not isinstance(given.__self__, type)
    brackets = "()" if is_method or named is not given else ""  # these cannot be imported
    name = f"{named.__module__}.{named.__qualname__}{brackets}"
    _given.add(name)
    target = f"{FunctionReward.__module__}.{_kind(reward).__qualname__}"
    return {"_target_": target, "function": name, "digest": _digest(given)}


def name_of(function: Any) -> str:
    """What tables and curves call a function or a callable object."""
    name = getattr(function, "name", None) or getattr(function, "__name__", None)
    if not isinstance(name, str):
        name = type(function).__name__
    return FunctionReward.name if name == "<lambda>" else name


def _kind(reward: Any) -> type[FunctionReward]:
    return FunctionReward if getattr(reward, "differentiable", True) else FunctionWithoutGradient


def _digest(given: Any) -> str | None:
    """12 hexadecimal digits of the source of a function, or of an object's class, if it is known.

    That of a lambda is not: it comes with the whole line around it.
    """
    source_of = given if inspect.isroutine(given) else type(given)
    if source_of.__name__ == "<lambda>":
        return None
    try:
        source = inspect.getsource(source_of)
    except (OSError, TypeError):  # typed at a prompt, or not written in Python
        return None
    return hashlib.sha256(textwrap.dedent(source).encode()).hexdigest()[:12]


def _imported(name: str, digest: str | None, key: str) -> ScoreFunction:
    try:
        function: ScoreFunction = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}.function={name}: cannot be imported ({error}); it was given in Python. Put it "
            "into a module that Python finds under this name, or choose another reward or metric"
        ) from None
    if digest is not None and _digest(function) != digest:
        raise ConfigError(
            f"{key}.function={name}: its source is not what it was (digest {_digest(function)}, "
            f"not {digest}); {key}.digest=null takes it as it is"
        )
    return function
