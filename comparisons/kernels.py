"""Draw the first layer's kernels after training, one configuration below the other."""
import matplotlib.pyplot as plt
import numpy as np

from comparisons import table as tables
from comparisons.measures import rows_of, series_of
from inside.pictures import mosaic, show
from system.command_line import NotDrawn

OPTIONS = {"seed": "the run of each configuration that is shown"}


def picture(kernel):
    """Return a kernel (height, width, channels) as colours, its range stretched to 0 .. 1 about
    0."""
    return np.broadcast_to(kernel / (2 * max(np.abs(kernel).max(), 1e-12)) + 0.5,
                           (*kernel.shape[:2], 3))


def make(rows, seed=0, most=32):
    """Return (figure, {configuration: kernels (height, width, channels, filters)}) of rows."""
    found = {}
    for (name, *_), group in tables.finished(rows).items():
        for row in group:
            series = series_of(row)
            if row["seed"] == seed and ("train", "filters/kernel") in series:
                found[name] = series["train", "filters/kernel"][2][-1], row
    if not found:
        raise NotDrawn(f"no run of seed {seed} has kernels, which this figure shows")
    figure, axes = plt.subplots(len(found), 1, figsize=(11, 0.2 + 0.62 * len(found)),
                                layout="constrained", squeeze=False)
    for axis, (name, (kernels, row)) in zip(axes[:, 0], found.items()):
        show(axis, mosaic([picture(k) for k in np.moveaxis(kernels, 3, 0)[:most]], most))
        accuracy = 100 * row["test_accuracy"]
        axis.set_title(f"{name}, test accuracy {accuracy:.1f} %", fontsize=9, loc="left", pad=3)
    data = dict.fromkeys(row["data"] for _, row in found.values())
    figure.suptitle("\n".join([*data, "first-layer kernels after training, seed "
                               f"{seed}: each on its own scale, grey is 0"]), fontsize=10)
    return figure, {name: kernels for name, (kernels, _) in found.items()}


def draw(paths, seed=0):
    """Return the figure of run folders, CSV files or studies, and its numbers."""
    return make(rows_of(paths), seed)
