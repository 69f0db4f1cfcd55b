"""Read a run back: its options, its event files and the network it trained."""
import collections
import dataclasses
import functools
import gc
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

import utils
from sources.images import LUMA, Images, Reading, is_path
from sources.pictures import decode_all
from system import machine
from system.command_line import (
    InputError,
    NotDrawn,
    check_values,
    first_line,
    in_one_line,
    is_plain,
)
from system.files import check_zip, compare, load_arrays, read_json, regular
from system.progress import Progress
from training import graph, plain
from training.augmentation import prepare
from training.events import read_events
from training.loop import make_model
from training.needs import CHUNK_BYTES, images_at_a_time

tf.config.set_visible_devices([], "GPU")  # what is looked at is looked at on the processor


@dataclasses.dataclass(frozen=True)
class Network:
    """A run's network as it was last saved, in float32, and the images it was made for."""
    folder: pathlib.Path
    config: object
    build_model: object  # of its script
    model: object
    data: Images
    mean: float
    std: float
    name: str = ""  # of its run

    def inputs(self, images):
        """Return network input (n, height, width, channels) of uint8 images."""
        return prepare(images, self.mean, self.std).numpy()

    def of_all(self, classes):
        """Return ", 20 of 200 classes" if `classes` are not all of them."""
        every = len(self.data.classes)
        return f", {len(classes):,} of {every:,} classes" if len(classes) < every else ""

    @functools.cached_property
    def grey(self):
        """The mean of the training pixels, as network input."""
        return float(self.inputs(np.full((1, 1, 1, 1), self.data.train_images.mean()))[0, 0, 0, 0])

    @functools.cached_property
    def test_logits(self):
        """The logits of all test images: (images, classes). Raises InputError if one is no number.
        """
        logits, = outputs(self.model, [self.model.output], self.data.test_images, self.inputs)
        if not np.isfinite(logits).all():
            raise InputError(f"{self.folder} gives values that are no numbers, of test images")
        return logits

    def made_anew(self, **changes):
        """Return the model of a run as it was before training, with some options changed."""
        data = self.data
        return make_model(self.build_model, data.train_images.shape[1:], len(data.classes),
                          dataclasses.replace(self.config, precision="float32", **changes))

    @property
    def stages(self):
        """{name: Keras tensor} of the activations, convolutional or dense, in their order."""
        return graph.stages(self.model)

    @property
    def layers(self):
        """Names of those that give feature maps."""
        return list(graph.feature_maps(self.model))


class Record:
    """A run's folder: what it holds is read when it is first asked for.

    experiment: the module that made the run, for its Config and build_model; find_experiment: a
    function that returns it, given the script's name. name: what figures call the run.
    """

    def __init__(self, folder, find_experiment, data_dir="data", data="", pixels=255, name="",
                 test_split=0.0):
        self.folder, self.data_dir, self.data = pathlib.Path(folder), data_dir, data
        self.pixels, self.name, self.test_split = pixels, name or self.folder.name, test_split
        self.find_experiment = find_experiment

    @property
    def is_keras(self):
        """Return whether it is a model that Keras saved, in place of a run's folder."""
        return self.folder.suffix == ".keras"

    @functools.cached_property
    def events(self):
        """{(part, tag): series}; InputError if there are none."""
        if self.is_keras:
            raise NotDrawn(f"{self.folder} is a model, not a run, and has no events")
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder")
        events = read_events(self.folder)
        if not events:
            raise InputError(f"{self.folder} holds no TensorBoard events; name the folder of a run")
        return events

    def series(self, tag, part="train"):
        """Return (steps, seconds, values) of a tag; NotDrawn if the run has no such events."""
        if (part, tag) not in self.events:
            raise NotDrawn(f"{self.folder} has no events {tag}, which this figure shows")
        return self.events[part, tag]

    @functools.cached_property
    def config(self):
        """What config.json holds."""
        return read_json(self.folder / "config.json")

    @functools.cached_property
    def network(self):
        """The run's Network; InputError if it has none, or its data is not there."""
        network = dataclasses.replace(self._network(), name=self.name)
        machine.give_memory_back()  # of the weights that were read
        return network

    def _network(self):
        if self.is_keras:
            return load_keras(self.folder, self.data, self.data_dir, self.pixels,
                              self.test_split)
        script = self.config.get("script")
        if not isinstance(script, str) or not is_plain(script):
            raise InputError(f"{self.folder}/config.json has as script {script!r}, not the plain "
                             "name of the one that made it")
        experiment = self.find_experiment(script)
        if not hasattr(experiment, "build_model"):
            raise InputError(f"{self.folder} is a run of {experiment.__name__}.py, which keeps no "
                             "network")
        return load_network(self.folder, self.config, experiment, self.data_dir, self.data)


