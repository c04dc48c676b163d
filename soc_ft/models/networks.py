"""The denoising networks behind a fine-tuned model: a frozen base, what is trained, and anchors.

They know no family: a family hands over its network and how it is called.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from soc_ft.core import Condition
from soc_ft.errors import ConfigError, did_you_mean

Call = Callable[[nn.Module, Tensor, Tensor, Condition], Tensor]
"""(network, x (N, *latent), t (N,) float32, condition of N rows) -> output, in the dtype of x."""

TRAINED = "default"
"""Name of the adapter that is trained."""


class Networks(nn.Module, ABC):
    """Base and trained network of a fine-tuning mode, and copies of the trained weights.

    Attributes:
        trained: the module that holds the trainable parameters.
        additive: the trained network gives an offset of the base model's output, instead of an
            output of its own.
        anchor_names: of the anchors that there are.
    """

    def __init__(self, trained: nn.Module, call: Call, *, additive: bool = False) -> None:
        """Hold the networks.

        Args:
            trained: holds the trainable parameters.
            call: how the family's network is called.
            additive: see the class.
        """
        super().__init__()
        self.trained = trained
        self.additive = additive
        self.anchor_names: list[str] = []
        self._call = call
        self._trainable = [name for name, each in trained.named_parameters() if each.requires_grad]

    @abstractmethod
    def base_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of the base network (N, *latent)."""

    @abstractmethod
    def trained_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of the trained network (N, *latent), or an offset."""

    @abstractmethod
    def anchor_output(self, name: str, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """As :meth:`trained_output`, with the weights of an anchor and no gradient to them.

        Raises:
            KeyError: there is no such anchor.
        """

    def add_anchor(self, name: str) -> None:
        """Keep a copy of the trained weights as they are now.

        Args:
            name: an identifier; an anchor that has it already starts anew.

        Raises:
            ValueError: the name is no identifier.
        """
        if not name.isidentifier():
            raise ValueError(f"the name of an anchor must be an identifier, got {name!r}")
        if name in self.anchor_names:
            self.refresh_anchor(name)
            return
        self.anchor_names.append(name)
        self._copy_trained(name)

    def _place(self, name: str) -> str:
        """Where an anchor is kept: apart from the names that PyTorch, PEFT and networks have.

        Raises:
            KeyError: there is no such anchor; PEFT would answer with the base.
        """
        if name not in self.anchor_names:
            raise KeyError(f"there is no anchor {name!r} among {self.anchor_names}")
        return f"anchor_{name}"

    @abstractmethod
    def _copy_trained(self, name: str) -> None:
        """Hold a copy of the trained weights for an anchor."""

    @abstractmethod
    def anchor_state(self, name: str) -> dict[str, Tensor]:
        """The weights of an anchor under the names of the trained ones, sharing memory."""

    @abstractmethod
    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass, of the base network's too."""

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights by name, sharing memory with the network."""
        return {name: self.trained.get_parameter(name).detach() for name in self._trainable}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters to optimise, in the order of :meth:`trainable_state`."""
        return (self.trained.get_parameter(name) for name in self._trainable)

    def refresh_anchor(self, name: str, decay: float = 0.0) -> None:
        """Let an anchor follow the trained weights: anchor <- decay anchor + (1 - decay) trained.

        Args:
            name: of the anchor.
            decay: in [0, 1); 0 copies.

        Raises:
            KeyError: there is no such anchor.
        """
        trained = self.trainable_state()
        for key, tensor in self.anchor_state(name).items():
            tensor.lerp_(trained[key], 1 - decay)


