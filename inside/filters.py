"""Show the first layer's kernels, and which of them are structured.

As figure 3 of Krizhevsky, Sutskever & Hinton, ImageNet classification with deep convolutional
neural networks (2012). Structured are those that a Gabor function fits (Daugman 1985).
"""
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from inside import gabor
from inside.pictures import mosaic, show, show_grid
from inside.trained import require
from system.command_line import InputError
from system.files import read_json
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
        [in_grey(kernel[..., i], limit) for i in order], 8))) for kernel in kernels]
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
        return [*steps[:-1], kept_step(record, steps[-1])], kernels
    layer = require(graph.first_convolution(record.network.model), "the network has no convolution")
    return [], [layer.kernel.numpy()]


def kept_step(record, last):
    """Return of which step the weights are that a run has kept: the last, or the best."""
    try:
        return read_json(record.folder / "result.json")["best_step"] if (
            record.config["options"]["weights"] == "best") else last
    except (AttributeError, KeyError, TypeError, InputError):  # unfinished, or of another kind
        return last


def at_end(steps):
    """Return "step 5,000, ", if there are steps."""
    return f"step {steps[-1]:,}, " if len(steps) else ""


def draw(record, animate=False):
    """Draw how the first layer's kernels came about and, larger, the last ones, best Gabor fit
    first."""
    steps, kernels = kernels_of(record)
    if animate:
        require(len(steps), f"{record.name} is a model, of which it is not known how it came about")
    height, width, _, count = kernels[-1].shape
    fits, chance, share = gabor.structure(kernels[-1])
    r2 = np.array([f["r2"] for f in fits])
    order, chosen = np.argsort(-r2), moments(len(kernels))
    few, columns, gap = min(16, count), min(8, count), 1 + height // 6
    heights = [0.68 * len(chosen) * (height + 1) / (width + 1) + 0.5] * bool(len(steps)) + [
        1.46 * -(-count // columns) * (height + gap) / (width + gap) + 0.4]
    figure = plt.figure(figsize=(12, sum(heights) + 0.5), layout="constrained")
    *top, bottom = figure.subfigures(len(heights), 1, False, height_ratios=heights)[:, 0]
    for axis in (part.subplots() for part in top):
        limit = np.abs(kernels[-1]).max()
        show(axis, mosaic([in_grey(kernels[m][..., i], limit) for m in chosen
                           for i in order[:few]], few),
             f"the first {few} of those below through training, all on one scale: {-limit:.2f} is "
             f"black, 0 grey, {limit:.2f} white")
        axis.set_yticks((np.arange(len(chosen)) + 0.5) * (height + 1) - 1,
                        [f"step {steps[m]:,}" for m in chosen], fontsize=9)
        axis.tick_params(length=0)
    axis = bottom.subplots()
    show_grid(axis, [in_grey(kernels[-1][..., i]) for i in order], columns,
              [f"{fits[i]['r2']:.2f}, {fits[i]['angle']:.0f}°" for i in order], gap=gap)
    axis.set_title(f"{at_end(steps)}best Gabor fit first: r2 and direction of its stripes; each on "
                   "its own scale: 0 is grey, its largest absolute value black or white",
                   fontsize=9, pad=16)
    figure.suptitle(
        f"{record.name}: {count} first-layer kernels, {height}x{width}\n{100 * share:.0f} % are "
        f"structured: a Gabor function fits them better than 95 % of shuffled kernels; mean r2 "
        f"{r2.mean():.2f}, shuffled {chance.mean():.2f}", fontsize=10)
    numbers = {"kernels": np.stack([kernels[m] for m in chosen]), "order": order, "r2": r2,
               "steps": np.array([steps[m] for m in chosen] if len(steps) else []),
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
    figure.suptitle("first-layer kernels after training, each on its own scale, grey is 0" +
                    f"\n{data}" * bool(data), fontsize=10)
    return figure, {name: kernels for name, (kernels, _) in runs.items()}


def in_grey(kernel, limit=None):
    """Return a kernel (height, width, channels) as colours, 0 in the middle: black is -limit, white
    `limit`, its largest absolute value unless given; of other channels than one or three their
    mean."""
    kernel = kernel if kernel.shape[2] in (1, 3) else kernel.mean(2, keepdims=True)
    shares = kernel / (2 * (limit or max(np.abs(kernel).max(), 1e-12))) + 0.5
    return np.broadcast_to(shares.clip(0, 1), (*kernel.shape[:2], 3))
