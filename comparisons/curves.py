"""Draw losses and accuracies of one or many runs, seeds as mean and band; of others' logs all."""
import csv as csv_module
import fnmatch
import io
import pathlib
import re

import matplotlib.pyplot as plt
import numpy as np

from comparisons import names, stored
from comparisons.measures import row_of, series_of, smooth
from system.command_line import InputError, NotDrawn
from system.files import read_json
from training.events import read_events

OPTIONS = {"by": "horizontal axis: step, epoch or time",
           "tags": "draw the scalars whose tags match this pattern, like 'evaluation/*', as they "
                   "are (default: of our own runs the loss, as a running mean, and accuracies)",
           "csv": "write what is drawn as a table, too"}
OWN = {("train", "batch/loss"): "loss", **{(part, "evaluation/accuracy"): "accuracy"
                                          for part in ("train", "validation", "test")}}
PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
         "validation": "validation", "eval": "validation", "test": "test", "testing": "test"}
LABELS = {"time": "time (minutes)", "epoch": "epoch"}


def over_seeds(curves):
    """Return several (x, y) as one: (x of the first where all have values, mean, sample standard
    deviation) there, by linear interpolation; a single curve has deviation 0. Of single points, as
    a test at the end of each run gives, x is the mean."""
    x, ends = curves[0][0], [(other[0], other[-1]) for other, _ in curves]
    first, last = max(first for first, _ in ends), min(last for _, last in ends)
    x = x[(x >= first) & (x <= last)]
    if all(len(own) == 1 for own, _ in curves):
        x = np.mean([own for own, _ in curves], axis=0)
    values = np.stack([np.interp(x, *curve) for curve in curves])
    return x, values.mean(0), values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(x))


