"""Print a table of finished runs, one row a configuration: mean ± standard deviation over seeds."""
import re
from collections import Counter

import numpy as np

from comparisons import names as naming
from comparisons.measures import groups_of, rows_of
from system.command_line import InputError
from system.markdown import mean_and_deviation
from system.markdown import table as markdown

OPTIONS = {"columns": "accuracy, kernels or speed, or columns joined by commas, each with its "
                      "digits where they are not the usual ones, like test_accuracy:1"}
SETS = {"accuracy": "steps seeds test_accuracy test_accuracy_flipped train_seconds",
        "kernels": "seeds parameters train_accuracy validation_accuracy test_accuracy:1 structured "
                   "r2_above_chance",
        "speed": "seeds images_per_second epoch_seconds seconds_to_98 test_accuracy instability"}
COLUMNS = {  # heading, factor, digits
    "train_accuracy": ("train accuracy (%)", 100, 1),
    "validation_accuracy": ("validation accuracy (%)", 100, 1),
    "test_accuracy": ("test accuracy (%)", 100, 2),
    "test_accuracy_flipped": ("averaged with horizontal flip (%)", 100, 2),
    "train_loss": ("train loss (nats)", 1, 3), "validation_loss": ("validation loss (nats)", 1, 3),
    "test_loss": ("test loss (nats)", 1, 3),
    "structured": ("structured kernels (%)", 100, 0), "r2_above_chance": ("r2 above chance", 1, 2),
    "r2_normalised": ("(r2 - chance) / (1 - chance)", 1, 2),
    "principal_power": ("power along the principal colour (%)", 100, 0),
    "r2_of_mean": ("of the channels' mean", 1, 2), "r2_of_channels": ("of single channels", 1, 2),
    "images_per_second": ("images/s", 1, 0), "epoch_seconds": ("s per epoch", 1, 1),
    "seconds_to_98": ("s to 98 % validation accuracy", 1, 1),
    "instability": ("instability of the loss at 0.1 to 0.2 nats", 1, 3),
    "batch_noise": ("batch noise at 0.1 to 0.2 nats", 1, 3),
    "gradient_before": ("gradient at the last row / at the first, before training", 1, 1),
    "gradient_after": ("gradient at the last row / at the first, trained", 1, 2),
    "train_seconds": ("time (s)", 1, 0)}
COUNTS = {"steps": "steps", "seeds": "seeds", "parameters": "weights"}


def columns_of(columns):
    """Return [(name, digits or None)] of a set's name, a list, or text joined by commas."""
    words = SETS[columns].split() if str(columns) in SETS else (
        columns.split(",") if isinstance(columns, str) else columns)
    found = []
    for word in words:
        name, _, digits = word.strip().partition(":")
        if name not in (*COLUMNS, *COUNTS) or not re.fullmatch("[0-9]{0,2}", digits):
            raise InputError(f"there is no column {word!r}; sets are {', '.join(SETS)}, columns "
                             f"{', '.join((*COUNTS, *COLUMNS))}")
        found.append((name, int(digits) if digits else COLUMNS.get(name, (0, 0, None))[2]))
    return found


def values_of(groups, name):
    """Return {configuration: array over seeds} of a measure in a table's units; nan where a run
    does not have it."""
    return {key: COLUMNS[name][1] * np.array([row.get(name, np.nan) for row in group], float)
            for key, group in groups.items()}


def finished(rows):
    """Return the groups of the rows that have a result; InputError if there are none."""
    groups = groups_of([row for row in rows if row.get("status") == "finished"
                        and "test_accuracy" in row and "train_seconds" in row])
    if not groups:
        raise InputError("none of these is a finished run of a network: there is no test accuracy")
    return groups


def cells(name, digits, groups):
    """Return a column as (heading, a cell for each configuration); None if no run has it."""
    if name == "steps":
        taken = [sorted({row.get("steps_taken", row.get("steps")) for row in group} - {None})
                 for group in groups.values()]
        return COUNTS[name], [" .. ".join(f"{n:,}" for n in dict.fromkeys(own[::len(own) - 1 or 1]))
                              for own in taken]
    if name in COUNTS:
        return COUNTS[name], [len(group) if name == "seeds" else f"{group[0][name]:,}"
                              if name in group[0] else "" for group in groups.values()]
    values = values_of(groups, name)
    if not any(np.isfinite(seeds).any() for seeds in values.values()):
        return None
    missing = "never by all seeds" if name == "seconds_to_98" else ""
    return COLUMNS[name][0], [
        mean_and_deviation(seeds, digits) if np.isfinite(seeds).all() else missing
        for seeds in values.values()]


def make(rows, columns="accuracy", beside=None):
    """Return the Markdown table of rows: a line a configuration, then what data it is of.

    beside: (heading, {configuration: cell}) of a last column.
    """
    groups = finished(rows)
    names, shared = naming.without_shared([name for name, _, _ in groups], "=")
    made = [("run", names), *filter(None, (cells(name, digits, groups)
                                           for name, digits in columns_of(columns)))]
    if beside:
        made.append((beside[0], [beside[1].get(name, "") for name, _, _ in groups]))
    rows_of_data = {}
    for row, (_, _, data) in enumerate(groups, 1):
        rows_of_data.setdefault(data, []).append(row)
    below = ["Data: " + "; ".join(
        data + f", row{'s' * (len(own) > 1)} {ranges(own)}" * (len(rows_of_data) > 1)
        for data, own in rows_of_data.items()) + "."]
    if shared:
        below.append(f"All runs: {', '.join(shared)}.")
    runs = Counter(row["configuration"] for row in rows)
    lost = Counter((row["configuration"], row.get("status", "unfinished")) for row in rows)
    below += [f"{n} of {runs[name]} runs of {name} {status}." for (name, status), n in lost.items()
              if status != "finished"]
    text = markdown([heading for heading, _ in made], zip(*(column for _, column in made)))
    return text + ("\n\n" + " ".join(below) if below else "")


def ranges(numbers):
    """Return "1, 2, 4 to 7" of rising whole numbers."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{own[0]} to {own[-1]}" if len(own) > 2 else ", ".join(map(str, own))
                     for own in runs)


def need_fits(columns):
    """Return whether these columns need Gabor fits."""
    return any(name in ("structured", "r2_above_chance", "r2_normalised")
               for name, _ in columns_of(columns))


def table(paths, columns="accuracy"):
    """Return the table of run folders, CSV files or studies."""
    return make(rows_of(paths, need_fits(columns)), columns)
