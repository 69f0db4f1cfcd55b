"""Print the table of a named study, and draw its figures: `study ten-points`."""
import numpy as np

from comparisons import curves, dots, heat, stored, transfer
from comparisons import table as tables
from comparisons.measures import add_fits, groups_of, row_of, series_of
from inside import filters, over_time
from system.command_line import InputError, first_line
from system.files import read_json
from training.events import read_events

TAKES, OPTIONS = "NAME", {}
KEPT = {*stored.BEGIN, *stored.INTEGERS, *stored.FLOATS, *stored.END, "data", "source_data"}
FIGURES = "dots", "heat", "curves", "accuracies", "transfer", "filters", "over_time"
KINDS = {"dots": dots, "heat": heat, "curves": curves, "transfer": transfer}


def rows_of_study(study):
    """Return a study's rows; InputError if it has none yet."""
    rows = stored.rows(study)
    if not rows:
        raise InputError(f"study {study.name} has no runs yet: python sweep.py {study.name}")
    return rows


def table_of(study, columns=""):
    """Return a study's table, with the published numbers beside it; "" if it has none.

    columns: those to show in place of its own.
    """
    if study.columns == "transfer":
        return transfer.make_table(rows_of_study(study))
    if not study.columns:
        return ""
    published = {one.name: one.published for one in study.configurations}
    return tables.make(rows_of_study(study), columns or study.columns,
                       (study.published, published) if any(published.values()) else None)


def figures_of(study):
    """Yield (name, function that returns figure and numbers) of each of a study's figures."""
    for own in study.figures:
        own = dict(own)
        kind, name = own.pop("kind"), own.pop("name", study.name)
        if kind not in FIGURES:
            raise InputError(f"{study.file('.toml')}: figures are {', '.join(FIGURES)}, not {kind}")
        yield name, lambda own=own, kind=kind: _drawn(study, kind, **own)


def _drawn(study, kind, configurations=(), **options):
    """Return the figure of some of a study's configurations, or of all."""
    rows = [row for row in rows_of_study(study)
            if not configurations or row["configuration"] in configurations]
    if kind == "curves":
        return curves.make(curves.of_rows(rows, options.get("by", "step")), **options)
    if kind == "accuracies":
        return curves.accuracies(curves.of_rows(rows))
    finished = [row for row in rows if row["status"] == "finished"]
    if kind in INSIDE:
        try:
            return INSIDE[kind](finished)
        except (LookupError, ValueError) as error:
            raise InputError(f"study {study.name} has not what its figure {kind} shows, of all its "
                             f"runs ({type(error).__name__}: {first_line(error)})") from error
    if kind == "dots":
        options["title"] = study.question
    return KINDS[kind].make(rows, **options)


def _kernels(rows):
    """Draw the first-layer kernels of rows, of the first seed of each configuration."""
    first = {}
    for row in rows:
        first.setdefault(row["configuration"], row)
    return filters.one_below_the_other({f"{row['configuration']}, seed {row['seed']}": (
        series_of(row)["train", "filters/kernel"][2][-1],
        f"{100 * row['structured']:.0f} % structured, test accuracy "
        f"{100 * row['test_accuracy']:.1f} %")
        for row in first.values()}, "\n".join(dict.fromkeys(
            row["data"] for row in first.values())))


def _norms_over_time(rows):
    """Draw the norms of states and gradients of rows, the mean over the seeds of a configuration.
    """
    means = {}
    for (name, *_), own in groups_of(rows).items():
        first, *_ = seeds = [series_of(row) for row in own]
        means[f"{name}, n = {len(own)}"] = {
            key: (first[key][0], None, np.mean([one[key][2] for one in seeds], axis=0))
            for key in first if key[1].startswith("over_time/")}
    if not any(means.values()):
        raise ValueError("no norms were kept")
    return over_time.side_by_side(means, rows[0]["data"])


INSIDE = {"over_time": _norms_over_time, "filters": _kernels}


def draw(names):
    """Return [(name, figure, numbers)] of studies."""
    return [(figure, *make()) for name in names
            for figure, make in figures_of(stored.load(str(name)))]


def table(names):
    """Return the tables of studies, below what they ask."""
    studies = [stored.load(str(name)) for name in names]
    return "\n\n".join(f"{study.question}\n\n{table_of(study)}".strip() for study in studies)


def is_kept(study, column):
    """Return whether a study's CSV keeps this of a run's row."""
    return column in KEPT or column in study.given or column.startswith("test_accuracy/")


def collect(study, finished, diverged):
    """Write a study's CSV and NPZ with the rows of runs' folders {(configuration, seed): folder},
    finished or diverged. Rows of other runs stay. Raises InputError, once all others are written,
    if the files of a run cannot be read."""
    made, series_, unread = {}, {}, []
    for status, folders in (("finished", finished), ("diverged", diverged)):
        for key, folder in folders.items():
            try:
                row, own = row_of(folder, status), stored.thinned(read_events(folder), study)
            except (InputError, OSError) as error:
                unread.append(str(error))
                continue
            made[key], series_[folder.name] = row, own
    add_fits([made[key] for key in finished if key in made])
    made = {(name, seed): {key: value for key, value in row.items() if value is not None
                           and is_kept(study, key)} | {"configuration": name}
            for (name, seed), row in made.items()}
    with stored.locked(study):  # another sweep of the study may be ending, too
        there = stored.read_csv(study.file(".csv")) if study.file(".csv").exists() else []
        rows = {(row["configuration"], row["seed"]): row for row in there} | made
        stored.write(study, rows.values(), stored.series(study.name) | series_)
    if unread:
        raise InputError(f"{'; '.join(unread)}; the rows of all other runs are written")


def unsaid(row, folder):
    """Return what the config.json of a run says of its machine and a study's row does not."""
    config = read_json(folder / "config.json")
    facts = {name: config[name] for name in ("cores", "memory", "system", "settings")
             if name in config} | config.get("versions", {})
    return ", ".join(f"{name} (now {value})" for name, value in facts.items() if name not in row)


def compare(row, folder, others):
    """Return (whether a run that was made again may be taken for a row's, what is to be said)."""
    new = row_of(folder)
    names = [name for name in row if name.endswith(("_accuracy", "_loss", "_flipped"))
             or name.startswith("test_accuracy/")]
    unequal = [name for name in names if new.get(name) != row[name]]
    if not unequal:
        return True, f"{len(names)} measures, equal to the last digit"
    moved = [f"{name} {row[name]}, not {new.get(name)}" for name in stored.MACHINE
             if name in row and new.get(name) != row[name]]
    if not moved:
        said = "; ".join(f"{n} {row[n]!r} is now {new.get(n)!r}" for n in unequal)
        return False, f"{said}; the row does not say {unsaid(row, folder)}"
    if len(others) < 2:
        return True, f"made on {'; '.join(moved)}, and there is no other seed to compare with"
    far = []
    for name in unequal:
        values = [other[name] for other in others if name in other]
        mean, deviation = np.mean(values), np.std(values, ddof=1)
        if not abs(new.get(name, float("nan")) - mean) <= 3 * deviation + 1e-12:
            far.append(f"{name} {new.get(name)!r} is not within {mean:.4g} ± 3 * {deviation:.2g}")
    said = "; ".join(far) or f"{len(names)} measures within three standard deviations"
    return not far, f"{said} (made on {'; '.join(moved)})"
