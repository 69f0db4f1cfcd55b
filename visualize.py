"""Draw what runs wrote: figures with their numbers beside them, and tables.

    python visualize.py all RUN...             every figure of a single run that the run allows
    python visualize.py COMMAND --help         what a command takes
{commands}
Each figure is a PNG in --out, with its numbers beside it (.npz); a single run's lies in
--out/<run>/ and among its images in TensorBoard. A single command prints its table, if it has one.
"""
import argparse
import ast
import contextlib
import csv
import functools
import importlib
import inspect
import io
import os
import pathlib
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from system import machine
from system.command_line import (
    InputError,
    Parser,
    converter,
    exit_on_signals,
    import_script,
    main,
    shown,
)
from system.files import DATA_DIR, ROOT, atomic_file, regular, write_text

ROOMS = {"inside": "of each run, from its event files, or its weights and its data",
         "comparisons": "of several runs together, of studies, and of documents"}


def commands():
    """Return {room: {command: its help}}."""
    return {room: commands_of(ROOT / room) for room in ROOMS}


@functools.cache
def commands_of(folder):
    """Return {command: its help}: the modules that draw or tabulate, by their first lines."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        made = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if made & {"draw", "run", "table"}:
            found[file.stem] = ast.get_docstring(tree).splitlines()[0]
    return found


def of_every_run():
    """Return the modules that `all` draws by, not those that take files or minutes, unimported.

    The page comes last: it is computed while figures are written, and is itself written at once.
    """
    found = [file.stem for file in sorted((ROOT / "inside").glob("*.py"))
             if file.stem in commands()["inside"]
             and not re.search(r"^(TAKES|SLOW)\b", file.read_text(encoding="utf-8"), re.MULTILINE)]
    found.sort(key=lambda name: name == "explore")
    return ["comparisons.curves", *(f"inside.{name}" for name in found)]


def description(found):
    """Return the module's docstring with a line for each command {room: {command: its help}}."""
    lines = []
    for room, own in found.items():
        lines += ["", f"    {ROOMS[room]}:"]
        lines += [f"    {name:15} {help}" for name, help in own.items()]
    return __doc__.format(commands="\n".join([*lines, ""]))


