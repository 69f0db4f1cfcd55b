"""Make the tables and figures of the documents anew, or check them, from studies/.

A table of a document stands between two marks, the first of which says what it shows:

    <!-- study ten-points -->                a study's table
    <!-- study ten-points seeds,steps -->    only these columns of it
    <!-- figure best/occlusion -->           what figures/best/occlusion.npz says
    <!-- benchmark lenet5 training -->       what a script of benchmarks/ measured
    <!-- machines studies -->                what the runs of the studies were made on
    <!-- end -->
"""
import functools
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np

from comparisons import stored, study
from comparisons.measures import measures_of, seconds_to
from inside.pictures import STYLE
from system.command_line import InputError, first_line
from system.files import atomic_file, load_arrays, write_text
from system.markdown import table as markdown

TAKES = "FILE?"
OPTIONS = {"check": "change nothing; say what differs, with exit status 1"}
DOCUMENTS = ("README.md", "report.md", "appendix.md", *(f"{folder}/README.md" for folder in (
    "benchmarks", "data", "logs", "studies", "tests", "training")))
FIGURES = pathlib.Path("figures")
BLOCK = re.compile(r"(<!-- (study|figure|benchmark|machines) ([^\n]*?) -->\n)(.*?)(<!-- end -->)",
                   re.DOTALL)
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
MEASURED = re.compile(f"{NUMBER} ± {NUMBER}")
BENCHMARKS = {"lenet5": ("throughput", "lenet5"), "lenet5-xeon": ("throughput", "lenet5-xeon"),
              "recurrent": ("throughput", "recurrent"),
              "waiting": ("waiting", "waiting"), "cost": ("cost", "cost"),
              "inside": ("inside_speed", "inside")}


# ----------------------------------------------------------------------------- what a block shows

def of_study(name):
    """Return the table of a study, "NAME" or "NAME columns"."""
    name, _, columns = name.partition(" ")
    return study.table_of(stored.load(name), columns)


def of_machines(_):
    """Return a table of the studies that have runs of their own: how many, and what made them."""
    rows = []
    for one in map(stored.load, stored.names()):
        made = [(row.get("processor", "not recorded"), row.get("threads", "?"))
                for row in stored.rows(one, own=True)]
        for processor, threads in sorted(set(made), key=str):
            rows.append((one.name, made.count((processor, threads)), processor, threads))
    return markdown(("study", "runs", "processor", "cores"), rows)


def of_figure(name):
    """Return the table of a network's figure; InputError if its arrays are not there."""
    figure, file = name.rpartition("/")[2], FIGURES / f"{name}.npz"
    module = figure
    if not importlib.util.find_spec(f"inside.{module}"):
        module = figure.rpartition("_")[0]  # the rest is a layer
    try:
        show = importlib.import_module(f"inside.{module}").table
    except (ImportError, AttributeError) as error:
        raise InputError(f"no figure {figure} of inside/ has a table") from error
    numbers = load_arrays(file)
    try:
        with np.errstate(all="raise"):
            header, first, *more = show(numbers)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f"{file} has not the arrays of this figure; draw it again "
                         f"({type(error).__name__}: {first_line(error)})") from error
    return markdown(header, [first, *more])


