"""A run: its options, its folder, its event files and its checkpoints, so that it can be resumed
exactly.

    logs/<script>/<name>-seed<k>/
        config.json                 options, data, versions, cores, commit: written first
        train/, validation/, test/, result/, ...  TensorBoard event files
        checkpoints/step-00000500.npz             the last two: everything training needs to go on
        snapshots/step-00000016.npz               weights at logarithmically spaced steps
        result.json                 final metrics: written last, so its presence means "finished"

A run ends with exit status 0, 2 (bad input: one line on stderr), 3 (the loss stopped being finite),
or 130 / 143 (Ctrl-C / SIGTERM, after saving a checkpoint).
"""
import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import zipfile

import machine
from options import as_text

ROOT = pathlib.Path(__file__).resolve().parent
DATA_DIR = os.environ.get("DATA_DIR", "data")


class InputError(Exception):
    """Something the user gave cannot be used; the message says what and what to do, in one line."""


class NotDrawn(Exception):
    """A figure that this network, or this log, does not allow; the message says why."""


class NoCheckpoint(InputError):
    """A run whose weights are not there."""


class Diverged(Exception):
    """The loss is no longer finite."""


class Interrupted(Exception):
    """A signal asked the run to stop, and its state is saved; args are a message and its number."""


def first_line(error):
    """The first line of an exception's message, or its type if it has none."""
    return (str(getattr(error, "reason", error)).splitlines() or [""])[0] or type(error).__name__


# --------------------------------------------------------------------------- files and seeds

