"""What work costs as it grows: time and memory against images, their side, classes, width, cores.

    python benchmarks/cost.py

LeNet-5 of recipe `original` on random images, one thing changed at a time: training, and what
visualize.py makes of a run of a few steps, start-up included. Each case is a process of its own.
The table has of each series the exponent a with which it grows as value ** a, from its last two.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from throughput import arguments, in_process, print_tables

SECONDS = 2.0
BASE = dict(side=28, images=1000, classes=10, filters=32, batch_size=64, cores=2)
SIDES, FILTERS, CORES = (14, 28, 56, 112, 224), (8, 16, 32, 64, 128), (1, 2)
SERIES = {  # (what is done, what grows): its values
    ("training", "side"): SIDES, ("training", "images"): (1_000, 10_000, 100_000, 1_000_000),
    ("training", "classes"): (10, 100, 1_000), ("training", "filters"): FILTERS,
    ("training", "batch_size"): (16, 64, 256), ("training", "cores"): CORES,
    **{(f"training, {cell}", "cores"): CORES for cell in ("rnn", "lstm", "gru")},
    ("visualize.py occlusion", "side"): SIDES, ("visualize.py occlusion", "filters"): FILTERS,
    ("visualize.py all", "side"): SIDES[:3], ("visualize.py all", "images"): (1_000, 10_000),
    ("visualize.py all", "classes"): (10, 100), ("visualize.py all", "filters"): FILTERS[:3],
    ("visualize.py all", "cores"): CORES}
WORDS = dict(side="image side, pixels", images="images", classes="classes", cores="cores",
             filters="maps of the first layer", batch_size="batch")


def random_images(case):
    """Return uint8 images (n, side, side, 1) and int32 labels, every class among them."""
    rng, n, side = np.random.default_rng(0), case["images"], case["side"]
    labels = np.arange(n, dtype=np.int32) % case["classes"]
    return rng.integers(0, 256, (n, side, side, 1), np.uint8), labels


def measure(what, changes):
    """Return {"time", "memory" in GB} of BASE with these changes: seconds per 1,000 images that are
    trained on, or of a command."""
    case = BASE | changes
    if what.startswith("visualize.py"):
        return command(what.split()[1], case)
    from system import machine
    machine.use_threads(case["cores"])
    import cifar_lenet5
    import mnist_rnn
    from training.loop import make_train_steps
    from training.optimizers import create_slots
    cell = what.partition(", ")[2]
    config = mnist_rnn.Config(cell=cell, batch_size=128, threads=case["cores"]) if cell else (
        cifar_lenet5.Config(filters=(case["filters"], 2 * case["filters"]),
                            batch_size=case["batch_size"], threads=case["cores"]))
    images, labels = random_images(case)
    model = (mnist_rnn if cell else cifar_lenet5).build_model(images.shape[1:], case["classes"],
                                                              config)
    slots = create_slots(config.optimizer, [v.value for v in model.trainable_variables])
    train_steps = make_train_steps(model, slots, config, 0.0, 1.0, images, labels)
    steps = max(1, 1024 // config.batch_size * 28 ** 2 // max(28, case["side"]) ** 2)
    indices = np.random.default_rng(1).integers(0, len(images), (steps, config.batch_size),
                                                np.int32)
    rates, done = np.full(steps, 1e-4, np.float32), 0
    train_steps(indices, rates, 0).numpy()
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        train_steps(indices, rates, 0).numpy()
        done += indices.size
    return {"time": 1000 * (time.perf_counter() - start) / done,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def command(name, case):
    """Return {"time" in s, "memory" in GB} of a command of visualize.py, of a run of eight steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, labels = random_images(case)
        np.savez(f"{folder}/images.npz", x_train=images, y_train=labels, x_test=images,
                 y_test=labels)
        words = (f"--data {folder}/images.npz --recipe original --steps 8 --evaluations 1 "
                 f"--filters {case['filters']} {2 * case['filters']} --name a --logdir {folder}")
        subprocess.run([sys.executable, ROOT / "cifar_lenet5.py", *words.split()], check=True,
                       stdout=subprocess.DEVNULL)
        allowed = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[
            :case["cores"]]))]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*allowed, sys.executable, ROOT / "visualize.py", name,
             f"{folder}/cifar_lenet5/a-seed0", "--out", f"{folder}/figures"],
            stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"visualize.py {name} failed")
        return {"time": time.perf_counter() - start, "memory": used.ru_maxrss * 1024 / 1e9}


def exponent(values, found):
    """Return "1.0", the power of the last two of `values` that what was found grows with."""
    (a, b), (x, y) = values[-2:], found[-2:]
    return f"{round(math.log(y / x) / math.log(b / a), 1) + 0.0:.1f}"


def summarize(rounds):
    """Return the table of [{"machine": words, "<what>/<what grows>/<value>": measure(...)} of each
    round]."""
    table = [f"{len(rounds)} round{'s' * (len(rounds) > 1)}; {rounds[0]['machine']}\n",
             "| what | grows | values | time, s | exponent | memory, GB | exponent |",
             "|---|---|---|---|---|---|---|"]
    series = {}
    for name in [name for name in rounds[0] if name != "machine"]:
        what, grows, value = name.split("/")
        found = [statistics.median(r[name][key] for r in rounds) for key in ("time", "memory")]
        series.setdefault((what, grows), []).append((int(value), *found))
    for (what, grows), rows in series.items():
        values, times, memory = zip(*rows)
        per = "" if what.startswith("visualize") else ", 1,000 images"
        table.append(f"| {what}{per} | {WORDS[grows]} | " + " | ".join((
            ", ".join(f"{n:,}" for n in values), ", ".join(f"{t:.2g}" if t < 10 else f"{t:,.0f}"
                                                           for t in times),
            exponent(values, times), ", ".join(f"{m:.1f}" for m in memory),
            exponent(values, memory))) + " |")
    return "\n".join(table)


def main():
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="only what begins with these words")
    options = parser.parse_args()
    if options.one:
        what, grows, value = options.one
        print(json.dumps(measure(what, {grows: int(value)})))
        return
    if options.read:
        print_tables(parser, lambda: summarize(options.read))
        return
    from system import machine
    rounds = []
    for _ in range(options.rounds):
        rounds.append({"machine": f"{machine.cores()} cores of {machine.processor()}"})
        for (what, grows), values in SERIES.items():
            for value in values if what.startswith(options.only) else ():
                rounds[-1][f"{what}/{grows}/{value}"] = in_process(__file__, what, grows, value)
                print(what, grows, value, rounds[-1][f"{what}/{grows}/{value}"], file=sys.stderr,
                      flush=True)
                if options.out:
                    options.out.write_text(json.dumps(rounds, indent=1), encoding="utf-8")
    print(summarize(rounds))


if __name__ == "__main__":
    main()
