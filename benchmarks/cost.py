"""What training costs: images/s of this project against batch, width, image size and cores.

    python benchmarks/cost.py

LeNet-5 of recipe `original` with one thing changed at a time, and the recurrent cells; random
images. Each case is a process of its own; median over the rounds, with the smallest and largest.
"""
import argparse
import json
import pathlib
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from throughput import arguments, in_process, print_tables, spread

COUNT, SECONDS = 1024, 2.0
BASE = dict(batch_size=64, filters=(32, 64), units=1024, side=28, cores=2)
CASES = {"recipe original": {}}
CASES |= {f"batch {n}": {"batch_size": n} for n in (16, 128, 256)}
CASES |= {"half the width": {"filters": (16, 32), "units": 512},
          "twice the width": {"filters": (64, 128), "units": 2048},
          "images 14x14": {"side": 14}, "images 56x56": {"side": 56}, "one core": {"cores": 1},
          "batch 256, one core": {"batch_size": 256, "cores": 1},
          "bfloat16": {"precision": "bfloat16"}}
CASES |= {f"{cell}, batch 128{', one core' * (cores == 1)}": {
    "cell": cell, "batch_size": 128, "cores": cores}
    for cell in ("rnn", "lstm", "gru") for cores in (2, 1)}


def measure(changes):
    """{"rate" in images/s, "weights"} of BASE with these changes."""
    from system import machine
    case = BASE | changes
    cores, side = case.pop("cores"), case.pop("side")
    machine.use_threads(cores)
    import cifar_lenet5
    import mnist_rnn
    from training.loop import make_train_steps
    from training.optimizers import create_slots
    if "cell" in case:
        case = {name: case[name] for name in ("cell", "batch_size")}
    experiment = mnist_rnn if "cell" in case else cifar_lenet5
    config = experiment.Config(threads=cores, **case)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, side, side, 1), np.uint8)
    labels = rng.integers(0, 10, COUNT).astype(np.int32)
    model = experiment.build_model((side, side, 1), 10, config)
    slots = create_slots(config.optimizer, [v.value for v in model.trainable_variables])
    train_steps = make_train_steps(model, slots, config, 0.0, 1.0, images, labels)
    steps = COUNT // config.batch_size
    indices = rng.integers(0, COUNT, (steps, config.batch_size), np.int32)
    rates, done = np.full(steps, 1e-4, np.float32), 0
    train_steps(indices, rates, 0).numpy()
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        train_steps(indices, rates, 0).numpy()
        done += COUNT
    return {"rate": done / (time.perf_counter() - start), "weights": model.count_params()}


def summarize(rounds):
    """Table of [{case: measure(...)} of each round]."""
    table = [f"{len(rounds)} rounds\n", "| case | weights | images/s |", "|---|---|---|"]
    return "\n".join(table + [
        f"| {name} | {case['weights']:,} | {spread([r[name]['rate'] for r in rounds], 0)} |"
        for name, case in rounds[0].items()])


def main():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(CASES[options.one])))
        return
    if options.read:
        print_tables(parser, lambda: summarize(options.read))
        return
    rounds = []
    for _ in range(options.rounds):
        rounds.append({name: in_process(__file__, name) for name in CASES})
        if options.out:
            options.out.write_text(json.dumps(rounds, indent=1))
    print(summarize(rounds))


if __name__ == "__main__":
    main()
