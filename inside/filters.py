"""Show the first layer's kernels, and how edge-like they are."""
import matplotlib.pyplot as plt
import numpy as np

from inside import gabor
from inside.pictures import as_signed, mosaic, show


def moments(count):
    """Return at most six of `count` evaluations, early ones closer together, the last included."""
    return np.unique(np.geomspace(1, count, min(6, count)).round().astype(int)) - 1


def draw(record):
    """Draw the last first-layer kernels, best Gabor fit first, each on its own scale and all on
    one, and how they changed over training."""
    steps, _, kernels = record.series("filters/kernel")
    height, width, _, count = kernels[-1].shape
    fits, chance, share = gabor.edge_likeness(kernels[-1])
    r2 = np.array([f["r2"] for f in fits])
    order = np.argsort(-r2)
    kernel, limit = kernels[-1][..., order], np.abs(kernels[-1]).max()
    rows, columns, chosen = -(-count // 8), 8, moments(len(kernels))
    figure = plt.figure(figsize=(12, 0.75 * rows + 0.35 * len(chosen) + 2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.75 * rows + 1, 0.35 * len(chosen) + 1])
    axes = top.subplots(1, 2, gridspec_kw={"wspace": 0.1})
    for axis, scale, title in zip(axes, (None, limit), (
            "each on its own scale (blue - 0 + red)",
            f"all on one scale, {-limit:.2f} (blue) to {limit:.2f} (red)")):
        show(axis, mosaic([as_signed(kernel[..., i], scale) for i in range(count)], columns, gap=2),
             title, pad=12)
        for i, f in enumerate(fits[k] for k in order):
            axis.text(i % columns * (width + 2) - 0.4, i // columns * (height + 2) - 0.7,
                      f"{f['r2']:.2f}, {f['angle']:.0f}°", fontsize=7)
    shown = [as_signed(kernels[m][..., i], np.abs(kernels[m]).max())
             for m in chosen for i in order[:24]]
    axis = bottom.subplots()
    show(axis, mosaic(shown, min(24, count), gap=1),
         f"over training: the same filters, best fit first, at steps "
         f"{', '.join(f'{steps[m]:,}' for m in chosen)} from top to bottom, each row on one scale")
    figure.suptitle(
        f"{record.name}: {count} first-layer kernels, {height}x{width}, step {steps[-1]:,}, with "
        "r2 and stripe angle of the best Gabor fit\n"
        f"mean r2 {r2.mean():.2f} (shuffled pixels {chance.mean():.2f}); {100 * share:.0f} % fit "
        "better than 95 % of shuffled kernels (chance 5 %)", fontsize=10)
    return figure, {"kernel": kernels[-1], "order": order, "step": steps[-1], "r2": r2,
                    "chance_r2": chance, "edge_likeness": share,
                    "angle": np.array([f["angle"] for f in fits]),
                    "frequency": np.array([f["frequency"] for f in fits])}