def load_network(folder, config, experiment, data_dir, data=""):
    """Return the Network of a run's folder, given its config.json and the module that made it.

    data: where its images are, name or path, if not where they were.
    Raises InputError if it has no weights, they are of another network, or its data is not there.
    """
    try:
        options = experiment.Config(**{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config["options"].items()})
        check_values(options)
        about = config["data"]
        mean, std, checksum = float(about["mean"]), float(about["std"]), about["checksum"]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{folder}/config.json is not a run's of {experiment.__name__}.py: {error}"
                         ) from error
    where = data or options.data
    if where == "auto" and not is_path(about.get("name")):  # what it was then
        where = about["name"]
    if is_path(where) and not data and not os.path.exists(os.path.expanduser(where)):
        where = config.get("data_path") or where  # the working folder may be another than it was
        if not os.path.exists(where):
            raise InputError(f"{folder} was trained on images at {where}, where none are now; give "
                             "their place as --data")
    images = utils.load_images(where, data_dir, options.AUTO, Reading.of(options))
    if images.checksum != checksum:
        raise InputError(f"{folder} was trained on other data ({about.get('title')}) than is "
                         f"found now ({images.title}); set --data-dir, or --data")
    stored = plain.read(folder)
    gc.collect()  # the network that held it: models refer to themselves
    machine.give_memory_back()
    model = make_model(experiment.build_model, images.train_images.shape[1:], len(images.classes),
                       dataclasses.replace(options, precision="float32"))
    if "network" in config:
        compare(f"{folder} was trained with another build_model: in", config["network"],
                graph.describe(model), "undo the change, or train again")
    graph.assign(graph.name_weights(model.weights), plain.load(folder, model, stored), folder)
    return Network(folder, options, experiment.build_model, model, images, mean, std)


def load_keras(file, data, data_dir, pixels, test_split=0.0):
    """Return the Network of a .keras file, whoever trained it, and of the images at `data`.

    The images are fitted to its input; `pixels`: 255 if it takes them as 0 .. 255, 1 if as 0 .. 1.
    A softmax at its end is taken off, so that it gives logits. Raises InputError if the file cannot
    be read without running what is in it, or does not fit the images.
    """
    if not data:
        raise InputError(f"{file}: say by --data what images it is to see")
    check_zip(file)
    try:
        model = plain.load_model(file)
        fits = graph.functional(model) is not None and len(model.inputs + model.outputs) == 2 and (
            len(model.inputs[0].shape), len(model.outputs[0].shape)) == (4, 2)
        if fits:  # a sequential one as a functional one
            model = without_softmax(flat(model))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except Exception as error:  # Keras has no common type for what may be wrong
        raise InputError(f"{file}: no Keras model that can be loaded ({first_line(error)})"
                         ) from error
    if not fits or None in model.input.shape[1:] or model.input.shape[3] not in (1, 3):
        raise InputError(f"{file}: wanted is a functional or sequential model, images of one size "
                         "in (height, width, 1 or 3 channels), a value for each class out")
    height, width, channels = model.input.shape[1:]
    how = Reading(image_size=f"{height}x{width}", grey=channels == 1, test_split=test_split)
    images = utils.load_images(data, data_dir, how=how)
    if images.train_images.shape[3] < channels:
        images = images.changed(lambda x, labels: (np.repeat(x, channels, 3), labels),
                                f"{images.description}, grey as colour")
    if images.train_images.shape[3] != channels or len(images.classes) != model.output.shape[1]:
        raise InputError(f"{file} takes {channels} channels and tells {model.output.shape[1]} "
                         f"classes apart; {images.title} has {len(images.classes)} classes")
    print(f"note     {file} is given pixels as 0 .. {pixels}; --pixels {256 - pixels} if it was "
          f"trained on 0 .. {256 - pixels}\n"
          f"note     its outputs are taken for {in_one_line(', '.join(images.classes[:12]))}"
          f"{', ...' * (len(images.classes) > 12)}, in this order")
    return Network(file, how, None, model, images, 0.0, 1.0 if pixels == 1 else 1 / 255)


def flat(model):
    """Return a functional model that has the layers of the models within it in its own graph, or,
    where two of them have one name, as they are."""
    def compute(one, x, within):
        def apply(node, calls):
            (args, kwargs), own = calls[0], node.operation
            inner = graph.functional(own) if within else None
            if inner is None or len(inner.inputs) > 1 or len(inner.outputs) > 1:
                return [own(*args, **kwargs)]
            return [compute(own, (*args, *kwargs.values())[0], within)]
        values, = graph.walk(one, [x], apply)
        return values[id(graph.functional(one).outputs[0])]
    x = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)
    try:
        return keras.Model(x, compute(model, x, True), name=model.name)
    except ValueError:
        return keras.Model(x, compute(model, x, False), name=model.name)


