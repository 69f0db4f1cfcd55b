"""What runs wrote -> figures and tables.

    python visualize.py all RUN...             every figure a run can give, of these:

    from event files alone, whoever wrote them
    python visualize.py curves RUN...          losses and accuracies of one or many runs
    python visualize.py filters RUN...         the first layer's kernels, each on its own scale
                                               and on one
    python visualize.py time RUN...            a recurrent net's state and gradient (and an LSTM's
                                               memory) at each time step

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

    from any checkpoint and its data
    python visualize.py projector RUN...       features of test images for TensorBoard's projector

    python visualize.py table RUN...           final accuracies, mean +- standard deviation
                                               over seeds
    python visualize.py compare RUN...         recurrent nets and CNN: speed, accuracy, stability
    python visualize.py study RUN...           LeNet-5: accuracy, how edge-like the kernels are,
                                               weights, time
    python visualize.py heat SWEEP --rows OPTION... --columns OPTION
                                               accuracy over two options of a sweep, and where
                                               the loss stopped being finite
    python visualize.py transfer RUN...        what each layer's features are worth on other images

    python visualize.py findings FILE...       what a figure says, as a table, from the arrays
                                               beside it: statistics.npz, evolution.npz,
                                               invariance.npz, diagnose.npz, occlusion.npz or
                                               correspondence.npz

    python visualize.py report [FILE...]       every table and figure of the README, the
                                               report and the benchmarks' own README anew,
                                               from the commands that stand there
    python visualize.py keep RUN... --out DIR  copies without checkpoints, histograms and images,
                                               to commit

Each figure is a PNG in --out/<run>/, with the numbers beside it (.npz); one run's are added to its
images in TensorBoard too. Tables need finished runs of this project's scripts.
"""
import argparse
import contextlib
import csv
import functools
import io
import pathlib
import subprocess
import sys
import tempfile

import machine
import runs
from options import Parser

DOCUMENTS = ("README.md", "report.md", "benchmarks/README.md")


def parse(words=None):
    """The command line's options; bad ones exit 2 with one line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(
        "all", "curves", "filters", "time", "activations", "deconv", "evolution", "invariance",
        "diagnose", "occlusion", "correspondence", "findings", "projector", "table", "compare",
        "study", "heat", "transfer", "report", "keep"))
    parser.add_argument("runs", nargs="*", metavar="RUN", type=pathlib.Path)
    parser.add_argument("--out", default="figures", type=pathlib.Path, help="folder of the figures")
    parser.add_argument("--by", choices=("step", "sample", "time"), default="step",
                        help="horizontal axis of curves")
    parser.add_argument("--tags", metavar="PATTERN", help="curves: draw the scalars whose tags "
                        "match this, like 'evaluation/*' or '*loss*', as they are (default: of "
                        "our own runs the loss, as a running mean, and accuracies; of others' all)")
    parser.add_argument("--names", nargs="+", default=[], help="table, compare, study: what to "
                        "call the configurations instead, one name for each")
    parser.add_argument("--beside", nargs="+", default=[], metavar="CELL", help="a table's further "
                        "column: its heading, then one cell for each row")
    parser.add_argument("--rows", nargs="+", default=["optimizer"],
                        help="heat: option down the side, or several together")
    parser.add_argument("--columns", default="rate", help="heat: option along the bottom")
    parser.add_argument("--metric", default="validation_accuracy", help="heat: what is shown")
    parser.add_argument("--check", action="store_true", help="report: change nothing; exit status "
                        "1 if documents or figures differ from the logs")
    parser.add_argument("--points", type=int, default=200, help="keep: of the losses at most so "
                        "many, evenly spaced (default: 200)")
    parser.add_argument("--data-dir", default=runs.DATA_DIR, help="folder of data sets, also set "
                        "by the environment variable DATA_DIR")
    options = parser.parse_args(words)
    if options.what == "report":
        options.runs = options.runs or [*map(pathlib.Path, DOCUMENTS)]
    if not options.runs:
        parser.error(f"{options.what}: name at least one "
                     + ("file" if options.what == "findings" else "run's folder"))
    if options.points < 1:
        parser.error("--points must be at least 1")
    if options.what == "keep" and options.out == pathlib.Path("figures"):
        parser.error("keep: --out, the folder of the copies, is missing")
    options.record = True  # single runs' figures among their images in TensorBoard
    return options


if __name__ == "__main__":  # --help answers before the slow imports below
    options = parse()

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

import charts  # noqa: E402
import comparisons  # noqa: E402
import findings  # noqa: E402
import report  # noqa: E402
from drawing import STYLE  # noqa: E402
from runs import NoCheckpoint, NotDrawn  # noqa: E402


def portraits_of(network):
    """{command: [(name of a figure, function that draws it)]} of a network."""
    import portraits
    single = {"evolution": portraits.draw_evolution, "invariance": portraits.draw_invariance,
              "diagnose": portraits.draw_diagnosis, "occlusion": portraits.draw_occlusion,
              "correspondence": portraits.draw_correspondence}
    return {"activations": [("activations", lambda: portraits.draw_activations(network)),
                            ("statistics", lambda: portraits.draw_statistics(network))],
            "deconv": [(f"deconv_{layer}", functools.partial(portraits.draw_deconv, network, layer))
                       for layer in network.layers],
            **{name: [(name, functools.partial(draw, network))] for name, draw in single.items()}}


def write(figure, numbers, path, run=None):
    """Save a figure and, beside it, its numbers; show it among the run's images in TensorBoard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_name(path.name + ".png")
    figure.savefig(picture)
    plt.close(figure)
    with runs.atomic_file(path.with_name(path.name + ".npz")) as stream:
        np.savez_compressed(stream, **numbers)
    if run is not None:
        with machine.quiet_import():
            import tensorflow as tf
        writer = tf.summary.create_file_writer(str(run / "figures"))
        with writer.as_default():
            image = tf.io.decode_png(picture.read_bytes(), channels=3)
            tf.summary.image(f"figures/{path.name}", image[None], step=0)
        writer.close()
    print(f"wrote {picture} and {path.name}.npz")


