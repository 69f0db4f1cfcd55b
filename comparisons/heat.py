"""Draw a sweep's results as a heat map over two options, and where the loss was not finite."""
import contextlib

import matplotlib.pyplot as plt
import numpy as np

from comparisons.measures import rows_of
from comparisons.table import COLUMNS
from system.command_line import InputError
from system.markdown import mean_and_deviation

OPTIONS = {"rows": "option down the side, or several together",
           "columns": "option along the bottom", "metric": "what is shown"}


def in_order(values):
    """Return values sorted as numbers if they are numbers."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def as_ticks(values):
    """Return what stands at the ticks of values: where any of them is small, 1e-4 for 0.0001."""
    with contextlib.suppress(ValueError):
        parts = [f"{float(value):e}".split("e") for value in values]
        if any(int(power) < -3 for _, power in parts):
            return [f"{float(one):g}e{int(power)}" * (float(one) != 0) or "0"
                    for one, power in parts]
    return values


def text_of(finished, lost, runs, digits=1):
    """Return what a cell says: mean ± deviation, each seed, how many did not end; with so many
    digits after the point, of single seeds one fewer."""
    lines = []
    if finished:
        each = " ".join(f"{value:,.{max(0, digits - 1)}f}" for value in sorted(finished))
        lines = [mean_and_deviation(finished, digits), *[each] * (len(finished) > 1)]
    return "\n".join(lines + [f"{lost} of {runs}\nnot finite"] * bool(lost))


def make(table, rows=("optimizer",), columns="learning_rate", metric="validation_accuracy"):
    """Return (figure, numbers): the mean of a metric over seeds, at each pair of options.

    Cells say how many runs did not end for a loss that was not finite; cells without any finished
    run stay blank.
    """
    for name in (*rows, columns, "status", "seed"):
        if not table or any(name not in row for row in table):
            raise InputError(f"these runs have no column {name}; they have "
                             f"{', '.join(table[0] if table else [])}")
    if not any(metric in row for row in table):
        raise InputError(f"these runs have no {metric}; they have {', '.join(table[0])}")
    if not all(isinstance(row.get(metric, 0.0), float) for row in table):
        raise InputError(f"--metric {metric} is no number")

    first = {(row[rows[0]], *(row[name] for name in rows[1:])) for row in table}

    def up_of(row):  # without what does not vary beside the first option
        more = [f"{name.replace('_', ' ')} {row[name]}" for i, name in enumerate(rows[1:], 1)
                if len({own[i] for own in first if own[0] == row[rows[0]]}) > 1]
        return ", ".join([str(row[rows[0]]), *more])
    ups, lefts = in_order({up_of(row) for row in table}), in_order({row[columns] for row in table})
    _, scale, digits = COLUMNS.get(metric, (metric, 100 if "accuracy" in metric else 1, 3))
    digits, down = 1 if "accuracy" in metric else digits, ", ".join(rows)
    means, lost = np.full((len(ups), len(lefts)), np.nan), np.zeros((len(ups), len(lefts)), int)
    figure, axis = plt.subplots(figsize=(2.5 + 1.2 * len(lefts), 1.6 + 0.6 * len(ups)),
                                layout="constrained")
    for i, up in enumerate(ups):
        for j, left in enumerate(lefts):
            cell = [row for row in table if up_of(row) == up and row[columns] == left]
            if len({row["seed"] for row in cell}) < len(cell):
                raise InputError(f"the sweep varies more than {down} and {columns}: several "
                                 f"configurations have {down} {up} and {columns} {left}")
            finished = [scale * row[metric] for row in cell
                        if row["status"] == "finished" and metric in row]
            lost[i, j] = sum(row["status"] == "diverged" for row in cell)
            means[i, j] = np.mean(finished) if finished else np.nan
            text = text_of(finished, lost[i, j], len(cell), digits)
            if text:
                axis.text(j, i, text, ha="center", va="center", fontsize=8,
                          bbox=dict(boxstyle="round,pad=0.15", color="white", alpha=0.7))
    picture = axis.imshow(means, cmap="viridis", aspect="auto")
    axis.set(xticks=range(len(lefts)), xticklabels=as_ticks(lefts), yticks=range(len(ups)),
             yticklabels=ups, xlabel=columns.replace("_", " "), ylabel=down.replace("_", " "))
    axis.grid(False)
    figure.colorbar(picture, label=metric.replace("_", " ") + " (%)" * (scale == 100))
    seeds = len({row["seed"] for row in table})
    title = [f"{seeds} seeds, mean ± standard deviation of those that ended, and each of them",
             *dict.fromkeys(row["data"] for row in table if "data" in row)]
    figure.suptitle("\n".join(title), fontsize=9)
    return figure, {"mean": means, "diverged": lost, down: np.array(ups),
                    columns: np.array(lefts)}


def draw(paths, rows=("optimizer",), columns="learning_rate", metric="validation_accuracy"):
    """Return [(name, figure, numbers)] of sweeps' folders or studies, or of run folders as one."""
    names, columns = [name.replace("-", "_") for name in rows], columns.replace("-", "_")
    sweeps = [paths] if (paths[0] / "config.json").exists() else [[path] for path in paths]
    return [(name_of(own), *make(rows_of(own), names, columns, metric)) for own in sweeps]


def name_of(own):
    """Return the name of the figure of a sweep, a study or a run, or of several runs as one."""
    called = own[0].stem if own[0].suffix == ".csv" else own[0].resolve().name
    return f"heat_{called}" if len(own) == 1 else "heat"