def without_softmax(model):
    """Return a model whose output is what its last softmax is of; InputError if that is a sigmoid,
    or no number for random images."""
    values = model(np.random.default_rng(0).random((8, *model.input.shape[1:])),
                   training=False).numpy()
    if not np.isfinite(values).all():
        raise InputError("it gives values that are no numbers, of random images")
    node = graph.node_of(model, graph.functional(model).outputs[0])
    layer = node.operation
    kind = graph.squashing(layer)
    if kind == "sigmoid":
        raise InputError("its output is a sigmoid for each class by itself; the figures need "
                         "logits, or a softmax over the classes")
    if not kind:
        if values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-3):
            raise InputError("its output is a softmax, but not of its last layer; let it end there")
        return model
    if not hasattr(layer, "kernel"):
        return keras.Model(model.input, node.input_tensors[0], name=model.name)

    def clone(one):
        own = one.get_config() | ({"activation": "linear"} if one is layer else {})
        return type(one).from_config(own)
    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def read_snapshots(files, model):
    """Give a model the weights of each snapshot in turn, yielding its arrays; at last its own."""
    changed = graph.weights_of_figures(model)
    own = [v.numpy() for v in changed.values()]
    try:
        for file in files:
            arrays = load_arrays(file)
            graph.assign(changed, {
                name: x for name, x in arrays.items() if not name.startswith("unused")}, file)
            yield arrays
    finally:
        for variable, value in zip(changed.values(), own):
            variable.assign(value)


@functools.lru_cache(maxsize=4)  # to trace one takes longer than what most figures compute by it
def _submodel(model, *tensors):
    submodel = keras.Model(model.input, list(tensors))
    return tf.function(lambda images: tf.nest.flatten(submodel(images, training=False)),
                       autograph=False).get_concrete_function(
        tf.TensorSpec((None, *model.input.shape[1:])))


def in_parts(model, tensors, images, inputs=None, most=250):
    """Yield the values of Keras tensors of a model for part after part of many images, in
    evaluation mode: lists of float32 arrays.

    The parts fit into memory; inputs: function that makes network input of a part of the images.
    """
    submodel, size = _submodel(model, *tensors), images_at_a_time(model, most, CHUNK_BYTES // 4)

    def values(first):
        part = images[first:first + size]
        return [np.float32(x) for x in submodel(
            tf.constant(inputs(part) if inputs else part, tf.float32))]
    yield from two_at_once(values, Progress(range(0, len(images), size), desc="images",
                                            unit="part"))


def two_at_once(function, items):
    """Yield function(item) of items, in their order, two computed at a time: that is faster."""
    ahead = collections.deque()
    with ThreadPoolExecutor(2) as pool:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) == 3:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    machine.give_memory_back()


def outputs(model, tensors, images, inputs=None):
    """Return the values of Keras tensors of a model for many images, in evaluation mode: a list of
    float32 arrays. What is too large for that is to be had by in_parts."""
    return [np.concatenate(x) for x in zip(*in_parts(model, tensors, images, inputs))]


def tensor_of(model, name):
    """Return the Keras tensor that the node `name` (graph.named_nodes) gives."""
    return graph.named_nodes(model)[name].outputs[0]


def read_pictures(network, files):
    """Return picture files, read as the network's images were: uint8 (n, height, width, channels).

    Fitted to the network's size, made grey or given three channels; not transposed, which mends how
    a data set is stored. Raises InputError that names a file that is no picture.
    """
    how, (*size, channels) = Reading.of(network.config), network.data.train_images.shape[1:]
    if how.transpose:
        print("note     --transpose turned the data set's images; your pictures stay as they are")
    images = []
    for file in files:
        try:
            content = pathlib.Path(regular(file)).read_bytes()
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        (pixels, reason), = decode_all([(content, None)], tuple(size), how.background)
        if pixels is None:
            raise InputError(f"{file}: {reason}")
        if pixels.shape[2] > channels:
            pixels = np.rint(pixels @ LUMA).astype(np.uint8)[..., None]
        images.append(np.broadcast_to(pixels, (*size, channels)))
    return np.stack(images)


def require_same_images(records):
    """Raise InputError unless all runs were made of the same images, whose title a figure has."""
    first = records[0].network.data
    for record in records[1:]:
        if record.network.data.checksum != first.checksum:
            raise InputError(f"{record.folder} is of other images ({record.network.data.title}) "
                             f"than {records[0].folder} ({first.title})")


def require(what, otherwise):
    """Return `what`; NotDrawn if it is empty."""
    if not what:
        raise NotDrawn(otherwise)
    return what


def maps_of(network):
    """Return the Keras tensors of a network's feature maps; NotDrawn if it has none."""
    return [network.stages[name] for name in require(
        network.layers, "the network has no feature maps, made by a convolution")]


def some_classes(labels, most):
    """Return at most `most` of the classes that occur, evenly chosen."""
    found = np.unique(labels)
    return found[utils.evenly(len(found), most)]


def first_of_each_class(labels, count, most=20):
    """Return at most `most` of the classes that occur, and the indices of the first `count` images
    of each, or of as many as each of them has: (classes,), (classes, count)."""
    chosen = some_classes(labels, most)
    count = min(count, min((labels == c).sum() for c in chosen))
    return chosen, np.stack([np.flatnonzero(labels == c)[:count] for c in chosen])


def recognised_of_each_class(network, count):
    """Return the index of the first test image of each class that the network recognises, or of the
    first where it recognises none; of at most `count` classes."""
    labels = network.data.test_labels
    right = network.test_logits.argmax(1) == labels
    return np.array([np.flatnonzero(labels == c)[right[labels == c].argmax()]
                     for c in np.unique(labels)[:count]])
