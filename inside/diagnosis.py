"""Look for faults of the first layer's filters, and for unused dense units (fig. 6).

Figure 6 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.pictures import as_signed, mosaic, show
from inside.statistics import summarize
from inside.trained import outputs, require
from system.command_line import InputError
from system.files import load_arrays
from training import graph
from training.checkpoints import snapshots, step_of


def unused_over_time(network, names, count=1000):
    """Return steps, and how many units of each dense activation of `names` are positive on none of
    `count` training images then: (steps, layers); as snapshots say, and at last of the network."""
    images = network.data.train_images
    sample = images[utils.evenly(len(images), count)]
    found = outputs(network.model, [network.stages[name] for name in names], sample,
                    network.inputs) if names else []
    now = [(values.max(0) <= 0).sum() for values in found]
    steps, unused = [], []
    for file in snapshots(network.folder):
        arrays = load_arrays(file)
        if all(f"unused_units/{name}" in arrays for name in names):  # older runs miscounted
            steps.append(step_of(file))
            unused.append([arrays[f"unused_units/{name}"] for name in names])
            if any(x.shape or x.dtype.kind != "i" for x in unused[-1]):
                raise InputError(f"{file} is damaged: its unused units are no counts")
    return [*steps, steps[-1] if steps else 0], np.array([*unused, now], int)


def draw(record):
    """Draw the first layer's kernels with their norms, and count unused dense units."""
    network = record.network
    first = require(graph.first_convolution(network.model), "the network has no convolution")
    layer = require(graph.stage_after(network.model, first),
                    "no activation follows the first convolution alone")
    kernel = first.kernel.numpy()
    summary = summarize(network, layer)
    norms = np.sqrt((kernel ** 2).sum((0, 1, 2)))
    dense = {name: x.shape[1] for name, x in network.stages.items() if len(x.shape) == 2}
    steps, unused = unused_over_time(network, list(dense))
    numbers = dict(kernel=kernel, norms=norms, dead=summary.dead(), steps=np.array(steps),
                   near_duplicates=np.array(summary.near_duplicates()), dense_unused=unused,
                   dense_images=f"{min(1000, len(network.data.train_images)):,} training",
                   dense_units=np.array([*dense.values()], int),
                   dense_layers=np.array([*dense], str))
    return picture(numbers, f"{network.name}: first-layer kernels; {network.data.title}"), numbers


def picture(numbers, title):
    """Draw the kernels on one scale, largest norm first, beside their norms."""
    kernel, norms = numbers["kernel"], numbers["norms"]
    order, limit = np.argsort(-norms), np.abs(kernel).max()
    said = [f"{len(numbers['dead'])} dead, {len(numbers['near_duplicates'])} near-duplicate pairs; "
            f"the largest norm is {norms.max() / np.median(norms):.1f} medians"]
    for name, count, now in zip(numbers.get("dense_layers", ()), numbers.get("dense_units", ()),
                                numbers.get("dense_unused", norms[:0]).T):
        said.append(f"{name}: {now[-1]:,} of {count:,} units positive on none of "
                    f"{numbers['dense_images']} images" + (
            f"\n(at most {now.max():,}, at step {numbers['steps'][now.argmax()]:,})"
            if now.max() > now[-1] else ""))
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained",
                                width_ratios=[1.6, 1])
    show(axes[0], mosaic([as_signed(kernel[..., i].mean(2, keepdims=True), limit) for i in order],
                         8), f"all on one scale: -{limit:.2f} (blue) to {limit:.2f} (red)")
    axes[1].bar(range(len(order)), norms[order])
    axes[1].set(xlabel="kernel, by norm", ylabel="Euclidean norm of the kernel")
    axes[1].set_title("\n".join(said), fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def table(numbers):
    """Yield the faults of the first layer's filters, "norms" (filters,), and of dense layers."""
    norms = numbers["norms"] / np.median(numbers["norms"])
    units, unused = numbers.get("dense_units", ()), numbers.get("dense_unused", np.zeros((0, 0)))
    whose = numbers.get("dense_images", "all test")
    yield ("filters", "dead", "near-duplicate pairs", "smallest norm / median",
           "largest norm / median", *[f"dense units positive on none of {whose} images"]
           * len(units))
    yield (len(norms), len(numbers["dead"]), len(numbers["near_duplicates"]),
           f"{norms.min():.1f}", f"{norms.max():.1f}", *(
               f"{now[-1]:,} of {count:,}" + (
                   f"; at most {now.max():,}, at step {numbers['steps'][now.argmax()]:,}"
                   if now.max() > now[-1] else "") for now, count in zip(unused.T, units)))
