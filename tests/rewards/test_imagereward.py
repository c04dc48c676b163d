"""ImageReward: its tokens and its files. That its scores are the official ones is tested in
tests/reference.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from soc_ft.rewards.imagereward import ImageReward
from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.networks.imagereward import ImageRewardNetwork, load_tokenizer
from tests.rewards.inputs import AWKWARD_PROMPTS
from tests.rewards.small import SmallImageReward

CLS, SEP, PAD = 101, 102, 0


def test_prompts_are_cut_to_35_tokens_between_marks(
    small: Callable[[str], NetworkReward],
) -> None:
    """Breaks when the limit, the marks or the padding differ from those of the training."""
    network = small("imagereward").network
    assert isinstance(network, ImageRewardNetwork)
    tokens = network.tokenize(AWKWARD_PROMPTS)
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    assert ids.shape == mask.shape == (len(AWKWARD_PROMPTS), 35)
    assert (ids[:, 0] == CLS).all()
    last = mask.sum(dim=1) - 1
    assert (ids.gather(1, last[:, None]) == SEP).all()
    assert (ids[mask == 0] == PAD).all()
    lengths = dict(zip(AWKWARD_PROMPTS, mask.sum(dim=1).tolist(), strict=True))
    assert lengths[""] == lengths[" "] == 2
    assert lengths["a very long prompt, " * 60] == 35


def test_the_marks_of_blip_have_the_last_two_ids(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when [DEC] and [ENC] swap places, or take places of the vocabulary."""
    network = small("imagereward").network
    assert isinstance(network, ImageRewardNetwork)
    assert network.tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [30522, 30523]
    assert network.text.embeddings.word_embeddings.num_embeddings == 30524


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"a\nb\n", "has 2 entries"), (b"\xff\xfe\x00", "is not a text file"), (b"", "0 entries")],
)
def test_another_vocabulary_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    """Breaks when prompts would be read with the ids of another vocabulary."""
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=word):
        load_tokenizer(tmp_path / "vocab.txt", "reward.vocabulary")


def test_a_checkpoint_of_another_depth_is_refused(
    arguments_of: Callable[[str], dict[str, str]],
) -> None:
    """Breaks when weights beyond the network's are dropped, or missing ones stay random."""

    class Deeper(SmallImageReward):
        layers = (2, 1)

    with pytest.raises(ConfigError, match=r"missing keys: blip\.visual_encoder\.blocks\.1\."):
        Deeper(**arguments_of("imagereward"))


def test_the_published_files_are_looked_for_by_default() -> None:
    """Breaks when a default no longer names what the authors published."""
    files = ImageReward.files({})
    assert (files["weights"].repository, files["weights"].filename) == (
        "THUDM/ImageReward",
        "ImageReward.pt",
    )
    assert files["vocabulary"].filename == "vocab.txt"
