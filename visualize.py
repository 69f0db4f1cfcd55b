"""What runs wrote -> figures and tables.

    python visualize.py all RUN...             every figure a run can give, of these:

    from event files alone, whoever wrote them
    python visualize.py curves RUN...          losses and accuracies of one or many runs
    python visualize.py filters RUN...         the first layer's kernels, each on its own scale
                                               and on one
    python visualize.py time RUN...            a recurrent net's state and gradient at each time
                                               step

    from a LeNet-5 checkpoint and its data
    python visualize.py activations RUN...     mean maps of each class, and statistics of all
                                               activations
    python visualize.py deconv RUN...          what excites each feature map, through the deconvnet
    python visualize.py evolution RUN...       the same as training goes on
    python visualize.py invariance RUN...      features of shifted, scaled and rotated images
    python visualize.py diagnose RUN...        first-layer filters: norms, dead ones,
                                               near-duplicates
    python visualize.py occlusion RUN...       what happens as a grey square hides each part
                                               of an image
    python visualize.py correspondence RUN...  does hiding the same part do the same to all images?

    python visualize.py table RUN...           final accuracies, mean +- standard deviation
                                               over seeds
    python visualize.py compare RUN...         recurrent nets and CNN: speed, accuracy, stability

Each figure is a PNG in --out/<run>/, with the numbers beside it (.npz), and is added to the run's
images in TensorBoard. Tables need finished runs of this project's scripts.
"""
import argparse
import pathlib
import re
import sys

import runs
from options import Parser

if __name__ == "__main__":  # --help answers before the slow imports below
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(
        "all", "curves", "filters", "time", "activations", "deconv", "evolution", "invariance",
        "diagnose", "occlusion", "correspondence", "table", "compare"))
    parser.add_argument("runs", nargs="+", metavar="RUN", type=pathlib.Path)
    parser.add_argument("--out", default="figures", type=pathlib.Path, help="folder of the figures")
    parser.add_argument("--by", choices=("step", "sample", "time"), default="step",
                        help="horizontal axis of curves")
    parser.add_argument("--data-dir", default=runs.DATA_DIR, help="folder of data sets, also set "
                        "by the environment variable DATA_DIR")
    options = parser.parse_args()

with runs.quiet_import():
    import matplotlib.pyplot as plt
    import numpy as np
    import tensorflow as tf
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.util import tensor_util

import gabor  # noqa: E402
from drawing import STYLE, as_signed, mosaic, show  # noqa: E402


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
                      f"{f['r2']:.2f} {f['angle']:.0f}°", fontsize=6)
    shown = [as_signed(kernels[m][..., i], np.abs(kernels[m]).max())
             for m in moments for i in order[:24]]
    axis = bottom.subplots()
    show(axis, mosaic(shown, min(24, count), gap=1),
         f"over training: the same filters, best fit first, at steps "
         f"{', '.join(f'{steps[m]:,}' for m in moments)} from top to bottom, each row on one scale")
    figure.suptitle(
        f"{name}: {count} first-layer kernels, {height}x{width}, step {steps[-1]:,}, with r2 and "
        f"stripe angle of the best Gabor fit\nmean r2 {r2.mean():.2f} (shuffled pixels "
        f"{chance.mean():.2f}); {100 * share:.0f} % fit better than 95 % of shuffled kernels "
        "(chance 5 %)", fontsize=10)
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
    figure, axes = plt.subplots(1, 3, figsize=(11, 0.6 + 0.45 * len(configurations(folders))),
                                sharey=True, layout="constrained")
    numbers, names = {}, []
    for (name, _, data), group in configurations(folders).items():
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
        for axis, values in zip(axes, (speed, accuracy, unsteady)):
            axis.plot(values, [len(names) - 1] * len(values), "o", color="#0072B2", alpha=0.5)
            axis.plot(np.mean(values), len(names) - 1, "|", color="black", markersize=16)
        numbers[name] = np.column_stack([speed, epoch, wait, accuracy, unsteady])
    for axis, label in zip(axes, ("training speed (images/s)", "test accuracy (%)",
                                  "instability: std of the\nhigh-frequency part of log loss")):
        axis.set(xlabel=label, yticks=range(len(names)), yticklabels=names)
    axes[0].set_xscale("log")
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(f"{data}: each seed a dot, their mean a bar")
    return "\n".join(rows), figure, numbers


