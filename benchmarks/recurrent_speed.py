"""Training speed of RNN, GRU and LSTM on MNIST-shaped data: this project, Keras `fit`, PyTorch.

    pip install -r benchmarks/requirements.txt && python benchmarks/recurrent_speed.py

Every way runs in a process of its own, in turn, round after round, with the same shapes (28 steps
of 28 values, 10 classes), batch, units, optimizer (Adam) and precision. The table gives the median
of images/s, and this project's speed over each other's, paired round by round: median (min .. max).
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
WAYS, CELLS, COUNT = ("ours", "keras", "torch"), ("rnn", "gru", "lstm"), 128 * 100


def ours(cell, batch, units, precision):
    """Function that trains on `steps` batches, as mnist_rnn.py does."""
    import dataclasses

    import runs
    runs.use_replicas(runs.cores())
    with runs.quiet_import():
        import tensorflow as tf

        import mnist_rnn
    import numpy as np

    from cifar_lenet5 import make_train_block
    from optimizers import create_slots
    config = dataclasses.replace(mnist_rnn.Config(), cell=cell, hidden=units, batch=batch,
                                 precision=precision)
    model = mnist_rnn.build_model((28, 28, 1), 10, config)
    slots = create_slots("adam", [v.value for v in model.trainable_variables])
    images, labels = data()
    block = make_train_block(model, slots, config, 0.0, 1.0, tf.constant(images),
                             tf.constant(labels)).get_concrete_function()

    def train(steps):
        indices = np.random.default_rng(0).integers(0, COUNT, (steps, batch), np.int32)
        block(indices, np.full(steps, 1e-3, np.float32), 0).numpy()
    return train


def keras(cell, batch, units, precision):
    """The same with Keras's layer and `fit`."""
    import runs
    with runs.quiet_import():
        import keras
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    layer = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU,
             "lstm": keras.layers.LSTM}[cell]
    model = keras.Sequential([keras.Input((28, 28)), layer(units),
                              keras.layers.Dense(10, dtype="float32")])
    model.compile(keras.optimizers.Adam(1e-3),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = data()
    images = images[..., 0].astype("float32") / 255
    return lambda steps: model.fit(images[:steps * batch], labels[:steps * batch],
                                   batch_size=batch, verbose=0)


def torch(cell, batch, units, precision):
    """The same with PyTorch's layer, eager, fused Adam; bfloat16 by autocast."""
    import torch
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    layer, head = kind(28, units, batch_first=True), torch.nn.Linear(units, 10)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 1e-3, fused=True)
    images, labels = data()
    images, labels = torch.tensor(images[..., 0]).float() / 255, torch.tensor(labels).long()

    def train(steps):
        order = torch.randperm(COUNT)
        for i in range(steps):
            chosen = order[i * batch:(i + 1) * batch]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                h, _ = layer(images[chosen])
                logits = head(h[:, -1])
            torch.nn.functional.cross_entropy(logits.float(), labels[chosen]).backward()
            optimizer.step()
    return train


def data():
    """Random images, uint8 (COUNT, 28, 28, 1), and labels."""
    import numpy as np
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (COUNT, 28, 28, 1), np.uint8),
            rng.integers(0, 10, COUNT, np.int32))


def measure(way, options):
    """Images/s of each cell: after a warm-up, the best of three timings of up to two seconds."""
    speeds = {}
    for cell in CELLS:
        train = globals()[way](cell, options.batch, options.units, options.precision)
        train(20)
        best = 0.0
        for _ in range(3):
            steps = COUNT // options.batch
            start = time.perf_counter()
            train(steps)
            best = max(best, steps * options.batch / (time.perf_counter() - start))
        speeds[cell] = best
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=pathlib.Path, help="also write all figures as JSON")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    rounds = []
    for i in range(options.rounds):
        rounds.append({})
        for way in WAYS:
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", way],
                                  check=True, stdout=subprocess.PIPE, text=True)
            rounds[-1][way] = json.loads(done.stdout.splitlines()[-1])
            print(f"round {i + 1} {way:6s}", {c: round(s) for c, s in rounds[-1][way].items()},
                  file=sys.stderr)
    print(f"{options.precision}, batch {options.batch}, {options.units} units, "
          f"{options.rounds} rounds\n\n"
          f"| cell | {' | '.join(f'{way}, images/s' for way in WAYS)} "
          "| ours / keras | ours / torch |\n"
          f"|{'---|' * 6}")
    for cell in CELLS:
        median = [f"{statistics.median(r[way][cell] for r in rounds):,.0f}" for way in WAYS]
        ratios = []
        for other in WAYS[1:]:
            values = [r["ours"][cell] / r[other][cell] for r in rounds]
            ratios.append(f"{statistics.median(values):.2f} "
                          f"({min(values):.2f} .. {max(values):.2f})")
        print(f"| {cell} | {' | '.join(median + ratios)} |")
    if options.out:
        options.out.write_text(json.dumps(dict(options=vars(options) | {"out": None},
                                               rounds=rounds), indent=1))


if __name__ == "__main__":
    main()
