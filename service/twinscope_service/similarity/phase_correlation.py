"""Measurement of the shift between two normalised images by the peak of their phase correlation.

The search for the peak is limited to a range of shifts. Source of the method: Kuglin and Hines (1975, Proc. Int. Conf.
Cybernetics and Society, 163-165).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from twinscope_indexer.compute.jit import compiled

from twinscope_service.thresholds import LARGEST_SHIFT


def spectrum(normal: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Multiply an image by a Hann window, and return the half spectrum of the result.

    The image is padded to side lengths for which the FFT is fast.

    Parameters
    ----------
    normal : numpy.ndarray of float32, shape (height, width)
        Normalised pixels.

    Returns
    -------
    numpy.ndarray of complex64
        Spectrum, which is an argument of `translation`.
    """
    transformed: NDArray[np.complex64] = scipy.fft.rfft2(normal * _hann(normal.shape), s=_padded(normal.shape))
    return transformed


def translation(
    query: NDArray[np.complex64], candidate: NDArray[np.complex64], shape: tuple[int, ...]
) -> tuple[int, int]:
    """Return the shift with the highest phase correlation, up to a sixth of the height and of the width.

    Parameters
    ----------
    query, candidate : numpy.ndarray of complex64
        Spectra of both images, from `spectrum`.
    shape : tuple of int
        Height and width of both images.

    Returns
    -------
    tuple of int
        Shift of the content of the candidate relative to the content of the query: down and to the right, in pixels.
        The shift is zero if there is no peak.
    """
    height, width = _padded(shape)
    reach_y, reach_x = int(shape[0] * LARGEST_SHIFT), int(shape[1] * LARGEST_SHIFT)
    columns = scipy.fft.ifft(_whitened(query, candidate), axis=0, overwrite_x=True)
    near = np.concatenate((columns[height - reach_y :], columns[: reach_y + 1]))  # only rows within the range
    down, right = _peak(scipy.fft.irfft(near, n=width), reach_y, reach_x)
    return down, right


@lru_cache(maxsize=64)
def _hann(shape: tuple[int, ...]) -> NDArray[np.float32]:
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in shape)
    return np.outer(rows, columns).astype(np.float32)


@lru_cache(maxsize=1024)
def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of the transform: the next larger side lengths for which the FFT is fast."""
    return scipy.fft.next_fast_len(shape[0]), scipy.fft.next_fast_len(shape[1], real=True)


@compiled(fastmath=True, error_model="numpy")
def _whitened(query: NDArray[np.complex64], candidate: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Return the cross-power spectrum conj(query) * candidate, with each coefficient scaled to modulus 1."""
    white = np.empty_like(query)
    for y in range(query.shape[0]):
        for x in range(query.shape[1]):
            q, c = query[y, x], candidate[y, x]
            real = q.real * c.real + q.imag * c.imag
            imaginary = q.real * c.imag - q.imag * c.real
            scale = np.float32(1) / (np.sqrt(real * real + imaginary * imaginary) + np.float32(1e-6))
            white[y, x] = complex(real * scale, imaginary * scale)
    return white


@compiled(error_model="numpy")
def _peak(near: NDArray[np.float32], reach_y: int, reach_x: int) -> tuple[int, int]:
    """Return the shift (down, right) with the largest value.

    The first row of `near` is the shift -reach_y, and the first column is the shift 0.
    """
    width = near.shape[1]
    best, best_y, best_x = near[reach_y, 0], 0, 0
    for y in range(-reach_y, reach_y + 1):
        row = near[reach_y + y]
        for x in range(-reach_x, reach_x + 1):
            value = row[x + width if x < 0 else x]
            if value > best:
                best, best_y, best_x = value, y, x
    return best_y, best_x
