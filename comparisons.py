"""Tables and figures that compare finished runs, over their seeds.

From config.json, result.json and event files; a heat map from a sweep's results.csv.
"""
import contextlib
import hashlib
import inspect

import joblib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

import gabor
import machine
import runs
from charts import read_events, smooth
from options import as_text
from sources import CACHE


def configurations(folders, names=()):
    """Finished runs by configuration: {(name, steps, data title): [(folder, config, result), ...]}.

    names: what to call each of them instead, in the order of `folders`. Raises InputError where a
    configuration has a seed twice, which would make n too large.
    """
    groups = {}
    for folder in folders:
        config, result = (runs.read_json(folder / f"{name}.json") for name in ("config", "result"))
        key = config["options"]["name"], config["total_steps"], config["data"]["title"]
        group = groups.setdefault(key, [])
        if config["options"]["seed"] in [other["options"]["seed"] for _, other, _ in group]:
            raise runs.InputError(f"{folder}: seed {config['options']['seed']} of this "
                                  "configuration is there twice")
        group.append((folder, config, result))
    if names and (len(names) != len(groups) or len(set(names)) < len(names)):
        raise runs.InputError(f"--names: these are {len(groups)} configurations, which need as "
                              "many different names")
    return {(name, *key[1:]): group for name, (key, group) in zip(names, groups.items())
            } if names else groups


def mean_and_deviation(values, digits):
    """"70.0 +- 1.2": mean and sample standard deviation (n - 1), which one value has not."""
    values = np.array(values, float)
    spread = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def short_names(groups):
    """Names of configurations (of `groups`) without the options that all of them share; and these.
    """
    names, shared = [name for name, _, _ in groups], []
    (_, config, _), *_ = next(iter(groups.values()))
    for option, value in config["options"].items():
        part = f"{option.replace('_', '-')}={as_text(value)}"
        if len(names) > 1 and all(f"-{part}-" in f"{name}-" for name in names):
            names = [f"{name}-".replace(f"-{part}-", "-").removesuffix("-") for name in names]
            shared.append(part)
    return names, shared


def markdown(header, rows, groups):
    """A table of one row a configuration: its short name, then the cells of `rows`; what data it
    is of stands below it, or in each row if they differ, and what the names leave out."""
    titles = [data for _, _, data in groups]
    names, shared = short_names(groups)
    lines, below = [[name, *row] for name, row in zip(names, rows)], []
    header = ["run", *header]
    if len(set(titles)) > 1:
        header.append("data")
        lines = [[*line, title] for line, title in zip(lines, titles)]
    else:
        below.append(f"Data: {titles[0]}.")
    if shared:
        below.append(f"All runs: {', '.join(shared)}.")
    table = [f"| {' | '.join(map(str, line))} |" for line in (header, *lines)]
    table.insert(1, "|---" * len(header) + "|")
    return "\n".join(table) + ("\n\n" + " ".join(below) if below else "")


def beside(table, cells):
    """A Markdown table with a further column: its heading, then one cell a row."""
    if not cells:
        return table
    rows, *below = table.partition("\n\n")
    rows = rows.splitlines()
    if len(cells) != len(rows) - 1:
        raise runs.InputError(f"--beside needs a heading and {len(rows) - 2} cells, not "
                              f"{len(cells)} words in all")
    ends = [f" {cells[0]} |", "---|", *(f" {cell} |" for cell in cells[1:])]
    return "\n".join(row + end for row, end in zip(rows, ends)) + "".join(below)


def tabulate(folders, names=()):
    """Markdown table of finished runs, one row a configuration: test accuracy over its seeds."""
    groups, rows = configurations(folders, names), []
    header = {"test_accuracy": "test accuracy (%)",
              "test_accuracy_mirrored": "with mirror images (%)"}
    metrics = [metric for metric in header if any(
        metric in result for group in groups.values() for _, _, result in group)]
    for (_, steps, _), group in groups.items():
        results = [result for _, _, result in group]
        rows.append((f"{steps:,}", len(results), *(
            mean_and_deviation([100 * r[metric] for r in results], 2)
            if metric in results[0] else "" for metric in metrics),
            mean_and_deviation([r["train_seconds"] for r in results], 0)))
    return markdown(["steps", "seeds", *map(header.get, metrics), "time (s)"], rows, groups)


