"""Make images that excite each feature map and each class most, beside real ones that do.

By gradient ascent with jitter, blur and decay of the norm, in inside/ascent.py (Yosinski et al.,
arXiv 1506.06579).
"""
import itertools

import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.ascent import correlation, excitation, maximize
from inside.deconvnet import receptive_field
from inside.pictures import as_grey, largest, mosaic, show
from inside.strongest import strongest_of_layer
from inside.trained import maps_of
from system.progress import Progress
from training import graph

SLOW = True  # left out of `all`
OPTIONS = {"maps": "feature maps of each layer to show at most", "seeds": "images made of each",
           "steps": "steps of gradient ascent"}


def draw(record, maps=16, seeds=3, steps=200):
    """Draw, of each layer, the made images of some maps beside the nine patches that excite them
    most; and the made images of the classes beside the mean of their test images."""
    network, data = record.network, record.network.data
    maps_of(network)
    logits = next(name for name, node in graph.named_nodes(network.model).items()
                  if any(x is network.model.output for x in node.outputs))
    drawn = []
    places = [*network.layers, logits]
    bar = Progress(total=len(places) * seeds, desc="made images", unit="seed")
    for layer in places:
        count = graph.named_nodes(network.model)[layer].outputs[0].shape[-1]
        chosen = utils.evenly(count, maps)
        made = []
        for seed in range(seeds):
            made.append(maximize(network, layer, chosen, steps, seed))
            bar.update()
        if layer == logits:
            name, excited, beside = "classes", "the class's logit", network.of_all(chosen)
            figure, numbers = draw_classes(network, chosen, np.stack(made, 1))
        else:
            name, excited = layer, f"a map of {layer}"
            beside = ", beside the nine test patches that do"
            if len(chosen) < count:
                beside += f", {len(chosen)} of {count} maps"
            beside += ";\nhow strongly they excite it, and the strongest real patch"
            figure, numbers = draw_maps(network, layer, chosen, np.stack(made, 1))
        figure.suptitle(f"{record.name}: images made to excite {excited} most, from {seeds} random "
                        f"beginnings{beside}\n{data.title}", fontsize=9)
        drawn.append((f"maximize_{name}", figure, numbers))
    bar.close()
    return drawn


def draw_maps(network, layer, chosen, made):
    """Draw made images (maps, seeds, height, width, channels), cut to the receptive field of the
    middle unit, beside the nine strongest patches."""
    data = network.data
    image, row, column, value = strongest_of_layer(
        network.model, layer, data.test_images, 9, network.inputs)
    shape = network.stages[layer].shape
    field = receptive_field(network.model, layer, shape[1] // 2, shape[2] // 2)
    patches = []  # of each map
    for m in chosen:
        patches.append([])
        for i, r, c in zip(image[m], row[m], column[m]):
            top, bottom, left, right = receptive_field(network.model, layer, int(r), int(c))
            patches[-1].append(as_grey(network.inputs(data.test_images[i:i + 1])[
                0, top:bottom, left:right]))
    size = largest(sum(patches, []))  # the middle unit's field need not be the largest
    height, width = field[1] - field[0], field[3] - field[2]
    whole = [[x for x in nine if x.shape[:2] == (height, width)] for nine in patches]  # no border
    reach = min(2, max(1, min(height, width) // 8), (min(height, width) - 1) // 2)
    tiles, real, own, alike = [], [], [], []
    others_of = whole[1:] + whole[:1] if len(whole) > 1 else [[]]  # another map's
    for m, images, nine, same, others in zip(chosen, made, patches, whole, others_of):
        cut = [as_grey(x[field[0]:field[1], field[2]:field[3]]) for x in images]
        large = [np.kron(x, np.ones((3, 3, 1))) for x in cut]  # as large as the nine patches
        tiles.append(mosaic([*large, mosaic(nine, 3, size=size)], 1 + len(cut), gap=2))
        real.append(value[m, 0])
        own.append(excitation(network, layer, images, [m] * len(images)).mean())
        alike.append([correlation(pairs, reach) for pairs in (
            itertools.combinations(cut, 2), itertools.product(cut, same),
            itertools.product(cut, others))])
    columns = 4
    rows = -(-len(tiles) // columns)
    tall, wide = tiles[0].shape[:2]
    figure, axes = plt.subplots(rows, columns, layout="constrained", squeeze=False,
                                figsize=(11, 11 / columns * rows * (tall / wide + 0.14) + 0.6))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, tile, m, made_value, real_value in zip(axes.flat, tiles, chosen, own, real):
        show(axis, tile, f"map {m}: {made_value:.1f}, real {real_value:.1f}")
    return figure, {"maps": chosen, "images": made, "made": np.array(own), "real": np.array(real),
                    "alike": np.array(alike)}


def draw_classes(network, chosen, made):
    """Draw made images (classes, seeds, ...) beside the mean of the class's test images."""
    data = network.data
    figure, axes = plt.subplots(2, -(-len(chosen) // 2), layout="constrained", squeeze=False,
                                figsize=(14, 6.5))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, c, images in zip(axes.flat, chosen, made):
        own = data.test_images[data.test_labels == c]
        mean = as_grey(network.inputs(own).mean(0)) if len(own) else np.ones((1, 1, 3))
        show(axis, mosaic([*map(as_grey, images), mean], 2, gap=1),
             f"{data.classes[c]} (last: mean of test images)")
    return figure, {"classes": np.array(data.classes)[chosen], "images": made}


def table(numbers):
    """Yield how strongly made images excite each map, "made" (maps,), and test images, "real"; and
    how made images correlate, "alike" (maps, 3), with each other and with patches within the image.
    """
    if "maps" not in numbers:  # it is of classes
        return
    yield ("map", "made image, mean over seeds", "strongest test image",
           "correlation of made images", "with its strongest patches", "with another map's")
    for m, made, real, alike in zip(*(numbers[k] for k in ("maps", "made", "real", "alike"))):
        yield m, f"{made:.1f}", f"{real:.1f}", *(f"{r:.2f}" if r == r else "" for r in alike)
