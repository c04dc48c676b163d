"""PickScore against the classes of transformers, with which its authors compute it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from soc_ft.rewards.network_reward import NetworkReward
from soc_ft.rewards.networks.clip import CosineNetwork, tokenize_with_transformers
from tests.rewards.inputs import AWKWARD_PROMPTS, pictures

START, END = 49406, 49407


def test_scores_are_those_of_the_pillow_path(small: Callable[[str], NetworkReward]) -> None:
    """Breaks when preprocessing, pooling, normalisation or scale is not that of the authors."""
    reward = small("pickscore")
    assert isinstance(reward.network, CosineNetwork)
    clip: CLIPModel = reward.network.embedder.clip
    prompts = list(AWKWARD_PROMPTS[2:6])
    tokens = tokenize_with_transformers(prompts)
    processor = CLIPImageProcessorPil()
    expected, found = [], []
    for picture, prompt, ids in zip(
        pictures(((224, 224), (256, 300), (301, 256), (300, 300))), prompts, tokens, strict=True
    ):
        pixels = processor(Image.fromarray(picture.permute(1, 2, 0).numpy()), return_tensors="pt")
        seen = clip.get_image_features(**pixels).pooler_output
        read = clip.get_text_features(input_ids=ids[None]).pooler_output
        expected.append(clip.logit_scale.exp() * F.cosine_similarity(seen, read))
        found.append(reward(picture[None] / 255, [prompt]))
    official, ours = torch.cat(expected), torch.cat(found)
    assert float(ours[0]) == pytest.approx(float(official[0]), abs=1e-4)  # nothing to resize
    assert float((ours - official).abs().max()) < 0.02 * float(official.std())


def test_prompts_are_cut_to_77_tokens_and_padded_with_the_end_mark() -> None:
    """Breaks when the vocabulary's marks are not those of transformers' CLIP."""
    ids = tokenize_with_transformers(list(AWKWARD_PROMPTS))
    assert ids.shape == (len(AWKWARD_PROMPTS), 77)
    assert (ids[:, 0] == START).all()
    assert (ids[:, -1] == END).all()
    assert ids[0].tolist() == [START, *[END] * 76]
    assert tokenize_with_transformers(["a photo of a cat"])[0, :7].tolist() == [
        START,
        *(320, 1125, 539, 320, 2368),
        END,
    ]
