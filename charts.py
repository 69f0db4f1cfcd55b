"""Figures from event files alone: any TensorBoard event directory, whoever wrote it.

Each plot_... returns (figure, numbers): the numbers are what the figure shows.
"""
import fnmatch
import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util

import gabor
import machine
from drawing import as_signed, mosaic, show
from runs import NotDrawn


def read_events(folder):
    """{(part, tag): (steps, seconds since 1970, values)} of all event files below a folder.

    `part` is the subfolder ("" for the folder itself). Events come in order of their step; where a
    step was written twice the later one counts; if none has a step, they count from 0 in the order
    they were written. A file that goes on from an earlier step than the file before it ended at
    replaces what that says of later steps, as in TensorBoard; where it begins anew, the earlier one
    becomes a part of its own, "earlier 1". A file cut off at its end gives what it holds.
    """
    with machine.quiet_import():
        import tensorflow  # noqa: F401  TensorBoard reads with it, and would load it noisily
    series = {}
    for file in sorted(pathlib.Path(folder).rglob("events.out.tfevents.*")):
        part, own = file.parent.relative_to(folder).as_posix().removeprefix("."), {}
        for event in event_file_loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                own.setdefault((part, value.tag), []).append(
                    (event.step, event.wall_time, tensor_util.make_ndarray(value.tensor)))
        for key, points in own.items():
            first, before = min(step for step, _, _ in points), series.get(key, [])
            kept = [point for point in before if point[0] < first]
            if before and not kept:
                earlier = sum(other[0].startswith(f"{part} earlier ".lstrip()) for other in series
                              if other[1] == key[1])
                series[f"{part} earlier {earlier + 1}".lstrip(), key[1]] = before
            series[key] = kept + points
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
    """Several (x, y) as one: (x of the first where all have values, mean, sample standard
    deviation) there, by linear interpolation; a single curve has deviation 0."""
    x, ends = curves[0][0], [(other[0], other[-1]) for other, _ in curves]
    first, last = max(first for first, _ in ends), min(last for _, last in ends)
    x = x[(x >= first) & (x <= last)]
    values = np.stack([np.interp(x, *curve) for curve in curves])
    return x, values.mean(0), values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(x))


OWN = {("train", "batch/loss"): "loss", **{(part, "evaluation/accuracy"): "accuracy"
                                          for part in ("train", "validation", "test")}}
PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
         "validation": "validation", "eval": "validation", "test": "test", "testing": "test"}


def scalars(series, tags=None):
    """{(part, tag): (panel, unit of the steps, kind of data)} of the curves to draw of a run.

    Of our own runs the loss and the accuracies, of others' all scalars, or those whose tag matches
    the pattern `tags`. panel: "loss", "accuracy" or the tag itself; unit: "step" or "epoch"; kind:
    "train", "validation", "test" or "", by the words of folder and tag.
    """
    found, own = {}, ("train", "batch/loss") in series
    for key, (_, _, values) in series.items():
        is_scalar = not any(map(np.ndim, values)) and np.issubdtype(
            np.asarray(values[0]).dtype, np.number)
        asked = key in OWN if own and tags is None else fnmatch.fnmatchcase(key[1], tags or "*")
        if not (is_scalar and asked):
            continue
        words = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", " ".join(key[::-1]))
        words = re.findall(r"[a-z]+", words.lower())  # of the tag, then of the folder
        kind = next((PARTS[word] for word in words if word in PARTS), "")
        named = [panel for panel, names in (("loss", {"loss", "losses", "xent", "nll"}), (
            "accuracy", {"acc", "accuracy", "accuracies"})) if names & set(words)]
        panel = named[0] if named and not {"scale", "scaler", "weight"} & set(words) else key[1]
        found[key] = panel, "epoch" if "epoch" in words else "step", kind
    return found


