"""Look for faults of the first layer's filters, and for unused dense units (fig. 6).

Figure 6 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.pictures import as_signed, mosaic, show
from inside.statistics import summarize
from inside.trained import output, require
from system.files import load_arrays
from training import graph
from training.checkpoints import snapshots, step_of


def unused_over_time(network, names, count=1000):
    """Return the steps of the snapshots, and how many units of each dense activation of `names` are
    positive on none of `count` training images then: (steps, layers)."""
    files = snapshots(network.folder)
    if files:
        unused = [[int(arrays[f"unused/{name}"]) for name in names]
                  for arrays in map(load_arrays, files)]
        return [step_of(file) for file in files], np.array(unused)
    images = network.data.train_images
    sample = images[utils.evenly(len(images), count)]
    values = [output(network.model, name, network.inputs(sample)) for name in names]
    return [0], np.array([[(x.max(0) <= 0).sum() for x in values]])


def draw(record):
    """Draw the first layer's filters, each on its own scale and on one, with their norms."""
    network = record.network
    first = require(graph.first_convolution(network.model), "the network has no convolution")
    layer = require([name for name in network.layers if network.stages[name].shape[-1]
                     == first.filters], "no activation follows the first convolution")[0]
    kernel = first.kernel.numpy()
    summary = summarize(network, layer)
    norms = np.sqrt((kernel ** 2).sum((0, 1, 2)))
    dead, pairs = summary.dead(), summary.near_duplicates()
    order, limit = np.argsort(-norms), np.abs(kernel).max()
    dense = {name: x.shape[1] for name, x in network.stages.items() if len(x.shape) == 2}
    steps, unused = unused_over_time(network, list(dense))
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    own = [as_signed(kernel[..., i]) for i in order]
    common = [plt.cm.RdBu_r(kernel[..., i].mean(2) / (2 * limit) + 0.5)[..., :3] for i in order]
    show(axes[0], mosaic(own, 8), "each on its own scale, by norm")
    show(axes[1], mosaic(common, 8), f"all on one scale: -{limit:.2f} (blue) to {limit:.2f} (red)")
    axes[2].bar(range(len(order)), norms[order])
    axes[2].set(xlabel="filter, by norm", ylabel="Euclidean norm of the kernel",
                title=f"{len(dead)} dead, {len(pairs)} near-duplicate pairs; the largest norm is "
                f"{norms.max() / np.median(norms):.1f} medians" + "".join(
                    f"\n{name}: of {count:,} units {now[-1]:,} are positive on no training\n"
                    f"image, at most {now.max():,}, at step {steps[now.argmax()]:,}"
                    for (name, count), now in zip(dense.items(), unused.T)))
    axes[2].title.set_fontsize(9)
    figure.suptitle(f"{network.name}: first-layer filters, {network.data.title}")
    return figure, dict(kernel=kernel, norms=norms, dead=dead, near_duplicates=np.array(pairs),
                        steps=np.array(steps), dense_unused=unused, dense_images="training",
                        dense_units=np.array([*dense.values()], int))


def table(numbers):
    """Yield the faults of the first layer's filters, "norms" (filters,), and of dense layers."""
    norms = numbers["norms"] / np.median(numbers["norms"])
    units, unused = numbers.get("dense_units", ()), numbers.get("dense_unused", np.zeros((0, 0)))
    whose = numbers.get("dense_images", "test")
    yield ("filters", "dead", "near-duplicate pairs", "smallest norm / median",
           "largest norm / median", *[f"dense units positive on no {whose} image"] * len(units))
    yield (len(norms), len(numbers["dead"]), len(numbers["near_duplicates"]),
           f"{norms.min():.1f}", f"{norms.max():.1f}", *(
               f"{now[-1]:,} of {count:,}; at most {now.max():,}, at step "
               f"{numbers['steps'][now.argmax()]:,}" for now, count in zip(unused.T, units)))