def parse(words=None):
    """Return (command, its module or None, the options); bad ones exit 2 with one line."""
    words = sys.argv[1:] if words is None else words
    found = commands()
    names = {name: room for room, own in found.items() for name in own}
    first = Parser(description=description(found), usage="visualize.py COMMAND RUN... [options]",
                   formatter_class=argparse.RawDescriptionHelpFormatter)
    first.add_argument("command", choices=("all", *names), metavar="COMMAND")
    command = first.parse_args(words[:1]).command
    module = importlib.import_module(f"{names[command]}.{command}") if command != "all" else None
    parser = Parser(prog=f"visualize.py {command}",
                    description=module.__doc__ if module else description(found),
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    takes = getattr(module, "TAKES", "RUN")
    if takes == "RUN FILE...":
        parser.add_argument("run", type=pathlib.Path, metavar="RUN")
        takes = "FILE"
    parser.add_argument("paths", nargs="*" if takes.endswith("?") else "+", type=pathlib.Path,
                        metavar=takes.strip("?"))
    for name, help in getattr(module, "OPTIONS", {}).items():
        add_option(parser, inspect.signature(next(
            getattr(module, f) for f in ("draw", "table", "run") if hasattr(module, f)))
                   .parameters[name], help)
    if module is None or hasattr(module, "draw"):
        own = command == "study" or names.get(command, "inside") == "inside"
        out = "figures" if own else "figures/compared"  # a study's figures are in the repository
        parser.add_argument("--out", default=out, type=pathlib.Path,
                            help=f"folder of the figures (default: {out})")
        parser.add_argument("--format", default="png", choices=("png", "svg", "pdf"),
                            help="of the figures (default: png)")
        parser.add_argument("--dpi", type=converter(0, 10, 2400), default=0,
                            help="pixels an inch (default: 110)")
    if names.get(command, "inside") == "inside":
        parser.add_argument("--data-dir", default=DATA_DIR, help="folder of data sets, also set by "
                            "the environment variable DATA_DIR")
        parser.add_argument("--data", default="", help="where the run's images are now, if they "
                            "moved: name or path; of a .keras file, what images it is to see")
        parser.add_argument("--pixels", type=int, default=255, choices=(255, 1), help="of a .keras "
                            "file: whether it takes pixels as 0 .. 255 or as 0 .. 1")
        parser.add_argument("--test-split", type=converter(0.0, 0, 0.9), default=0.0, help="of a "
                            ".keras file: share of its data held out for the test where that has "
                            "no test set")
    options = parser.parse_args(words[1:])
    return command, module, options


def add_option(parser, parameter, help):
    """Add the flag of a keyword that a module's function takes, by its default's type."""
    default, flag = parameter.default, "--" + parameter.name.replace("_", "-")
    if isinstance(default, bool):
        parser.add_argument(flag, action="store_true", help=help)
    elif isinstance(default, (tuple, list)):
        parser.add_argument(flag, nargs="+", default=default, help=help)
    else:
        kind = str if default is None else converter(default, *(
            (int(default > 0 and "0:" not in help),) if isinstance(default, int) else ()))
        parser.add_argument(flag, default=default, type=kind, help=help + (
            f" (default: {shown(default)})" if default not in (None, "") else ""))


if __name__ == "__main__":  # --help answers before the slow imports below
    exit_on_signals()
    arguments = parse()
    # large arrays go back to the system, not into a pool that never shrinks
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")

import matplotlib.pyplot as plt
import numpy as np

from comparisons import names as naming
from comparisons import stored
from inside.pictures import STYLE, draw_names_as_they_are
from inside.trained import Record
from system.markdown import table as markdown
from training.events import log_picture


def write(figure, numbers, path, run=None, form="png", dpi=0):
    """Save a figure and, beside it, its numbers; show it among the run's images in TensorBoard, or
    say that it cannot be. A page or table comes as text, an animation as bytes, in place of the
    figure. form: png, svg or pdf; dpi: of pixels in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(figure, (str, bytes)):
        with atomic_file(path) as stream:
            stream.write(figure if isinstance(figure, bytes) else figure.encode())
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
        return
    picture, drawn, seen = path.with_name(f"{path.name}.{form}"), io.BytesIO(), io.BytesIO()
    draw_names_as_they_are(figure)
    figure.savefig(drawn, format=form, dpi=dpi or "figure")
    if run is not None and (form, dpi) != ("png", 0):
        figure.savefig(seen, format="png")
    with atomic_file(picture) as stream:
        stream.write(drawn.getvalue())
    with atomic_file(path.with_name(path.name + ".npz")) as stream:
        np.savez_compressed(stream, **numbers)
    print(f"wrote {picture} and {path.name}.npz")
    try:
        if run is not None:
            log_picture(run, path.name, seen.getvalue() or drawn.getvalue())
    except OSError as error:
        print(f"note     TensorBoard does not show it: {error.filename}: {error.strerror}")


def own_folder(out, run):
    """Return the folder of a run's figures; InputError if it holds another run's of that name."""
    folder = out / run.resolve().name
    mark = folder / "run.txt"
    if mark.exists():
        theirs = os.fsdecode(regular(mark).read_bytes()).strip()
        if "\0" in theirs or os.path.realpath(theirs) != os.path.realpath(run):
            raise InputError(f"{folder} holds figures of {theirs}; choose another --out")
    return folder


def write_own(figures, run, options):
    """Write figures [(name, figure, numbers)] of one run into its folder, which says whose they
    are."""
    if not figures:  # what TensorBoard's projector shows
        return
    folder = own_folder(options.out, run)
    folder.mkdir(parents=True, exist_ok=True)
    # at once: the next figure's folder is asked for
    write_text(folder / "run.txt", f"{run.absolute()}\n")
    ours = (run / "config.json").exists()  # into others' folders nothing is written
    for name, figure, numbers in figures:
        write(figure, numbers, folder / name, run if ours else None, options.format, options.dpi)


def named(name, drawn):
    """Return [(name, figure, numbers)] of what a module's draw returned; InputError if two would
    be one file. Pyplot, which threads must not share, forgets the figures."""
    figures = drawn if isinstance(drawn, list) else [(name, *drawn)]
    for _, figure, _ in figures:
        if isinstance(figure, plt.Figure):
            plt.close(figure)
    names = [name for name, *_ in figures]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"several figures would be called {name}; draw one at a time, each "
                             "with another --out")
    return figures


def record_of(run, options, name):
    """Return the Record of a run's folder, which figures call by its name."""
    for own, usual in (("test_split", 0), ("pixels", 255)):
        if run.suffix != ".keras" and getattr(options, own, usual) != usual:
            raise InputError(f"--{own.replace('_', '-')} is for .keras files; {run} has what it "
                             "was trained with")
    return Record(run, import_script, getattr(options, "data_dir", ""),
                  getattr(options, "data", ""), getattr(options, "pixels", 255), name,
                  getattr(options, "test_split", 0.0))


@contextlib.contextmanager
def dropped_if_interrupted(pool):
    """Let Ctrl-C wait for the one figure that is being written, not for those that are to be."""
    try:
        yield
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        raise


def draw_inside(names, run, options, own):
    """Draw one run by the modules of `names`; one line says what cannot be drawn of it and why.
    Of a single module print the table, too.

    Figures are written by a thread while the next are computed. Raises InputError if none can be.
    """
    own_folder(options.out, run)
    (name,), _ = naming.labels([run])
    record, failed, written = record_of(run, options, name), {}, []
    if not record.is_keras:
        record.events  # noqa: B018  a folder without events is refused here
    with ThreadPoolExecutor(1) as writer, dropped_if_interrupted(writer):
        for name in names:
            module = importlib.import_module(name)
            room, _, name = name.partition(".")
            try:
                figures = named(name, module.draw(record if room == "inside" else [run], **own))
            except InputError as error:
                failed.setdefault(str(error), []).append(name)
                continue
            written.append(writer.submit(write_own, figures, run, options))
            machine.give_memory_back()  # before the next figure asks for more
            if hasattr(module, "sheet"):
                for figure, _, numbers in figures:
                    written.append(writer.submit(write_sheet, module.sheet(numbers), own_folder(
                        options.out, run) / f"{figure}.csv"))
        for one in written:
            one.result()
    said = [f"{', '.join(names)}: {reason}" for reason, names in failed.items()]
    if not written:
        raise InputError(f"nothing can be drawn of {run}: {'; '.join(said)}")
    for line in said:
        print(f"not drawn: {line}")
    if len(names) == 1:
        print_tables(module, figures)


def taken_together(module, own):
    """Return those of a command's own options that its draw_together takes; InputError if another
    was given, which would change nothing."""
    takes, usual = (inspect.signature(function).parameters
                    for function in (module.draw_together, module.draw))
    for name, value in own.items():
        if name not in takes and value != usual[name].default:
            raise InputError(f"--{name.replace('_', '-')} is for a single run, and changes nothing "
                             "where several are drawn together; leave it out")
    return {name: value for name, value in own.items() if name in takes}


def print_tables(module, figures):
    """Print what a module's table() says of figures [(name, figure, numbers)]."""
    for name, _, numbers in figures if hasattr(module, "table") else ():
        with np.errstate(all="ignore"):  # a ratio to 0 is inf or nan
            rows = [*module.table(numbers)]
        if rows:
            print(f"\n{name}\n\n{markdown(rows[0], rows[1:])}")


def write_sheet(rows, path):
    """Write rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
    print(f"wrote {path}")


def visualize(command, module, options):
    """Make the figures, or print the table, that the command line asks for."""
    own = {name: getattr(options, name) for name in getattr(module, "OPTIONS", {})}
    with plt.style.context(STYLE):
        if command == "all":
            names = of_every_run()
            for run in options.paths:
                draw_inside(names, run, options, own)
        elif getattr(module, "TAKES", "") == "RUN FILE...":
            draw_inside([module.__name__], options.run, options, {**own, "pictures": options.paths})
        elif hasattr(module, "draw_together") and len(options.paths) > 1:
            taken, (names, shared) = taken_together(module, own), naming.labels(options.paths)
            records = [record_of(*one) for one in zip(options.paths, [options] * len(names), names)]
            figures = named(command, module.draw_together(records, **taken))
            for name, figure, numbers in figures:
                if shared:
                    figure.suptitle(f"{figure.get_suptitle()}\nall runs: {', '.join(shared)}",
                                    fontsize=10)
                path = options.out / "compared" / name
                write(figure, numbers, path, None, options.format, options.dpi)
                if hasattr(module, "sheet"):
                    write_sheet(module.sheet(numbers), path.with_name(f"{name}.csv"))
            print_tables(module, figures)
        elif module.__name__.startswith("inside.") or len(options.paths) == 1 and (
                command == "curves" and options.paths[0].is_dir()
                and not stored.named_by(options.paths[0])):
            for run in options.paths:
                draw_inside([module.__name__], run, options, own)
        elif hasattr(module, "run"):
            return module.run(options.paths, **own)
        else:
            if hasattr(module, "table"):
                print(module.table(options.paths, **own))
            drawn = module.draw(options.paths, **own) if hasattr(module, "draw") else (None, {})
            for name, figure, numbers in named(command, drawn):
                if figure is not None:
                    write(figure, numbers, options.out / name, None, options.format, options.dpi)


if __name__ == "__main__":
    sys.exit(main(visualize, *arguments))
