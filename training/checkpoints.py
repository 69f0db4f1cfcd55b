"""Save what training needs to go on, and read it back.

    checkpoints/step-00000500.npz   the last two: weights, optimizer state, lengths of event files
    snapshots/step-00000016.npz     what figures of training need, at logarithmically spaced steps
    weights.npz                     the final weights, where there is no model.keras (plain.py)
    checkpoints/best.npz            beside a finished run's last weights those best on validation
                                    images, if --early-stopping looked for them
"""
import contextlib
import json
import pathlib
import sys

import numpy as np

from system.command_line import InputError
from system.files import atomic_file, load_arrays


def step_of(file):
    """Return the step that a checkpoint's or snapshot's name says."""
    return int(pathlib.Path(file).stem[5:])


def checkpoints(run):
    """Return the checkpoints in a run's folder, oldest first."""
    return sorted((pathlib.Path(run) / "checkpoints").glob("step-*.npz"))


def snapshots(run):
    """Return the snapshots in a run's folder, oldest first."""
    return sorted((pathlib.Path(run) / "snapshots").glob("step-*.npz"))


def _write(file, arrays):
    file.parent.mkdir(exist_ok=True)
    with atomic_file(file) as stream:
        np.savez(stream, **arrays)


def save(run, step, state, lengths):
    """Write checkpoint `step`: {name: array}, with the event files' lengths at this moment."""
    _write(run / "checkpoints" / f"step-{step:08d}.npz",
           {**state, "_step": step, "_events": json.dumps(lengths)})
    for old in checkpoints(run)[:-2]:
        old.unlink()


def save_snapshot(run, step, arrays):
    """Keep the arrays {name: array} of `step` for good."""
    _write(run / "snapshots" / f"step-{step:08d}.npz", arrays)


def save_weights(run, weights):
    """Write the final weights {name: array}."""
    _write(run / "weights.npz", weights)


def save_best(run, weights):
    """Write, beside the last weights, the best {name: array}."""
    _write(run / "checkpoints" / "best.npz", weights)


def forget(run):
    """Delete the checkpoints of a finished run whose weights are kept."""
    if any((run / name).exists() for name in ("model.keras", "weights.npz")):
        for file in (run / "checkpoints").glob("*"):
            if file.name != "best.npz":
                file.unlink()
        with contextlib.suppress(OSError):
            (run / "checkpoints").rmdir()


def _load(file):
    """Return (step, state, lengths of event files) of a checkpoint; InputError if it is none."""
    state = load_arrays(file)
    try:
        step, lengths = int(state.pop("_step")), json.loads(str(state.pop("_events")))
        lengths = {name: int(length) for name, length in lengths.items()}
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError,
            RecursionError) as error:
        raise InputError(f"{file} is no checkpoint ({type(error).__name__})") from error
    if step != step_of(file):
        raise InputError(f"{file} is the checkpoint of step {step}")
    return step, state, lengths


def restore(run):
    """Return (step, state, lengths of event files) of the newest readable checkpoint, or (0, None,
    {}). Later checkpoints and snapshots are deleted: they will be written again, exactly."""
    step, state, lengths = 0, None, {}
    for file in reversed(checkpoints(run)):
        try:
            step, state, lengths = _load(file)
            break
        except InputError as error:
            print(f"{error}; falling back to the one before", file=sys.stderr)
    for file in (*checkpoints(run), *snapshots(run)):
        if step_of(file) > step:
            file.unlink()
    return step, state, lengths


def load_weights(run):
    """Return the newest weights {path: array} of a run; InputError if there are none."""
    run = pathlib.Path(run)
    files = [file for file in (run / "weights.npz", *checkpoints(run)[::-1]) if file.exists()]
    if not files:
        raise InputError(f"{run} has no model.keras and no checkpoint; train it first")
    return load_arrays(files[0])
