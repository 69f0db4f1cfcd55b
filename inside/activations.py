"""Show the mean feature maps of each class over ten test images (original report)."""
import matplotlib.pyplot as plt
import numpy as np

from inside.pictures import as_grey, mosaic, show
from inside.trained import first_of_each_class, maps_of, outputs

OPTIONS = {"count": "classes to show at most"}


def draw(record, count=20):
    """Draw ten test images of each class beside the mean feature maps over them."""
    network = record.network
    classes, chosen = first_of_each_class(network.data.test_labels, 10, count)
    images = network.inputs(network.data.test_images[chosen.ravel()])
    maps = [y.reshape(*chosen.shape, *y.shape[1:]).mean(1)
            for y in outputs(network.model, maps_of(network), images)]
    limits = [max(np.percentile(mean, 99.5), 1e-12) for mean in maps]  # borders stand out
    figure, axes = plt.subplots(len(chosen), 1 + len(maps), figsize=(13, 1.7 * len(chosen)),
                                layout="constrained", squeeze=False,
                                width_ratios=[1.2] + [1] * (len(maps) - 1) + [1.8])
    for c, (label, row) in enumerate(zip(classes, axes)):
        own = images.reshape(*chosen.shape, *images.shape[1:])[c]
        show(row[0], mosaic([as_grey(image) for image in own], 5),
             network.data.classes[label])
        for axis, mean, limit in zip(row[1:], maps, limits):
            tiles = [plt.cm.viridis(m / limit)[..., :3]
                     for m in np.moveaxis(mean[c].clip(0, limit), -1, 0)]
            show(axis, mosaic(tiles, max(1, len(tiles) // 4)))
    for axis, layer, limit in zip(axes[0, 1:], network.layers, limits):
        axis.set_title(f"{layer}: 0 (dark) to {limit:.2f} and more (yellow), all classes alike",
                       fontsize=9)
    figure.suptitle(f"{network.name}: {chosen.shape[1]} test images a class, and the mean of each "
                    f"feature map over them{network.of_all(classes)}\n{network.data.title}")
    return figure, {"classes": np.array([network.data.classes[c] for c in classes])} | {
        layer: mean for layer, mean in zip(network.layers, maps)}
