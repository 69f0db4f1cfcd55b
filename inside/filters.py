"""Show the first layer's kernels, and which of them are structured."""
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from inside import gabor
from inside.pictures import as_signed, meaning_of_colours, mosaic, show
from inside.trained import require
from training import graph


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


def kernels_of(record):
    """Return (steps, kernels (height, width, channels, maps)) of the first layer at each
    evaluation of a run; of a .keras file ([], [its kernels])."""
    if not record.is_keras:
        steps, _, kernels = record.series("filters/kernel")
        return steps, kernels
    layer = require(graph.first_convolution(record.network.model), "the network has no convolution")
    return [], [layer.kernel.numpy()]


def at_end(steps):
    """Return "step 5,000, ", if there are steps."""
    return f"step {steps[-1]:,}, " if len(steps) else ""


def draw(record, animate=False):
    """Draw the last first-layer kernels, best Gabor fit first, and how they came about."""
    steps, kernels = kernels_of(record)
    if animate:
        require(len(steps), f"{record.name} is a model, of which it is not known how it came about")
    height, width, channels, count = kernels[-1].shape
    zero = meaning_of_colours(channels)
    fits, chance, share = gabor.structure(kernels[-1])
    r2 = np.array([f["r2"] for f in fits])
    order, columns, chosen = np.argsort(-r2), min(16, count), moments(len(kernels))
    rows, limit = -(-count // columns), np.abs(kernels[-1]).max()
    heights = [0.9 * rows + 0.5, *[0.55 * len(chosen) + 0.5] * bool(len(steps))]
    figure = plt.figure(figsize=(12, sum(heights) + 0.7), layout="constrained")
    top, *bottom = figure.subfigures(len(heights), 1, False, height_ratios=heights)[:, 0]
    axis = top.subplots()
    show(axis, mosaic([as_signed(kernels[-1][..., i]) for i in order], columns, gap=2),
         f"{at_end(steps)}best Gabor fit first: r2 and direction of its stripes", pad=14)
    for i, f in enumerate(fits[k] for k in order):
        axis.text(i % columns * (width + 2) - 0.4, i // columns * (height + 2) - 0.7,
                  f"{f['r2']:.2f}, {f['angle']:.0f}°", fontsize=8)
    for axis in (part.subplots() for part in bottom):
        shown = [as_signed(kernels[m][..., i], limit) for m in chosen for i in order[:columns]]
        show(axis, mosaic(shown, columns, gap=1),
             f"the first {columns} of them through training, all on one scale, "
             f"{-limit:.2f} to {limit:.2f} ({zero})")
        axis.set_yticks((np.arange(len(chosen)) + 0.5) * (height + 1) - 1,
                        [f"step {steps[m]:,}" for m in chosen], fontsize=9)
        axis.tick_params(length=0)
    figure.suptitle(
        f"{record.name}: {count} first-layer kernels, {height}x{width}, each on its own scale "
        f"({zero})\n{100 * share:.0f} % are structured: a Gabor function fits them better "
        f"than 95 % of shuffled kernels; mean r2 {r2.mean():.2f}, shuffled {chance.mean():.2f}",
        fontsize=10)
    numbers = {"kernel": kernels[-1], "order": order, "step": np.array(steps[-1:]), "r2": r2,
               "chance_r2": chance, "structured": share,
               "angle": np.array([f["angle"] for f in fits]),
               "frequency": np.array([f["frequency"] for f in fits])}
    if not animate:
        return figure, numbers
    return [("filters", figure, numbers), ("filters.gif", animation(steps, kernels, order), {})]


def draw_together(records):
    """Draw the last first-layer kernels of several runs, one run below the other."""
    runs = {}
    for record in records:
        steps, kernels = kernels_of(record)
        share = gabor.structure(kernels[-1])[2]
        runs[record.name] = kernels[-1], f"{at_end(steps)}{100 * share:.0f} % structured"
    return one_below_the_other(runs)


def one_below_the_other(runs, data=""):
    """Return (figure, {run: kernels}) of {run: (first-layer kernels, what to say of them)}."""
    rows = [-(-kernels.shape[3] // 32) for kernels, _ in runs.values()]
    height = 0.5 + 0.4 * sum(rows) + 0.22 * len(rows)
    figure, axes = plt.subplots(len(runs), 1, figsize=(11, height), height_ratios=rows,
                                squeeze=False, layout="constrained")
    for axis, (name, (kernels, said)) in zip(axes[:, 0], runs.items()):
        show(axis, mosaic([in_grey(kernel) for kernel in np.moveaxis(kernels, 3, 0)], 32))
        axis.set_title(f"{name}: {said}", fontsize=9, loc="left", pad=3)
    figure.suptitle(f"{data}\n" * bool(data) + "first-layer kernels after training, each on its "
                    "own scale, grey is 0", fontsize=10)
    return figure, {name: kernels for name, (kernels, _) in runs.items()}


def in_grey(kernel):
    """Return a kernel (height, width, channels) as colours, stretched to 0 .. 1 about 0; of other
    channels than one or three their mean."""
    kernel = kernel if kernel.shape[2] in (1, 3) else kernel.mean(2, keepdims=True)
    return np.broadcast_to(kernel / (2 * max(np.abs(kernel).max(), 1e-12)) + 0.5,
                           (*kernel.shape[:2], 3))
