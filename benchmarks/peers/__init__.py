"""The same training step in seven ways, each as its own users would write it well.

Every way's module, named with_... so as not to hide the library it imports, has a function
build(case) that returns (loss, train, predict): loss() is the training loss of the case's first
batch with its given weights and no dropout, before any update; train(steps) updates; predict()
computes the logits of all the case's images, CHUNK at a time. A process imports one of them: `ours`
sets TensorFlow's threads. What differs between the ways is only who computes it: network, weights,
images, batch, precision and optimizer (Adam, 1e-4) are the same. (Of batch norm, Keras and PyTorch
keep moving averages in training, JAX and the starter code evaluate with the moments of each chunk.)
"""
import dataclasses
import importlib
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import system.machine  # noqa: F401  TensorFlow is imported late and quietly from here on

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # all are timed on the processor
CHUNK, RATE = 640, 1e-4
WAYS = "ours", "keras", "keras_tuned", "torch", "torch_compiled", "jax", "starter"


def build(way, case):
    """Return (loss, train, predict) of one of WAYS; imports what it needs."""
    library, _, how = way.partition("_")
    name = "ours" if way == "ours" else f"with_{library}"
    return importlib.import_module(f"peers.{name}").build(case, **({how: True} if how else {}))


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained: the original LeNet-5 (with batch norm if `norm`); or a recurrent network."""
    network: str  # lenet5, rnn, gru, lstm
    batch: int
    units: int = 128
    shape: tuple = (28, 28, 1)
    norm: bool = False
    precision: str = "float32"
    count: int = 6400  # images

    def flops(self, training=True):
        """Count multiplications and additions of one image's convolutions and products: forward
        and, in training, backward twice that, without the first layer's input gradient."""
        height, width, channels = self.shape
        if self.network == "lenet5":
            first = height * width * 25 * channels * 32
            rest = (height // 2) * (width // 2) * 25 * 32 * 64
            rest += (height // 4) * (width // 4) * 64 * 1024 + 1024 * 10
        else:
            wide = {"rnn": 1, "gru": 3, "lstm": 4}[self.network] * self.units
            first = height * width * channels * wide
            rest = height * self.units * wide + self.units * 10
        return 2 * (2 * first + 3 * rest if training else first + rest)

    def images(self):
        """Return random images uint8 (count, height, width, channels) and labels int32 (count,)."""
        images, labels = np.random.default_rng(0), np.random.default_rng(2)
        return (images.integers(0, 256, (self.count, *self.shape), np.uint8),
                labels.integers(0, 10, self.count, np.int32))

    def weights(self):
        """Return weights in Keras's order and layout."""
        rng = np.random.default_rng(1)
        height, width, channels = self.shape

        def kernel(*shape):
            return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

        def bias(*shape):
            return np.full(shape, 0.1, np.float32)
        if self.network == "lenet5":
            flat = (height // 4) * (width // 4) * 64
            return [kernel(5, 5, channels, 32), bias(32), kernel(5, 5, 32, 64), bias(64),
                    kernel(flat, 1024), bias(1024), kernel(1024, 10), bias(10)]
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.network]
        wide = gates * self.units
        return [kernel(width * channels, wide), kernel(self.units, wide),
                bias(2, wide) if self.network == "gru" else bias(wide),
                kernel(self.units, 10), bias(10)]
