"""Turn a run's folder into one row of measures, and any paths into rows.

A row is a dictionary: configuration, seed, options as text, measures as numbers. Below a study or a
sweep's folder rows come from its CSV; of a run's own folder they are measured.
"""
import functools
import pathlib

import joblib
import numpy as np

from comparisons import names, stored
from inside import gabor
from system import machine
from system.command_line import InputError, as_text
from system.files import read_json
from training.events import read_events


def rows_of(paths, fits=False):
    """Return the rows of run folders, sweeps' folders, CSV files and names of studies, in order.

    fits: fit Gabor functions to the kernels of run folders, which takes seconds each.
    """
    paths, rows = [*map(pathlib.Path, paths)], []
    for path, (name, _) in zip(paths, names.of_runs(paths)):
        table = path / "results.csv" if (path / "results.csv").exists() else path
        if study := stored.named_by(path):
            rows += stored.rows(stored.load(study))
        elif table.suffix == ".csv":
            rows += [{"configuration": names.name_of(row | {"name": row.get("run", "").removesuffix(
                f"-seed{row.get('seed')}")}), **row} for row in stored.read_csv(table)]
        else:
            rows.append(row_of(path) | {"configuration": name})
    if fits:
        fitted = [row for row in rows if "folder" in row
                  and ("train", "filters/kernel") in series_of(row)]
        kernels = [series_of(row)["train", "filters/kernel"][2][-1] for row in fitted]
        for row, measures in zip(fitted, joblib.Parallel(machine.cores())(
                joblib.delayed(kernel_measures)(kernel) for kernel in kernels)):
            row |= measures
    return rows


def row_of(folder, status="finished"):
    """Return the row of a run's folder; InputError if it is none, or has not that status."""
    config = read_json(folder / "config.json")
    result = read_json(folder / "result.json") if status == "finished" else {}
    try:
        options, data, events = config["options"], config["data"], _events(folder)
        row = {"configuration": options["name"], "seed": options["seed"], "folder": folder,
               "data": data["title"], "steps": config["total_steps"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}/config.json is no run's: it has no {error}") from error
    row |= {name: config[name] for name in ("parameters", "processor", "date") if name in config}
    row |= {name: as_text(value) for name, value in options.items() if name not in row}
    row |= result
    if "batch_size" in options:
        row["steps_per_epoch"] = data["train"] / options["batch_size"]
    for part in ("train", "validation", "test"):
        if (part, "evaluation/loss") in events:
            row[f"{part}_loss"] = float(events[part, "evaluation/loss"][2][-1])
    if "images_per_second" in result:
        row["epoch_seconds"] = data["train"] / result["images_per_second"]
        row |= _finite({"seconds_to_98": seconds_to(events, 0.98, result["train_seconds"])})
    if ("train", "batch/loss") in events:
        row |= _finite({"instability": instability(*events["train", "batch/loss"][::2])})
    if "source" in config:
        row["source_data"] = config["source"]["title"]
    return {**row, "status": status, "threads": options.get("threads"),
            "commit": config.get("commit"),
            "tensorflow": config.get("versions", {}).get("tensorflow")}


def _finite(measures):
    return {name: value for name, value in measures.items() if np.isfinite(value)}


@functools.lru_cache(64)
def _events(folder):
    return read_events(folder)


def series_of(row):
    """Return the series of a row, as read_events gives them; none if they were not kept."""
    if "folder" in row:
        return _events(row["folder"])
    return stored.series(row["study"]).get(row["run"], {}) if "study" in row else {}


def groups_of(rows):
    """Return {(configuration, steps, data): rows of its seeds}, in the order of their coming.

    Raises InputError where a configuration has a seed twice, which would make n too large.
    """
    groups = {}
    for row in rows:
        group = groups.setdefault((row["configuration"], row.get("steps"), row.get("data")), [])
        if row["seed"] in [other["seed"] for other in group]:
            raise InputError(f"seed {row['seed']} of {row['configuration']} is there twice")
        group.append(row)
    return groups


# ------------------------------------------------------------------------------------ measures

def smooth(values, width):
    """Average over a window of `width` points centred on each, narrower at the ends."""
    width = min(max(1, width), len(values))
    weights = np.convolve(np.ones(len(values)), np.ones(width), "same")
    return np.convolve(values, np.ones(width), "same") / weights


def instability(steps, losses, band=(0.1, 0.2), width=51):
    """Return how unsteady a training loss is: the standard deviation of the high-frequency part of
    its log, over the steps at which its level lies in `band` (nats).

    losses: (steps,) > 0. The level is the geometric mean over `width` steps, the part what is left.
    In a band, because a batch's loss scatters the more, in relation, the lower it is. nan unless
    the loss of every step is there, and 50 of them in the band.
    """
    if len(steps) < 2 or (np.diff(steps) != 1).any():
        return float("nan")
    log = np.log(np.maximum(np.float64(losses), 1e-12))
    level = smooth(log, width)
    inside = (np.exp(level) >= band[0]) & (np.exp(level) <= band[1])
    return float(np.std((log - level)[inside])) if inside.sum() >= 50 else float("nan")


def seconds_to(series, accuracy, seconds):
    """Return the training time until the validation accuracy first reached `accuracy`, linear
    between evaluations, at the mean speed of steps of a run of so many `seconds`; nan if never."""
    if ("validation", "evaluation/accuracy") not in series:
        return float("nan")
    steps, _, values = series["validation", "evaluation/accuracy"]
    values = np.float64(values)
    reached = np.flatnonzero(values >= accuracy)
    if not len(reached):
        return float("nan")
    i = reached[0]
    step = steps[0] if i == 0 else np.interp(accuracy, values[i - 1:i + 1], steps[i - 1:i + 1])
    return float(step * seconds / steps[-1])


def accuracy_after(series, after, seconds):
    """Return the validation accuracy `after` so many seconds of training, linear between
    evaluations, at the mean speed of steps of a run of `seconds`; nan without validation images."""
    if ("validation", "evaluation/accuracy") not in series:
        return float("nan")
    steps, _, values = series["validation", "evaluation/accuracy"]
    return float(np.interp(after, steps / steps[-1] * seconds, np.float64(values)))


def kernel_measures(kernels):
    """Return how structured a first layer's kernels are: the share that fits a Gabor function
    better than 95 % of shuffled kernels, and the mean r2 of the fits above that of the shuffled, as
    it is and as a share of what is left to explain."""
    fits, chance, share = gabor.structure(kernels)
    above = float(np.mean([fit["r2"] for fit in fits]) - chance.mean())
    return {"structured": share, "r2_above_chance": above,
            "r2_normalised": float(above / (1 - chance.mean()))}
