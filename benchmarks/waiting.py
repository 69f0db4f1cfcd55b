"""How long one waits: for --help, for the first training step, for the original's accuracy.

    DATA_DIR=... python benchmarks/waiting.py

From the start of the command, start-up included. Ours reaches the original's accuracy by recipe
best, cut to the few passes it takes (BUDGETS). The starter-code way's time is its own start-up and
the number of steps that recipe original-bn, its own network, needs here, at the starter-code way's
own speed (peers/): the same updates, computed its way. Median over the rounds, with the smallest
and the largest.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from throughput import (
    arguments,
    at_least_one,
    in_process,
    print_tables,
    spread,
)

from training.events import read_events

TARGETS = {"cifar_lenet5.py": 0.573, "mnist_rnn.py": 0.9806}  # the original report's best
BUDGETS = {"cifar_lenet5.py": "--epochs 3.5 --batch-size 96 --warmup 0.2 --dropout 0.2 --shift 1 "
                              "--evaluations 4 --snapshots 0",
           "mnist_rnn.py": "--steps 1250 --evaluations 5"}


def run(script, *words):
    """Return (seconds, events, seconds since 1970 when it began) of a script run to its end."""
    with tempfile.TemporaryDirectory() as logs:
        begin, start = time.time(), time.perf_counter()
        where = [] if "--help" in words else ["--logdir", logs]
        subprocess.run([sys.executable, ROOT / script, *map(str, words), *where], check=True,
                       stdout=subprocess.DEVNULL, cwd=ROOT)
        seconds = time.perf_counter() - start
        return seconds, read_events(logs), begin


def first(events, tag):
    """Return (steps, wall times, values) of the one series of this tag."""
    return next(series for (part, name), series in events.items() if part.endswith(tag[0])
                and name == tag[1])


def reach(events, begin, accuracy):
    """Return (seconds since `begin`, steps) when the validation accuracy first was `accuracy`,
    linear between evaluations; nan if it never was."""
    steps, times, values = first(events, ("validation", "evaluation/accuracy"))
    reached = np.flatnonzero(np.float64(values) >= accuracy)
    if not len(reached):
        return float("nan"), float("nan")
    i = max(1, reached[0])
    return tuple(float(np.interp(accuracy, np.float64(values[i - 1:i + 1]), x[i - 1:i + 1]))
                 for x in (times - begin, steps))


def starter(steps):
    """Train the starter-code way, batch norm and all, at batch 64.

    Returns {"first": seconds since 1970 when its first step was done, "rate": steps a second}.
    """
    import peers
    _, train, _ = peers.build("starter", peers.Case("lenet5", 64, norm=True))
    train(1)
    first = time.time()
    train(4)
    start = time.perf_counter()
    train(steps)
    return {"first": first, "rate": steps / (time.perf_counter() - start)}


def summarize(found):
    """Return the table of {what: {script: seconds of each round}}."""
    table = [f"{len(found['--help']['mnist_rnn.py'])} rounds, s\n",
             "| what | " + " | ".join(TARGETS) + " |", "|---|---|---|"]
    table += [f"| {what} | " + " | ".join(
        spread(values[s], 1) if s in values else "" for s in TARGETS) + " |"
        for what, values in found.items()]
    return "\n".join(table)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=at_least_one, help="cut every training to so many, to try "
                        "this script: accuracies are then hardly reached (nan)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(starter(options.steps or 60)))
        return
    if options.read:
        print_tables(parser, lambda: summarize(options.read))
        return
    found, cut = {}, ("--steps", options.steps) if options.steps else ()
    for i in range(options.rounds):
        for script, target in TARGETS.items():
            seconds, _, _ = run(script, "--help")
            found.setdefault("--help", {}).setdefault(script, []).append(seconds)
            _, events, begin = run(script, "--steps", "1", "--evaluations", "1")
            times = first(events, ("train", "batch/loss"))[1]
            found.setdefault("first step done", {}).setdefault(script, []).append(times[0] - begin)
            _, events, begin = run(script, *BUDGETS[script].split(), "--seed", i,
                                   *(["--epochs", 0, *cut] if cut else []))
            found.setdefault("validation accuracy of the original's best", {}).setdefault(
                script, []).append(reach(events, begin, target)[0])
        _, events, begin = run("cifar_lenet5.py", "--recipe", "original-bn", "--seed", i,
                               *cut)
        steps = reach(events, begin, TARGETS["cifar_lenet5.py"])[1]
        begin = time.time()
        theirs = in_process(__file__, "starter", *cut)
        found.setdefault("the same, the starter-code way", {}).setdefault(
            "cifar_lenet5.py", []).append(theirs["first"] - begin + (steps - 1) / theirs["rate"])
        if options.out:
            options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(summarize(found))


if __name__ == "__main__":
    main()
