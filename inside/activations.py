"""Show the mean feature maps of each class over ten test images (original report)."""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.pictures import as_grey, mosaic, show_grid
from inside.trained import first_of_each_class, maps_of, outputs

OPTIONS = {"count": "classes to show at most"}
LARGE = 8  # maps of a layer


def draw(record, count=20):
    """Draw ten test images of each class beside the mean feature maps over them: some maps of
    three classes large, and all."""
    network = record.network
    classes, chosen = first_of_each_class(network.data.test_labels, 10, count)
    images = network.inputs(network.data.test_images[chosen.ravel()])
    maps = [y.reshape(*chosen.shape, *y.shape[1:]).mean(1)
            for y in outputs(network.model, maps_of(network), images)]
    images = images.reshape(*chosen.shape, *images.shape[1:])
    limits = [max(np.percentile(mean, 99.5), 1e-12) for mean in maps]  # borders stand out
    few = utils.evenly(len(classes), 3)
    some = [utils.evenly(mean.shape[-1], LARGE) for mean in maps]
    every = {"classes": np.array([network.data.classes[c] for c in classes])} | dict(
        zip(network.layers, maps))
    large = {"classes": every["classes"][few]}
    for layer, mean, own in zip(network.layers, maps, some):
        large |= {layer: mean[few][..., own], f"{layer}/maps": own}
    drawn = [("activations", draw_some(network, images[few], large, limits), large),
             ("activations_all", draw_all(network, images, every, limits), every)]
    for (_, figure, _), own in zip(drawn, (few, classes)):
        figure.suptitle(f"{network.name}: {images.shape[1]} test images per class, and the mean of "
                        f"each feature map over them{network.of_all(own)}\n{network.data.title}")
    return drawn


def coloured(maps, limit):
    """Return maps (height, width, maps) as colours: 0 and less dark, `limit` and more yellow."""
    return [plt.cm.viridis(m / limit)[..., :3] for m in np.moveaxis(maps.clip(0, limit), -1, 0)]


def draw_some(network, images, numbers, limits):
    """Draw classes beside each other: their images (classes, n, ...) above the mean maps "layer"
    (classes, ...) of each layer, which are the maps "layer/maps"."""
    rows = [("", [[as_grey(x) for x in own] for own in images], 5, ())]
    for layer, tensor, limit in zip(network.layers, maps_of(network), limits):
        names, count = numbers[f"{layer}/maps"], tensor.shape[-1]
        of = f"{len(names)} of {count} maps" if len(names) < count else f"{count} maps"
        rows.append((f"{layer}, {of}:\n0 and less dark,\n{limit:.2f} and more yellow",
                     [coloured(mean, limit) for mean in numbers[layer]], 4, names))
    heights = [3.3 * -(-len(tiles[0]) // columns) / columns * tiles[0][0].shape[0] /
               tiles[0][0].shape[1] + 0.3 for _, tiles, columns, _ in rows]
    figure, axes = plt.subplots(len(rows), len(images), layout="constrained", squeeze=False,
                                figsize=(3.3 * len(images), sum(heights) + 0.9),
                                height_ratios=heights)
    figure.get_layout_engine().set(wspace=0.1)
    for row, (label, tiles, columns, names) in zip(axes, rows):
        row[0].set_ylabel(label, fontsize=9)
        for axis, own in zip(row, tiles):
            show_grid(axis, own, columns, names, gap=1 + own[0].shape[0] // 4 * bool(label))
    for axis, name in zip(axes[0], numbers["classes"]):
        axis.set_title(name)
    return figure


def draw_all(network, images, numbers, limits):
    """Draw classes below each other: their images (classes, n, ...) beside all mean maps "layer"
    (classes, ...) of each layer."""
    columns, titles = [[mosaic([as_grey(x) for x in own], 5) for own in images]], [""]
    for layer, limit in zip(network.layers, limits):
        across = max(1, numbers[layer].shape[-1] // 4)
        columns.append([mosaic(coloured(mean, limit), across) for mean in numbers[layer]])
        titles.append(f"{layer}: 0 and less (dark) to {limit:.2f} and more (yellow)")
    ratios = [blocks[0].shape[1] / blocks[0].shape[0] for blocks in columns]
    figure, axes = plt.subplots(1, len(columns), layout="constrained", width_ratios=ratios,
                                figsize=(13, 13.5 * len(images) / sum(ratios) + 1))
    for axis, blocks, title in zip(axes, columns, titles):
        show_grid(axis, blocks, 1, labels=[] if title else numbers["classes"],
                  gap=blocks[0].shape[0] // 8)
        axis.set_title(title, fontsize=9)
    return figure
