"""Disturb trainings at random moments and resume them: each must end as if nothing had happened.

    python tests/soak.py --runs 100 --jobs 2   # hours; prints a line a run, what became of each

A case is trained once undisturbed. Then a run of it is killed (SIGKILL, to all its processes, in a
fifth of the runs twice), stopped (SIGTERM), kept from writing a file beyond a random size, given a
disk of a random size, or has its newest checkpoint cut or a bit of it flipped after a kill; and the
same command goes on. Weights, event values and losses.csv must be equal to the last bit, every file
whole, nothing left. Where mounting a disk is not permitted, those runs are skipped.
"""
import argparse
import collections
import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import numpy as np

from system.files import load_arrays, read_json
from training.checkpoints import checkpoints
from training.events import read_events

ROOT = pathlib.Path(__file__).resolve().parent.parent
NET = "--data digits --batch-size 16 --steps 120 --evaluations 6 --snapshots 4".split()
LENET5 = ["cifar_lenet5.py", *NET, "--filters", "3", "4", "--units", "8"]
GRU = ["mnist_rnn.py", *NET, "--units", "6"]
CASES = {
    "LeNet-5, 1 part": [*LENET5, "--threads", "1"],
    "LeNet-5, 2 parts": [*LENET5, "--threads", "2"],
    "LeNet-5, best weights": [*LENET5, *"--threads 1 --weights best --early-stopping 9".split()],
    "GRU, 1 part": [*GRU, "--threads", "1"], "GRU, 2 parts": [*GRU, "--threads", "2"],
    "transfer": ["transfer.py", "source/cifar_lenet5/source-seed0", "--data", "digits",
                 *"--per-class 1 2 5 --scratch-steps 20 --strengths 1".split()],
    "sweep": ["sweep.py", "cifar_lenet5.py", "--grid", "dropout=0.2,0.4", "--jobs", "2", "--cores",
              "1", "--", *LENET5[1:]]}
FAULTS = "kill", "kill", "stop", "small files", "full disk", "cut checkpoint", "flipped bit"
TIMED = "second", "hparams"  # tags of what depends on the clock
LONGEST = 3600  # seconds that no run takes, even on a machine that is paused or crowded