def write_statistics(numbers, classes, path):
    """Activation statistics as CSV, one row a layer, class and feature map."""
    rows = [("layer", "class", "map", "mean", "std", "max", "active", "dead")]
    for layer in findings.layers_of(numbers, "active"):
        values = [numbers[f"{layer}/{name}"] for name in ("mean", "std", "max", "active")]
        for c, name in enumerate([*classes, "all"]):
            for m in range(values[0].shape[1]):
                rows.append((layer, name, m, *(f"{value[c, m]:.6g}" for value in values),
                             int(m in numbers[f"{layer}/dead"])))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    with runs.atomic_file(path) as stream:
        stream.write(text.getvalue().encode())
    print(f"wrote {path}")


def visualize(options):
    """Make the figures, or print the table, that the command line asks for."""
    with plt.style.context(STYLE):
        if options.what == "report":
            return make_report(options)
        if options.what == "keep":
            for run in options.runs:
                report.keep(run, options.out / run.parent.name / run.name, options.points)
        elif options.what in ("table", "compare", "study"):
            try:
                if options.what == "table":
                    table, *figure = [comparisons.tabulate(options.runs, options.names)]
                else:
                    make = getattr(comparisons, options.what)
                    table, *figure = make(options.runs, options.names)
            except KeyError as error:
                raise runs.InputError(f"{options.what}: one of these is no finished run of "
                                      f"cifar_lenet5.py or mnist_rnn.py: it has no {error}"
                                      ) from error
            print(comparisons.beside(table, options.beside))
            if figure:
                write(*figure, options.out / options.what)
        elif options.what == "findings":
            print("\n\n".join(findings.tabulate(file) for file in options.runs))
        elif options.what == "heat":
            for folder in options.runs:
                figure = comparisons.plot_heat(read_results(folder, options), options.rows,
                                               options.columns, options.metric)
                write(*figure, options.out / f"heat_{folder.name}")
        elif options.what == "transfer":
            for (name, _, _), group in comparisons.configurations(options.runs).items():
                table, figure, numbers = comparisons.plot_transfer(group)
                print(f"{name}, n = {len(group)}\n\n{table}\n")
                write(figure, numbers, options.out / f"transfer_{name}")
        elif options.what == "curves":
            batch = {run.name: batch_of(run) for run in options.runs
                     } if options.by == "sample" else None
            names = [run.name for run in options.runs]
            if len(set(names)) < len(names):
                raise runs.InputError("curves: several of these runs share a name")
            try:
                figure = charts.plot_curves({run.name: events_of(run) for run in options.runs},
                                            options.by, batch, options.tags)
            except NotDrawn as error:
                raise runs.InputError(f"curves: {error}") from error
            if len(options.runs) > 1:
                write(*figure, options.out / "curves")
            else:
                write_own(*figure, options.runs[0], options, "curves")
        else:
            for run in options.runs:
                visualize_run(run, options)


