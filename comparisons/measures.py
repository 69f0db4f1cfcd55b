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
from system.command_line import InputError, as_text, first_line
from system.files import read_json
from system.progress import Progress
from training.events import read_events


def rows_of(paths, fits=False):
    """Return the rows of run folders, sweeps' folders, CSV files and names of studies, in order.

    A configuration of a study has the study's name before it if others here have its own, too.
    fits: fit Gabor functions to the kernels of run folders, which takes seconds each.
    """
    paths, found = [*map(pathlib.Path, paths)], []  # [(study or "", row)]
    for path, (name, _) in zip(paths, names.of_runs(paths)):
        table = path / "results.csv" if (path / "results.csv").exists() else path
        if study := stored.named_by(path):
            own = stored.rows(stored.load(study))
        elif table.suffix == ".csv":
            own = [{"configuration": names.name_of(row | {"name": row.get("run", "").removesuffix(
                f"-seed{row.get('seed')}")}), **row} for row in stored.read_csv(table)]
        else:
            own = [row_of(path) | {"configuration": name}]
        found += [(study or "", row) for row in own]
    called = names.told_apart((study, row["configuration"]) for study, row in found)
    rows = [row | {"configuration": name} for (_, row), name in zip(found, called)]
    if fits:
        add_fits(rows)
    return rows


def add_fits(rows):
    """Add what Gabor functions fitted to the kernels of run folders say to their rows."""
    fitted = [row for row in rows if "folder" in row
              and ("train", "filters/kernel") in series_of(row)]
    kernels = [series_of(row)["train", "filters/kernel"][2][-1] for row in fitted]
    found = joblib.Parallel(machine.cores(), return_as="generator")(
        joblib.delayed(kernel_measures)(kernel) for kernel in kernels)
    for measures, row in zip(Progress(
            found, "Gabor fits", total=len(fitted), unit="run"), fitted):
        row |= measures


def row_of(folder, status="finished"):
    """Return the row of a run's folder; InputError if it is none, or has not that status."""
    config = read_json(folder / "config.json")
    result = read_json(folder / "result.json") if status == "finished" else {}
    try:
        return stored.checked(_row(folder, config, result) | {"status": status})
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(f"{folder}: its config.json or result.json is no run's: "
                         f"{type(error).__name__}, {first_line(error)}") from error


def _row(folder, config, result):
    """Return the row of what the files of a run's folder say."""
    options, data, events = config["options"], config["data"], _events(folder)
    row = {"configuration": options["name"], "seed": options["seed"], "folder": folder,
           "data": data["title"], "steps": config["total_steps"]}
    row |= {name: config[name] for name in ("parameters", "processor", "date") if name in config}
    row |= {name: as_text(value) for name, value in options.items() if name not in row}
    row |= {name: float(value) if stored.is_measure(name) else value
            for name, value in result.items()}
    if "batch_size" in options:
        row["steps_per_epoch"] = data["train"] / options["batch_size"]
    for part in ("train", "validation", "test"):
        if f"{part}_loss" not in row and (part, "evaluation/loss") in events:
            row[f"{part}_loss"] = float(events[part, "evaluation/loss"][2][-1])
    if "images_per_second" in result:
        row["epoch_seconds"] = data["train"] / result["images_per_second"]
        row |= _finite({"seconds_to_98": seconds_to(events, 0.98, result["train_seconds"])})
    row |= measures_of(events)
    if "source" in config:
        row["source_data"] = config["source"]["title"]
    also = {"threads": options.get("threads"), "commit": config.get("commit"),
            **{name: config.get("versions", {}).get(name)
               for name in ("tensorflow", "keras", "numpy")}}
    return row | {name: value for name, value in also.items() if value is not None}


