"""Show the mean feature maps of each class over ten test images (original report)."""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.pictures import as_grey, mosaic, show
from inside.trained import first_of_each_class, maps_of, outputs

OPTIONS = {"count": "classes to show at most"}


def draw(record, count=20):
    """Draw ten test images of each class beside the mean feature maps over them: three classes
    large, and all."""
    network = record.network
    classes, chosen = first_of_each_class(network.data.test_labels, 10, count)
    images = network.inputs(network.data.test_images[chosen.ravel()])
    maps = [y.reshape(*chosen.shape, *y.shape[1:]).mean(1)
            for y in outputs(network.model, maps_of(network), images)]
    images = images.reshape(*chosen.shape, *images.shape[1:])
    few = utils.evenly(len(classes), 3)
    numbers = {"classes": np.array([network.data.classes[c] for c in classes])} | dict(
        zip(network.layers, maps))
    return [("activations", draw_rows(network, classes, images, maps, few, 2.0), numbers),
            ("activations_all", draw_rows(network, classes, images, maps, range(len(classes)), 1.7),
             {})]


def draw_rows(network, classes, images, maps, chosen, height):
    """Draw the rows `chosen` of classes, their images (classes, n, ...) and mean maps (classes,
    ...), each `height` inches high; all on the scale of all."""
    limits = [max(np.percentile(mean, 99.5), 1e-12) for mean in maps]  # borders stand out
    figure, axes = plt.subplots(len(chosen), 1 + len(maps), figsize=(13, height * len(chosen)),
                                layout="constrained", squeeze=False,
                                width_ratios=[1.2] + [1] * (len(maps) - 1) + [1.8])
    for c, row in zip(chosen, axes):
        show(row[0], mosaic([as_grey(image) for image in images[c]], 5),
             network.data.classes[classes[c]])
        for axis, mean, limit in zip(row[1:], maps, limits):
            tiles = [plt.cm.viridis(m / limit)[..., :3]
                     for m in np.moveaxis(mean[c].clip(0, limit), -1, 0)]
            show(axis, mosaic(tiles, max(1, len(tiles) // 4)))
    for axis, layer, limit in zip(axes[0, 1:], network.layers, limits):
        axis.set_title(f"{layer}: 0 (dark) to {limit:.2f} and more (yellow)", fontsize=9)
    figure.suptitle(f"{network.name}: {images.shape[1]} test images a class, and the mean of each "
                    f"feature map over them{network.of_all(chosen)}\n{network.data.title}")
    return figure
