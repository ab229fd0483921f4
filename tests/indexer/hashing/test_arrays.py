"""Basic operations on arrays give the same results as NumPy and as the integers of Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from twinscope_indexer.hashing.arrays import hamming, packed_above_median, read_only, require_grey
from twinscope_indexer.hashing.symmetry import SYMMETRIES


@pytest.mark.parametrize(
    "array",
    [np.zeros(9, np.uint8), np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.int8), np.zeros((0, 3), np.uint8)],
    ids=["line", "colour", "signed", "empty"],
)
def test_array_that_is_not_a_grey_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a grey image, uint8 of shape \(height, width\)"):
        require_grey(array)
    require_grey(np.zeros((1, 1), np.uint8))


def test_read_only_views_leave_the_array_writable() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for source in (array, array.T, array[:, ::2], array[::-1]):
        view = read_only(source)
        assert np.array_equal(view, source)
        assert view.flags.c_contiguous
        assert not view.flags.writeable
        assert source.flags.writeable
    assert np.shares_memory(read_only(array), array)


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)), max_size=5))
def test_hamming_counts_the_bits_that_differ(pairs: list[tuple[bytes, bytes]]) -> None:
    expected = [(int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count() for a, b in pairs]
    ones, others = (np.array([[*pair[side]] for pair in pairs], np.uint8).reshape(-1, 16) for side in (0, 1))
    assert hamming(ones, others).tolist() == expected
    for one, other, bits in zip(ones, others, expected, strict=True):
        assert int(hamming(one, other)) == bits
        assert hamming(one, others).tolist() == [int(hamming(one, each)) for each in others]


@given(hnp.arrays(np.float64, (32, 32), elements=st.floats(-9, 9, width=16)), st.sampled_from(SYMMETRIES))
@settings(deadline=None, max_examples=60)
def test_codes_are_the_packed_bits_above_the_median(values: np.ndarray, symmetry: object) -> None:
    for coefficients in (values, values.T, values[::-1, ::2], symmetry.applied_to(values)):
        code, median = packed_above_median(coefficients)
        assert median == np.median(coefficients)
        assert code.tobytes() == np.packbits(coefficients > np.median(coefficients)).tobytes()
