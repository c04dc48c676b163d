"""A stranger's run folder is read, not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.records.saved import read_config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: {b: ['${oc.env:HOME}']}\n", r"key a\.b\.0: \$\{oc\.env:HOME\} is an interpolation"),
        (b"x: !!python/object/apply:os.system [touch {witness}]\n", r"line 1: is damaged.*tag"),
        (b"a: 1\nb: [\n", r"line 3: is damaged, or no YAML of soc_ft's"),
        (b"\xff\xfe\x00a: 1", "is damaged"),
        (b"a: " + b"[" * 100_000 + b"]" * 100_000, "is damaged"),
        (b"a: &x [1]\nb: [*x, *x, *x]\n", "holds an alias"),
        (b"a: !!set {x, y}\n", "holds a set"),
        (b"a: !!int many\n", "is damaged"),
        (b"- 1\n- 2\n", "holds no keys"),
        (b"", "holds no keys"),
    ],
)
def test_what_soc_ft_does_not_write_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """Breaks when a tag runs code, the environment is read, or damage ends in a traceback."""
    file, witness = tmp_path / "config.yaml", tmp_path / "witness"
    file.write_bytes(content.replace(b"{witness}", str(witness).encode()))
    with pytest.raises(ConfigError, match=words) as caught:
        read_config(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not witness.exists()


def test_values_are_read(tmp_path: Path) -> None:
    """Breaks when numbers or nested values are read otherwise than they were written."""
    file = tmp_path / "config.yaml"
    file.write_text("lr: 1e-05\nlist: [a, {b: null}]\n")
    assert read_config(file) == {"lr": 1e-05, "list": ["a", {"b": None}]}
