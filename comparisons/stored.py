"""Read and write a study: which runs (NAME.toml), what each gave (NAME.csv), its curves (NAME.npz).

A study is a question that some runs answer. Its TOML names the `script`, the `seeds`, options that
are `fixed` and, for each of the `configurations`, a name and its own options; a `grid` {option:
values} multiplies them. A configuration with `from` takes another study's rows instead of runs of
its own. One with `commit` needs options that only that commit's code has: its rows are kept, and
made there. `columns` are those of the table, `figures` the pictures.
"""
import contextlib
import csv
import dataclasses
import functools
import io
import itertools
import pathlib
import re
import tomllib

import filelock
import numpy as np

from system.command_line import InputError, as_text, first_line, is_plain
from system.files import atomic_file, load_arrays, write_text
from training.events import PATTERN

FOLDER = pathlib.Path("studies")
INTEGERS = ("seed", "parameters", "steps", "steps_taken", "threads")
FLOATS = ("steps_per_epoch", "train_accuracy", "validation_accuracy", "test_accuracy",
          "test_accuracy_flipped", "train_loss", "validation_loss", "test_loss", "train_seconds",
          "images_per_second", "epoch_seconds", "seconds_to_98", "instability", "batch_noise",
          "gradient_before", "gradient_after", "structured", "r2_above_chance", "r2_normalised",
          "principal_power", "r2_of_mean", "r2_of_channels")