@contextlib.contextmanager
def atomic_file(path):
    """Open a binary file that appears under `path` only once it is complete and on the disk."""
    part = f"{path}.{os.getpid()}.tmp"
    try:
        with open(part, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:  # a full disk says nothing of the file
        error.filename = error.filename or str(path)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def stream_seed(seed, stream):
    """A seed (31 bits) for one named random stream of a run: "order", "dropout", ...

    Streams are independent: drawing more from one never changes another.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4]) >> 1


# ------------------------------------------------------------------------------- exit status

def main(train, config):
    """Run a script's train(config) and turn what can go wrong into one line and an exit status."""
    try:
        return train(config) or 0
    except InputError as error:
        return _say(error, 2)
    except Diverged as error:
        return _say(error, 3)
    except Interrupted as error:
        return _say(error.args[0], 128 + error.args[1])
    except OSError as error:
        return _say(f"{error.filename or 'writing'}: {error.strerror or error}", 2)


def _say(message, status):
    print(f"{pathlib.Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return status


# -------------------------------------------------------------------------------- a run's folder

def folder_of(script, config):
    """Where a run of a script (its name without .py) lies."""
    return pathlib.Path(config.logs) / script / f"{config.name}-seed{config.seed}"


class Run:
    """The folder of one run, locked while it is open.

    Raises InputError if the folder belongs to a finished run (unless config.overwrite), to an
    interrupted one (unless config.resume or config.overwrite), to another process, or to nobody.
    """

    def __init__(self, script, config):
        self.path = folder_of(script, config)
        self.config = config
        self._writers = {}
        self.signal = None
        self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{self.path} is being written by another process; wait for it, or "
                             "choose another --name or --seed") from None
        self._files = [p for p in self.path.iterdir() if p.name != "lock" and p.suffix != ".tmp"]
        finished = (self.path / "result.json").exists()
        self.finished = finished and not config.overwrite
        if self._files and not (self.path / "config.json").exists():
            self._unlock()
            raise InputError(f"{self.path} holds files but no config.json, so it is no run; move "
                             "it away or choose another --name")
        if self._files and not config.resume and not config.overwrite:
            raise InputError(f"{self.path} holds {'a finished' if finished else 'an interrupted'} "
                             f"run; {'' if finished else '--resume to go on, '}--overwrite to "
                             "replace it, or another --name or --seed")
        if self.finished:
            compare(f"{self.path} is finished, with", read_json(self.path / "config.json").get(
                "options"), self._options(), "use the same, --overwrite or another --name")

    def __enter__(self):
        def note(number, _):
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
            self.signal = number
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)
        return self

    def __exit__(self, *_):
        for writer in self._writers.values():
            writer.close()
        self._unlock()

    def _unlock(self):
        """Give up the lock; where no run began, folders are left as they were found."""
        if not (self.path / "config.json").exists():
            (self.path / "lock").unlink()
            with contextlib.suppress(OSError):  # another run may have come to lie there
                for folder in self._made:
                    folder.rmdir()
        self._lock.close()

    def _options(self):
        """The options that say what is computed, as config.json holds them."""
        return json.loads(json.dumps({
            f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)
            if f.name not in ("data_dir", "logs", "resume", "overwrite")}))

    def describe(self, **facts):
        """Write config.json, or on resuming check that it says the same as this command.

        Only here, when everything the run needs has been found, --overwrite removes the old run.
        """
        if self.config.overwrite:
            for file in self._files:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        packages = ("tensorflow", "keras", "numpy", "tensorboard")
        described = json.loads(json.dumps(dict(
            options=self._options(), **facts, cores=machine.cores(), commit=_commit(),
            versions={"python": platform.python_version(),
                      **{name: importlib.metadata.version(name) for name in packages}})))
        file = self.path / "config.json"
        if not file.exists():
            _write_json(file, described)
            return described
        stored = read_json(file)
        for part in [name for name in ("options", "data", "network") if name in described]:
            compare(f"{self.path} was started with {part}", stored.get(part), described[part],
                    "use the same to --resume, or another --name")
        return stored

    # ------------------------------------------------------------------ endings

    def diverged(self, what, step, rate):
        """The Diverged to raise when `what` stopped being finite at `step`."""
        last = (checkpoints(self.path) or ["none"])[-1]
        return Diverged(f"{what} is not finite at step {step:,} (learning rate {rate:.3g}); last "
                        f"good checkpoint: {last}; try a lower --rate or, if it was unclamped, "
                        "--loss logits")

    def interrupt(self, step):
        """Leave because of a signal, once everything is saved."""
        raise Interrupted(f"stopped at step {step:,}, saved; the same command with --resume goes "
                          "on", self.signal)

    def finish(self, step, result):
        """Log the final metrics {name: number} and write result.json: the run is finished."""
        import tensorflow as tf
        with self.writer("result").as_default():
            for name, value in result.items():
                tf.summary.scalar(f"result/{name}", value, step=step)
        self._flush()
        _write_json(self.path / "result.json", result)
        self.finished = True

    # ------------------------------------------------------------------ events

    def writer(self, part):
        """The summary writer of a part of the run, a subfolder: "train", "validation", "test", ...

        Options and final metrics have a part "result" of their own since TensorBoard takes every
        curve in or below their folder for a metric of the HParams tab.
        """
        import tensorflow as tf
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(
                str(self.path / part), max_queue=100_000)
        return self._writers[part]

    def log_options(self):
        """The options as text, and as hyper-parameters for TensorBoard's HParams tab."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api as hparams
        options = {name: value if isinstance(value, (bool, int, float, str)) else as_text(value)
                   for name, value in dataclasses.asdict(self.config).items()
                   if name not in ("name", "logs", "data_dir", "resume", "overwrite")}
        table = "| option | value |\n|---|---|\n" + "\n".join(
            f"| {name} | {value} |" for name, value in options.items())
        with self.writer("result").as_default():
            tf.summary.text("config", table, step=0)
            hparams.hparams(options, trial_id=f"{self.path.name} ({self.path.parent.name})")

    def log_steps(self, first, losses, rates, images_per_second):
        """Training loss and learning rate of the steps from `first` on, and the speed they ran at.
        """
        import tensorflow as tf
        with self.writer("train").as_default():
            for step, (loss, rate) in enumerate(zip(losses, rates), first):
                tf.summary.scalar("batch/loss", loss, step=step)
                tf.summary.scalar("batch/learning_rate", rate, step=step)
            tf.summary.scalar("images_per_second", images_per_second, step=step)

    def log_evaluation(self, step, results):
        """results: {"train" | "validation" | "test": (loss, accuracy)}."""
        import tensorflow as tf
        for part, (loss, accuracy) in results.items():
            with self.writer(part).as_default():
                tf.summary.scalar("evaluation/loss", loss, step=step)
                tf.summary.scalar("evaluation/accuracy", accuracy, step=step)

    def _event_files(self):
        return sorted(self.path.rglob("events.out.tfevents.*"))

    def _flush(self):
        for writer in self._writers.values():
            writer.flush()

    # ------------------------------------------------------------- checkpoints

    def save(self, step, state):
        """Write checkpoint `step`: {name: array}, with the lengths of the event files at this
        moment."""
        import numpy as np
        self._flush()
        lengths = {f.relative_to(self.path).as_posix(): f.stat().st_size
                   for f in self._event_files()}
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        with atomic_file(folder / f"step-{step:08d}.npz") as stream:
            np.savez(stream, **state, _step=step, _events=json.dumps(lengths))
        for old in sorted(folder.glob("step-*.npz"))[:-2]:
            old.unlink()

    def snapshot(self, step, weights):
        """Keep the weights {name: array} of `step` for good."""
        import numpy as np
        (self.path / "snapshots").mkdir(exist_ok=True)
        with atomic_file(self.path / "snapshots" / f"step-{step:08d}.npz") as stream:
            np.savez(stream, **weights)

    def restore(self):
        """(step, state) of the newest readable checkpoint, or (0, None).

        Event files are cut back to their lengths at that checkpoint, and later snapshots deleted:
        what the lost steps wrote will be written again, exactly.
        """
        step, state, lengths = 0, None, {}
        for file in reversed(checkpoints(self.path)):
            try:
                state = load_arrays(file)
                step, lengths = int(state.pop("_step")), json.loads(str(state.pop("_events")))
                break
            except InputError as error:
                print(f"{error}; falling back to the one before", file=sys.stderr)
        for file in self._event_files():
            length = lengths.get(file.relative_to(self.path).as_posix(), 0)
            if length:
                os.truncate(file, min(length, file.stat().st_size))
            else:
                file.unlink()
        for folder in ("checkpoints", "snapshots"):
            for file in (self.path / folder).glob("step-*.npz"):
                if int(file.stem[5:]) > step:
                    file.unlink()
        return step, state


def compare(what, old, new, remedy):
    """Raise InputError, naming the first difference, if two JSON objects differ."""
    if not isinstance(old, dict):
        raise InputError(f"{what}: nothing that can be read; {remedy}")
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            compare(f"{what} {key}", a, b, remedy)
        elif a != b:
            raise InputError(f"{what} {key}={a!r}, not {b!r}: {remedy}")


def checkpoints(run):
    """The checkpoints of a run's folder, oldest first."""
    return sorted((pathlib.Path(run) / "checkpoints").glob("step-*.npz"))


def load_arrays(file):
    """{name: array} of an .npz file; InputError if missing or damaged. Never unpickles."""
    import numpy as np
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise InputError(f"{file} is not there") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile,
            zipfile.zlib.error) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__})") from error


def read_json(file):
    """A JSON object from a file; InputError if it is missing, damaged or no object."""
    try:
        value = json.loads(pathlib.Path(file).read_text())
    except FileNotFoundError as error:
        raise InputError(f"{file} is not there; is its folder that of a (finished) run?") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds no JSON object")
    return value


def _write_json(file, value):
    with atomic_file(file) as stream:
        stream.write(json.dumps(value, indent=2).encode() + b"\n")


def _commit():
    """The git commit of the code, with "+" if files differ from it; None outside a checkout."""
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], text=True,
                              capture_output=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None
