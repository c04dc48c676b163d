"""Models as they are loaded."""

from __future__ import annotations

from typing import Any

import pytest

import soc_ft
from soc_ft.errors import ConfigError
from soc_ft.files import PACKAGE
from tests.api.small import tiny


def test_a_model_is_loaded_as_it_was_asked_for() -> None:
    """Breaks when an argument of loading is passed over."""
    model = tiny(
        finetune={"option": "lora", "rank": 2},
        scheduler={"option": "memoryless", "beta_end": 0.02},
        guidance_scale=2.5,
    )
    assert model.guidance_scale == 2.5
    assert model.scheduler.config.beta_end == 0.02
    assert model.scheduler.config.timestep_spacing == "trailing"
    assert {min(each.shape) for each in model.trainable_parameters()} == {2}
    shapes = soc_ft.load_model("shapes", device="cpu")
    assert shapes.guidance_scale == 1.2
    folder = PACKAGE / "world" / "shapes-diffusion"
    assert soc_ft.load_model(folder, finetune="lora").guidance_scale == 7.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"finetune": "lra"}, r"finetune=lra: no such option; did you mean lora\?"),
        ({"finetune": {"option": "lora", "rnk": 2}}, r"finetune\.rnk: .* did you mean rank\?"),
        (
            {"finetune": {"option": "lora", "rank": 0}},
            r"finetune\.rank=0: must be greater than or equal to 1",
        ),
        ({"finetune": {"rank": 2}}, r"finetune=None: no such option .*full, lora, offset"),
        ({"finetune": 3}, r"finetune=3: no such option"),
        ({"scheduler": "linear"}, r"scheduler=linear: no such option"),
        ({"guidance": 2}, r"model\.guidance: .*did you mean guidance_scale\?"),
        ({"guidance_scale": -1}, r"model\.guidance_scale=-1: "),
        ({"frozen_dtype": "int8"}, r"model\.frozen_dtype=int8: must be 'float32' or 'bfloat16'"),
        ({"device": "abacus"}, r"device=abacus: cannot be used"),
        ({"path": "random:huge"}, r"random:huge"),
    ],
)
def test_wrong_arguments_of_loading_are_named(arguments: dict[str, Any], message: str) -> None:
    """Breaks when a wrong argument ends in a traceback, or is not named."""
    with pytest.raises(ConfigError, match=message) as refused:
        soc_ft.load_model("shapes", **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "shape",
            {},
            r"name_or_path=shape: no such option; did you mean shapes\?.* folder or file",
        ),
        ("/no/such/folder", {}, r"model\.path=/no/such/folder: not found"),
        ("no.safetensors", {}, r"model\.path=no\.safetensors: not found"),
        ("random:tiny", {"path": "x"}, r"path=x: name_or_path=random:tiny is the path already"),
    ],
)
def test_models_that_are_not_there_are_named(
    name: str, settings: dict[str, Any], message: str
) -> None:
    """Breaks when a misspelt name is taken for a model on the hub."""
    with pytest.raises(ConfigError, match=message):
        soc_ft.load_model(name, **settings)
