"""Draw what each layer's features are worth on other images: runs of transfer.py."""
import matplotlib.pyplot as plt
import numpy as np

from comparisons.measures import groups_of, rows_of
from system.command_line import InputError
from system.markdown import mean_and_deviation
from system.markdown import table as markdown

OPTIONS = {}
TITLES = {"svm": "linear support vector machine"}


def accuracies_of(group):
    """Return (images a class, {(head, layer): accuracies in per cent (shots, seeds)}) of the seeds
    of one transfer; the layer of the network from scratch is ""."""
    found = {}
    for row in group:
        for name, accuracy in row.items():
            if name.startswith("test_accuracy/"):
                head, *layer, shots = name.split("/")[1:]
                found.setdefault((head, "/".join(layer)), {}).setdefault(
                    int(shots), []).append(100 * accuracy)
    if not found:
        raise InputError(f"{group[0]['configuration']} is no run of transfer.py")
    shots = sorted(next(iter(found.values())))
    return shots, {where: np.array([seeds[k] for k in shots]) for where, seeds in found.items()}


def make_table(rows):
    """Return a Markdown table for each transfer, below its name and number of seeds."""
    texts = []
    for (name, _, _), group in groups_of(rows).items():
        shots, accuracies = accuracies_of(group)
        lines = [("none: trained from scratch" if head == "scratch" else head, layer,
                  *(mean_and_deviation(seeds, 1) for seeds in values))
                 for (head, layer), values in accuracies.items()]
        texts.append(f"{name}, n = {len(group)}\n\n" + markdown(
            ["head", "features", *(f"{k:,}" for k in shots)], lines))
    return "\n\n".join(texts)


def make(rows):
    """Return (figure, numbers): test accuracy by images a class, a row of panels a transfer."""
    groups, numbers = groups_of(rows), {}
    figure = plt.figure(figsize=(11, 4.5 * len(groups)), layout="constrained")
    parts = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    for part, ((name, _, data), group) in zip(parts, groups.items()):
        shots, accuracies = accuracies_of(group)
        heads = [head for head in dict.fromkeys(head for head, _ in accuracies)
                 if head != "scratch"]
        axes = part.subplots(1, len(heads), sharey=True, squeeze=False)[0]
        numbers[f"{name}/images_per_class"] = np.array(shots)
        for (head, layer), values in accuracies.items():
            numbers["/".join(filter(None, (name, head, layer)))] = values
            mean, scratch = values.mean(1), head == "scratch"
            deviation = values.std(1, ddof=1) if values.shape[1] > 1 else np.zeros(len(shots))
            for axis in axes if scratch else [axes[heads.index(head)]]:
                line, = axis.plot(shots, mean, "k--" if scratch else "o-", ms=4,
                                  label="the network from scratch" if scratch else layer)
                axis.fill_between(shots, mean - deviation, mean + deviation, alpha=0.2,
                                  color=line.get_color(), linewidth=0)
        for axis, head in zip(axes, heads):
            axis.set(xscale="log", xticks=shots, xticklabels=shots, title=TITLES.get(head, head),
                     xlabel="training images a class", ylabel="test accuracy (%)")
            axis.minorticks_off()
            axis.legend(fontsize=8)
        part.suptitle(f"Features trained on {group[0].get('source_data', 'other images')}\n"
                      f"tested on {data}; mean and std, n = {len(group)}")
    return figure, numbers


def draw(paths):
    """Return the figure of transfers, and its numbers."""
    return make(rows_of(paths))


def table(paths):
    """Return the tables of transfers."""
    return make_table(rows_of(paths))
