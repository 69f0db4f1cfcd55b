"""Tell structured kernels from noise by their best fit by a Gabor function (Daugman 1985)."""
import functools

import numpy as np
from scipy.optimize import least_squares

from system.progress import Progress


def _stripes(height, width, x0, y0, angle, frequency, phase, along, across):
    """Return each pixel's place along and across the stripes, the envelope, the wave's argument."""
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2.0
    x, y = x - x0, -(y - y0)  # y upwards
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    envelope = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return u, v, envelope, 2 * np.pi * frequency * v + phase


def gabor(height, width, amplitude, x0, y0, angle, frequency, phase, along, across):
    """Return amplitude * Gaussian envelope * cos(wave) on a grid centred at 0: (height, width).

    angle: direction of the stripes in radians, 0 horizontal, counter-clockwise; frequency in cycles
    a pixel; `along` and `across` the stripes, the standard deviations of the envelope in pixels.
    """
    *_, envelope, wave = _stripes(height, width, x0, y0, angle, frequency, phase, along, across)
    return amplitude * envelope * np.cos(wave)


def derivatives(height, width, amplitude, x0, y0, angle, frequency, phase, along, across):
    """Return the derivatives of gabor(...) with respect to each parameter: (height * width, 8)."""
    u, v, envelope, wave = _stripes(height, width, x0, y0, angle, frequency, phase, along, across)
    even, odd = envelope * np.cos(wave), amplitude * envelope * np.sin(wave)
    du = -amplitude * even * u / along ** 2
    dv = -amplitude * even * v / across ** 2 - odd * 2 * np.pi * frequency
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([even, dv * sin - du * cos, du * sin + dv * cos, du * v - dv * u,
                     -odd * 2 * np.pi * v, -odd, amplitude * even * u ** 2 / along ** 3,
                     amplitude * even * v ** 2 / across ** 3], axis=-1).reshape(-1, 8)


@functools.cache
def _grid(height, width):
    """Return stripes to start a fit from: their angles, frequencies and widths (n, 3), the waves
    (n, pixels, 2) of each at phases 0 and -90 degrees, and the pseudo-inverses of these."""
    size = max(height, width)
    stripes = np.array([(angle, frequency, sigma) for angle in np.arange(8) * np.pi / 8
                        for frequency in (0.08, 0.16, 0.24, 0.34, 0.45)
                        for sigma in (size / 5, size / 3)])
    waves = np.stack([np.stack([gabor(
        height, width, 1, 0, 0, angle, frequency, phase, sigma, sigma).ravel()
        for phase in (0, -np.pi / 2)], 1) for angle, frequency, sigma in stripes])
    return stripes, waves, np.linalg.pinv(waves)


def fit(kernel, starts=3):
    """Fit a Gabor function to a kernel (height, width): {"r2", "angle", "frequency", "fitted"}.

    r2 is the share of the kernel's variance (about 0) that the fit explains, 0 .. 1; angle in
    degrees 0 .. 180; frequency in cycles a pixel, at most 0.5. A grid of stripes, least squares in
    amplitude and phase, gives the `starts` that are refined: r2 may be up to 0.009 below the best
    fit's, which more starts find, at their price (a layer's 64 shuffled kernels are fitted too).
    """
    height, width = kernel.shape
    scale = np.abs(kernel).max() or 1.0
    target, size = kernel / scale, max(height, width)
    stripes, waves, inverse = _grid(height, width)
    a, b = (inverse @ target.ravel()).T
    errors = ((waves @ np.stack([a, b], 1)[:, :, None] - target.reshape(-1, 1)) ** 2).sum((1, 2))
    low = [0, -size / 2, -size / 2, -np.inf, 0.02, -np.inf, size / 8, size / 8]
    high = [np.inf, size / 2, size / 2, np.inf, 0.5, np.inf, 2 * size, 2 * size]
    best = min((least_squares(
        lambda p: (gabor(height, width, *p) - target).ravel(),
        np.clip([np.hypot(a[i], b[i]), 0, 0, *stripes[i, :2], -np.arctan2(b[i], a[i]),
                 stripes[i, 2], stripes[i, 2]], low, high),
        lambda p: derivatives(height, width, *p), bounds=(low, high), ftol=1e-4, max_nfev=60)
        for i in np.argsort(errors)[:starts]), key=lambda solution: solution.cost)
    fitted = gabor(height, width, *best.x)
    power = (target ** 2).sum()
    return {"r2": float(1 - ((fitted - target) ** 2).sum() / power) if power else 0.0,
            "angle": float(np.degrees(best.x[3]) % 180), "frequency": float(best.x[4]),
            "fitted": fitted * scale}


def principal(kernel):
    """Project a kernel (height, width, channels) on the colour in which it varies most."""
    flat = kernel.reshape(-1, kernel.shape[2])
    direction = np.linalg.svd(flat, full_matrices=False)[2][0]
    return (flat @ direction).reshape(kernel.shape[:2]) * (np.sign(direction.sum()) or 1)


def structure(kernels, shuffles=64):
    """Measure how many of a layer's kernels (height, width, channels, filters) are structured.

    Returns (fits, chance, share): the fit of each filter; the r2 of `shuffles` kernels whose pixels
    were permuted, which is what so many free parameters explain of noise; and the share of
    structured kernels, those whose r2 exceeds that of 95 % of the shuffled: 0.05 is chance. A
    structured kernel is no noise; it may be an edge, a stripe or a blob.
    """
    flat = [principal(kernels[..., i]) for i in range(kernels.shape[3])]
    rng = np.random.default_rng(0)
    shuffled = [rng.permuted(flat[i % len(flat)].ravel()).reshape(flat[0].shape)
                for i in range(shuffles)]
    every = [fit(kernel) for kernel in Progress([*flat, *shuffled], "Gabor fits")]
    fits, chance = every[:len(flat)], np.array([f["r2"] for f in every[len(flat):]])
    return fits, chance, float(np.mean([f["r2"] > np.quantile(chance, 0.95) for f in fits]))
