"""Draw what each layer's features are worth on other images: runs of transfer.py."""
import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np

from comparisons.measures import groups_of, names_of, rows_of
from system.command_line import InputError
from system.markdown import mean_and_deviation
from system.markdown import table as markdown

OPTIONS = {}
TITLES = {"svm": "linear SVM"}


def accuracies_of(group):
    """Return (images per class, {(head, layer): accuracies in per cent (shots, seeds)}) of the
    seeds of one transfer; the layer of the network from scratch is ""."""
    found = {}
    try:
        for row in group:
            for name, accuracy in row.items():
                if name.startswith("test_accuracy/"):
                    head, *layer, shots = name.split("/")[1:]
                    found.setdefault((head, "/".join(layer)), {}).setdefault(
                        int(shots), []).append(100 * accuracy)
        shots = sorted(next(iter(found.values())))
        return shots, {where: np.array([seeds[k] for k in shots])
                       for where, seeds in found.items()}
    except (StopIteration, ValueError, KeyError) as error:
        raise InputError(f"{group[0]['configuration']} is no run of transfer.py, or lacks some of "
                         "its accuracies") from error


def make_table(rows):
    """Return Markdown tables for each transfer, one for each head, below its name and number of
    seeds: a row for each number of images per class, a column for each layer's features."""
    texts = []
    for (name, _, _), group in groups_of(rows).items():
        shots, accuracies = accuracies_of(group)
        scratch = {layer: values for (head, layer), values in accuracies.items()
                   if head == "scratch"}
        for chosen in dict.fromkeys(
                head for head, _ in accuracies if head != "scratch") or ["scratch"]:
            columns = {layer: values for (head, layer), values in accuracies.items()
                       if head == chosen} | scratch
            texts.append(f"{name}, {TITLES.get(chosen, chosen)}, n = {len(group)}\n\n" + markdown(
                ["images per class", *(layer or "trained from scratch" for layer in columns)],
                [(f"{k:,}", *(mean_and_deviation(values[i], 1) for values in columns.values()))
                 for i, k in enumerate(shots)]))
    return "\n\n".join(texts)


def without_brackets(title):
    """Return the title of a data set without its sizes, which stand in brackets."""
    return re.sub(r" \(.*?\)", "", title)


def make(rows):
    """Return (figure, numbers): test accuracy by images per class, one panel per transfer."""
    groups, numbers = groups_of(rows), {}
    if not groups:
        raise InputError("there are no runs of transfer.py to draw")
    columns = min(3, len(groups))
    figure, axes = plt.subplots(-(-len(groups) // columns), columns, squeeze=False,
                                figsize=(max(6, 4 * columns), 4.6 * -(-len(groups) // columns)),
                                layout="constrained")
    for axis in axes.flat[len(groups):]:
        axis.remove()
    layers = [*dict.fromkeys(layer for group in groups.values()
                             for _, layer in accuracies_of(group)[1] if layer)]
    for axis, key, ((name, _, data), group) in zip(axes.flat, names_of(groups), groups.items()):
        shots, accuracies = accuracies_of(group)
        heads = [*dict.fromkeys(head for head, _ in accuracies)]
        numbers[f"{key}/images_per_class"] = np.array(shots)
        for (head, layer), values in accuracies.items():
            numbers["/".join(filter(None, (key, head, layer)))] = values
            label = f"{layer}, {TITLES.get(head, head)}" if layer else "the network from scratch"
            axis.errorbar(shots, values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else
                          None, label=label, capsize=2, lw=1.5, ms=4, marker="os^"[
                              heads.index(head) % 3], ls="-:"[heads.index(head) % 2] if layer
                          else "--", color=f"C{layers.index(layer)}" if layer else "black")
        axis.set(xscale="log", xticks=shots, xticklabels=[f"{k:,}" for k in shots],
                 xlabel="training images per class", ylabel="test accuracy (%)")
        axis.set_title("\n".join(textwrap.fill(text, 50) for text in (
            name, f"from {without_brackets(group[0].get('source_data', 'other images'))}",
            f"to {without_brackets(data)}")), fontsize=9)
        axis.minorticks_off()
    said = {label: handle for axis in axes.flat[:len(groups)]
            for handle, label in zip(*axis.get_legend_handles_labels())}
    counts = sorted({len(group) for group in groups.values()})
    figure.legend(said.values(), said, loc="outside lower center", ncols=5, fontsize=9)
    figure.suptitle("Heads on the frozen features of each layer: mean and standard deviation over "
                    f"{' or '.join(map(str, counts))} seeds", fontsize=10)
    return figure, numbers


def draw(paths):
    """Return the figure of transfers, and its numbers."""
    return make(rows_of(paths))


def table(paths):
    """Return the tables of transfers."""
    return make_table(rows_of(paths))
