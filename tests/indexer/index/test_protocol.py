"""Merging the answers of several indexes, and finding unknown ids."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.index.protocol import Neighbours, ids_not_in, merge


@given(st.lists(st.lists(st.integers(0, 5), max_size=10), max_size=4), st.integers(1, 20), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_merged_answers_equal_those_of_one_index(parts: list[list[int]], k: int, seed: int) -> None:
    ids = iter(np.random.default_rng(seed).permutation(sum(map(len, parts))).tolist())
    found = [sorted((distance, next(ids)) for distance in part) for part in parts]
    answers = [
        Neighbours(np.array([number for _, number in part], np.int64), np.array([one for one, _ in part], np.int32))
        for part in found
    ]
    whole = merge(answers, k)
    assert list(zip(whole.distances.tolist(), whole.ids.tolist(), strict=True)) == sorted(chain(*found))[:k]
    assert (whole.ids.dtype, whole.distances.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize("known", [[], [1], [1, 3, 5, 7, 9], [0, 2, 5, 9, 12], [100], [-4, 2]])
def test_ids_not_in(known: list[int]) -> None:
    ids = [5, 1, 9, 7, 3]
    missing = ids_not_in(np.array(ids, np.int64), np.array(known, np.int64))
    assert missing.tolist() == [number for number in ids if number not in known]
