"""Show the mean feature maps of each class over ten test images (original report)."""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.pictures import as_grey, mosaic, show_grid
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
    return [("activations", draw_rows(network, classes, images, maps, few), numbers),
            ("activations_all", draw_rows(network, classes, images, maps, range(len(classes))), {})]


def draw_rows(network, classes, images, maps, chosen):
    """Draw the rows `chosen` of classes, their images (classes, n, ...) and mean maps (classes,
    ...); all on the scale of all."""
    columns, titles = [[mosaic([as_grey(x) for x in images[c]], 5) for c in chosen]], [""]
    for layer, mean in zip(network.layers, maps):
        limit = max(np.percentile(mean, 99.5), 1e-12)  # borders stand out
        count = mean.shape[-1]
        columns.append([mosaic([plt.cm.viridis(m / limit)[..., :3] for m in np.moveaxis(
            mean[c].clip(0, limit), -1, 0)], max(1, count // 4)) for c in chosen])
        titles.append(f"{layer}: 0 (dark) to {limit:.2f} and more (yellow)")
    ratios = [blocks[0].shape[1] / blocks[0].shape[0] for blocks in columns]
    figure, axes = plt.subplots(1, len(columns), layout="constrained", width_ratios=ratios,
                                figsize=(13, 13.5 * len(chosen) / sum(ratios) + 1))
    for axis, blocks, title in zip(axes, columns, titles):
        show_grid(axis, blocks, 1, labels=[] if title else [
            network.data.classes[classes[c]] for c in chosen], gap=blocks[0].shape[0] // 8)
        axis.set_title(title, fontsize=9)
    figure.suptitle(f"{network.name}: {images.shape[1]} test images per class, and the mean of "
                    f"each feature map over them{network.of_all(chosen)}\n{network.data.title}")
    return figure