def scalars(series, tags=None):
    """Return {(part, tag): (panel, unit of the steps, kind of data)} of a run's curves to draw.

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


def make(groups, by="step", tags=None):
    """Return (figure, {curve: (points, 3)}): x, mean and deviation of each.

    groups: {configuration: [(series, steps an epoch or None), ...]}, one for each seed. by: "step",
    "epoch", or "time" in minutes, of series whose seconds count from the start of the run. With
    `tags` losses are shown as they are and not as running means. Raises NotDrawn, naming it, if a
    configuration has nothing to draw.
    """
    panels = {}  # {(panel, unit): [(group, runs, key, kind)]}
    for group, runs in groups.items():
        chosen = {}
        for series, _ in runs:
            own = scalars(series, tags)
            if not own:
                raise NotDrawn(f"{group} has no scalars" + (
                    f" whose tag matches {tags}" if tags else " to draw"))
            chosen |= own
        for key, (panel, unit, kind) in chosen.items():
            panels.setdefault((panel, unit), []).append((group, runs, key, kind))
    if not panels:
        raise NotDrawn("there are no curves to draw of these runs")
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
        numbers |= _panel(axis, panel, curves, colours, by if unit == "step" else (
            "step" if by == "epoch" else by), smoothed=panel == "loss" and tags is None)
        axis.set_xlabel(LABELS.get(by, unit))
    for axis in axes.flat[len(panels):]:
        axis.remove()
    if any(panel not in order for panel, _ in panels):  # these have no legend
        figure.suptitle(", ".join(groups))
    return figure, numbers


def accuracies(groups):
    """Return the figure of the accuracies alone, a panel for each configuration, and its numbers.
    """
    if not groups:
        raise NotDrawn("there are no curves to draw of these runs")
    rows = -(-len(groups) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(11, 3.4 * rows), layout="constrained",
                                squeeze=False)
    colours, numbers = plt.rcParams["axes.prop_cycle"].by_key()["color"] * 99, {}
    for axis, colour, (group, runs) in zip(axes.flat, colours, groups.items()):
        keys = [key for key, (panel, *_) in scalars(runs[0][0]).items() if panel == "accuracy"]
        numbers |= _panel(axis, "accuracy", [(group, runs, key, key[0]) for key in keys],
                          {group: colour}, "step", smoothed=False)
        axis.set(title=f"{group}, n = {len(runs)}", xlabel="step")
        axis.legend(axis.lines, [key[0] for key in keys], loc="lower right")
        axis.locator_params("x", nbins=5)
    for row in axes:  # which share their vertical axis
        low = min(axis.get_ylim()[0] for axis in row)
        for axis in row:
            axis.set_ylim(low, 100)
    for axis in axes.flat[len(groups):]:
        axis.remove()
    return figure, numbers


def _points(series, per_epoch, by, width, per_cent):
    """Return (x, values, x where they are not finite) of one curve of a run."""
    steps, seconds, values = series
    x = {"step": lambda: steps, "epoch": lambda: steps / per_epoch,
         "time": lambda: seconds / 60}[by]()
    values = np.float64(values)
    finite = np.isfinite(values)
    if per_cent and (values[finite] > 1.5).any():
        values = values / 100
    return (x[finite], smooth(values[finite], width) if finite.any() else values[finite],
            x[~finite])


def _panel(axis, panel, curves, colours, by, smoothed):
    """Draw the curves (group, runs, key, kind) of a panel; return their numbers. Accuracies are
    shares 0 .. 1; a run's that are above 1.5 anywhere are per cent."""
    own, several = (all(key in OWN for _, _, key, _ in curves),
                    any(len(runs) > 1 for _, runs, _, _ in curves))
    drawn_kinds = {(group, kind) for group, _, _, kind in curves}  # a band is of validation, if any
    numbers, halfway, turns = {}, [], {}  # error rates (%) in the middle of each accuracy's curve
    for group, runs, key, kind in curves:
        having = [(series[key], per_epoch) for series, per_epoch in runs if key in series]
        drawn = [_points(*one, by, len(one[0][0]) // 50 if smoothed else 1, panel == "accuracy")
                 for one in having]
        whole = [(x, y) for x, y, _ in drawn if len(x)]
        colour, what = colours[group], kind if own else "/".join(filter(None, key))
        label = group + f" (n = {len(whole) or len(drawn)})" * several + (
            f", {what}" if not own or panel != "loss" else "")
        if own and panel == "accuracy" and len(colours) > 1:  # colours stand in the loss's legend
            label = what if group == next(iter(colours)) else "_"
        lost = np.unique(np.concatenate([x for *_, x in drawn]))
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
        turn = turns[group, kind] = turns.get((group, kind), -1) + 1
        axis.plot(x, scale * mean, color=colour, label=label,
                  **_look(panel, own, kind, turn, len(x)))
        if panel == "accuracy" and len(x) > 1:
            halfway.append(100 - scale * mean[len(x) // 2])
        if len(whole) > 1 and (kind != "train" or (group, "validation") not in drawn_kinds):
            low = mean - deviation
            if panel == "loss" and own:  # a logarithmic axis has no 0
                low = np.maximum(low, 0.1 * mean)
            axis.fill_between(x, scale * low, scale * (mean + deviation), color=colour, alpha=0.2,
                              linewidth=0)
    _finish(axis, panel, own, smoothed, several, halfway)
    return numbers


def _look(panel, own, kind, turn, points):
    """Return the style of a line: by the kind of data, and the how many-th of that kind it is."""
    if panel == "loss" and own:
        return dict(linestyle="-")
    if points == 1 or kind == "test" and own:
        return dict(marker="o", linestyle="none")
    return dict(linestyle={"train": ":", "test": "-."}.get(kind, "-") if not turn else (
        (0, (1 + 2 * turn, 1, 1, 1))))


def _finish(axis, panel, own, smoothed, several, halfway):
    """Set a panel's labels, limits and legend."""
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
        axis.set_title(panel, fontsize=9)
    axis.xaxis.set_major_formatter("{x:,g}")
    if len(axis.lines) > 1 or panel in ("loss", "accuracy") and axis.lines:
        axis.legend(fontsize=8)


# ------------------------------------------------------------------------- where curves come from

def of_rows(rows, by="step"):
    """Return the groups to draw of a study's rows."""
    groups = {}
    for row in rows:
        series = series_of(row)
        if not series:  # of a run that diverged elsewhere
            continue
        if by == "time":  # at the run's mean speed of steps
            if "train_seconds" not in row:
                print(f"note     {row['run']} is left out: it diverged, and when is not known")
                continue
            series = _timed(series, row)
        groups.setdefault(row["configuration"], []).append((series, row.get("steps_per_epoch")))
    return groups


def _timed(series, row):
    """Return a run's series at the seconds of training that its steps took, at its mean speed."""
    taken = max(1, row.get("steps_taken", row["steps"]))
    return {key: (steps, np.asarray(steps) / taken * row["train_seconds"], values)
            for key, (steps, _, values) in series.items()}


def _since_start(series):
    """Return a run's series at the seconds since the first event of any of them; those of an
    earlier run in its folder since that one's."""
    runs, starts = {key: re.search(r"(earlier \d+)?$", key[0])[0] for key in series}, {}
    for key, (_, seconds, _) in series.items():
        starts[runs[key]] = min(starts.get(runs[key], np.inf), seconds.min())
    return {key: (steps, seconds - starts[runs[key]], values)
            for key, (steps, seconds, values) in series.items()}


def of_folder(folder, by):
    """Return (series, steps an epoch) of any folder of event files."""
    series = read_events(folder)
    if not series:
        raise InputError(f"{folder} holds no TensorBoard events; name the folder of a run")
    if by == "time" and (folder / "result.json").exists() and "train_seconds" in (
            row := row_of(folder)):  # without evaluations, and pauses before --resume
        return _timed(series, row), None
    if by != "epoch":
        return _since_start(series) if by == "time" else series, None
    try:
        config = read_json(folder / "config.json")
        return series, config["data"]["train"] / config["options"]["batch_size"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}/config.json has no {error}, which --by epoch needs") from error


def as_csv(numbers, by):
    """Return curves {name: (points, 3)} as the text of a CSV, a row a point."""
    text = io.StringIO(newline="")
    writer = csv_module.writer(text, lineterminator="\n")
    writer.writerow(["curve", by, "mean", "standard deviation"])
    for name, points in numbers.items():
        writer.writerows([name, *(f"{x:.9g}" for x in point)] for point in points)
    return text.getvalue()


def draw(paths, by="step", tags=None, csv=False):
    """Return the figure of run folders, whoever wrote them, and of studies, and its numbers."""
    if by not in ("step", "epoch", "time"):
        raise InputError(f"--by {by} is none of step, epoch, time")
    paths, found = [*map(pathlib.Path, paths)], {}  # {(study or "", configuration): its seeds}
    for study in filter(None, map(stored.named_by, paths)):
        groups = of_rows(stored.rows(stored.load(study)), by)
        found |= {(study, group): runs for group, runs in groups.items()}
    folders = [path for path in paths if not stored.named_by(path)]
    names.labels(folders)  # that no two are the same
    for folder, (group, _) in zip(folders, names.of_runs(folders)):
        found.setdefault(("", group), []).append(of_folder(folder, by))
    figure, numbers = make(dict(zip(names.told_apart(found), found.values())), by, tags)
    if not csv:
        return figure, numbers
    return [("curves", figure, numbers), ("curves.csv", as_csv(numbers, by), {})]