BEGIN = "configuration", "seed"
OTHERWISE = "data", "source_data", "name", "threads"  # options of which a row says something else
MACHINE = "processor", "tensorflow", "keras", "numpy", "precision", "threads"
END = ("status", "threads", "precision", "commit", "tensorflow", "keras", "numpy", "processor",
       "date")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Hold what one row of a study's table is of."""
    name: str
    script: str
    seeds: tuple
    options: dict
    published: str = ""
    source: tuple = ()  # (study, configuration) that has the rows, if not this one
    commit: str = ""    # whose code can make the rows, if today's cannot

    @property
    def slug(self):
        """Return the name as that of a run: "best, 1 epoch" is "best-1-epoch"."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-")

    def runs(self):
        """Return {seed: name of the run's folder}."""
        return {seed: f"{self.slug}-seed{seed}" for seed in self.seeds}

    def words(self, seed):
        """Return the options as on a command line, "{seed}" in them filled in."""
        words = []
        for name, value in self.options.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                values = value if isinstance(value, list) else [value]
                words += [f"--{flag}", *(str(v).replace("{seed}", str(seed)) for v in values)]
        return words


@dataclasses.dataclass(frozen=True)
class Study:
    """Hold a study's TOML, its grid multiplied out."""
    name: str
    question: str
    configurations: tuple
    columns: object
    figures: tuple
    published: str

    @property
    def own(self):
        """Return the configurations that have runs of their own."""
        return [one for one in self.configurations if not one.source]

    @property
    def made_here(self):
        """Return those of them that today's code can make."""
        return [one for one in self.own if not one.commit]

    @property
    def given(self):
        """Return the names of the options that it gives to runs of its own."""
        return [*dict.fromkeys(name for one in self.own for name in one.options
                               if name not in ("evaluations", "snapshots"))]

    @property
    def varied(self):
        """Return the names of the options that are not the same in all of its own runs."""
        return [name for name in self.given
                if len({as_text(one.options.get(name)) for one in self.own}) > 1]

    def file(self, suffix):
        return FOLDER / f"{self.name}{suffix}"


def names():
    """Return the names of all studies."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def named_by(path):
    """Return the name of the study that a path of a command line means, by its name or its CSV;
    None if it means none, or there is a folder of this name that holds a run."""
    if path.parent == FOLDER and path.suffix == ".csv":
        path = path.with_suffix("").relative_to(FOLDER)
    if not (FOLDER / f"{path}.toml").exists():
        return None
    is_run = any(file for what in ("config.json", PATTERN, f"*/{PATTERN}")
                 for file in path.glob(what))
    return None if is_run else str(path)


def load(name):
    """Return the Study of a name; InputError if its TOML is missing or says what cannot be."""
    file = FOLDER / f"{name}.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        _check(found, question=str, script=str, seeds=[int], fixed=dict, configurations=[dict],
               grid=dict, figures=[dict], published=str)
        return _study(str(name), **found)
    except FileNotFoundError as error:
        raise InputError(f"there is no study {name}; studies are {', '.join(names()) or 'none'}"
                         ) from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: {first_line(error)}") from error


def _check(table, **kinds):
    """Raise TypeError unless the values that a table has are of their kinds: types, [type] if they
    are lists."""
    for name, kind in kinds.items():
        values = table.get(name, [] if isinstance(kind, list) else kind())
        if isinstance(kind, list) and isinstance(values, list):
            values, kind = values, kind[0]
        else:
            values = [values]
        for value in values:
            if type(value) is not kind:
                raise TypeError(f"{name} cannot be {value!r}")


def _study(name, question, script="", seeds=(0,), fixed=None, configurations=({},), grid=None,
           columns="accuracy", figures=(), published="original report (%)"):
    made = []
    for one in ({"columns": columns}, *figures):
        _check(one, kind=str, name=str, columns=str if isinstance(one.get("columns"), str) else [
            str], configurations=[str])
    if not all(isinstance(values, list) for values in (grid or {}).values()):
        raise TypeError("each option of a grid needs a list of values")
    if not all("kind" in one for one in figures):
        raise ValueError("a figure needs a kind")
    if len({one.get("name", name) for one in figures}) < len(figures):
        raise ValueError("figures need different names")
    for one in configurations:
        _check(one, name=str, script=str, seeds=[int], published=str, configuration=str, commit=str,
               **{"from": str})
        one = dict(one)
        words = [one.pop("name", "")]
        if "from" in one:
            source = one.pop("from"), one.pop("configuration", words[0])
            made.append(Configuration(words[0], "", tuple(one.pop("seeds", ())), {},
                                      one.pop("published", ""), source))
            if one:
                raise ValueError(f"{words[0]!r} takes its rows {source}, so it has no options "
                                 f"{', '.join(one)}")
            continue
        how = dict(script=one.pop("script", script), seeds=tuple(one.pop("seeds", seeds)),
                   published=one.pop("published", ""), commit=one.pop("commit", ""))
        for values in itertools.product(*(grid or {}).values()):
            point = dict(zip(grid or {}, values))
            text = [*filter(None, words), *(f"{n}={as_text(v)}" for n, v in point.items())]
            made.append(Configuration(", ".join(text), options={**(fixed or {}), **one, **point},
                                      **how))
    slugs = [one.slug for one in made]
    for one in made:
        if not one.slug or slugs.count(one.slug) > 1:
            raise ValueError(f"configurations need different names, not {one.name!r}")
        if not one.source and not one.script:
            raise ValueError(f"{one.name!r} has no script")
        if not one.source and not is_plain(one.script):
            raise ValueError(f"script must be a plain name, not {one.script!r}")
    return Study(name, question, tuple(made), columns, tuple(figures), published)


# ----------------------------------------------------------------------------- rows of a table

def is_measure(name):
    """Return whether a column holds a measure, in floating point."""
    return name in FLOATS or name.startswith("test_accuracy/")


@functools.lru_cache
def kind_of(name):
    """Return the type of a column's values; None if they may be any."""
    return int if name in INTEGERS else float if is_measure(name) else str if name in (
        "configuration", "data", "source_data", "status") else None


def checked(row):
    """Return a row whose numbers are numbers, and which has what tables need; else ValueError."""
    for name in ("seed",) + ("data",) * (row.get("status") == "finished"):
        if row.get(name) is None:
            raise ValueError(f"a run has no {name}")
    for name, value in row.items():
        if kind_of(name) and type(value) is not kind_of(name):
            raise ValueError(f"{name} is {value!r}")
    return row


def read_csv(file):
    """Return the rows of a CSV as dictionaries, without what is blank; measures are numbers."""
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            return [checked({name: (kind_of(name) or str)(text) for name, text in row.items()
                             if text}) for row in csv.DictReader(stream)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{file}: {first_line(error)}") from error


def write_csv(file, rows, varied=()):
    """Write rows, of the columns that any of them has, in their usual order."""
    known = [*BEGIN, *varied, "data", "source_data", "parameters", "steps", "steps_taken",
             *FLOATS]
    more = [name for row in rows for name in row if name not in (*known, *END)]
    columns = [name for name in dict.fromkeys([*known, *more, *END])
               if any(name in row for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def rows(study, own=False, above=()):
    """Return a study's rows in the order of its TOML, those it takes from other studies too.

    A row says by "study" and "run" whose series are its own. above: the studies that take rows from
    this one.
    """
    found, file = [], study.file(".csv")
    stored = read_csv(file) if file.exists() else []
    for one in study.configurations:
        if not one.source:
            seeds = one.runs()
            found += [{**row, "study": study.name, "run": seeds[row["seed"]]} for row in stored
                      if row.get("configuration") == one.name and row.get("seed") in seeds]
        elif not own:
            name, configuration = one.source
            if name in above:
                raise InputError(f"{study.file('.toml')}: studies take rows from each other in a "
                                 "circle")
            rows_there = [row for row in rows(load(name), above=(*above, name))
                          if row["configuration"] == configuration
                          and (not one.seeds or row["seed"] in one.seeds)]
            lost = sorted({*one.seeds} - {row["seed"] for row in rows_there})
            if lost or not rows_there:
                raise InputError(f"study {study.name}: {name} has no rows of {configuration}"
                                 f"{', seed ' * bool(lost)}{', '.join(map(str, lost))}")
            found += [{**row, "configuration": one.name} for row in rows_there]
    return found


def contradictions(study):
    """Yield what rows of a study were made with other than its TOML asks for now."""
    asked = {one.name: one.options for one in study.own}
    for row in rows(study, own=True):
        for name, value in asked[row["configuration"]].items():
            made = row.get(name) if name not in OTHERWISE else None
            value = as_text(value).replace("{seed}", str(row["seed"]))
            if made is None or as_text(made) == value:
                continue
            with contextlib.suppress(ValueError):
                if [*map(float, as_text(made).split(","))] == [*map(float, value.split(","))]:
                    continue
            yield f"{row['run']} was made with {name} {made}, not {value}"


# ----------------------------------------------------------------------------- series of a run

@functools.lru_cache(None)
def _arrays(file, changed):
    return load_arrays(file)


def series(name):
    """Return {run: {(part, tag): (steps, None, values)}} of a study, as read_events gives them;
    InputError if they are none."""
    file, found = FOLDER / f"{name}.npz", {}
    if not file.exists():
        return found
    arrays = _arrays(file, file.stat().st_mtime_ns)
    for key, values in arrays.items():
        name, _, kind = key.rpartition("/")
        run, part, tag = [*name.split("/", 2), "", ""][:3]
        steps = arrays.get(f"{name}/steps")
        if not tag or steps is None or steps.shape in ((), (0,)) or steps.dtype.kind != "i" or (
                values.dtype.kind not in "if" or values.shape[:1] != steps.shape):
            raise InputError(f"{file}: {key} is no series of a run; copy the file anew")
        if kind == "values":
            found.setdefault(run, {})[part, tag] = steps, None, values
    return found


@contextlib.contextmanager
def locked(study):
    """Let one process at a time read a study's files, add to them and write them."""
    lock = FOLDER / f".{study.name}.lock"
    with filelock.FileLock(lock):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps an open file, then removes it
                lock.unlink()


def write(study, rows_, series_):
    """Write a study's CSV and NPZ: the rows, and {run: series} of them."""
    arrays = {f"{run}/{part}/{tag}/{kind}": array for run, own in series_.items()
              for (part, tag), (steps, _, values) in own.items()
              for kind, array in (("steps", np.asarray(steps, np.int32)),
                                  ("values", np.asarray(values, np.float32)))}
    order = {(one.name, seed): i for i, (one, seed) in enumerate(
        (one, seed) for one in study.own for seed in one.seeds)}
    rows_ = sorted(rows_, key=lambda row: order.get((row["configuration"], row["seed"]), 0))
    write_csv(study.file(".csv"), [{n: v for n, v in row.items() if n not in ("study", "run")}
                                   for row in rows_],
              [*study.varied, *(n for n in study.given if n not in (*INTEGERS, *FLOATS, *END))])
    if arrays:
        with atomic_file(study.file(".npz")) as stream:
            np.savez_compressed(stream, **dict(sorted(arrays.items())))


# what of a run's events an .npz keeps; of the kernels the last, of losses `LOSSES` points at most
KEPT = {"train": ("batch/loss", "evaluation/loss", "evaluation/accuracy", "filters/kernel"),
        "validation": ("evaluation/loss", "evaluation/accuracy", "evaluation/batch_noise"),
        "test": ("evaluation/loss", "evaluation/accuracy")}
LOSSES = 200


def thinned(events, study):
    """Return what of a run's series its study keeps."""
    kinds, kept = {figure.get("kind") for figure in study.figures}, {}
    whole = study.columns == "speed" or "instability" in study.columns  # which needs every loss
    for (part, tag), (steps, seconds, values) in events.items():
        if tag == "filters/kernel":
            steps, values = steps[-1:], values[-1:]
        elif tag == "batch/loss" and not whole:
            every = -(-(int(steps[-1]) + 1) // LOSSES)
            chosen = np.flatnonzero(np.asarray(steps) % every == 0)
            steps, values = steps[chosen], [values[i] for i in chosen]
        if tag in KEPT.get(part, ()) or tag.startswith("over_time/") and part == "train" and (
                "over_time" in kinds):
            kept[part, tag] = steps, seconds, values
    return kept
