"""Show which classes are taken for which, the most confident mistakes, and calibration.

Intervals of Wilson (1927), calibration as in Guo et al. (arXiv 1706.04599): inside/scores.py.
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.pictures import as_grey, show, show_grid
from inside.scores import measure, probabilities, wilson
from inside.trained import require_same_images
from system.command_line import InputError


def draw(record):
    """Draw one network's confusion matrix, classes' accuracies, worst mistakes and calibration."""
    network, data = record.network, record.network.data
    numbers = measure(network)
    counts, classes = numbers["confusion"], numbers["classes"]
    figure = plt.figure(figsize=(13, 12), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    left, right = top.subplots(1, 2, width_ratios=[1.25, 1])
    draw_confusion(left, counts, classes)
    draw_accuracies(right, counts, classes)
    pictures, diagram = bottom.subfigures(1, 2, width_ratios=[1.25, 1])
    axis, wrong = pictures.subplots(), numbers["wrong"]
    axis.set_axis_off()
    if len(wrong):
        shown = network.inputs(data.test_images[wrong])
        show_grid(axis, [as_grey(image) for image in shown], 4, [
            f"{classes[data.test_labels[i]]}, taken for\n{classes[numbers['predicted'][i]]} "
            f"({numbers['confidence'][i]:.2f})" for i in wrong],
            gap=1 + shown.shape[1] // 3, fontsize=8)
    pictures.suptitle("the most confident mistakes: true class, predicted class, its probability",
                      fontsize=10)
    draw_reliability(diagram.subplots(), numbers)
    every, right = counts.sum(), np.trace(counts)
    figure.suptitle(f"{record.name}: {every - right:,} mistakes on {every:,} test images, accuracy "
                    f"{100 * right / every:.2f} %\n{data.title}")
    return figure, numbers


def draw_together(records):
    """Draw the mean confusion matrix and the classes' accuracies of several networks, and say how
    many images the mean of their probabilities recognises."""
    every = [measure(record.network) for record in records]
    classes = every[0]["classes"]
    for record, own in zip(records, every):
        if own["classes"].tolist() != classes.tolist():
            raise InputError(f"{record.folder} has other classes than {records[0].folder}")
    require_same_images(records)
    counts = np.stack([own["confusion"] for own in every])
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.8), layout="constrained",
                                         width_ratios=[1.25, 1])
    draw_confusion(left, counts.mean(0), classes)
    there = np.flatnonzero(counts.sum((0, 2)))
    shares = (np.diagonal(counts, axis1=1, axis2=2) / np.maximum(counts.sum(2), 1))[:, there]
    order = _chosen(shares.mean(0))
    right.errorbar(100 * shares.mean(0)[order], range(len(order)),
                   xerr=100 * shares.std(0, ddof=1)[order], fmt="o", capsize=2)
    right.set(yticks=range(len(order)), yticklabels=classes[there][order],
              xlabel="accuracy (%), mean and standard deviation", title="accuracy of each class")
    errors, data = [own["calibration_error"] for own in every], records[0].network.data
    p = np.mean([probabilities(record.network) for record in records], axis=0)
    together = np.mean(p.argmax(1) == data.test_labels)
    alone = np.mean([np.trace(own) / own.sum() for own in counts])
    figure.suptitle(f"{len(records)} networks, mean of their confusion matrices; expected "
                    f"calibration error {np.mean(errors):.3f}\naccuracy {100 * alone:.2f} % on "
                    f"average, {100 * together:.2f} % by the mean of their probabilities\n"
                    f"{data.title}")
    return figure, dict(classes=classes, confusion=counts, calibration_error=np.array(errors),
                        ensemble_accuracy=together)


def draw_confusion(axis, counts, classes):
    """Draw counts as numbers, shares of each true class as colours; of more than 20 classes the
    colours alone."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    heat = show(axis, shares, "how many images of each class (row) are taken for which (column)",
                cmap="Blues", vmin=0, vmax=100)
    named = np.r_[:len(classes):-(-len(classes) // 40)]
    axis.set(xticks=named, yticks=named, yticklabels=classes[named], ylabel="true class",
             xlabel="predicted class")
    axis.set_xticklabels(classes[named], rotation=90 if max(map(len, classes)) > 2 else 0)
    if len(classes) <= 20:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axis.text(j, i, f"{count:.0f}" if count >= 1 else f"{count:.1f}", ha="center",
                          va="center", fontsize=8, color="white" if shares[i, j] > 55 else "black")
    axis.figure.colorbar(heat, ax=axis, label="share of the true class (%)", shrink=0.8)


def _chosen(shares, most=30):
    """Return the classes, worst first; of more than `most` the worst and the best."""
    order = np.argsort(shares, kind="stable")
    return order if len(order) <= most else np.r_[order[:most // 2], order[-most // 2:]]


def draw_accuracies(axis, counts, classes):
    """Draw each class's accuracy with its 95 % interval, the worst class at the bottom."""
    total = counts.sum(1)
    there = np.flatnonzero(total)
    share = counts.diagonal()[there] / total[there]
    order = _chosen(share)
    low, high = (100 * x[order] for x in wilson(counts.diagonal()[there], total[there]))
    middle = 100 * share[order]
    axis.errorbar(middle, range(len(order)), fmt="o", capsize=2,
                  xerr=np.maximum((middle - low, high - middle), 0))
    axis.set(yticks=range(len(order)), yticklabels=classes[there][order],
             xlabel="accuracy (%), with the 95 % interval of Wilson",
             title="accuracy of each class" + (
                 f": the {len(order)} worst and best of {len(there)}"
                 if len(order) < len(there) else ""))


def draw_reliability(axis, numbers):
    """Draw accuracy against confidence, dots as large as there are images."""
    count = numbers["bin_images"]
    there = count > 0
    axis.plot([0, 1], [0, 1], color="black", ls="--", lw=1, label="calibrated")
    axis.scatter(numbers["bin_confidence"][there], numbers["bin_accuracy"][there],
                 s=10 + 300 * count[there] / count.max(), label="images of a bin of confidence")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy",
             xlabel="confidence: probability of the predicted class",
             title=f"expected calibration error {numbers['calibration_error']:.3f}")
    axis.legend(loc="upper left")


def table(numbers):
    """Yield each class's accuracy and what it is most often taken for: "confusion" (classes,) * 2,
    or means over networks of "confusion" (networks, classes, classes)."""
    for *row, count in _rows(numbers, lambda share: f"{100 * share:.1f}"):
        yield *row, f"{count:,.1f}" if isinstance(count, float) else count


def sheet(numbers):
    """Yield the same with full precision, and the whole matrix, heading first."""
    header, *rows = _rows(numbers, repr)
    classes, counts = numbers["classes"].tolist(), numbers["confusion"]
    yield *header, *(f"taken for {name}" for name in classes)
    mean = counts if counts.ndim == 2 else counts.mean(0)
    for row, own in zip(rows, mean[mean.sum(1) > 0]):  # two classes may have one name
        yield *row, *own.tolist()


def _rows(numbers, text):
    counts, classes = numbers["confusion"], numbers["classes"].tolist()
    every, mean = (counts[None], counts) if counts.ndim == 2 else (counts, counts.mean(0))
    yield ("class", "test images", *(("accuracy", "low", "high") if len(every) == 1 else (
        "mean accuracy", "standard deviation")), "most often taken for", "how often")
    for c in np.flatnonzero(mean.sum(1)):
        total, own = int(every[0, c].sum()), mean[c].copy()
        shares = every[:, c, c] / total
        spread = wilson(own[c], total) if len(every) == 1 else [shares.std(ddof=1)]
        own[c] = 0
        yield (classes[c], total, *(text(float(x)) for x in (shares.mean(), *spread)),
               classes[own.argmax()] if own.any() else "", own.max().item())
