"""Draw finished runs as dots, one row a configuration: each seed a dot, their mean a bar."""
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from comparisons import names as naming
from comparisons import table as tables
from comparisons.measures import names_of, rows_of
from system.command_line import InputError

OPTIONS = {"columns": "accuracy, kernels or speed, or columns joined by commas"}
PANELS = {"accuracy": ("test_accuracy", "train_seconds"),
          "kernels": ("test_accuracy", "structured", "r2_above_chance"),
          "speed": ("images_per_second", "test_accuracy", "instability")}
LABELS = {"images_per_second": "training speed (images/s)", "train_seconds": "training time (s)",
          "structured": "structured kernels (%)\n5 % is chance",
          "r2_above_chance": "mean r2 of their Gabor fits\nabove that of shuffled pixels",
          "instability": "instability: deviation of the logarithm\nof the loss about its running "
                         "mean,\nat 0.1 to 0.2 nats"}


def panels_of(columns):
    """Return the measures to draw for a set of columns; InputError if all of them are counts."""
    if str(columns) in PANELS:
        return PANELS[columns]
    found = [name for name, _ in tables.columns_of(columns) if name in tables.COLUMNS]
    if not found:
        raise InputError(f"--columns {columns} has only counts, which are not drawn; add a measure "
                         "like test_accuracy")
    return found


def make(rows, columns="accuracy", title=""):
    """Return (figure, {configuration: (seeds, measures)}) of rows, a panel for each measure."""
    groups, measures = tables.finished(rows), panels_of(columns)
    values = {name: tables.values_of(groups, name) for name in measures}
    names, shared = naming.without_shared([name for name, _, _ in groups], "=")
    counts = [len(group) for group in groups.values()]
    alike = len({*counts}) == 1
    names = [textwrap.fill(name if alike else f"{name} ({n} seed{'s' * (n > 1)})", 30)
             for name, n in zip(names, counts)]
    titles = [*dict.fromkeys(data for _, _, data in groups)]
    lines = sum(name.count("\n") + 1 for name in names) + (len(titles) + 2) * (len(titles) > 1)
    figure, axes = plt.subplots(1, len(measures), figsize=(11, 1 + 0.3 * lines), sharey=True,
                                layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], measures):
        for row, ((_, _, data), seeds) in enumerate(values[name].items()):
            colour = f"C{titles.index(data)}"
            axis.plot(seeds, [row] * len(seeds), "o", color=colour, alpha=0.5,
                      label=data if [data for _, _, data in groups].index(data) == row else None)
            axis.plot(np.mean(seeds), row, "|", color="black", markersize=14)
        axis.set(xlabel=LABELS.get(name, tables.COLUMNS[name][0]), yticks=range(len(names)),
                 yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        if name == "images_per_second":
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter("{x:,.0f}")
            axis.minorticks_off()
    said = [f"{counts[0]} seeds, " * (alike and counts[0] > 1) + "each a dot, their mean a bar"]
    if len(titles) == 1:
        said.insert(0, titles[0])
    else:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center",
                      title="data", fontsize=9)
    if shared:
        said.append(f"all runs: {', '.join(shared)}")
    figure.suptitle("\n".join([title] * bool(title) + said), fontsize=10)
    return figure, {"measures": np.array(measures)} | {
        key: np.column_stack([values[name][group] for name in measures])
        for key, group in zip(names_of(groups), groups)}


def draw(paths, columns="accuracy"):
    """Return the figure of run folders, CSV files or studies, and its numbers."""
    return make(rows_of(paths, tables.need_fits(columns)), columns)


def table(paths, columns="accuracy"):
    """Return the table of the same runs."""
    return tables.table(paths, columns)
