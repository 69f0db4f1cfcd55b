"""Show the strongest projection of feature maps as training goes on (fig. 4).

Figure 4 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.deconvnet import one_unit, project, receptive_field
from inside.pictures import as_grey, as_signed, mosaic, show
from inside.strongest import strongest_of_layer
from inside.trained import maps_of, read_snapshots
from system.command_line import NotDrawn
from training.checkpoints import snapshots, step_of

OPTIONS = {"count": "how many feature maps, those with the strongest activations at the end"}


def draw(record, count=6):
    """Draw the strongest unit of chosen feature maps through training, as snapshots saw it."""
    network = record.network
    maps_of(network)
    layer = network.layers[-1]
    files = snapshots(network.folder)
    if not files:
        raise NotDrawn(f"{network.folder} has no snapshots; train with --snapshots 8")
    sample = network.data.train_images[::max(1, len(network.data.train_images) // 10_000)]
    steps = list(map(step_of, files))

    def strongest_now():
        return strongest_of_layer(network.model, layer, sample, 1, network.inputs)
    maps = np.argsort(-strongest_now()[3][:, 0])[:count]
    count = len(maps)
    figure, axes = plt.subplots(count, len(files), figsize=(1.5 * len(files), 2.9 * count),
                                layout="constrained", squeeze=False)
    numbers = {"maps": maps, "steps": np.array(steps), "image": np.empty((count, len(files)), int)}
    centre = [int(n) // 2 for n in network.stages[layer].shape[1:3]]
    top, bottom, left, right = receptive_field(network.model, layer, *centre)
    size = bottom - top, right - left
    for k, _ in enumerate(read_snapshots(files, network.model)):
        image, row, column, value = (a[maps, 0] for a in strongest_now())
        numbers["image"][:, k] = image
        unit = row, column, maps
        pixels = project(network.model, layer, network.inputs(sample[image]),
                         lambda activations, unit=unit: one_unit(activations, *unit))
        for i, axis in enumerate(axes[:, k]):
            top, bottom, left, right = receptive_field(
                network.model, layer, int(row[i]), int(column[i]))
            jump = k and image[i] != numbers["image"][i, k - 1]
            patch = network.inputs(sample[image[i]][None])[0, top:bottom, left:right]
            show(axis, mosaic([as_signed(pixels[i, top:bottom, left:right]), as_grey(patch)], 1,
                              size=size),
                 (f"step {steps[k]:,}\n" if i == 0 else "") + f"{value[i]:.1f}{' *' * bool(jump)}")
            if k == 0:
                axis.set_ylabel(f"map {maps[i]}", fontsize=9)
    figure.suptitle(f"{network.name}, {layer}: projection (blue - 0 + red, each on its own "
                    f"scale) of each map's strongest activation (number) on {len(sample):,} "
                    f"training images, above its patch;\n* where another image takes over; "
                    f"{network.data.title}", fontsize=10)
    return figure, numbers


def table(numbers):
    """Yield which training image is each map's strongest: "image" (maps, snapshots)."""
    yield "strongest image of", *(f"step {step:,}" for step in numbers["steps"])
    for m, images in zip(numbers["maps"], numbers["image"]):
        yield f"map {m}", *images