def instability(steps, losses, band=(0.1, 0.2), width=51):
    """How unsteady a training loss is: the standard deviation of the high-frequency part of its
    log, over the steps at which its level lies in `band` (nats).

    losses: (steps,) > 0. The level is the geometric mean over `width` steps, the part what is left.
    In a band, because a batch's loss scatters the more, in relation, the lower it is. nan unless
    the loss of every step is there, and 50 of them in the band.
    """
    if len(steps) < 2 or (np.diff(steps) != 1).any():
        return float("nan")
    log = np.log(np.maximum(losses, 1e-12))
    level = smooth(log, width)
    inside = (np.exp(level) >= band[0]) & (np.exp(level) <= band[1])
    return float(np.std((log - level)[inside])) if inside.sum() >= 50 else float("nan")


def seconds_to(series, accuracy):
    """Training time until the validation accuracy first reached `accuracy`, linear between
    evaluations, at the run's mean speed of steps; nan if it never did."""
    if ("validation", "evaluation/accuracy") not in series:
        return float("nan")
    steps, _, values = series["validation", "evaluation/accuracy"]
    values = np.float64(values)
    reached = np.flatnonzero(values >= accuracy)
    if not len(reached):
        return float("nan")
    i = reached[0]
    step = steps[0] if i == 0 else np.interp(accuracy, values[i - 1:i + 1], steps[i - 1:i + 1])
    return step * float(series["result", "result/train_seconds"][2][-1]) / steps[-1]


def compare(folders, names=(), target=0.98):
    """Table and figure of speed, accuracy and stability, one row a configuration, over its seeds.
    """
    header = ["seeds", "images/s", "s per epoch", f"s to {100 * target:g} % validation accuracy",
              "test accuracy (%)", "instability of the loss at 0.1 to 0.2 nats"]
    groups, rows, shown, numbers = configurations(folders, names), [], [], {}
    for (name, steps, data), group in groups.items():
        series = [read_events(folder) for folder, _, _ in group]
        speed = [result["images_per_second"] for _, _, result in group]
        epoch = [config["data"]["train"] / s for (_, config, _), s in zip(group, speed)]
        accuracy = [100 * result["test_accuracy"] for _, _, result in group]
        unsteady = [instability(at, np.float64(losses)) for at, _, losses in (
            s["train", "batch/loss"] for s in series)]
        wait = [seconds_to(s, target) for s in series]
        waits = mean_and_deviation(wait, 1) if np.isfinite(wait).all() else "never by all seeds"
        rows.append((len(group), mean_and_deviation(speed, 0), mean_and_deviation(epoch, 1), waits,
                     mean_and_deviation(accuracy, 2), mean_and_deviation(unsteady, 3)
                     if np.isfinite(unsteady).all() else ""))
        numbers[f"{name}/{steps}/{data}"] = np.column_stack(
            [speed, epoch, wait, accuracy, unsteady])
        shown.append((speed, accuracy, unsteady))
    figure = plot_dots(groups, shown, (
        "training speed (images/s)", "test accuracy (%)", "instability: std of the\n"
        "high-frequency part of log loss\nwhile it is 0.1 to 0.2 nats"))
    figure.axes[0].set_xscale("log")
    figure.axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    figure.axes[0].xaxis.set_major_formatter("{x:,.0f}")
    figure.axes[0].minorticks_off()
    return markdown(header, rows, groups), figure, numbers


def plot_dots(groups, values, labels):
    """One panel a quantity, one row a configuration, each seed a dot and their mean a bar.

    groups: configurations(...); values: for each of them, for each label, the values of its seeds.
    """
    names, shared = short_names(groups)
    names = [f"{name} (n = {len(group)})" for name, group in zip(names, groups.values())]
    figure, axes = plt.subplots(1, len(labels), figsize=(11, 1 + 0.3 * len(names)), sharey=True,
                                layout="constrained", squeeze=False)
    for i, axis in enumerate(axes[0]):
        for row, quantities in enumerate(values):
            seeds = quantities[i]
            axis.plot(seeds, [row] * len(seeds), "o", color="#0072B2", alpha=0.5)
            axis.plot(np.mean(seeds), row, "|", color="black", markersize=14)
        axis.set(xlabel=labels[i], yticks=range(len(names)), yticklabels=names,
                 ylim=(len(names) - 0.5, -0.5))
    titles = [*dict.fromkeys(data for _, _, data in groups)]
    if shared:
        titles[-1] += f"; all runs: {', '.join(shared)}"
    figure.suptitle("\n".join([*titles, "each seed a dot, their mean a bar"]), fontsize=10)
    return figure


