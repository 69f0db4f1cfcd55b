"""Count how often feature maps are active, on all test images and by class.

The share of active units as in Glorot, Bordes & Bengio, Deep sparse rectifier neural networks
(2011).
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.pictures import show
from inside.trained import in_parts, maps_of, tensor_of


class Summary:
    """What is kept of a layer's activations, added part after part of many images.

    "mean", "square" (mean of squares), "max" and "active" (share above zero), each (images, maps)
    over an image's positions, and what correlations of maps are made of.
    """

    def __init__(self):
        self.parts, self.count, self.sum, self.products = [], 0, 0, 0

    def add(self, activations):
        """Add activations (images, ..., maps); return the Summary."""
        x = np.float64(activations).reshape(len(activations), -1, activations.shape[-1])
        self.parts.append((x.mean(1), np.square(x).mean(1), x.max(1), (x > 0).mean(1)))
        flat = x.reshape(-1, x.shape[2])
        self.count += len(flat)
        self.sum = self.sum + flat.sum(0)
        self.products = self.products + flat.T @ flat
        return self

    def statistics(self, labels):
        """Return {name: array (classes that occur + 1, maps)}: of each class's images, at last of
        all, mean, standard deviation and maximum over images and positions, and the share of
        positions that are active (above zero)."""
        mean, square, most, active = map(np.concatenate, zip(*self.parts))
        groups = [labels == c for c in np.unique(labels)] + [np.ones(len(labels), bool)]
        means = np.stack([mean[g].mean(0) for g in groups])
        squares = np.stack([square[g].mean(0) for g in groups])
        return {"mean": means, "std": np.sqrt(np.maximum(squares - means ** 2, 0)),
                "max": np.stack([most[g].max(0) for g in groups]),
                "active": np.stack([active[g].mean(0) for g in groups])}

    def dead(self):
        """Return the maps that are active nowhere, in any image."""
        return np.flatnonzero(np.max([part[2].max(0) for part in self.parts], 0) <= 0)

    def near_duplicates(self, threshold=0.95):
        """Return the pairs of maps whose activations correlate above `threshold`: [(i, j, r)],
        i < j."""
        mean = self.sum / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0))
        spread[spread <= 1e-6 * np.abs(mean)] = np.inf  # a map that never changes
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.nan_to_num(covariance / np.outer(spread, spread))
        i, j = np.nonzero(np.triu(r, 1) > threshold)
        return [(int(a), int(b), float(r[a, b])) for a, b in zip(i, j)]


def summarize(network, layer):
    """Return the Summary of a layer's activations on all test images."""
    summary = Summary()
    for activations, in in_parts(network.model, [tensor_of(network.model, layer)],
                                 network.data.test_images, network.inputs):
        summary.add(activations)
    return summary


def draw(record):
    """Draw statistics of the feature maps on all test images, by class and map."""
    network = record.network
    labels = network.data.test_labels
    classes = [network.data.classes[c] for c in np.unique(labels)]
    maps_of(network)
    figure, axes = plt.subplots(1, len(network.layers), figsize=(10.5, 3.8), layout="constrained",
                                squeeze=False)
    numbers = {"classes": np.array(classes)}
    for k, layer in enumerate(network.layers):
        summary = summarize(network, layer)
        statistics, pairs, dead = (
            summary.statistics(labels), summary.near_duplicates(), summary.dead())
        numbers |= {f"{layer}/{name}": values for name, values in statistics.items()}
        numbers |= {f"{layer}/dead": dead, f"{layer}/near_duplicates": np.array(pairs)}
        count = statistics["mean"].shape[1]
        heat = show(axes[0, k], 100 * statistics["active"], aspect="auto", vmin=0, vmax=100,
                    title=f"{layer}: {count} maps, {len(dead)} dead, {len(pairs)} pairs of "
                    "near-duplicates (r > 0.95)")
        named = np.r_[:len(classes) + 1:-(-len(classes) // 40)]  # as many as can be read
        axes[0, k].set(yticks=named, yticklabels=[[*classes, "all"][c] for c in named],
                       xticks=range(0, count, 8), xlabel="feature map")
        figure.colorbar(heat, ax=axes[0, k], label="positions active (%)")
    figure.suptitle(f"{network.name}: how often feature maps are active on {len(labels):,} test "
                    f"images, by class\n{network.data.title}")
    return figure, numbers


def table(numbers):
    """Yield how often a layer's maps are active, in all images and by class.

    "layer/active" (classes + 1, maps) is the share of positions, the last row of all images. Dead
    maps are in no ratio.
    """
    yield ("layer", "maps", "positions active (%): mean of the maps (smallest .. largest)",
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
               *((f"{np.median(ratio):.1f}", f"{ratio.max():.1f}") if len(ratio) else ("", "")),
               order[0], order[-1])


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
