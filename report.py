"""What the documents rest on: their tables and figures made anew from logs, and logs made small.

A block of a document is what a command prints, between the command and an end mark:

    <!-- python visualize.py table logs/report/cifar_lenet5/original-seed* -->
    | run | ... |
    <!-- end -->

The command is one of visualize.py, or of a script in benchmarks/ that reads what it measured.
"""
import contextlib
import glob
import pathlib
import re
import shlex
import shutil

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event

import machine
import runs

BLOCK = re.compile(r"(<!-- python ([^\n]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
MEASURED = re.compile(r"\d+(?:\.\d+)? \+- \d+(?:\.\d+)?")


def expand(command):
    """Words of a command, its patterns replaced by the sorted paths that match, as a shell does.

    Raises InputError for a pattern that nothing matches.
    """
    words = []
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise runs.InputError(f"`{command}`: {error}") from error
    script, what = (parts + ["", ""])[:2]
    if not (script == "visualize.py" and what not in ("all", "projector", "report", "keep")
            or script.startswith("benchmarks/") and what == "--read"):
        raise runs.InputError(f"`{command}` makes no table or figure")
    for word in parts:
        found = sorted(glob.glob(word)) if "*" in word else [word]
        if not found:
            raise runs.InputError(f"nothing matches {word} of `{command}`")
        words += found
    return words


def refill(text, printed):
    """A document with every block made anew; printed([script, *words]) is what a command prints.

    Below a block's text stands the command, for the reader. Raises InputError for a block without
    an end.
    """
    if text.count("<!-- python ") != len(BLOCK.findall(text)) or any(
            "<!-- python" in block[3] for block in BLOCK.finditer(text)):
        raise runs.InputError("a block `<!-- python ... -->` has no <!-- end -->")
    return BLOCK.sub(lambda block: f"{block[1]}{printed(expand(block[2])).strip()}\n\n"
                     f"`python {block[2]}`\n{block[4]}", text)


def strays(text):
    """The measured numbers "70.0 +- 1.2" in a document's sentences that stand in none of its
    blocks."""
    blocks = "".join(block[3] for block in BLOCK.finditer(text))
    prose = re.sub(r"```.*?```", "", BLOCK.sub("", text), flags=re.DOTALL)
    known = set(MEASURED.findall(blocks))
    return [number for number in MEASURED.findall(prose.replace("\n", " ")) if number not in known]


def differing(made, kept):
    """Figures whose numbers (.npz, to six digits) in folder `kept` are not those in `made`, by more
    than 0.0005: on another processor a Gabor fit's r2 can end 0.0002 away."""
    different = []
    for file in sorted(made.rglob("*.npz")):
        other = kept / file.relative_to(made)
        with contextlib.suppress(runs.InputError):
            new, old = runs.load_arrays(file), runs.load_arrays(other)
            if new.keys() == old.keys() and all(_same(new[key], old[key]) for key in new):
                continue
        different.append(other)
    return different


def _same(a, b):
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    return (np.allclose(a, b, rtol=1e-6, atol=5e-4, equal_nan=True) if a.dtype.kind == "f"
            else (a == b).all())


def keep(run, folder, points):
    """Copy of a run that is small enough to commit, in `folder`: config.json, result.json, and
    event files without histograms, images and rates, with the kernels of the last evaluation.

    Of the losses at most `points` stay, evenly spaced; comparisons.instability needs them all.
    """
    if folder.exists():
        raise runs.InputError(f"{folder} is there already; move it away")
    steps = runs.read_json(run / "config.json")["total_steps"]
    runs.read_json(run / "result.json")  # it is finished
    part = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _copy(run, part, -(-steps // points))
    part.rename(folder)


def _copy(run, folder, every):
    """`keep` every so many losses of a run in an empty folder."""
    with machine.quiet_import():
        import tensorflow as tf
    for name in ("config.json", "result.json"):
        shutil.copy(run / name, folder / name)
    parts = {}
    for file in sorted(run.rglob("events.out.tfevents.*")):
        parts.setdefault(file.parent.relative_to(run), []).append(file)
    for part, files in parts.items():
        events = [Event.FromString(record) for file in files
                  for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()]
        last = max((event.step for event in events for value in event.summary.value
                    if value.tag == "filters/kernel"), default=None)
        kept = [event for event in events if _is_kept(event, last, every)]
        if part.name == "figures" or not any(event.HasField("summary") for event in kept):
            continue
        (folder / part).mkdir(exist_ok=True, parents=True)
        name = ".".join(files[0].name.split(".")[:4])  # without the machine's name
        described = set()
        with tf.io.TFRecordWriter(str(folder / part / name)) as writer:
            for event in kept:
                for value in event.summary.value:
                    if value.tag in described:  # readers go by a tag's first event
                        value.ClearField("metadata")
                    described.add(value.tag)
                writer.write(event.SerializeToString())


def _is_kept(event, last, every):
    """Whether `keep` copies an event: each of ours has one value."""
    for value in event.summary.value:
        if value.metadata.plugin_data.plugin_name in ("histograms", "images"):
            return False
        if value.tag == "batch/loss" and event.step % every:
            return False
        if value.tag == "batch/learning_rate" or (value.tag == "filters/kernel"
                                                  and event.step != last):
            return False
    return True


def documents(paths, printed, check):
    """Refill the documents, or check that they are what the logs say: a list of what is wrong.

    printed([script, *words]): what a command prints.
    """
    wrong = []
    for path in map(pathlib.Path, paths):
        try:
            text = path.read_text()
        except (OSError, ValueError) as error:
            raise runs.InputError(f"{path}: {runs.first_line(error)}") from error
        try:
            made = refill(text, printed)
        except runs.InputError as error:
            raise runs.InputError(f"{path}: {error}") from error
        wrong += [f"{path}: {number} stands in no table of it" for number in strays(made)]
        if made != text and check:
            old, new = (BLOCK.findall(t) for t in (text, made))
            wrong += [f"{path}: differs from what the logs say: python {b[1]}"
                      for a, b in zip(old, new) if a != b]
        elif made != text:
            with runs.atomic_file(path) as stream:
                stream.write(made.encode())
    return wrong