def measures_of(series):
    """Return what a row says of a run's series, as far as these are there."""
    found = {}
    if ("train", "batch/loss") in series:
        steps, _, losses = series["train", "batch/loss"]
        found["instability"] = instability(steps, losses)
        if ("validation", "evaluation/batch_noise") in series:
            found["batch_noise"] = noise_in_band(steps, losses, *map(
                np.asarray, series["validation", "evaluation/batch_noise"][::2]))
    for kind in ("memory_gradient", "gradient"):  # an LSTM's flows through its cell state
        if ("train", f"over_time/{kind}") in series:
            first, *more = series["train", f"over_time/{kind}"][2]
            found["gradient_before"] = shrinking(first)
            if more:  # else it diverged before a second evaluation
                found["gradient_after"] = shrinking(more[-1])
            break
    return _finite(found)


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
    """Return {(configuration, steps, data): rows of its seeds}, in the order of their coming; steps
    are None with early stopping, with which each seed takes its own.

    Raises InputError where a configuration has a seed twice, which would make n too large.
    """
    groups = {}
    for row in rows:
        steps = None if "steps_taken" in row else row.get("steps")
        group = groups.setdefault((row["configuration"], steps, row.get("data")), [])
        if row["seed"] in [other["seed"] for other in group]:
            raise InputError(f"seed {row['seed']} of {row['configuration']} is there twice")
        group.append(row)
    return groups


def names_of(groups):
    """Return the configurations of groups, with steps and data where several have one name."""
    every = [name for name, _, _ in groups]
    return [key[0] if every.count(key[0]) == 1 else "/".join(map(str, key)) for key in groups]


# ------------------------------------------------------------------------------------ measures

def smooth(values, width):
    """Average over a window of `width` points centred on each, narrower at the ends."""
    width = min(max(1, width), len(values))
    weights = np.convolve(np.ones(len(values)), np.ones(width), "same")
    return np.convolve(values, np.ones(width), "same") / weights


@np.errstate(invalid="ignore")  # what diverged has losses of inf
def fluctuations(steps, losses, band=(0.1, 0.2), width=51):
    """Return the log of losses (steps,) > 0 about their level, the running mean over `width` steps,
    and at which steps the level lies in `band` (nats); at none unless every step is there.

    In a band, because relative fluctuations of a batch's loss grow as the loss falls.
    """
    whole = len(steps) > 1 and (np.diff(steps) == 1).all()
    log = np.log(np.maximum(np.float64(losses), 1e-12))
    level = smooth(log, width)
    return log - level, whole & (np.exp(level) >= band[0]) & (np.exp(level) <= band[1])


def instability(steps, losses):
    """Return how unsteady a training loss is: the standard deviation of its fluctuations; nan
    unless there are 50 of them in the band."""
    values, inside = fluctuations(steps, losses)
    return float(np.std(values[inside])) if inside.sum() >= 50 else float("nan")


def noise_in_band(steps, losses, evaluated, noise):
    """Return the root mean square of the batch noise, of the evaluations in the band of
    fluctuations: what of an instability is due to the choice of images."""
    within = noise[np.isin(evaluated - 1, steps[fluctuations(steps, losses)[1]])]
    return float(np.sqrt(np.mean(within ** 2))) if len(within) else float("nan")


def shrinking(norms):
    """Return how many times smaller the gradient is at the first time step than at the last, of
    those whose norm is known (steps,)."""
    known = np.float64(norms)[np.isfinite(norms)]
    return float(known[-1] / known[0]) if len(known) and known[0] else float("nan")


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


def kernel_measures(kernels):
    """Return how structured a first layer's kernels (height, width, channels, filters) are: the
    share that fits a Gabor function better than 95 % of shuffled kernels, and the mean r2 of the
    fits above that of the shuffled, as it is and as a share of what is left to explain.

    Of colour kernels that is along their principal colour, whose share of their power is returned,
    too; and r2 above chance of the channels' mean, and of single channels.
    """
    def above(kernels):
        fits, chance, share = gabor.structure(kernels)
        return share, float(np.mean([fit["r2"] for fit in fits]) - chance.mean()), chance.mean()
    structured, r2, chance = above(kernels)
    found = {"structured": structured, "r2_above_chance": r2,
             "r2_normalised": float(r2 / (1 - chance))}
    if kernels.shape[2] == 1:
        return found
    channels = np.split(kernels, kernels.shape[2], axis=2)
    powers = np.linalg.svd(kernels.reshape(-1, *kernels.shape[2:]).T, compute_uv=False) ** 2
    return found | {"principal_power": float(np.mean(powers[:, 0] / powers.sum(1))),
                    "r2_of_mean": above(kernels.mean(2, keepdims=True))[1],
                    "r2_of_channels": float(np.mean([above(one)[1] for one in channels]))}
