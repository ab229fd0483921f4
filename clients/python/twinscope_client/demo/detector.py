"""The signal of the detector in a scanning electron microscope, and the image that is made from this signal."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from twinscope_client.demo.relief import Field, Relief, fractal

_STEEPEST = 4.0  # maximum slope in pixels per pixel; steeper slopes are set to this value, to keep the yield finite
_SHADOW = 18.0  # length of the shadow of a neighbour, in pixels, if the image is 480 pixels high
_SATURATED = (0.001, 0.997)  # quantiles of the signal; their values become black and white
_GAMMA = 0.75  # gamma of the instrument's display; dark regions become brighter


def secondary_electrons(
    relief: Relief, rng: np.random.Generator, *, edge: float = 0.5, side: float = 0.25, shadow: float = 0.6
) -> Field:
    """Return the signal of the secondary-electron detector, without noise.

    Three effects are included in the signal. First, edges are bright, because the electron yield increases with the
    secant of the angle between beam and surface normal (L. Reimer, Scanning Electron Microscopy, 2nd ed. 1998, section
    4.2). Second, surfaces that face the detector are brighter than other surfaces. Third, hollows are darker, because
    their walls absorb electrons.

    Parameters
    ----------
    relief : Relief
        The specimen.
    rng : numpy.random.Generator
        Random generator for the azimuth of the detector.
    edge, side, shadow : float
        Strengths of the three effects; an effect with strength 0 is switched off.

    Returns
    -------
    NDArray
        The signal, shape (height, width), float32, in the units of `Relief.tone`.
    """
    smooth = ndimage.gaussian_filter(relief.z, 0.6, truncate=3)
    slope_y, slope_x = np.empty_like(smooth), np.empty_like(smooth)
    slope_y[1:-1], slope_x[:, 1:-1] = (smooth[2:] - smooth[:-2]) / 2, (smooth[:, 2:] - smooth[:, :-2]) / 2
    slope_y[[0, -1]], slope_x[:, [0, -1]] = slope_y[[1, -2]], slope_x[:, [1, -2]]
    azimuth = -math.pi / 2 + rng.normal(0, 0.6)  # the detector is behind the stage, at the top of the image
    facing = slope_x * math.cos(azimuth)
    facing += slope_y * math.sin(azimuth)
    slope_x *= slope_x
    slope_x += slope_y * slope_y
    secant = np.sqrt(np.minimum(slope_x, _STEEPEST**2, out=slope_x) + 1)
    facing /= secant
    reach = max(2, round(_SHADOW * relief.scale / 2))  # every second pixel is enough for smooth averages
    around = ndimage.uniform_filter(ndimage.uniform_filter(smooth[::2, ::2], reach), reach)
    size = (relief.width, relief.height)
    smooth -= np.asarray(Image.fromarray(around).resize(size, Image.Resampling.BILINEAR))
    smooth /= reach
    shade = np.tanh(smooth, out=smooth)
    shade *= shadow
    shade += 1
    secant *= edge
    secant += 1 - edge
    secant -= side * facing
    secant *= relief.tone
    secant *= shade
    signal: Field = np.maximum(secant, 0, out=secant)
    return signal


def exposed(signal: Field, rng: np.random.Generator, scale: float) -> Field:
    """Return the image of a signal. Uneven illumination, a beam of finite size, shot noise and drift are added.

    Parameters
    ----------
    signal : NDArray
        Result of `secondary_electrons`, shape (height, width), float32.
    rng : numpy.random.Generator
        Random generator.
    scale : float
        Size of this image relative to an image of 640 x 480 pixels.

    Returns
    -------
    NDArray
        The image, shape (height, width), float32; the minimum is 0 (black), and the maximum is 1 (white).
    """
    illumination = fractal(rng, signal.shape, 330 * scale)
    illumination *= 0.06
    illumination += 1
    signal = ndimage.gaussian_filter(signal * illumination, rng.uniform(0.55, 0.9), truncate=3)
    electrons = rng.uniform(250, 900)  # electrons per pixel at yield 1; so many that shot noise is nearly Gaussian
    noise = rng.standard_normal(signal.shape, np.float32)
    noise *= np.sqrt(np.maximum(signal, 0.002) / electrons)
    signal += noise
    signal += rng.normal(0, 0.004, (signal.shape[0], 1)).astype(np.float32)  # drift from line to line
    black, white = np.quantile(signal[::3, ::3], _SATURATED)
    signal -= np.float32(black)
    signal /= np.float32(white - black)
    image: Field = np.clip(signal, 0, 1, out=signal) ** np.float32(_GAMMA)
    return image
