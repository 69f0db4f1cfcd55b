"""Show the strongest projection of feature maps as training goes on (fig. 4).

Figure 4 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.deconvnet import one_unit, project, receptive_field
from inside.pictures import as_grey, as_signed, largest, meaning_of_colours, mosaic, show_grid
from inside.strongest import filled, strongest_of_layer
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
    chosen = utils.evenly(len(network.data.train_images), 2000)
    sample = network.data.train_images[chosen]
    steps = list(map(step_of, files))

    strongest = strongest_of_layer(network.model, layer, sample, 1, network.inputs)[3][:, 0]
    maps = np.argsort(-strongest)[:count]
    numbers = {"maps": maps, "steps": np.array(steps),
               "image": np.empty((len(maps), len(files)), int),
               "activation": np.empty((len(maps), len(files)), np.float32)}
    projections, pictures, titles = np.empty((3, len(maps), len(files)), object)
    for k, _ in enumerate(read_snapshots(files, network.model)):
        image, row, column, value = (a[maps, 0] for a in strongest_of_layer(
            network.model, layer, sample, 1, network.inputs))
        numbers["image"][:, k], numbers["activation"][:, k] = chosen[image], value
        inputs = network.inputs(sample[image])
        pixels = project(network.model, layer, inputs, lambda activations, unit=(row, column, maps):
                         one_unit(activations, *unit))
        for i, (top, bottom, left, right) in enumerate(zip(
                *receptive_field(network.model, layer, row, column))):
            jump = k and numbers["image"][i, k] != numbers["image"][i, k - 1]
            projections[i, k] = pixels[i, top:bottom, left:right]
            pictures[i, k] = [as_signed(projections[i, k]),
                              as_grey(inputs[i, top:bottom, left:right])]
            titles[i, k] = f"step {steps[k]:,}\n" * (i == 0) + f"{value[i]:.1f}{' *' * bool(jump)}"
    size = largest(projections.flat)
    numbers["projection"] = np.stack([filled(own, size) for own in projections])
    gap = 1 + size[0] // 6
    high = 1.1 * (2 * size[0] + 1 + gap) / (size[1] + gap)
    figure, axis = plt.subplots(figsize=(1.15 * len(files), high * len(maps) + 1),
                                layout="constrained")
    show_grid(axis, [mosaic(pair, 1, size=size) for pair in pictures.flat], len(files), titles.flat,
              [f"map {m}" for m in maps], gap)
    zero = meaning_of_colours(network.model.input.shape[3])
    figure.suptitle(f"{network.name}, {layer}: projection ({zero}, each on its own scale)\n"
                    f"of each map's strongest activation (number) on {len(sample):,} training "
                    "images, above its patch;\n* where another image takes over\n"
                    f"{network.data.title}", fontsize=10)
    return figure, numbers


def table(numbers):
    """Yield which training image is each map's strongest: "image" (maps, snapshots)."""
    yield "strongest image of", *(f"step {step:,}" for step in numbers["steps"])
    for m, images in zip(numbers["maps"], numbers["image"]):
        yield f"map {m}", *images