def start(words, folder, limit=resource.RLIM_INFINITY):
    """Start a script in a folder, in a process group of its own; no file above `limit` bytes."""
    if not words[0].startswith("sweep"):
        words = [*words, "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(ROOT / words[0]), *words[1:]], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    return process


def said_by(process):
    """Return what a process says until its end; AssertionError that shows where it hangs."""
    try:
        return process.communicate(timeout=LONGEST)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler prints where each thread is
        raise AssertionError(f"no end after {LONGEST} s: {process.communicate()[0]}") from None


def finish(words, folder):
    """Run a script to its end; AssertionError if it fails."""
    process = start(words, folder)
    said = said_by(process)
    assert process.returncode == 0, f"exit status {process.returncode}: {said[-500:]}"


def kill(process, after):
    """End a process and its children at once, `after` so many seconds."""
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


class NotPermitted(Exception):
    """Mounting a disk is not permitted here."""


@contextlib.contextmanager
def small_disk(folder, size):
    """Make a new folder a disk of so many bytes; at the end it is none, and holds what it held."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "soak", str(folder)],
                      capture_output=True).returncode:
        raise NotPermitted
    try:
        yield
    finally:
        kept = shutil.copytree(folder, folder.with_name("kept"))
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


def disturb(fault, words, folder, seconds, rng):
    """Begin a script and let a fault end it, at a moment of its life of so many `seconds`."""
    if fault == "stop":
        process = start(words, folder)
        time.sleep(rng.uniform(0, seconds))
        process.terminate()
        said = said_by(process)
        assert process.returncode in (0, 143, -15) and "Traceback" not in said, said[-500:]
    elif fault in ("small files", "full disk"):
        small, limit = fault == "small files", int(2 ** rng.uniform(6, 17))
        with contextlib.nullcontext() if small else small_disk(folder / "logs", 8 * limit):
            said = said_by(start(words, folder, *[limit] * small))
        assert "Traceback" not in said, said[-500:]
    else:
        for _ in range(1 + (rng.random() < 0.2)):
            kill(start(words, folder), rng.uniform(0, seconds))
        newest = [files[-1] for run in folder.rglob("checkpoints") if (files := checkpoints(
            run.parent))]
        for file in newest if "kill" not in fault else []:
            content = bytearray(file.read_bytes())
            at = rng.randrange(len(content))
            if fault == "cut checkpoint":
                del content[at:]
            else:
                content[at] ^= 1 << rng.randrange(8)
            file.write_bytes(content)


def contents(folder):
    """Return what must not change of all runs below a folder: {run: (weights, events, losses,
    result)}; every file of it is read."""
    found = {}
    assert not [*folder.rglob("*.tmp")], "a half file is left"
    for result in sorted(folder.rglob("result.json")):
        run = result.parent
        for file in run.rglob("*.npz"):
            if file.parent.name != "checkpoints":  # of a finished run they count no longer
                load_arrays(file)
        events = {key: [steps.tolist(), *(np.asarray(v).tolist() for v in values)]
                  for key, (steps, _, values) in read_events(run).items()
                  if not any(word in key[1] for word in TIMED)}
        numbers = {name: value for name, value in read_json(result).items() if "second" not in name}
        losses = (run / "losses.csv").read_text() if (run / "losses.csv").exists() else ""
        found[run.relative_to(folder).as_posix()] = weights_of(run), events, losses, numbers
    assert found, "no run is finished"
    return found


def weights_of(run):
    """Return the bytes of a finished run's weights, in the order of their layers."""
    if (run / "model.keras").exists():
        import keras
        return [w.tobytes() for w in keras.models.load_model(run / "model.keras").get_weights()]
    return [array.tobytes() for array in load_arrays(run / "weights.npz").values()] if (
        run / "weights.npz").exists() else []


def soak(runs, seed, folder, jobs=1):
    """Disturb so many runs, `jobs` at a time; return {(case, fault, outcome): how many}."""
    source, whole, reading = folder / "source", {}, threading.Lock()
    drawn = [(number, rng, rng.choice(list(CASES)), rng.choice(FAULTS)) for number in range(runs)
             for rng in [random.Random(f"{seed} {number}")]]
    cases = dict.fromkeys(case for _, _, case, _ in drawn)
    source.mkdir()
    if "transfer" in cases:
        finish([*LENET5, "--threads", "1", "--name", "source", "--logdir", "source"], folder)

    def in_own_folder(name):
        shutil.copytree(source, folder / name / "source")
        return folder / name

    def undisturbed(case):
        own, began = in_own_folder(case), time.monotonic()
        finish(CASES[case], own)
        seconds = time.monotonic() - began
        with reading:  # of models, by one thread at a time
            whole[case] = seconds, contents(own / "logs")

    def disturbed(number, rng, case, fault):
        own = in_own_folder(str(number))
        try:
            disturb(fault, CASES[case], own, whole[case][0], rng)
            finish(CASES[case], own)
            with reading:
                outcome = "same" if contents(own / "logs") == whole[case][1] else "DIFFERS"
        except NotPermitted as error:
            outcome = f"skipped: {error.__doc__}"
        except AssertionError as error:
            outcome = f"FAULT {error}"
        print(f"{number:4} {case}, {fault}: {outcome}", flush=True)
        if outcome == "same":
            shutil.rmtree(own)
        return case, fault, outcome.split()[0].strip(":")

    with ThreadPoolExecutor(jobs) as pool:
        [*pool.map(undisturbed, cases)]
        return collections.Counter(pool.map(disturbed, *zip(*drawn)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="runs to disturb")
    parser.add_argument("--seed", type=int, default=0, help="of what is done to them, and when")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp("-soak"))
    counted = soak(options.runs, options.seed, place, options.jobs)
    for (case, fault, outcome), count in sorted(counted.items()):
        print(f"{count:5} {outcome:8}{case}, {fault}")
    sys.exit(any(outcome not in ("same", "skipped") for _, _, outcome in counted))
