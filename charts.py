"""Figures from event files alone: any TensorBoard event directory, whoever wrote it.

Each plot_... returns (figure, numbers): the numbers are what the figure shows.
"""
import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util

import gabor
import machine
from drawing import as_signed, mosaic, show


def read_events(folder):
    """{(part, tag): (steps, seconds since 1970, values)} of all event files below a folder.

    `part` is the subfolder ("" for the folder itself). Events come in order of their step; where a
    step was written twice the later one counts; if none has a step, they count from 0 in the order
    they were written. A file cut off at its end gives what it holds.
    """
    with machine.quiet_import():
        import tensorflow  # noqa: F401  TensorBoard reads with it, and would load it noisily
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
    numbers, halfway = {}, []  # error rates (%) in the middle of each accuracy's curve

    def draw(axis, group, names, key, style, colour, label, scale=1):
        names = [name for name in names if key in events[name]]
        if not names:
            return
        width = len(events[names[0]][key][0]) // 50 if axis is left else 1
        x, mean, deviation = over_seeds([curve(name, key, width) for name in names])
        axis.plot(x, scale * mean, style, color=colour, label=label)
        if axis is right and len(x) > 1:
            halfway.append(100 - scale * mean[len(x) // 2])
        if len(names) > 1:
            low = np.maximum(mean - deviation, 0.1 * mean)  # a logarithmic axis has no 0
            axis.fill_between(x, scale * low, scale * (mean + deviation),
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
                if own and len(groups) > 1 and axis is right:  # colours stand in the other legend
                    said = what if group == next(iter(groups)) else "_"
                else:
                    said = label if own and axis is left else f"{label}, {what}"
                draw(axis, group, names, key, style, colour, said, scale)
    label = {"step": "step", "sample": "training images seen", "time": "wall time (minutes)"}[by]
    left.set(xlabel=label, ylabel="training loss (nats)" if own else "loss",
             yscale="log" if own else "linear",
             title=f"{'Training loss' if own else 'Loss'}, running mean over 2 % of the steps")
    right.set(xlabel=label, ylabel="accuracy (%)", title="Accuracy"
              + (", mean and std over n seeds" if len(groups) < len(events) else ""))
    if own and halfway:  # what comes after the first steep rise fills the picture
        height = min(100, max(1, 2 * max(halfway)))
        right.set_ylim(100 - height, min(100 + 0.03 * height, right.get_ylim()[1]))
    for axis in (left, right):
        axis.xaxis.set_major_formatter("{x:,g}")
        if axis.lines:
            axis.legend(fontsize=8)
    return figure, numbers


def moments(count):
    """At most six of `count` evaluations, by number, early ones closer together; the last is one.
    """
    return np.unique(np.geomspace(1, count, min(6, count)).round().astype(int)) - 1


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
    rows, columns, chosen = -(-count // 8), 8, moments(len(kernels))
    figure = plt.figure(figsize=(12, 0.75 * rows + 0.35 * len(chosen) + 2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.75 * rows + 1, 0.35 * len(chosen) + 1])
    axes = top.subplots(1, 2, gridspec_kw={"wspace": 0.1})
    for axis, scale, title in zip(axes, (None, limit), (
            "each on its own scale (blue - 0 + red)",
            f"all on one scale, {-limit:.2f} (blue) to {limit:.2f} (red)")):
        show(axis, mosaic([as_signed(kernel[..., i], scale) for i in range(count)], columns, gap=2),
             title, pad=12)
        for i, f in enumerate(fits[k] for k in order):
            axis.text(i % columns * (width + 2) - 0.4, i // columns * (height + 2) - 0.7,
                      f"{f['r2']:.2f}, {f['angle']:.0f}°", fontsize=7)
    shown = [as_signed(kernels[m][..., i], np.abs(kernels[m]).max())
             for m in chosen for i in order[:24]]
    axis = bottom.subplots()
    show(axis, mosaic(shown, min(24, count), gap=1),
         f"over training: the same filters, best fit first, at steps "
         f"{', '.join(f'{steps[m]:,}' for m in chosen)} from top to bottom, each row on one scale")
    figure.suptitle(
        f"{name}: {count} first-layer kernels, {height}x{width}, step {steps[-1]:,}, with r2 "
        "and stripe angle of the best Gabor fit\n"
        f"mean r2 {r2.mean():.2f} (shuffled pixels {chance.mean():.2f}); {100 * share:.0f} % fit "
        "better than 95 % of shuffled kernels (chance 5 %)", fontsize=10)
    return figure, {"kernel": kernels[-1], "order": order, "step": steps[-1], "r2": r2,
                    "chance_r2": chance, "edge_likeness": share,
                    "angle": np.array([f["angle"] for f in fits]),
                    "frequency": np.array([f["frequency"] for f in fits])}


def plot_over_time(events, others=()):
    """Figure of the norms of hidden state (and an LSTM's memory) and gradient at each time step, at
    each evaluation; on one scale with `others`, the series of runs to compare with."""
    (name, series), = events.items()
    labels = {"state": "norm of the hidden state h",
              "gradient": "norm of the gradient d loss / d h",
              "memory": "norm of the memory c",
              "memory_gradient": "norm of the gradient d loss / d c"}
    kinds = [kind for kind in labels if ("train", f"over_time/{kind}") in series]
    figure, axes = plt.subplots(len(kinds) // 2, 2, figsize=(11, 2 * len(kinds)), squeeze=False,
                                layout="constrained")
    numbers = {}
    for axis, kind in zip(axes.flat, kinds):
        updates, _, norms = series["train", f"over_time/{kind}"]
        numbers |= {"updates": updates, kind: np.stack(norms)}
        axis.plot(range(1, len(norms[0]) + 1), norms[0], "k--", label="before training", zorder=3)
        for i, norm in enumerate(norms[1:], 1):
            axis.plot(range(1, len(norm) + 1), norm,
                      color=plt.cm.viridis(i / max(1, len(norms) - 1)))
        axis.legend()
        alike = [("train", f"over_time/{other}") for other in labels
                 if other.endswith("gradient") == kind.endswith("gradient")]
        values = np.concatenate([np.ravel(one[tag][2]) for one in (series, *others)
                                 for tag in alike if tag in one])
        values = values[values > 0]
        axis.set(xlabel="time step", ylabel="mean over 100 images", title=labels[kind],
                 yscale="log", ylim=(values.min() / 1.5, values.max() * 1.5))
    scale = plt.Normalize(updates[0], updates[-1])
    figure.colorbar(plt.cm.ScalarMappable(scale, "viridis"), ax=axes, label="update")
    figure.suptitle(f"{name}: norms over time, from the first update to the last")
    return figure, numbers