def plot_curves(events, by="step", batch=None, tags=None):
    """Figure of training loss and accuracies, and of all other scalars of others' runs; seeds of
    one configuration as mean and std band; where a value is not finite, a cross.

    events: {run name: read_events(run)}; names that differ in "-seed<k>" only are one
    configuration.
    by: "step", "sample" (steps times batch {run name: images a step}) or "time" (since the first
    event, minutes). tags: pattern of the tags to draw, like "evaluation/*"; losses are then shown
    as they are and not as running means.
    Raises NotDrawn, naming it, if a run has nothing to draw.
    """
    groups, panels = {}, {}  # {(panel, unit): [(group, names, key, kind)]}
    for name in events:
        groups.setdefault(re.sub(r"-seed\d+$", "", name), []).append(name)
    for group, names in groups.items():
        chosen = {}
        for name in names:
            own = scalars(events[name], tags)
            if not own:
                raise NotDrawn(f"{name} has no scalars" + (f" whose tag matches {tags}" if tags else
                                                          " to draw"))
            chosen |= own
        for key, (panel, unit, kind) in chosen.items():
            panels.setdefault((panel, unit), []).append((group, names, key, kind))
    order = {"loss": 0, "accuracy": 1}
    panels = dict(sorted(panels.items(), key=lambda item: (
        item[0][0] not in order, item[0][1] != "step" if item[0][0] in order else 0,
        order.get(item[0][0], 2))))
    columns = min(len(panels), 2 if len(panels) <= 4 else 4)
    rows = -(-len(panels) // columns)
    size = (11, 4 * rows) if columns < 4 else (16, 2.8 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    colours = dict(zip(groups, plt.rcParams["axes.prop_cycle"].by_key()["color"] * 99))
    numbers = {}
    for axis, ((panel, unit), curves) in zip(axes.flat, panels.items()):
        numbers |= draw_panel(axis, panel, unit, curves, events, colours, by, batch,
                              smoothed=panel == "loss" and tags is None)
        label = {"time": "wall time (minutes)", "sample": "training images seen"}.get(by, unit)
        axis.set_xlabel(unit if unit == "epoch" and by == "sample" else label)
    for axis in axes.flat[len(panels):]:
        axis.remove()
    if any(panel not in order for panel, _ in panels):  # these have no legend
        figure.suptitle(", ".join(groups).replace("$", r"\$"))
    return figure, numbers


def draw_panel(axis, panel, unit, curves, events, colours, by, batch, smoothed):
    """Draw the curves (group, names, key, kind) of a panel; returns {curve: (points, 3)}: x, mean,
    deviation. Accuracies are shares 0 .. 1; a run's that are above 1.5 anywhere are per cent."""
    own = all(key in OWN for _, _, key, _ in curves)
    numbers, halfway, styles = {}, [], {}  # error rates (%) in the middle of each accuracy's curve

    def curve(name, key, width):
        """(x, values, x where they are not finite) of a run."""
        steps, seconds, values = events[name][key]
        images = 1 if unit == "epoch" else (batch or {}).get(name, 1)
        x = {"step": lambda: steps, "sample": lambda: steps * images,
             "time": lambda: (seconds - seconds[0]) / 60}[by]()
        values = np.float64(values)
        finite = np.isfinite(values)
        if panel == "accuracy" and (values[finite] > 1.5).any():  # per cent
            values = values / 100
        return x[finite], smooth(values[finite], width) if finite.any() else values[finite], (
            x[~finite])
    for group, names, key, kind in curves:
        having = [name for name in names if key in events[name]]
        width = len(events[having[0]][key][0]) // 50 if smoothed else 1
        drawn = [curve(name, key, width) for name in having]
        colour, what = colours[group], kind if own else "/".join(filter(None, key))
        label = f"{group} (n = {len(drawn)})" + (f", {what}" if not own or panel != "loss" else "")
        if own and panel == "accuracy" and len(colours) > 1:  # colours stand in the loss's legend
            label = what if group == next(iter(colours)) else "_"
        label = label.replace("$", r"\$")
        lost = np.unique(np.concatenate([x for *_, x in drawn]))
        whole = [(x, y) for x, y, _ in drawn if len(x)]
        if len(lost):
            axis.plot(lost, np.full(len(lost), 0.03), "x", color=colour, clip_on=False,
                      transform=axis.get_xaxis_transform(), label=f"{label}: not finite")
        if not whole:
            continue
        x, mean, deviation = over_seeds(whole)
        if not len(x):
            raise NotDrawn(f"the seeds of {group} have no steps of {key[1]} in common")
        numbers["/".join((group, *key))] = np.column_stack([x, mean, deviation])
        scale = 100 if panel == "accuracy" else 1
        turn = styles[group, kind] = styles.get((group, kind), -1) + 1
        if panel == "loss" and own:
            style = "-"
        elif len(x) == 1 or kind == "test" and own:
            style = "o"
        else:
            style = {"train": ":", "test": "-."}.get(kind, "-") if not turn else (
                (0, (1 + 2 * turn, 1, 1, 1)))
        look = dict(marker="o", linestyle="none") if style == "o" else dict(linestyle=style)
        axis.plot(x, scale * mean, color=colour, label=label, **look)
        if panel == "accuracy" and len(x) > 1:
            halfway.append(100 - scale * mean[len(x) // 2])
        if len(whole) > 1:
            low = mean - deviation
            if panel == "loss" and own:  # a logarithmic axis has no 0
                low = np.maximum(low, 0.1 * mean)
            axis.fill_between(x, scale * low, scale * (mean + deviation), color=colour, alpha=0.2,
                              linewidth=0)
    several = any(len(names) > 1 for _, names, _, _ in curves)
    if panel == "loss":
        axis.set(ylabel="training loss (nats)" if own else "loss",
                 yscale="log" if own else "linear",
                 title=("Training loss" if own else "Loss")
                 + ", running mean over 2 % of the steps" * smoothed)
    elif panel == "accuracy":
        axis.set(ylabel="accuracy (%)", title="Accuracy" + (
            ", mean and std over n seeds" if several else ""))
        if own and halfway:  # what comes after the first steep rise fills the picture
            height = min(100, max(1, 2 * max(halfway)))
            axis.set_ylim(100 - height, min(100 + 0.03 * height, axis.get_ylim()[1]))
    else:
        axis.set_title(panel.replace("$", r"\$"), fontsize=9)
    axis.xaxis.set_major_formatter("{x:,g}")
    if len(axis.lines) > 1 or panel in ("loss", "accuracy") and axis.lines:
        axis.legend(fontsize=8)
    return numbers


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
