"""Show the first layer's kernels, and how edge-like they are."""
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from inside import gabor
from inside.pictures import as_signed, mosaic, show


def moments(count):
    """Return at most six of `count` evaluations, early ones closer together, the last included."""
    return np.unique(np.geomspace(1, count, min(6, count)).round().astype(int)) - 1


OPTIONS = {"animate": "write the kernels forming as a GIF, too"}


def animation(steps, kernels, order, zoom=10):
    """Return the bytes of a GIF: the kernels in turn, all on the scale of the last, two frames a
    second; the last one stays."""
    limit = np.abs(kernels[-1]).max()
    frames = [Image.fromarray(np.uint8(255 * mosaic(
        [as_signed(kernel[..., i], limit) for i in order], 8, gap=1))) for kernel in kernels]
    frames = [frame.resize((zoom * frame.width, zoom * frame.height), Image.Resampling.NEAREST)
              for frame in frames]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], loop=0,
                   duration=[500] * (len(frames) - 1) + [3000], comment=f"steps {steps}".encode())
    return stream.getvalue()


def draw(record, animate=False):
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
    numbers = {"kernel": kernels[-1], "order": order, "step": steps[-1], "r2": r2,
                    "chance_r2": chance, "edge_likeness": share,
                    "angle": np.array([f["angle"] for f in fits]),
                    "frequency": np.array([f["frequency"] for f in fits])}
    if not animate:
        return figure, numbers
    return [("filters", figure, numbers), ("filters.gif", animation(steps, kernels, order), {})]


def draw_together(records):
    """Draw the last first-layer kernels of several runs side by side, best Gabor fit first."""
    figure, axes = plt.subplots(1, len(records), figsize=(4 * len(records), 3.2), squeeze=False,
                                layout="constrained")
    numbers = {}
    for axis, record in zip(axes[0], records):
        steps, _, kernels = record.series("filters/kernel")
        fits, chance, share = gabor.edge_likeness(kernels[-1])
        order = np.argsort([-f["r2"] for f in fits])
        show(axis, mosaic([as_signed(kernels[-1][..., i]) for i in order], 8, gap=1),
             f"{record.name}, step {steps[-1]:,}\n{100 * share:.0f} % fit better than 95 % of "
             "shuffled")
        numbers |= {f"{record.name}/kernel": kernels[-1][..., order],
                    f"{record.name}/edge_likeness": share}
    figure.suptitle("first-layer kernels, each on its own scale (blue - 0 + red), best Gabor fit "
                    "first", fontsize=10)
    return figure, numbers
