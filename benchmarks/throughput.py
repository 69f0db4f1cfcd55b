"""Training throughput: this project beside Keras, PyTorch, JAX and the starter-code way.

    pip install -r benchmarks/requirements.txt && python benchmarks/throughput.py

Every way (peers/) is first checked to compute the same loss from the same weights. Then each runs
in a process of its own, in turn, round after round; a figure is the median over the rounds, a ratio
the median of the rounds' own ratios, with the smallest and the largest. The machine's own speed
at a large matrix product is measured in every round too, and the tables say what share of it each
way reaches. JAX and the starter-code way, which are many times slower at LeNet-5, run it in the
first round only.
"""
import argparse
import dataclasses
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import peers
from peers import Case

CASES = {
    "lenet5": [Case("lenet5", batch, precision=precision) for batch in (64, 256)
               for precision in ("float32", "bfloat16")],
    "norm": [Case("lenet5", batch, norm=True) for batch in (64, 256)],
    "colour": [Case("lenet5", batch, shape=(32, 32, 3)) for batch in (64, 256)],
    "recurrent": [Case(cell, 128, 128) for cell in ("rnn", "gru", "lstm")],
    "recurrent-more": [Case(cell, batch, units) for cell in ("rnn", "gru", "lstm")
                       for units, batch in ((128, 32), (256, 32), (256, 128))],
}
SLOW = "jax", "starter"  # at LeNet-5


def describe(case):
    """Return a case in words."""
    words = [case.network if case.network == "lenet5" else f"{case.network} {case.units}"]
    words += ["batch norm"] * case.norm + ["32x32x3"] * (case.shape != (28, 28, 1))
    return ", ".join([*words, f"batch {case.batch}", case.precision])


def measure(way, case, seconds):
    """Return {"loss" before training, "rate" and "evaluation" in images/s, "memory" in MiB at its
    peak} of one way, each timed for at least so many seconds."""
    import resource
    if case.network == "lenet5" and way in SLOW:
        case = dataclasses.replace(case, count=512)  # minutes for more; the first batch is the same
    loss, train, predict = peers.build(way, case)
    value, epoch = loss(), case.count // case.batch

    def rate(work):
        work()
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            work()
            count += case.count
        return count / (time.perf_counter() - begin)
    found = {"loss": value, "rate": rate(lambda: train(epoch)), "evaluation": rate(predict)}
    return found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def ceiling():
    """Return the peak GEMM throughput (GFLOP/s) in float32 and in bfloat16, of whichever library is
    fastest (NumPy, PyTorch, TensorFlow); and the "machine".
    """
    import numpy as np
    import tensorflow as tf
    import torch

    from system import machine
    n, best = 2048, {"machine": f"{machine.cores()} cores of {machine.processor()}"}
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    b, c = torch.tensor(a), tf.constant(a)
    half, brain = b.bfloat16(), tf.cast(c, tf.bfloat16)
    for precision, factors in (("float32", (a, b, c)), ("bfloat16", (half, brain))):
        times = []
        for x in factors:
            for _ in range(11):  # the first prepares
                start = time.perf_counter()
                x @ x
                times.append(time.perf_counter() - start)
        best[precision] = 2 * n ** 3 / min(times) / 1e9
    return best


def spread(values, digits=2):
    """Return "1.23 (1.10 .. 1.30)": median, smallest and largest; and of how many rounds, if the
    value of some is nan."""
    found = [x for x in values if not math.isnan(x)]
    if not found:
        return "never"
    missing = f"; {len(found)} of {len(values)} rounds" * (len(found) < len(values))
    return (f"{statistics.median(found):,.{digits}f} "
            f"({min(found):,.{digits}f} .. {max(found):,.{digits}f}{missing})")


def speeds(case, ways, rounds, key):
    """Return ["1,234 (56 %)"], a cell for each of ways: the medians of its images/s, `key` "rate"
    or "evaluation", and of their share of peak GEMM throughput; "" if no round has it."""
    name, flops = describe(case), case.flops(training=key == "rate")

    def cell(way):
        found = [(r[name][way][key], r["ceiling"][case.precision])
                 for r in rounds if way in r[name]]
        if not found:
            return ""
        share = statistics.median(100 * rate * flops / (1e9 * large) for rate, large in found)
        rate = statistics.median(rate for rate, _ in found)
        return f"{rate:,.0f} ({share:.0f}\N{NO-BREAK SPACE}%)"
    return map(cell, ways)


def training(cases, ways, rounds):
    """Return a Markdown table of the training speeds."""
    rows = [f"| training | {' | '.join(ways)} | ours / the fastest other |",
            "|---|" + "---|" * (len(ways) + 1)]
    for case in cases:
        found = [{way: values["rate"] for way, values in r[describe(case)].items()} for r in rounds]
        ratios = [r["ours"] / max(r[way] for way in r if way != "ours")
                  for r in found if len(r) > 1]
        rows.append(f"| {describe(case)} | {' | '.join(speeds(case, ways, rounds, 'rate'))} | "
                    f"{spread(ratios) if ratios else ''} |")
    return "\n".join(rows)


