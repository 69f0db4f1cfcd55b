"""Declare the options that every experiment has.

An experiment's Config derives from Experiment and adds what its network needs.
"""
import dataclasses
import inspect

from sources.images import data_set_names
from sources.pictures import BACKGROUNDS
from system import machine
from system.command_line import option
from system.files import DATA_DIR
from training.optimizers import OPTIMIZERS
from utils import SCHEDULES, may_be_mirrored

WEIGHTS = ("last", "best")
LOSSES, PRECISIONS = ("logits", "unclamped"), ("float32", "bfloat16")
CLASS_WEIGHTS = ("none", "balanced")
DEVICES = ("cpu", "gpu")


def schedules_with(name):
    """Return the schedules that take an option, those that were added too."""
    return tuple(own for own, function in SCHEDULES.items()
                 if name in inspect.signature(function).parameters)


def optimizers_but(*names):
    """Return the optimizers that are none of `names`, those that were added too."""
    return tuple(own for own in OPTIMIZERS if own not in names)


@dataclasses.dataclass(frozen=True)
class Run:
    """Run."""
    seed: int = option(0, "seed of everything that is random", low=0, names_run=False)
    name: str = option("", "run name; empty: the recipe and what differs from it", names_run=False)
    group: str = option("", "folder within --logdir; empty: the script's name", names_run=False)
    logdir: str = option("logs", "folder of all runs", names_run=False)
    resume: bool = option(False, "go on from the last checkpoint", names_run=False)
    overwrite: bool = option(False, "replace an existing run", names_run=False)


@dataclasses.dataclass(frozen=True)
class Recipe(Run):
    """Run."""
    recipe: str = option("best", "named set of defaults", names_run=False)


@dataclasses.dataclass(frozen=True)
class Data:
    """Data."""
    data: str = option("auto", f"{data_set_names()}, or the path of a folder, archive or file of "
                       "images, whose content decides what it is (data/README.md)")
    data_dir: str = option(DATA_DIR, "folder of data sets (or set DATA_DIR)", names_run=False)
    image_size: str = option("", "fit images to this many pixels, 32 or height x width, 32x48")
    grey: bool = option(False, "make colour images grey")
    background: str = option("white", "what transparent pixels show", tuple(BACKGROUNDS))
    transpose: bool = option(False, "swap rows and columns, as EMNIST needs")
    coarse: bool = option(False, "CIFAR-100: its 20 coarse labels, not the 100 fine ones",
                          off="fine")
    classes: str = option("", "numbers of the classes to keep, like 0-4 or 0,2,7; empty: all")
    per_class: int = option(0, "training images of each class, drawn at random; 0: all", low=0)
    permute_labels: bool = option(False, "shuffle the training labels, for visualize.py sanity")
    validation_split: float = option(0.1, "share of training images held out", low=0, high=0.9)
    test_split: float = option(0.0, "share held out for the test where there is no test set",
                               low=0, high=0.9)
    skip_unreadable: bool = option(False, "leave out pictures that cannot be read",
                                   names_run=False)
    force: bool = option(False, "try what would not fit into memory or on the disk",
                         names_run=False)
    AUTO = "elec677"  # what --data auto means

    def fitting_data(self):
        """Return the defaults {name: value} that differ because of what --data is."""
        return {} if may_be_mirrored(self.data, self.AUTO) else {"horizontal_flip": False}


@dataclasses.dataclass(frozen=True)
class Optimization:
    """Training."""
    epochs: float = option(0.0, "passes over the training images", low=0, high=1e9, clears="steps")
    steps: int = option(0, "parameter updates", low=0, clears="epochs")
    batch_size: int = option(64, "images per step", low=1)
    optimizer: str = option("adam", "optimizer", tuple(OPTIMIZERS))
    learning_rate: float = option(1e-3, "learning rate, before decay", low=0)
    schedule: str = option("constant", "decay of the learning rate", tuple(SCHEDULES))
    decay_rate: float = option(0.97, "exponential, inverse-time: factor of the decay", low=0,
                               needs=("schedule", schedules_with("decay_rate")))
    decay_steps: int = option(250, "exponential, inverse-time: steps per factor", low=1,
                              needs=("schedule", schedules_with("decay_steps")))
    staircase: bool = option(True, "exponential: decay in steps, not continuously",
                             needs=("schedule", schedules_with("staircase")))
    warmup: float = option(0.0, "share of steps with a rising learning rate", low=0, high=1)
    momentum: float = option(0.9, "sgd, rmsprop: momentum", low=0, high=1,
                             needs=("optimizer", optimizers_but("adam", "adamw")))
    nesterov: bool = option(True, "sgd: Nesterov's momentum", needs=(
        "optimizer", optimizers_but("adam", "adamw", "rmsprop")))
    weight_decay: float = option(0.0, "adamw: decoupled decay of kernels; else L2", low=0)
    clipnorm: float = option(0.0, "clip the gradient's global norm to this; 0: off", low=0,
                             high=1e9)
    loss: str = option("logits", "cross-entropy; unclamped: the original's, may be NaN", LOSSES)
    class_weight: str = option("none", "weight of each class in the loss; balanced: the rarer, the "
                               "more", CLASS_WEIGHTS)
    label_smoothing: float = option(0.0, "share of targets spread over classes", low=0, high=0.95)
    initial_weights: str = option("", "folder of a finished run whose weights to begin with; its "
                                  "network must be the same")
    early_stopping: int = option(0, "end after so many evaluations in a row without a better "
                                 "accuracy on validation images; 0: never", low=0)
    weights: str = option("last", "keep and test the last weights, or those best on validation "
                          "images", WEIGHTS)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Input."""
    standardize: bool = option(False, "subtract the training pixels' mean, divide by their std")
    horizontal_flip: bool = option(False, "flip at random, left to right")
    shift: int = option(0, "shift at random by up to this many pixels", low=0)
    rotation: float = option(0.0, "rotate at random by up to this many degrees", low=0, high=180)
    zoom: float = option(0.0, "scale at random by up to this share", low=0, high=0.9)
    elastic: float = option(0.0, "smooth random distortion: standard deviation, pixels", low=0)
    cutout: int = option(0, "side of a random square that is hidden, pixels", low=0)


@dataclasses.dataclass(frozen=True)
class Threads:
    """Machine."""
    threads: int = option(machine.cores(), "parts of a batch computed at a time, one core each",
                          low=1, names_run=False)


@dataclasses.dataclass(frozen=True)
class Records(Threads):
    """Machine."""
    device: str = option("cpu", "where to train; gpu: each batch as a whole, on TensorFlow's first "
                         "GPU", DEVICES, names_run=False)
    precision: str = option("float32", "of products and states, not weights", PRECISIONS)
    evaluations: int = option(20, "evaluations, each with a checkpoint", low=1, names_run=False)
    snapshots: int = option(0, "steps kept for figures of training", low=0, names_run=False)

    @property
    def parts(self):
        """In how many parts a batch is computed at a time."""
        return self.threads if self.device == "cpu" else 1


@dataclasses.dataclass(frozen=True)
class Experiment(Records, Augmentation, Optimization, Data, Recipe):
    """Network."""
    NAME = "{recipe}"
