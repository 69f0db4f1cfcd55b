"""Disturb trainings at random moments and resume them: each must end as if nothing had happened.

    python tests/soak.py --runs 100          # hours; prints a line a run, and what became of each

A case is trained once undisturbed. Then a run of it is killed (SIGKILL, to all its processes, in a
fifth of the runs twice), stopped (SIGTERM), kept from writing a file beyond a random size, or has
its newest checkpoint cut or a bit of it flipped after a kill; and the same command goes on.
Weights, event values and losses.csv must be equal to the last bit, every file whole, nothing left.
"""
import argparse
import collections
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

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
    "GRU, 1 part": [*GRU, "--threads", "1"], "GRU, 2 parts": [*GRU, "--threads", "2"],
    "transfer": ["transfer.py", "source/cifar_lenet5/source-seed0", "--data", "digits",
                 *"--per-class 1 2 5 --scratch-steps 20 --strengths 1".split()],
    "sweep": ["sweep.py", "cifar_lenet5.py", "--grid", "dropout=0.2,0.4", "--", *LENET5[1:]]}
FAULTS = "kill", "kill", "stop", "small files", "cut checkpoint", "flipped bit"
TIMED = "second", "hparams"  # tags of what depends on the clock


def start(words, folder, limit=None):
    """Start a script in a folder, in a process group of its own; no file above `limit` bytes."""
    def limited():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if not words[0].startswith("sweep"):
        words = [*words, "--resume"]
    return subprocess.Popen([sys.executable, str(ROOT / words[0]), *words[1:]], cwd=folder,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            preexec_fn=limited, start_new_session=True)


def finish(words, folder):
    """Run a script to its end; AssertionError if it fails."""
    process = start(words, folder)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, f"exit status {process.returncode}: {said[-500:]}"


def kill(process, after):
    """End a process and its children at once, `after` so many seconds."""
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def disturb(fault, words, folder, seconds, rng):
    """Begin a script and let a fault end it, at a moment of its life of so many `seconds`."""
    if fault == "stop":
        process = start(words, folder)
        time.sleep(rng.uniform(0, seconds))
        process.terminate()
        said, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 143, -15) and "Traceback" not in said, said[-500:]
    elif fault == "small files":
        process = start(words, folder, limit=int(2 ** rng.uniform(6, 17)))
        said, _ = process.communicate(timeout=600)
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


def soak(runs, seed, folder):
    """Disturb so many runs; return {(case, fault, outcome): how many}."""
    source, whole, seconds, counted = folder / "source", {}, {}, collections.Counter()
    finish([*LENET5, "--threads", "1", "--name", "source", "--logdir", "source"], folder)
    for number in range(runs):
        rng, own = random.Random(f"{seed} {number}"), folder / str(number)
        case, fault = rng.choice(list(CASES)), rng.choice(FAULTS)
        if case not in whole:
            (folder / case).mkdir()
            shutil.copytree(source, folder / case / "source")
            began = time.monotonic()
            finish(CASES[case], folder / case)
            seconds[case] = time.monotonic() - began
            whole[case] = contents(folder / case / "logs")
        own.mkdir()
        shutil.copytree(source, own / "source")
        try:
            disturb(fault, CASES[case], own, seconds[case], rng)
            finish(CASES[case], own)
            outcome = "same" if contents(own / "logs") == whole[case] else "DIFFERS"
        except (AssertionError, subprocess.TimeoutExpired) as error:
            outcome = f"FAULT {error}"
        print(f"{number:4} {case}, {fault}: {outcome}", flush=True)
        counted[case, fault, outcome.split()[0]] += 1
        if outcome == "same":
            shutil.rmtree(own)
    return counted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="runs to disturb")
    parser.add_argument("--seed", type=int, default=0, help="of what is done to them, and when")
    options = parser.parse_args()
    counted = soak(options.runs, options.seed, pathlib.Path(tempfile.mkdtemp("-soak")))
    for (case, fault, outcome), count in sorted(counted.items()):
        print(f"{count:5} {outcome:8}{case}, {fault}")
    sys.exit(any(outcome != "same" for _, _, outcome in counted))