def portraits_of(network, what):
    """(name, figure, numbers) of each figure of a network that the command `what` asks for."""
    import portraits
    single = {"evolution": portraits.draw_evolution, "invariance": portraits.draw_invariance,
              "diagnose": portraits.draw_diagnosis, "occlusion": portraits.draw_occlusion,
              "correspondence": portraits.draw_correspondence}
    if what in ("activations", "all"):
        yield "activations", *portraits.draw_activations(network)
        yield "statistics", *portraits.draw_statistics(network)
    if what in ("deconv", "all"):
        for layer in network.layers:
            yield f"deconv_{layer}", *portraits.draw_deconv(network, layer)
    for name, draw in single.items():
        if what in (name, "all"):
            yield name, *draw(network)


def write(figure, numbers, path, run=None):
    """Save a figure and, beside it, its numbers; show it among the run's images in TensorBoard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_name(path.name + ".png")
    figure.savefig(picture)
    plt.close(figure)
    with runs.atomic_file(path.with_name(path.name + ".npz")) as stream:
        np.savez_compressed(stream, **numbers)
    if run is not None:
        writer = tf.summary.create_file_writer(str(run / "figures"))
        with writer.as_default():
            image = tf.io.decode_png(picture.read_bytes(), channels=3)
            tf.summary.image(f"figures/{path.name}", image[None], step=0)
        writer.close()
    print(f"wrote {picture} and {path.name}.npz")


def write_statistics(numbers, classes, path):
    """Activation statistics as CSV, one row a layer, class and feature map."""
    layers = dict.fromkeys(key.split("/")[0] for key in numbers)
    rows = ["layer,class,map,mean,std,max,active,dead"]
    for layer in layers:
        values = [numbers[f"{layer}/{name}"] for name in ("mean", "std", "max", "active")]
        for c, name in enumerate([*classes, "all"]):
            for m in range(values[0].shape[1]):
                statistics = ",".join(f"{value[c, m]:.6g}" for value in values)
                rows.append(f"{layer},{name},{m},{statistics},{int(m in numbers[f'{layer}/dead'])}")
    with runs.atomic_file(path) as stream:
        stream.write(("\n".join(rows) + "\n").encode())
    print(f"wrote {path}")


def visualize(options):
    """Make the figures, or print the table, that the command line asks for."""
    with plt.style.context(STYLE):
        if options.what == "table":
            print(tabulate(options.runs))
        elif options.what == "compare":
            table, figure, numbers = compare(options.runs)
            print(table)
            write(figure, numbers, options.out / "compare")
        elif options.what == "curves":
            batch = {run.name: runs.read_json(run / "config.json")["options"]["batch"]
                     for run in options.runs} if options.by == "sample" else None
            figure = plot_curves({run.name: events_of(run) for run in options.runs}, options.by,
                                 batch)
            if len(options.runs) > 1:
                write(*figure, options.out / "curves")
            else:
                write(*figure, own_folder(options.out, options.runs[0]) / "curves", options.runs[0])
        else:
            for run in options.runs:
                visualize_run(run, options)


def events_of(run):
    """read_events, or InputError if there are none."""
    events = read_events(run)
    if not events:
        raise runs.InputError(f"{run} holds no TensorBoard events; name the folder of a run")
    return events


def own_folder(out, run):
    """The folder of a run's figures; InputError if it holds another run's of the same name."""
    folder = out / run.name
    mark = folder / "run.txt"
    if mark.exists() and pathlib.Path(mark.read_text().strip()).resolve() != run.resolve():
        raise runs.InputError(f"{folder} holds figures of {mark.read_text().strip()}; choose "
                              "another --out")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{run}\n")
    return folder


def visualize_run(run, options):
    """Every figure of one run that the command line asks for."""
    series, what = events_of(run), options.what
    out = own_folder(options.out, run)
    drawn = {"curves": (plot_curves, "batch/loss"), "filters": (plot_filters, "filters/kernel"),
             "time": (plot_over_time, "over_time/state")}
    for name, (plot, tag) in drawn.items():
        if what in (name, "all") and ("train", tag) in series:
            write(*plot({run.name: series}), out / name, run)
        elif what == name:
            raise runs.InputError(f"{run} has no events {tag}, which this figure shows")
    if what not in drawn and (what != "all" or runs.checkpoints(run)):
        from network import load_network
        network = load_network(run, options.data_dir)
        if not network.layers and what != "all":
            raise runs.InputError(f"{run} has no convolutional layers")
        for name, figure, numbers in portraits_of(network, what) if network.layers else ():
            write(figure, numbers, out / name, run)
            if name == "statistics":
                write_statistics(numbers, network.data.classes, out / "statistics.csv")


if __name__ == "__main__":
    sys.exit(runs.main(visualize, options))