def make_report(options):
    """Refill or check the documents: exit status 0, or 1 after a line for each thing wrong."""
    def printed(script, *words, out=None):
        if script != "visualize.py":
            done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise runs.InputError(f"`{script}`: {last}")
            return done.stdout
        asked = parse(list(words))
        asked.out, asked.record = (out or pathlib.Path()) / asked.out, False
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            visualize(asked)
        return "".join(line for line in text.getvalue().splitlines(keepends=True)
                       if not line.startswith("wrote "))

    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder)
        wrong = report.documents(options.runs, lambda words: printed(
            *words, out=made if options.check else None), options.check)
        wrong += [f"{file}: differs from what the logs say" for file in report.differing(
            made, pathlib.Path())]
    for line in wrong:
        print(f"visualize.py: {line}", file=sys.stderr)
    return 1 if wrong else 0


def read_results(folder, options):
    """Rows of a sweep's results.csv; InputError if it is none, or has not what is asked for."""
    try:
        with open(folder / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise runs.InputError(f"{folder} is no sweep's folder: {runs.first_line(error)}") from error
    for name in (*options.rows, options.columns, options.metric, "status", "seed", "data"):
        if not rows or name not in rows[0]:
            raise runs.InputError(f"{folder}/results.csv has no column {name}; it has "
                                  f"{', '.join(rows[0] if rows else [])}")
    try:
        [float(row[options.metric]) for row in rows if row["status"] == "finished"]
    except ValueError as error:
        raise runs.InputError(f"--metric {options.metric} is no number: {error}") from error
    return rows


def events_of(run):
    """read_events, or InputError if there are none."""
    events = charts.read_events(run)
    if not events:
        raise runs.InputError(f"{run} holds no TensorBoard events; name the folder of a run")
    return events


def batch_of(run):
    """Images a step of a run; InputError if its config.json does not say."""
    try:
        return runs.read_json(run / "config.json")["options"]["batch"]
    except (KeyError, TypeError) as error:
        raise runs.InputError(f"{run}/config.json names no batch, which --by sample needs"
                              ) from error


def own_folder(out, run):
    """The folder of a run's figures; InputError if it holds another run's of the same name."""
    folder = out / run.name
    mark = folder / "run.txt"
    if mark.exists() and pathlib.Path(mark.read_text().strip()).resolve() != run.resolve():
        raise runs.InputError(f"{folder} holds figures of {mark.read_text().strip()}; choose "
                              "another --out")
    return folder


def write_own(figure, numbers, run, options, name):
    """Write a figure of one run into its folder, which says whose figures it holds."""
    folder = own_folder(options.out, run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.txt").write_text(f"{run}\n")
    ours = (run / "config.json").exists()  # into others' folders nothing is written
    write(figure, numbers, folder / name, run if options.record and ours else None)


def visualize_run(run, options):
    """Every figure of one run that the command line asks for; with "all", one line says what cannot
    be drawn of it and why. Raises InputError if nothing can."""
    series, what, failed, drawn = events_of(run), options.what, {}, 0
    out = own_folder(options.out, run) if what != "projector" else None
    others = [events_of(other) for other in options.runs] if what == "time" else []
    others = [other for other in others if ("train", "over_time/state") in other]

    def attempt(name, draw, command=None):
        """Write a figure, or note why it cannot be drawn."""
        nonlocal drawn
        try:
            figure, numbers = draw()
        except (NotDrawn, runs.InputError) as error:
            failed.setdefault(str(error), []).append(command or name)
            return
        drawn += 1
        write_own(figure, numbers, run, options, name)
        if name == "statistics":
            write_statistics(numbers, network.data.classes, out / "statistics.csv")

    def from_events(plot, tag):
        if ("train", tag) not in series:
            raise NotDrawn(f"{run} has no events {tag}, which this figure shows")
        return plot({run.name: series})
    plots = {"curves": lambda: charts.plot_curves({run.name: series}),
             "filters": lambda: from_events(charts.plot_filters, "filters/kernel"),
             "time": lambda: from_events(lambda events: charts.plot_over_time(events, others),
                                         "over_time/state")}
    for name, plot in plots.items():
        if what in (name, "all"):
            attempt(name, plot)
    if what not in plots:
        from network import load_network
        try:
            network = load_network(run, options.data_dir)
        except NoCheckpoint as error:
            if what != "all":
                raise
            failed[str(error)] = ["figures of its network"]
        else:
            if what in ("projector", "all"):
                import projector
                print(f"wrote {projector.write(network)}, shown in TensorBoard's Projector")
                drawn += 1
            for command, figures in portraits_of(network).items():
                if what in (command, "all"):
                    if not figures:
                        failed.setdefault("the network has no feature maps, made by a convolution",
                                          []).append(command)
                    for name, draw in figures:
                        attempt(name, draw, command)
    said = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in failed.items()]
    if not drawn:
        raise runs.InputError(f"nothing can be drawn of {run}: {'; '.join(said)}")
    for line in said:
        print(f"not drawn: {line}")


if __name__ == "__main__":
    sys.exit(runs.main(visualize, options))
