"""Keep a run's folder: its options, its lock, its event files and its checkpoints, so that it can
be resumed exactly.

    logs/<script>/<name>-seed<k>/
        config.json                 options, data, network, machine, versions, commit: written first
        train/, validation/, test/, result/, ...  TensorBoard event files
        losses.csv                  step, learning rate and loss of every step
        checkpoints/, snapshots/    see checkpoints.py
        model.keras, or weights.npz the final weights: see plain.py
        result.json                 final metrics: written last, so its presence means "finished"
"""
import contextlib
import dataclasses
import datetime
import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import filelock
import numpy as np

from system import machine
from system.command_line import Diverged, InputError, Interrupted
from system.files import ROOT, compare, read_json, write_json
from training import checkpoints
from training.events import Events

# options that change no number
HOW = "data_dir", "logdir", "group", "resume", "overwrite", "force", "source_data"


def stream_seed(seed, stream):
    """Return a seed (31 bits) for one named random stream of a run: "order", "dropout", ...

    Streams are independent: drawing more from one never changes another.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4]) >> 1


def folder_of(script, config):
    """Return where a run of a script (its name without .py) lies."""
    group = config.group or script
    return pathlib.Path(config.logdir) / group / f"{config.name}-seed{config.seed}"


class Run:
    """The folder of one run, locked while it is open.

    Raises InputError if the folder belongs to a finished run (unless config.overwrite), to an
    interrupted one (unless config.resume or config.overwrite), to another process, or to nobody,
    or if both are asked for.
    """

    def __init__(self, script, config):
        self.script, self.config, self.signal = script, config, None
        self.saves_on_signals = False  # else they end the run at once
        self.path = folder_of(script, config)
        self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise InputError(f"{self.path} is being written by another process; wait for it, or "
                             "choose another --name or --seed") from None
        self.events = Events(self.path)
        self._files = [p for p in self.path.iterdir() if p.suffix != ".tmp"]
        try:
            self._check()
        except InputError:
            self._unlock()
            raise

    def _check(self):
        """Raise InputError if what lies in the folder does not fit what is asked for."""
        if self.config.resume and self.config.overwrite:
            raise InputError(f"--resume would go on with {self.path}, --overwrite replace it; "
                             "leave one of them out")
        source = getattr(self.config, "initial_weights", "")
        if source and pathlib.Path(source).resolve() == self.path.resolve():
            raise InputError(f"--initial-weights {source} is this run's own folder; give it "
                             "another --name")
        finished = (self.path / "result.json").exists()
        self.finished = finished and not self.config.overwrite
        if self._files and not (self.path / "config.json").exists():
            raise InputError(f"{self.path} holds files but no config.json, so it is no run; move "
                             "it away or choose another --name")
        if self._files and not self.config.resume and not self.config.overwrite:
            raise InputError(f"{self.path} holds {'a finished' if finished else 'an interrupted'} "
                             f"run; {'' if finished else '--resume to go on, '}--overwrite to "
                             "replace it, or another --name or --seed")
        if self.finished:
            compare(f"{self.path} is finished, with", read_json(self.path / "config.json").get(
                "options"), self._options(), "use the same or --overwrite; to train it further, "
                f"another --name and --initial-weights {self.path}")
            checkpoints.forget(self.path)
            print(f"{self.path} is finished; --overwrite to replace it")

    def __enter__(self):
        def note(number, _):
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
            first, self.signal = not self.signal, self.signal or number
            if first and not self.saves_on_signals:  # the other kind of signal may follow at once
                raise Interrupted("stopped; what was saved before is kept, and the same command "
                                  "with --resume goes on", number)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)
        return self

    def __exit__(self, *_):
        self.events.close()
        self._unlock()

    @contextlib.contextmanager
    def left_at_once(self):
        """Let a signal raise Interrupted at once in here, also one that came before."""
        saves, self.saves_on_signals = self.saves_on_signals, False
        if self.signal:
            raise Interrupted("stopped", self.signal)
        yield
        self.saves_on_signals = saves

    def _unlock(self):
        """Give up the lock; where no run began, leave folders as they were found."""
        if not (self.path / "config.json").exists():
            pathlib.Path(self._lock.lock_file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another run may have come to lie there
                for folder in self._made:
                    folder.rmdir()
        self._lock.release()

    def _options(self):
        """Return the options that say what is computed, as config.json holds them."""
        return json.loads(json.dumps({field.name: getattr(self.config, field.name)
                                      for field in dataclasses.fields(self.config)
                                      if field.name not in HOW}))

    def describe(self, **facts):
        """Write config.json, or on resuming check that it says the same as this command.

        Only here, when everything the run needs has been found, --overwrite removes the old run.
        """
        if self.config.overwrite:
            for file in sorted(self._files, key=_removed):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        described = json.loads(json.dumps(dict(
            script=self.script, options=self._options(), given=sys.argv[1:], **facts,
            **machine.facts(), commit=_commit(),
            date=datetime.datetime.now().isoformat(timespec="seconds"))))
        file = self.path / "config.json"
        if not file.exists():
            write_json(file, described)
            return
        stored = read_json(file)
        for part in [name for name in ("options", "data", "network") if name in described]:
            compare(f"{self.path} was started with {part}", stored.get(part), described[part],
                    "use the same to --resume, or another --name")

    def log_options(self, network=None):
        """Log the options and, of an experiment, what every network has for the HParams tab."""
        facts, options = read_json(self.path / "config.json"), self._options()
        self.events.log_options(options)
        if network:
            columns = {**options, "network": network, "steps": facts["total_steps"],
                       "data": facts["data"]["name"]}
            self.events.log_hparams(columns, f"{self.path.name} ({self.path.parent.name})")

    def log_steps(self, first, losses, rates, images_per_second):
        """Log the steps from `first` on. Raises Diverged if a loss is not finite."""
        self.events.log_steps(first, losses, rates, images_per_second)
        for i in np.flatnonzero(~np.isfinite(losses))[:1]:
            raise self.diverged("the loss", first + i, rates[i])

    def save(self, step, state, lengths=None):
        """Write checkpoint `step` {name: array}. Raises Diverged if an array is not finite.

        lengths: to which --resume is to cut the event files, if not those they have now.
        """
        if not all(np.isfinite(value).all() for value in state.values()):
            raise self.diverged("a weight", step)
        checkpoints.save(self.path, step, state, lengths or self.events.lengths())

    def snapshot(self, step, arrays):
        """Keep {name: array} of `step` for good."""
        checkpoints.save_snapshot(self.path, step, arrays)

    def restore(self):
        """Return (step, state) of the newest readable checkpoint, or (0, None); what later steps
        wrote is cut off, and will be written again, exactly."""
        for folder in (self.path, self.path / "checkpoints", self.path / "snapshots"):
            for half in folder.glob("*.[0-9]*.tmp"):  # what a killed process was writing
                half.unlink()
        step, state, lengths = checkpoints.restore(self.path)
        self.events.cut(lengths)
        return step, state

    # ------------------------------------------------------------------ endings

    def diverged(self, what, step, rate=None):
        """Return the Diverged to raise when `what` stopped being finite at `step`."""
        last = (checkpoints.checkpoints(self.path) or ["none"])[-1]
        at = "" if rate is None else f" (learning rate {rate:.3g})"
        return Diverged(f"{what} is not finite at step {step:,}{at}; last good checkpoint: {last}; "
                        "try a lower --learning-rate or, if it was unclamped, --loss logits")

    def interrupt(self, step):
        """Leave because of a signal, once everything is saved."""
        raise Interrupted(f"stopped at step {step:,}, saved; the same command with --resume goes "
                          "on", self.signal)

    def finish(self, step, result):
        """Log the final metrics {name: number} and write result.json: the run is finished, and its
        checkpoints go if its final weights are there."""
        self.events.log_result(step, result)
        write_json(self.path / "result.json", result)
        checkpoints.forget(self.path)
        self.finished = True


def _removed(file):
    """Return a key by which files of a run are removed: what says that it is finished first, what
    says that it is a run last."""
    first = "result.json", "model.keras", "weights.npz"
    return (first.index(file.name) if file.name in first else len(first),
            file.name == "config.json")


def _commit():
    """Return the git commit of the code, with "+" if files differ from it; None if unknown."""
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], text=True,
                              capture_output=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None