@functools.cache
def of_benchmark(name):
    """Return what a script of benchmarks/ prints of what it measured."""
    name, _, which = name.partition(" ")
    if name not in BENCHMARKS:
        raise InputError(f"there is no benchmark {name}; there are {', '.join(BENCHMARKS)}")
    script, file = BENCHMARKS[name]
    done = subprocess.run([sys.executable, f"benchmarks/{script}.py", "--read",
                           f"benchmarks/{file}.json", *(["--tables", which] if which else [])],
                          capture_output=True, encoding="utf-8",
                          env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    if done.returncode:
        raise InputError([*done.stderr.splitlines(), f"exit status {done.returncode}"][-2:][0])
    return done.stdout


SHOW = {"study": of_study, "figure": of_figure, "benchmark": of_benchmark, "machines": of_machines}


def blocks(text):
    """Return the blocks of a document; InputError for one without an end."""
    found = [*BLOCK.finditer(text)]
    marks = len(re.findall(r"<!-- (?!end -->)", text))
    if marks != len(found) or any("<!--" in block[4] for block in found):
        raise InputError(f"a mark <!-- ... --> is none of {', '.join(SHOW)}, or has no "
                         "<!-- end -->")
    return found


def refilled(block):
    """Return a block as it should be."""
    return f"{block[1]}{SHOW[block[2]](block[3]).strip()}\n{block[5]}"


def strays(text):
    """Yield (number, whether a table of the document has it) of the numbers "70.0 ± 1.2" of its
    sentences."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\N{NO-BREAK SPACE}", " ")
    known = set(MEASURED.findall("".join(block[4] for block in BLOCK.finditer(text))))
    for number in MEASURED.findall(re.sub(r"\s+", " ", BLOCK.sub("", text))):
        yield number, number in known


# ----------------------------------------------------------------------- what a study consists of

def same(new, old):
    """Return whether two {name: array} are the same, but for rounding."""
    return new.keys() == old.keys() and all(
        a.shape == b.shape and (np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True)
                                if a.dtype.kind == "f" else (a == b).all())
        for a, b in ((np.asarray(new[key]), old[key]) for key in new))


def disagreements(one):
    """Yield what a study's CSV says other than its TOML, and than the curves in its NPZ."""
    yield from stored.contradictions(one)
    series, rows = stored.series(one.name), stored.rows(one, own=True)
    for name in sorted({name for row in rows for name in row} - {"study", "run"}):
        if not study.is_kept(one, name):
            yield f"{name} is no column that runs give"
    for row in rows:
        own, said = series.get(row["run"], {}), {}
        for part in ("train", "validation", "test"):
            for tag in ("accuracy", "loss"):
                if (part, f"evaluation/{tag}") in own and row.get("weights") != "best":
                    said[f"{part}_{tag}"] = own[part, f"evaluation/{tag}"][2][-1]
        if "train_seconds" in row:
            said["seconds_to_98"] = seconds_to(own, 0.98, row["train_seconds"])
        said |= measures_of(own)
        for name, value in said.items():
            if name in row and np.isfinite(value) and not np.isclose(row[name], value, rtol=1e-6):
                yield f"{row['run']} {name} {row[name]} is {value:.6g} there"


def check_studies(write):
    """Yield (what, whether it is as it should be) of every study's figures and numbers."""
    for one in map(stored.load, stored.names()):
        wrong = [*disagreements(one)]
        yield f"{one.file('.csv')}{': ' * bool(wrong)}{'; '.join(wrong)}", not wrong
        for name, make in study.figures_of(one):
            file = FIGURES / f"{name}.npz"
            try:
                with plt.style.context(STYLE):
                    figure, numbers = make()
                    if write:
                        write_figure(figure, numbers, FIGURES / name)
            except InputError as error:
                yield f"{file}: {first_line(error)}", False
                continue
            plt.close(figure)
            yield str(file), (file.exists() and file.with_suffix(".png").exists()
                              and same(numbers, load_arrays(file)))


def write_figure(figure, numbers, path):
    """Write a figure and, beside it, its numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(path.name + ".png"))
    with atomic_file(path.with_name(path.name + ".npz")) as stream:
        np.savez_compressed(stream, **numbers)


def check_document(path, write):
    """Yield (what, whether it is as it should be) of a document's tables and numbers."""
    try:
        text = path.read_text(encoding="utf-8")
        found = blocks(text)
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path}: {first_line(error)}") from error
    made = []
    for block in found:
        what, now = f"{path}: {block[2]} {block[3]}", block[0]
        try:
            now = refilled(block)
            yield what, write or block[0] == now
        except InputError as error:
            yield f"{what}: {first_line(error)}", False
        made.append(now)
    if write:
        remaining = iter(made)
        text = BLOCK.sub(lambda _: next(remaining), text)
        write_text(path, text)
    for number, known in strays(text):
        yield f"{path}: {number}{'' if known else ' stands in no table of it'}", known
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        if not path.parent.joinpath(picture).exists():
            yield f"{path}: {picture} is not there", False


def run(paths=(), check=False):
    """Make the documents and the studies' figures anew, or only compare them with studies/; print a
    line for each table, number and figure. Return exit status 1 if anything differs."""
    paths = [*map(pathlib.Path, paths or DOCUMENTS)]
    status = 0
    for what, right in itertools.chain(check_studies(not check), *(
            check_document(path, not check) for path in paths)):
        print(f"{'ok     ' if right else 'differs'}  {what}", flush=True)
        status = max(status, not right)
    return int(status)