def evaluation(cases, ways, rounds):
    """Return a Markdown table of evaluation speeds and peak memory."""
    rows = [f"| evaluation; peak memory | {' | '.join(ways)} |", "|---|" + "---|" * len(ways)]
    for case in cases:
        memory = [[r[describe(case)][way]["memory"] for r in rounds if way in r[describe(case)]]
                  for way in ways]
        cells = [speed and f"{speed}; {statistics.median(mebibytes):,.0f} MiB" for speed, mebibytes
                 in zip(speeds(case, ways, rounds, "evaluation"), memory)]
        rows.append(f"| {describe(case)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def short(cases, ways, rounds):
    """Return a Markdown table of the training speeds of the usual cases, beside the fastest
    other way."""
    rows = ["| training | images/s | fastest other | ours / the fastest other |",
            "|---|---|---|---|"]
    for case in cases:
        if (case.batch, case.units, case.norm, case.shape) != (
                64 if case.network == "lenet5" else 128, 128, False, (28, 28, 1)):
            continue
        found = [{way: values["rate"] for way, values in r[describe(case)].items()} for r in rounds]
        medians = {way: statistics.median(r[way] for r in found) for way in ways
                   if all(way in r for r in found)}
        if len(medians) < 2:
            continue
        other = max((way for way in medians if way != "ours"), key=medians.get)
        ratios = [r["ours"] / max(r[way] for way in r if way != "ours") for r in found]
        rows.append(f"| {describe(case)} | {medians['ours']:,.0f} | "
                    f"{medians[other]:,.0f} ({other.replace('_', ', ')}) | {spread(ratios)} |")
    return "\n".join(rows)


TABLES = {"training": training, "evaluation": evaluation, "short": short}


def summarize(rounds, tables):
    """Say what was measured: the machine's own speed, and these of TABLES."""
    machine = rounds[0]["ceiling"].get("machine")
    cases = [case for group in CASES.values() for case in group if describe(case) in rounds[0]]
    if not cases:
        sys.exit("no case of this benchmark is in these figures")
    ways = [w for w in peers.WAYS if any(w in rounds[0][describe(case)] for case in cases)]
    if list(tables) == ["short"]:
        return f"On {machine or 'one machine'}:\n\n{short(cases, ways, rounds)}"
    head = (f"{len(rounds)} rounds; {f'{machine}; ' if machine else ''}peak GEMM throughput: "
            + ", ".join(f"{spread([r['ceiling'][p] for r in rounds], 0)} GFLOP/s {p}"
                        for p in ("float32", "bfloat16"))
            + "; images/s (share of that peak)")
    return "\n\n".join([head, *(TABLES[table](cases, ways, rounds) for table in tables)])


def figures(path):
    """Read what a benchmark wrote with --out, for argparse."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error


def at_least_one(text):
    """Read a number of rounds, for argparse."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def above_zero(text):
    """Read seconds, for argparse."""
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return float(text)


def arguments(description, rounds=5):
    """Return the parser of what all these benchmarks are told."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=rounds,
                        help=f"(default: {rounds})")
    parser.add_argument("--out", type=pathlib.Path, help="also write all figures as JSON")
    parser.add_argument("--read", type=figures, metavar="FILE",
                        help="measure nothing: the tables of such a JSON file")
    return parser


def print_tables(parser, summarize):
    """Print what summarize() makes of a file that was read; one line if it is another script's."""
    try:
        print(summarize())
    except (LookupError, TypeError, AttributeError) as error:
        parser.error(f"--read: this script did not write that file ({type(error).__name__})")


def in_process(script, what, *words):
    """Return the JSON that `script --one what words...` prints last, in a process of its own;
    exit 2 with a line if it fails."""
    done = subprocess.run([sys.executable, script, "--one", *map(str, (what, *words))],
                          capture_output=True, text=True)
    if done.returncode:
        line = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        hint = "; pip install -r benchmarks/requirements.txt" * ("ModuleNotFoundError" in line)
        print(f"{pathlib.Path(script).name}: {what}: {line}{hint}", file=sys.stderr)
        sys.exit(2)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = arguments(__doc__)
    parser.add_argument("--groups", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--only", default="", metavar="WORDS",
                        help="only cases whose description holds these words, like lstm")
    parser.add_argument("--ways", nargs="+", choices=peers.WAYS, default=list(peers.WAYS))
    parser.add_argument("--seconds", type=above_zero, default=3.0,
                        help="of each timing, at least (default: 3)")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["training", "evaluation"],
                        help="what to print (default: all)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a way and a case, as JSON
    options = parser.parse_args()
    if options.one:
        way, case = options.one
        done = ceiling() if way == "ceiling" else measure(
            way, Case(**json.loads(case, object_hook=lambda d: d | {"shape": tuple(d["shape"])})),
            options.seconds)
        print(json.dumps(done))
        return

    if options.read:
        print_tables(parser, lambda: summarize(options.read, options.tables))
        return

    def one(way, case):
        return in_process(__file__, way, json.dumps(vars(case)),
                          "--seconds", options.seconds)

    cases, rounds = [case for group in options.groups for case in CASES[group]
                     if options.only in describe(case)], []
    if "ours" not in options.ways or len(options.ways) < 2:
        parser.error("--ways needs ours and another")
    if not cases:
        parser.error(f"no case of {' '.join(options.groups)} holds {options.only!r}")
    for i in range(options.rounds):
        rounds.append({"ceiling": one("ceiling", cases[0])})
        for case in cases:
            name = describe(case)
            lenet5 = case.network == "lenet5"
            ways = [w for w in options.ways if not (lenet5 and w in SLOW and i) and (
                w != "starter" or lenet5 and case.precision == "float32")]
            found = rounds[-1][name] = {way: one(way, case) for way in ways}
            losses = [f["loss"] for f in found.values()]
            tolerance = 1e-4 if case.precision == "float32" else 0.02
            if max(losses) - min(losses) > tolerance:
                sys.exit(f"{name}: the ways do not compute the same loss: "
                         f"{dict(zip(found, losses))}")
            print(f"round {i + 1}  {name:40s}", {w: round(f["rate"]) for w, f in found.items()},
                  file=sys.stderr, flush=True)
        if options.out:
            options.out.write_text(json.dumps(rounds, indent=1), encoding="utf-8")
    print(summarize(rounds, options.tables))


if __name__ == "__main__":
    main()
