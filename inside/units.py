"""Describe a network's units for the page to explore it: facts for JSON, and arrays of bytes.

Maps, patches and made images of a unit beside each other as in the toolbox of Yosinski et al.,
Understanding neural networks through deep visualization (arXiv 1506.06579).
"""
import contextlib
import math

import keras
import numpy as np

from inside.ascent import maximize
from inside.deconvnet import receptive_field
from inside.occlusion import probabilities_of_occluded
from inside.pictures import largest, tiles
from inside.statistics import summarize
from inside.strongest import project_strongest
from inside.trained import outputs
from system.command_line import NotDrawn
from training import graph

LARGEST = 6_000_000  # bytes of a page
PICTURES, KERNELS = 3 * LARGEST // 8, LARGEST // 8  # of them, of what excites maps, of kernels


def share(values):
    """Return 0 .. 1 as bytes."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def signed(values, limit):
    """Return -limit .. limit as bytes, 128 for 0; limit: a number or an array."""
    return np.rint(128 + 127 * np.clip(values / np.maximum(limit, 1e-12), -1, 1)).astype(np.uint8)


def as_pixels(network, values):
    """Return network input as bytes, pixels again."""
    return share(np.asarray(values) * network.std + network.mean)


def most_maps(network):
    """Return how many maps of a layer there is room for at most, each with its strongest patches,
    their projections, the made image, and what it is of four images; NotDrawn if for none."""
    areas = {}  # bytes of a map of each layer
    for layer in network.layers:
        _, height, width, _ = network.stages[layer].shape
        areas[layer] = 4 * height * width
        with contextlib.suppress(NotDrawn):
            top, bottom, left, right = receptive_field(network.model, layer, height // 2,
                                                       width // 2)
            areas[layer] += 19 * (bottom - top) * (right - left) * network.model.input.shape[3]
    counts = {layer: network.stages[layer].shape[3] for layer in network.layers}
    for most in range(max(counts.values()), 0, -1):
        if sum(min(most, counts[layer]) * areas[layer] for layer in areas) <= PICTURES:
            return most
    raise NotDrawn(f"one map of each of this network's {len(areas)} layers would make a page "
                   f"larger than {LARGEST / 1e6:.0f} MB; strongest and activations draw them")


def describe_layer(network, layer, images, maps):
    """Return facts and arrays of some maps of a layer: as they are of `images`, and what excites
    each."""
    values = outputs(network.model, [network.stages[layer]], images, network.inputs)[0]
    limit = max(float(np.percentile(values, 99.5)), 1e-12)
    _, height, width, count = values.shape
    summary = summarize(network, layer)
    whole = {name: x[-1] for name, x in summary.statistics(network.data.test_labels).items()}
    facts = dict(name=layer, maps=maps.tolist(), count=count, height=height, width=width)
    facts |= dict(limit=limit, said=[
        f"active at {100 * whole['active'][m]:.0f} % of positions, mean {whole['mean'][m]:.2f}, at "
        f"most {whole['max'][m]:.1f}, on all test images" for m in maps])
    arrays = {layer: np.stack([share(np.moveaxis(x[..., maps], 2, 0) / limit) for x in values])}
    del values  # of large images they are many
    try:
        _, patches, projections = project_strongest(
            network.model, layer, network.data.test_images, 9, network.inputs, maps)
        field = receptive_field(network.model, layer, height // 2, width // 2)
    except NotDrawn as error:
        return facts | dict(without=f"Without patches: {error}."), arrays
    size = largest([p for own in patches for p in own])
    stacked = {"patches": (patches, lambda x: as_pixels(network, x), 255),
               "projections": (projections, lambda x: signed(x, np.abs(x).max()), 128)}
    for name, (nested, as_bytes, empty) in stacked.items():
        canvas = np.full((len(maps), 9, *size, images.shape[3]), empty, np.uint8)
        for m, own in enumerate(nested):
            for k, x in enumerate(own):
                canvas[m, k, :x.shape[0], :x.shape[1]] = as_bytes(x)
        arrays[f"{layer}/{name}"], facts[name] = canvas, list(canvas.shape[1:])
    made = maximize(network, layer, maps, steps=60)
    made = as_pixels(network, made[:, field[0]:field[1], field[2]:field[3]])
    arrays[f"{layer}/made"], facts["made"] = made, [1, *made.shape[1:]]
    return facts, arrays


def describe_kernels(network, layer, maps, room):
    """Return facts and bytes {name: (maps, height, width, channels)} of the kernels that make some
    maps of a layer, each on its own scale: as pixels, or its slices, one for each map below, as one
    picture of at most `room` bytes for all; or say why they are left out."""
    model = network.model
    below = [*graph.kernels_below(model)[id(network.stages[layer])]]
    if len(below) > 1 or not isinstance(below[0], keras.layers.Conv2D):
        return {"without": "Without a kernel: no single convolution makes these maps."}, {}
    slices = below[0].kernel.shape[2]
    kernels = np.moveaxis(below[0].kernel.numpy(), 3, 0)[maps]
    kernels = signed(kernels, np.abs(kernels).max((1, 2, 3), keepdims=True))
    if below[0] is graph.first_convolution(model) and slices in (1, 3):
        said = "kernel"
    else:
        across = min(slices, math.ceil(math.sqrt(2 * slices)))  # about twice as wide as high
        kernels = tiles(np.moveaxis(kernels, 3, 1)[..., None], across, empty=0, gap=1)
        said = "kernel, a slice for each map below"
        if kernels.size > room:
            return {"without": f"Without kernels: the layer's take {kernels.size / 1e6:,.1f} MB, "
                    "too much for this page."}, {}
    return dict(kernel=[1, *kernels.shape[1:]], slices=said), {f"{layer}/kernel": kernels}


def hidden(network, images):
    """Return (rows, columns) where a grey square is centred, its side, and the probabilities of the
    classes then, as bytes (images, rows, columns, classes)."""
    part = min(images.shape[1:3]) / 7
    side, stride = max(1, round(2 * part)), max(1, round(0.75 * part))
    rows, columns, p = probabilities_of_occluded(network.model, network.inputs(images), side,
                                                 stride, network.grey)
    return [rows.tolist(), columns.tolist()], side, share(p)