def accuracy_after(series, seconds):
    """Validation accuracy after so many seconds of training, linear between evaluations, at the
    run's mean speed of steps; nan without validation images."""
    if ("validation", "evaluation/accuracy") not in series:
        return float("nan")
    steps, _, values = series["validation", "evaluation/accuracy"]
    total = float(series["result", "result/train_seconds"][2][-1])
    return float(np.interp(seconds, steps / steps[-1] * total, np.float64(values)))


def _kept_edge_likeness():
    """gabor.edge_likeness, which takes seconds, kept in CACHE by kernel where that can be written.
    """
    version = hashlib.sha256(inspect.getsource(gabor).encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        return joblib.Memory(CACHE / f"gabor-{version}", verbose=0).cache(gabor.edge_likeness)
    return gabor.edge_likeness


def study(folders, names=()):
    """Table and figure of LeNet-5's configurations over their seeds: accuracies, at the end and
    after the time that the quickest of them took; how edge-like the first layer's kernels are
    (gabor.edge_likeness: 5 % of them is chance); weights, time."""
    groups, rows, shown, numbers = configurations(folders, names), [], [], {}
    least = min(np.mean([result["train_seconds"] for _, _, result in group])
                for group in groups.values())
    header = ["seeds", "weights", "train accuracy (%)", "test accuracy (%)",
              f"validation accuracy after {least:.0f} s (%)", "edge-like kernels (%)",
              "r2 above chance", "time (s)"]
    series = {key: [read_events(folder) for folder, _, _ in group]
              for key, group in groups.items()}
    try:
        kernels = [s["train", "filters/kernel"][2][-1] for group in series.values() for s in group]
    except KeyError as error:
        raise runs.InputError("a run of these is no LeNet-5: it has no events filters/kernel"
                              ) from error
    edge_likeness = _kept_edge_likeness()
    likeness = iter(joblib.Parallel(machine.cores())(
        joblib.delayed(edge_likeness)(kernel) for kernel in kernels))
    for (name, steps, data), group in groups.items():
        fitted = [next(likeness) for _ in group]
        edges = [100 * share for _, _, share in fitted]
        above = [np.mean([f["r2"] for f in fits]) - chance.mean() for fits, chance, _ in fitted]
        train, test, seconds = (np.array([result[key] for _, _, result in group]) for key in
                                ("train_accuracy", "test_accuracy", "train_seconds"))
        early = [100 * accuracy_after(s, least) for s in series[name, steps, data]]
        rows.append((len(group), f"{group[0][1]['parameters']:,}", *(
            mean_and_deviation(values, digits) if np.isfinite(values).all() else ""
            for values, digits in ((100 * train, 1), (100 * test, 1), (early, 1), (edges, 0),
                                   (above, 2), (seconds, 0)))))
        shown.append((100 * test, edges, above))
        numbers[f"{name}/{steps}/{data}"] = np.column_stack(
            [100 * train, 100 * test, early, edges, above, seconds])
    figure = plot_dots(groups, shown, (
        "test accuracy (%)", "edge-like kernels (%)\n5 % is chance",
        "mean r2 of their Gabor fits\nabove that of shuffled pixels"))
    if not any(row[4] for row in rows):  # no validation images
        header, *rows = [[*cells[:4], *cells[5:]] for cells in (header, *rows)]
    return markdown(header, rows, groups), figure, numbers


def plot_transfer(group):
    """Table and figure of one transfer over its seeds: test accuracy of each layer's features.

    group: [(folder, config, result), ...] of one configuration.
    """
    accuracies = {}  # {(head, layer): {images a class: [accuracy of each seed]}}
    for _, _, result in group:
        for name, accuracy in result.items():
            if name.startswith("test_accuracy/"):
                *where, k = name.split("/")[1:]
                rows = accuracies.setdefault((where[0], where[-1]), {})
                rows.setdefault(int(k), []).append(100 * accuracy)
    if not accuracies:
        raise runs.InputError(f"{group[0][0]} is no run of transfer.py")
    shots = sorted(next(iter(accuracies.values())))
    table = ["| head | features | " + " | ".join(f"{k:,}" for k in shots) + " |",
             "|---|---|" + "---|" * len(shots)]
    heads = [head for head in dict.fromkeys(head for head, _ in accuracies) if head != "scratch"]
    figure, axes = plt.subplots(1, len(heads), figsize=(11, 4.5), sharey=True, squeeze=False,
                                layout="constrained")
    numbers = {"images_per_class": np.array(shots)}
    for (head, layer), values in accuracies.items():
        samples = np.array([values[k] for k in shots])  # (shots, seeds)
        mean, seeds = samples.mean(1), samples.shape[1]
        deviation = samples.std(1, ddof=1) if seeds > 1 else np.zeros(len(shots))
        numbers[f"{head}/{layer}"] = samples
        scratch = head == "scratch"
        table.append(f"| {'none: trained from scratch' if scratch else head} | "
                     f"{'' if scratch else layer} | "
                     + " | ".join(mean_and_deviation(row, 1) for row in samples) + " |")
        for axis in axes[0] if scratch else [axes[0, heads.index(head)]]:
            line, = axis.plot(shots, mean, "k--" if scratch else "o-", ms=4,
                              label="the network from scratch" if scratch else layer)
            axis.fill_between(shots, mean - deviation, mean + deviation, color=line.get_color(),
                              alpha=0.2, linewidth=0)
    for axis, head in zip(axes[0], heads):
        axis.set(xscale="log", xticks=shots, xticklabels=shots, ylabel="test accuracy (%)",
                 xlabel="training images a class",
                 title={"svm": "linear support vector machine"}.get(head, head))
        axis.minorticks_off()
        axis.legend(fontsize=8)
    config = group[0][1]
    figure.suptitle(f"Features trained on {config['source']['title']}\n"
                    f"tested on {config['data']['title']}; mean and std, n = {len(group)}")
    return "\n".join(table), figure, numbers


def plot_heat(rows, down, across, metric):
    """Heat map of a sweep's results: the mean of a metric over seeds, at each pair of options.

    rows: of results.csv, as dictionaries of text; down: names of the options down the side,
    together; across: name of the one along the bottom. Cells say how many runs did not end for a
    loss that was not finite; cells without any finished run stay blank.
    """
    def in_order(values):
        try:
            return sorted(values, key=float)
        except ValueError:
            return sorted(values)

    def up_of(row):
        return ", ".join(row[name] for name in down)

    ups, lefts = in_order({up_of(row) for row in rows}), in_order({row[across] for row in rows})
    scale, down_label = 100 if "accuracy" in metric else 1, ", ".join(down)
    means, lost = np.full((len(ups), len(lefts)), np.nan), np.zeros((len(ups), len(lefts)), int)
    figure, axis = plt.subplots(figsize=(2.5 + 0.9 * len(lefts), 1.6 + 0.5 * len(ups)),
                                layout="constrained")
    for i, up in enumerate(ups):
        for j, left in enumerate(lefts):
            cell = [row for row in rows if up_of(row) == up and row[across] == left]
            if len({row["seed"] for row in cell}) < len(cell):
                raise runs.InputError(
                    f"the sweep varies more than {down_label} and {across}: several "
                    f"configurations have {down_label} {up} and {across} {left}")
            finished = [scale * float(row[metric]) for row in cell if row["status"] == "finished"]
            lost[i, j] = sum(row["status"] == "diverged" for row in cell)
            means[i, j] = np.mean(finished) if finished else np.nan
            text = f"{lost[i, j]} of {len(cell)}\nnot finite" if lost[i, j] else ""
            if finished:
                each = " ".join(f"{value:.0f}" for value in sorted(finished))
                text = "\n".join([mean_and_deviation(finished, 1), *[each] * (len(finished) > 1),
                                  text])
            if text:
                axis.text(j, i, text.strip(), ha="center", va="center", fontsize=6.5,
                          bbox=dict(boxstyle="round,pad=0.15", color="white", alpha=0.7))
    picture = axis.imshow(means, cmap="viridis", aspect="auto")
    axis.set(xticks=range(len(lefts)), xticklabels=lefts, yticks=range(len(ups)), yticklabels=ups,
             xlabel=across, ylabel=down_label)
    axis.grid(False)
    figure.colorbar(picture, label=metric.replace("_", " ") + " (%)" * (scale == 100))
    seeds = len({row["seed"] for row in rows})
    title = [f"{seeds} seeds, mean +- standard deviation of those that ended, and each of them",
             *dict.fromkeys(row["data"] for row in rows if row["data"])]
    figure.suptitle("\n".join(title), fontsize=9)
    return figure, {"mean": means, "diverged": lost, down_label: np.array(ups),
                    across: np.array(lefts)}