class TwoNetworks(Networks):
    """A frozen base network beside a trained one; anchors are further frozen networks.

    All compute in the precision that the base has its weights in, if that is less than float32:
    the difference of trained and base would otherwise be that of two arithmetics, and the control
    of a network that is not trained yet would not be zero.
    """

    def __init__(
        self, base: nn.Module, trained: nn.Module, call: Call, *, additive: bool = False
    ) -> None:
        """Hold both networks; they may be the same one, if nothing is trained."""
        super().__init__(trained, call, additive=additive)
        self.base = base
        self.anchors = nn.ModuleDict()

    def base_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of the frozen network."""
        return self._evaluate(self.base, x, t, condition)

    def trained_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of the trained network (N, *latent), or an offset."""
        return self._evaluate(self.trained, x, t, condition)

    def anchor_output(self, name: str, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output of the anchor's network."""
        return self._evaluate(self.anchors[self._place(name)], x, t, condition)

    def _evaluate(self, network: nn.Module, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        precision = next(self.base.parameters()).dtype
        if precision == torch.float32:  # leaves an autocast around it as it is
            return self._call(network, x, t, condition)
        with torch.autocast(x.device.type, precision):
            return self._call(network, x, t, condition)

    def _copy_trained(self, name: str) -> None:
        self.anchors[self._place(name)] = copy.deepcopy(self.trained).requires_grad_(False)

    def anchor_state(self, name: str) -> dict[str, Tensor]:
        """The weights of the anchor's network that are trained in the other."""
        network = self.anchors[self._place(name)]
        return {key: network.get_parameter(key).detach() for key in self._trainable}

    def enable_gradient_checkpointing(self) -> None:
        """Switch it on in both networks."""
        for network in (self.base, self.trained):
            network.enable_gradient_checkpointing()  # type: ignore[operator]


class AdaptedNetwork(Networks):
    """One network with LoRA layers: on it is the trained network, off the base.

    Anchors are further adapters of the same layers.
    """

    def __init__(
        self,
        network: nn.Module,
        call: Call,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        seed: int,
    ) -> None:
        """Add the layers to ``network`` itself.

        Args:
            network: of diffusers, frozen.
            call: how the family's network is called.
            rank: of the updates, >= 1.
            alpha: the updates are scaled by alpha / rank.
            targets: names of the layers that are updated.
            seed: of the Gaussian first factors.

        Raises:
            ConfigError: one of the ``targets`` names no layer, or none that can be updated.
        """
        _check_targets(network, targets)
        self._settings = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            init_lora_weights="gaussian",
            target_modules=list(targets),
        )
        _add_adapter(network, self._settings, TRAINED, seed)
        super().__init__(network, call)
        self._layers = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
        self._active: str | None = TRAINED

    def trained_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output with the trained adapter on."""
        return self._call(self.trained, x, t, condition)

    @property
    def scale(self) -> float:
        """What the updates are multiplied by: alpha / rank."""
        return float(self._settings.lora_alpha) / self._settings.r

    def base_output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output with the adapters off."""
        with self._using(None):
            return self._call(self.trained, x, t, condition)

    def anchor_output(self, name: str, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Output with the anchor's adapter on."""
        with self._using(self._place(name)):
            return self._call(self.trained, x, t, condition)

    def _copy_trained(self, name: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            _add_adapter(self.trained, self._settings, self._place(name), seed=0)
        self.trained.train(self.training)
        for parameter in self._parameters_of(name).values():
            parameter.data = parameter.data.float()
        self._switch(TRAINED)  # a new adapter is the active one
        self.refresh_anchor(name)

    def anchor_state(self, name: str) -> dict[str, Tensor]:
        """The weights of the anchor's adapter."""
        return {key: each.detach() for key, each in self._parameters_of(name).items()}

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block with the adapter that it was evaluated with."""

        # No bound method: a copy of the network, as for export, would copy all that hangs on it.
        def recompute(block: nn.Module, *inputs: Any) -> Any:
            return self._checkpoint(block, *inputs)

        self.trained.enable_gradient_checkpointing(recompute)  # type: ignore[operator]

    def _parameters_of(self, name: str) -> Mapping[str, nn.Parameter]:
        """Parameters of an adapter under the names of the trained one's."""
        return {
            key: self.trained.get_parameter(key.replace(f".{TRAINED}.", f".{self._place(name)}."))
            for key in self._trainable
        }

    def _checkpoint(self, block: nn.Module, *inputs: Any) -> Any:
        # When blocks are recomputed, base_output has switched the adapters on again.
        adapter = self._active

        def evaluated(*inputs: Any) -> Any:
            with self._using(adapter):
                return block(*inputs)

        return checkpoint(evaluated, *inputs, use_reentrant=False)

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        """One adapter, or none of them; then the trained one again."""
        if adapter == self._active:  # of a checkpointed block, nearly always
            yield
            return
        self._switch(adapter)
        try:
            yield
        finally:
            self._switch(TRAINED)

    def _switch(self, adapter: str | None) -> None:
        for layer in self._layers:
            layer.enable_adapters(adapter is not None)
            if adapter is not None and self.anchor_names:
                layer.set_adapter(adapter, inference_mode=adapter != TRAINED)
        self._active = adapter


def _check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    """Check that each target names a layer, as PEFT understands names: whole, or their end.

    Raises:
        ConfigError: names those that match nothing, which PEFT would pass over.
    """
    names = [f".{name}" for name, _ in network.named_modules()]
    idle = [each for each in targets if not any(name.endswith(f".{each}") for name in names)]
    if idle or not targets:
        last = {name.rpartition(".")[2] for name in names} - {""}
        hint = did_you_mean(idle[0], last) if idle else ""
        raise ConfigError(
            f"finetune.targets={list(targets)}: {', '.join(idle) or 'an empty list'} matches no "
            f"layer of the network{hint}"
        )


def _add_adapter(network: nn.Module, settings: LoraConfig, name: str, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network.add_adapter(settings, adapter_name=name)  # type: ignore[operator]
        except ValueError as error:
            targets = sorted(settings.target_modules or ())
            raise ConfigError(f"finetune.targets={targets}: {error}") from None


def trainable_copy(network: nn.Module) -> nn.Module:
    """A copy of ``network`` whose parameters require gradients."""
    return copy.deepcopy(network).requires_grad_(True)


def reinitialise(layer: nn.Conv2d, scale: float, seed: int) -> None:
    """Draw weights from N(0, (scale / sqrt(fan-in))^2) and set the bias to zero."""
    fan_in = layer.weight[0].numel()
    drawn = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        layer.weight.copy_(drawn * scale / fan_in**0.5)
        if layer.bias is not None:
            layer.bias.zero_()
