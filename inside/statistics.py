"""Count how often feature maps are active, on all test images and by class."""
import matplotlib.pyplot as plt
import numpy as np

from inside.pictures import show
from inside.trained import maps_of, output


def activation_statistics(activations, labels, classes):
    """Return statistics of a layer's feature maps over images: {name: array (classes + 1, maps)}.

    activations (n, height, width, maps), labels (n,). Row c is of class c, the last row of all
    images: mean, standard deviation and maximum over images and positions, and the share of
    positions that are active (above zero). A map is dead if it is active nowhere, in any image.
    """
    groups = [activations[labels == c] for c in range(classes)] + [activations]
    axes = tuple(range(activations.ndim - 1))
    return {"mean": np.stack([g.mean(axes) for g in groups]),
            "std": np.stack([g.std(axes) for g in groups]),
            "max": np.stack([g.max(axes) for g in groups]),
            "active": np.stack([(g > 0).mean(axes) for g in groups])}


def near_duplicates(activations, threshold=0.95):
    """Return the pairs of feature maps whose activations correlate above `threshold`: [(i, j, r)],
    i < j."""
    flat = activations.reshape(-1, activations.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(flat, rowvar=False)  # nan for a map that never changes
    i, j = np.nonzero(np.triu(np.nan_to_num(r), 1) > threshold)
    return [(int(a), int(b), float(r[a, b])) for a, b in zip(i, j)]


def draw(record):
    """Draw statistics of the feature maps on all test images, by class and map."""
    network = record.network
    labels, classes = network.data.test_labels, network.data.classes
    maps_of(network)
    images = network.inputs(network.data.test_images)
    figure, axes = plt.subplots(2, len(network.layers), figsize=(13, 7), layout="constrained",
                                squeeze=False)
    numbers = {"classes": np.array(classes)}
    for k, layer in enumerate(network.layers):
        activations = output(network.model, layer, images)
        statistics = activation_statistics(activations, labels, len(classes))
        pairs = near_duplicates(activations)
        dead = np.flatnonzero(statistics["max"][-1] <= 0)
        numbers |= {f"{layer}/{name}": values for name, values in statistics.items()}
        numbers |= {f"{layer}/dead": dead, f"{layer}/near_duplicates": np.array(pairs)}
        order = np.argsort(statistics["mean"][-1])
        heat = show(axes[0, k], 100 * statistics["active"], aspect="auto", vmin=0, vmax=100,
                    title=f"{layer}: {activations.shape[-1]} maps, {len(dead)} dead, {len(pairs)} "
                    "pairs of near-duplicates (r > 0.95)")
        axes[0, k].set(yticks=range(len(classes) + 1), yticklabels=[*classes, "all"],
                       xticks=range(0, len(order), 8), xlabel="feature map")
        figure.colorbar(heat, ax=axes[0, k], label="places active (%)")
        x = np.arange(len(order))
        axes[1, k].errorbar(x, statistics["mean"][-1][order], statistics["std"][-1][order], fmt="o",
                            ms=3, lw=0.7, label="mean and standard deviation")
        axes[1, k].plot(x, statistics["max"][-1][order], ".", label="maximum")
        axes[1, k].set(xlabel="feature map, by mean", yscale="symlog",
                       ylabel="activation (logarithmic above 1, linear below)",
                       title=f"{layer}: distributions on {len(images):,} test images")
        axes[1, k].set_ylim(top=4 * axes[1, k].get_ylim()[1])
        axes[1, k].legend(loc="upper center", ncols=2)
    figure.suptitle(f"{network.name}: activations on all test images, {network.data.title}")
    return figure, numbers


def table(numbers):
    """Yield how often a layer's maps are active, in all images and by class.

    "layer/active" (classes + 1, maps) is the share of positions, the last row of all images. Dead
    maps are in no ratio.
    """
    yield ("layer", "maps", "places active (%): mean of the maps (smallest .. largest)",
           "dead maps", "near-duplicate pairs",
           "most active class / least active: median of the maps", "largest",
           "least active class", "most active class")
    for layer in layers_of(numbers, "active"):
        active = 100 * numbers[f"{layer}/active"]
        *by_class, every = active
        least, most = np.min(by_class, 0), np.max(by_class, 0)
        ratio = np.divide(most, least, out=np.full(len(every), np.inf), where=least > 0)[most > 0]
        order = numbers["classes"][np.mean(by_class, 1).argsort()]
        yield (layer, len(every), f"{every.mean():.0f} ({every.min():.0f} .. {every.max():.0f})",
               len(numbers[f"{layer}/dead"]), len(numbers[f"{layer}/near_duplicates"]),
               f"{np.median(ratio):.1f}", f"{ratio.max():.1f}", order[0], order[-1])


def sheet(numbers):
    """Yield all statistics, one row a layer, class and feature map, heading first."""
    yield "layer", "class", "map", "mean", "std", "max", "active", "dead"
    for layer in layers_of(numbers, "active"):
        values = [numbers[f"{layer}/{name}"] for name in ("mean", "std", "max", "active")]
        for c, name in enumerate([*numbers["classes"], "all"]):
            for m in range(values[0].shape[1]):
                yield (layer, name, m, *(f"{value[c, m]:.6g}" for value in values),
                       int(m in numbers[f"{layer}/dead"]))


def layers_of(numbers, end):
    """Return the names of the layers that have an array "layer/end", in the figure's order."""
    return [key.removesuffix(f"/{end}") for key in numbers if key.endswith(f"/{end}")]
