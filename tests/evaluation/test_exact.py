"""The optimum at each lambda, or why there is none."""

from __future__ import annotations

import numpy as np

from soc_ft.evaluation.exact import LEAST_EFFECTIVE_SAMPLES, optima
from soc_ft.evaluation.plan import Exact


def test_one_prompt_of_few_effective_samples_is_enough_to_refuse() -> None:
    """Breaks when prompts that are well known make up for one whose bias they cannot average."""
    known, unknown = np.zeros(200), np.full(200, -99.0)
    unknown[:40] = 0.0
    exact = Exact("r", [1.0], 200, None, False, [])
    (found,) = optima(exact, {"r": [*[known] * 9, unknown]}, {})
    assert found.effective_samples > LEAST_EFFECTIVE_SAMPLES
    assert not found.estimates
    assert "worth 40.0 for one of the prompts" in found.refusal
    (enough,) = optima(exact, {"r": [known] * 10}, {})
    assert enough.estimates["gain"].mean == 0
