"""What the tests of kernels have in common."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from cascadenet.inference.layout import Layout

CASES = settings(max_examples=500)
SEEDS = st.integers(0, 2**32 - 1)
LIMITS = st.sampled_from((None, 1, 2, 3))


def pair_keys(layout: Layout) -> list[tuple[int, int]]:
    """(source, child) of every listed pair."""
    return list(zip(layout.pair_source.tolist(), layout.pair_child.tolist(), strict=True))


def candidate_rows(layout: Layout, values: np.ndarray) -> list[list]:
    """Values of all candidates, infection by infection."""
    return [part.tolist() for part in np.split(values, layout.cand_ptr[1:-1])]
