"""Charts and tables from what runs wrote: event files, config.json and result.json.

read_events takes any TensorBoard event directory, whoever wrote it. Each plot_... returns (figure,
numbers): the numbers are what the figure shows.
"""
import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util

import gabor
import runs
from drawing import as_signed, mosaic, show


def read_events(folder):
    """{(part, tag): (steps, seconds since 1970, values)} of all event files below a folder.

    `part` is the subfolder ("" for the folder itself). Events come in order of their step; where a
    step was written twice the later one counts; if none has a step, they count from 0 in the order
    they were written. A file cut off at its end gives what it holds.
    """
    series = {}
    for file in sorted(pathlib.Path(folder).rglob("events.out.tfevents.*")):
        part = file.parent.relative_to(folder).as_posix().removeprefix(".")
        for event in event_file_loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                series.setdefault((part, value.tag), []).append(
                    (event.step, event.wall_time, tensor_util.make_ndarray(value.tensor)))
    result = {}
    for key, points in series.items():
        if len(points) > 1 and not any(step for step, _, _ in points):
            points = [(i, time, value) for i, (_, time, value) in enumerate(points)]
        latest = {step: (time, value) for step, time, value in points}
        steps = sorted(latest)
        result[key] = (np.array(steps), np.array([latest[s][0] for s in steps]),
                       [latest[s][1] for s in steps])
    return result


def smooth(values, width):
    """Mean over a window of `width` points centred on each, narrower at the ends."""
    width = min(max(1, width), len(values))
    weights = np.convolve(np.ones(len(values)), np.ones(width), "same")
    return np.convolve(values, np.ones(width), "same") / weights


def over_seeds(curves):
    """Several (x, y) as one: (x of the first, mean, sample standard deviation) there, by linear
    interpolation; a single curve has deviation 0."""
    x = curves[0][0]
    values = np.stack([np.interp(x, *curve) for curve in curves])
    return x, values.mean(0), values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(x))


def plot_curves(events, by="step", batch=None):
    """Figure of training loss and accuracies; seeds of one configuration as mean and std band.

    events: {run name: read_events(run)}; names that differ in "-seed<k>" only are one
    configuration.
    by: "step", "sample" (steps times batch {run name: images a step}) or "time" (since the first
    event, minutes).
    """
    groups = {}
    for name in events:
        groups.setdefault(re.sub(r"-seed\d+$", "", name), []).append(name)

    def curve(name, key, width=1):
        steps, seconds, values = events[name][key]
        x = {"step": lambda: steps, "sample": lambda: steps * batch[name],
             "time": lambda: (seconds - seconds[0]) / 60}[by]()
        return x, smooth(np.float64(values), width)

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    numbers = {}

    def draw(axis, group, names, key, style, colour, label, scale=1):
        names = [name for name in names if key in events[name]]
        if not names:
            return
        width = len(events[names[0]][key][0]) // 50 if axis is left else 1
        x, mean, deviation = over_seeds([curve(name, key, width) for name in names])
        axis.plot(x, scale * mean, style, color=colour, label=label)
        if len(names) > 1:
            axis.fill_between(x, scale * (mean - deviation), scale * (mean + deviation),
                              color=colour, alpha=0.2, linewidth=0)
        numbers["/".join((group, *key))] = np.column_stack([x, mean, deviation])

    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"] * 99
    own = any(("train", "batch/loss") in series for series in events.values())
    for colour, (group, names) in zip(colours, groups.items()):
        label = f"{group} (n = {len(names)})"
        losses, accuracies = [("train", "batch/loss")], [
            (part, "evaluation/accuracy") for part in ("train", "validation", "test")]
        if not own:
            scalars = [key for key, (_, _, values) in events[names[0]].items()
                       if np.ndim(values[0]) == 0 and np.issubdtype(values[0].dtype, np.floating)]
            losses, accuracies = ([key for key in scalars if word in key[1].lower()]
                                  for word in ("loss", "acc"))
        for axis, keys, scale in ((left, losses, 1), (right, accuracies, 100)):
            for i, key in enumerate(keys):
                style = {"train": ":", "test": "o"}.get(key[0], "-") if axis is right else (
                    "-", "--", ":", "-.")[i % 4]
                what = key[0] if own else "/".join(key)
                draw(axis, group, names, key, style, colour,
                     label if own and axis is left else f"{label}, {what}", scale)
    label = {"step": "step", "sample": "training images seen", "time": "wall time (minutes)"}[by]
    left.set(xlabel=label, ylabel="training loss (nats)" if own else "loss", ylim=(0, None),
             title=f"{'Training loss' if own else 'Loss'}, mean over 2 % of the steps")
    right.set(xlabel=label, ylabel="accuracy (%)", title="Accuracy"
              + (", mean and std over n seeds" if len(groups) < len(events) else ""))
    for axis in (left, right):
        if axis.lines:
            axis.legend(fontsize=8)
    return figure, numbers


def plot_filters(events):
    """Figure of the last first-layer kernels, sorted by how well a Gabor function fits them: each
    on its own scale and all on one, and how they changed over training. events: {name: series}."""
    (name, series), = events.items()
    steps, _, kernels = series["train", "filters/kernel"]
    height, width, _, count = kernels[-1].shape
    fits, chance, share = gabor.edge_likeness(kernels[-1])
    r2 = np.array([f["r2"] for f in fits])
    order = np.argsort(-r2)
    kernel, limit = kernels[-1][..., order], np.abs(kernels[-1]).max()
    rows, columns = -(-count // 8), 8
    moments = np.unique(np.geomspace(1, len(kernels), min(6, len(kernels))).round().astype(int)) - 1
    figure = plt.figure(figsize=(12, 0.75 * rows + 0.35 * len(moments) + 2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.75 * rows + 1, 0.35 * len(moments) + 1])
    axes = top.subplots(1, 2)
    for axis, scale, title in zip(axes, (None, limit), (
            "each on its own scale (blue - 0 + red)",
            f"all on one scale, {-limit:.2f} (blue) to {limit:.2f} (red)")):
        show(axis, mosaic([as_signed(kernel[..., i], scale) for i in range(count)], columns, gap=2),
             title, pad=12)
        for i, f in enumerate(fits[k] for k in order):
            axis.text(i % columns * (width + 2) - 0.4, i // columns * (height + 2) - 0.7,
                      f"{f['r2']:.2f} {f['angle']:.0f}° {f['frequency']:.2f}", fontsize=5.5)
    shown = [as_signed(kernels[m][..., i], np.abs(kernels[m]).max())
             for m in moments for i in order[:24]]
    axis = bottom.subplots()
    show(axis, mosaic(shown, min(24, count), gap=1),
         f"over training: the same filters, best fit first, at steps "
         f"{', '.join(f'{steps[m]:,}' for m in moments)} from top to bottom, each row on one scale")
    figure.suptitle(
        f"{name}: {count} first-layer kernels, {height}x{width}, step {steps[-1]:,}, with r2, "
        "stripe angle and frequency (cycles a pixel) of the best Gabor fit\n"
        f"mean r2 {r2.mean():.2f} (shuffled pixels {chance.mean():.2f}); {100 * share:.0f} % fit "
        "better than 95 % of shuffled kernels (chance 5 %)", fontsize=10)
    return figure, {"kernel": kernels[-1], "order": order, "step": steps[-1], "r2": r2,
                    "chance_r2": chance, "edge_likeness": share,
                    "angle": np.array([f["angle"] for f in fits]),
                    "frequency": np.array([f["frequency"] for f in fits])}


def plot_over_time(events):
    """Figure of the norms of hidden state and gradient at each time step, at each evaluation."""
    (name, series), = events.items()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    numbers = {}
    for axis, kind, label in zip(axes, ("state", "gradient"), (
            "norm of the hidden state h", "norm of the gradient d loss / d h")):
        updates, _, norms = series["train", f"over_time/{kind}"]
        numbers |= {"updates": updates, kind: np.stack(norms)}
        for i, norm in enumerate(norms):
            axis.plot(range(1, len(norm) + 1), norm,
                      color=plt.cm.viridis(i / max(1, len(norms) - 1)))
        axis.set(xlabel="time step", ylabel="mean over 100 images", title=label, yscale="log")
    scale = plt.Normalize(updates[0], updates[-1])
    figure.colorbar(plt.cm.ScalarMappable(scale, "viridis"), ax=axes, label="update")
    figure.suptitle(f"{name}: norms over time, from the first update to the last")
    return figure, numbers


def configurations(folders):
    """Finished runs by configuration: {(name, steps, data title): [(folder, config, result), ...]}.
    """
    groups = {}
    for folder in folders:
        config, result = (runs.read_json(folder / f"{name}.json") for name in ("config", "result"))
        key = config["options"]["name"], config["total_steps"], config["data"]["title"]
        groups.setdefault(key, []).append((folder, config, result))
    return groups


def mean_and_deviation(values, digits):
    """"70.0 +- 1.2": mean and sample standard deviation (n - 1), which one value has not."""
    values = np.array(values, float)
    spread = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def tabulate(folders):
    """Markdown table of finished runs, one row a configuration: test accuracy over its seeds."""
    rows = ["| run | data | steps | seeds | test accuracy (%) | with mirror images (%) "
            "| time (s) |", "|---|---|---|---|---|---|---|"]
    for (name, steps, data), group in configurations(folders).items():
        results = [result for _, _, result in group]
        accuracy, mirrored = (
            mean_and_deviation([100 * r[metric] for r in results], 2)
            if metric in results[0] else ""
            for metric in ("test_accuracy", "test_accuracy_mirrored"))
        rows.append(f"| {name} | {data} | {steps:,} | {len(results)} | {accuracy} | {mirrored} | "
                    f"{mean_and_deviation([r['train_seconds'] for r in results], 0)} |")
    return "\n".join(rows)


def instability(losses, width=51):
    """How unsteady a training loss is: the standard deviation of the high-frequency part of its
    log.

    losses: (steps,) > 0. The part is log loss minus its mean over `width` steps, without the first
    tenth of the run; the log makes a fluctuation by 10 % count the same early and late.
    """
    log = np.log(np.maximum(losses, 1e-12))
    return float(np.std((log - smooth(log, width))[len(log) // 10:]))


def seconds_to(series, accuracy):
    """Training time until the validation accuracy first reached `accuracy`, linear between
    evaluations, at the run's mean speed of steps; nan if it never did."""
    steps, _, values = series["validation", "evaluation/accuracy"]
    values = np.float64(values)
    reached = np.flatnonzero(values >= accuracy)
    if not len(reached):
        return float("nan")
    i = reached[0]
    step = steps[0] if i == 0 else np.interp(accuracy, values[i - 1:i + 1], steps[i - 1:i + 1])
    return step * float(series["", "result/train_seconds"][2][-1]) / steps[-1]


def compare(folders, target=0.98):
    """Table and figure of speed, accuracy and stability, one row a configuration, over its seeds.
    """
    rows = ["| run | seeds | images/s | s per epoch | s to 98 % validation accuracy "
            "| test accuracy (%) | instability of the loss |", "|---|---|---|---|---|---|---|"]
    names, shown, numbers = [], [], {}
    for (name, steps, data), group in configurations(folders).items():
        series = [read_events(folder) for folder, _, _ in group]
        speed = [result["images_per_second"] for _, _, result in group]
        epoch = [config["data"]["train"] / s for (_, config, _), s in zip(group, speed)]
        accuracy = [100 * result["test_accuracy"] for _, _, result in group]
        unsteady = [instability(np.float64(s["train", "batch/loss"][2])) for s in series]
        wait = [seconds_to(s, target) for s in series]
        waits = mean_and_deviation(wait, 1) if np.isfinite(wait).all() else "never by all seeds"
        rows.append(f"| {name} | {len(group)} | {mean_and_deviation(speed, 0)} | "
                    f"{mean_and_deviation(epoch, 1)} | {waits} | "
                    f"{mean_and_deviation(accuracy, 2)} | {mean_and_deviation(unsteady, 3)} |")
        names.append(f"{name} (n = {len(group)})")
        numbers[f"{name}/{steps}/{data}"] = np.column_stack(
            [speed, epoch, wait, accuracy, unsteady])
        shown.append((speed, accuracy, unsteady))
    figure = plot_dots(names, shown, ("training speed (images/s)", "test accuracy (%)",
                                      "instability: std of the\nhigh-frequency part of log loss"))
    figure.axes[0].set_xscale("log")
    titles = dict.fromkeys(data for _, _, data in configurations(folders))
    figure.suptitle(f"{'; '.join(titles)}: each seed a dot, their mean a bar")
    return "\n".join(rows), figure, numbers


def plot_dots(names, values, labels):
    """One panel a quantity, one row a configuration, each seed a dot and their mean a bar.

    values: for each name, for each label, the values of the seeds.
    """
    figure, axes = plt.subplots(1, len(labels), figsize=(11, 1 + 0.3 * len(names)), sharey=True,
                                layout="constrained", squeeze=False)
    for i, axis in enumerate(axes[0]):
        for row, quantities in enumerate(values):
            seeds = quantities[i]
            axis.plot(seeds, [row] * len(seeds), "o", color="#0072B2", alpha=0.5)
            axis.plot(np.mean(seeds), row, "|", color="black", markersize=14)
        axis.set(xlabel=labels[i], yticks=range(len(names)), yticklabels=names,
                 ylim=(len(names) - 0.5, -0.5))
    return figure


def study(folders):
    """Table and figure of LeNet-5's configurations over their seeds: accuracies, how edge-like the
    first layer's kernels are (gabor.edge_likeness: 5 % of them is chance), weights, time."""
    rows = ["| run | seeds | weights | train accuracy (%) | test accuracy (%) | edge-like kernels "
            "(%) | r2 above chance | time (s) |", "|---|---|---|---|---|---|---|---|"]
    names, shown, numbers = [], [], {}
    for (name, steps, data), group in configurations(folders).items():
        try:
            kernels = [read_events(folder)["train", "filters/kernel"][2][-1]
                       for folder, _, _ in group]
        except KeyError as error:
            raise runs.InputError(f"{name} is no run of a LeNet-5: it has no events "
                                  "filters/kernel") from error
        fitted = [gabor.edge_likeness(kernel) for kernel in kernels]
        edges = [100 * share for _, _, share in fitted]
        above = [np.mean([f["r2"] for f in fits]) - chance.mean() for fits, chance, _ in fitted]
        train, test, seconds = (np.array([result[key] for _, _, result in group]) for key in
                                ("train_accuracy", "test_accuracy", "train_seconds"))
        rows.append(f"| {name} | {len(group)} | {group[0][1]['parameters']:,} | " + " | ".join(
            mean_and_deviation(values, digits) for values, digits in (
                (100 * train, 1), (100 * test, 1), (edges, 0), (above, 2), (seconds, 0))) + " |")
        names.append(f"{name} (n = {len(group)})")
        shown.append((100 * test, edges, above))
        numbers[f"{name}/{steps}/{data}"] = np.column_stack(
            [100 * train, 100 * test, edges, above, seconds])
    figure = plot_dots(names, shown, ("test accuracy (%)", "edge-like kernels (%)\n5 % is chance",
                                      "mean r2 of their Gabor fits\nabove that of shuffled pixels"))
    titles = dict.fromkeys(data for _, _, data in configurations(folders))
    figure.suptitle(f"{'; '.join(titles)}: each seed a dot, their mean a bar")
    return "\n".join(rows), figure, numbers


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
    """Heat map of a sweep's results: the mean of a metric over seeds, at each pair of two options.

    rows: of results.csv, as dictionaries of text. Cells say how many runs did not end for a loss
    that was not finite; cells without any finished run stay blank.
    """
    def values(name):
        found = {row[name] for row in rows}
        try:
            return sorted(found, key=float)
        except ValueError:
            return sorted(found)

    ups, lefts, scale = values(down), values(across), 100 if "accuracy" in metric else 1
    means, lost = np.full((len(ups), len(lefts)), np.nan), np.zeros((len(ups), len(lefts)), int)
    figure, axis = plt.subplots(figsize=(2.5 + 0.9 * len(lefts), 1.6 + 0.5 * len(ups)),
                                layout="constrained")
    for i, up in enumerate(ups):
        for j, left in enumerate(lefts):
            cell = [row for row in rows if row[down] == up and row[across] == left]
            if len({row["seed"] for row in cell}) < len(cell):
                raise runs.InputError(f"the sweep varies more than {down} and {across}: several "
                                      f"configurations have {down} {up} and {across} {left}")
            finished = [scale * float(row[metric]) for row in cell if row["status"] == "finished"]
            lost[i, j] = sum(row["status"] == "diverged" for row in cell)
            means[i, j] = np.mean(finished) if finished else np.nan
            text = f"{lost[i, j]} of {len(cell)}\nnot finite" if lost[i, j] else ""
            if finished:
                text = mean_and_deviation(finished, 1).replace(" +- ", "\n+- ") + "\n" + text
            if text:
                axis.text(j, i, text.strip(), ha="center", va="center", fontsize=7,
                          bbox=dict(boxstyle="round,pad=0.15", color="white", alpha=0.7))
    picture = axis.imshow(means, cmap="viridis", aspect="auto")
    axis.set(xticks=range(len(lefts)), xticklabels=lefts, yticks=range(len(ups)), yticklabels=ups,
             xlabel=across, ylabel=down)
    axis.grid(False)
    figure.colorbar(picture, label=metric.replace("_", " ") + " (%)" * (scale == 100))
    figure.suptitle("; ".join({row["data"] for row in rows if row["data"]}), fontsize=9)
    return figure, {"mean": means, "diverged": lost, down: np.array(ups), across: np.array(lefts)}
