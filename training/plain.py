"""Keep a finished run's network as plain Keras layers, and read its weights back from there.

    model.keras     the network from pixels 0 .. 255 to logits, float32: keras.models.load_model
                    reads it where nothing of this project is known
    weights.npz     the weights alone: in its place if a layer has no counterpart in Keras, and of
                    older runs
"""
import collections
import pathlib
import tempfile
import warnings
import zipfile

import keras

from system.command_line import InputError, first_line
from system.files import atomic_file, check_zip
from training import graph
from training.cells import CELLS
from training.checkpoints import load_weights, save_weights
from training.layers import BatchNormalization, Bias
from training.parallel import title
from training.recurrent import Recurrent, Sweeps, sweep

POOLING = tuple(getattr(keras.layers, name) for name in (
    "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"))


class NotPlain(ValueError):
    """A layer that Keras alone cannot compute; the message names it."""


def in_keras(config):
    """Return the configuration of an object, as Keras serializes it, in float32 and with Keras's
    layers in place of ours. Raises NotPlain for a class or function that is not Keras's."""
    if isinstance(config, (list, tuple)):
        return [in_keras(value) for value in config]
    if not isinstance(config, dict):
        return config
    kind, own = config.get("class_name"), config.get("config")
    if kind == "DTypePolicy":
        return config | {"config": {"name": own["name"].replace("mixed_bfloat16", "float32")}}
    known = keras.saving.get_registered_object(config.get("registered_name"))
    if known is Recurrent:
        config = keras.saving.serialize_keras_object(CELLS[own["cell"]].in_keras(own["units"], **{
            name: own[name] for name in ("return_sequences", "go_backwards", "name", "trainable")}))
    elif known is BatchNormalization:
        config = config | {"module": "keras.layers", "registered_name": None}
    elif known:  # what is not known, Keras itself refuses to make
        raise NotPlain(kind)
    return {name: in_keras(value) for name, value in config.items() if name != "build_config"}


def counterpart(operation, **changes):
    """Return an operation of Keras's own that computes the same of the same weights."""
    with warnings.catch_warnings(action="ignore"):  # that a function is not portable
        config = in_keras(keras.saving.serialize_keras_object(operation))
    return keras.saving.deserialize_keras_object(config | {"config": config["config"] | changes})


def biases(model):
    """Return {layer without a bias: the Bias that is added to its output, pooled or not}.

    Where nothing else reads that output, it is the layer's own: max(x) + b = max(x + b).
    """
    nodes, found, kinds = graph.nodes(model), {}, (keras.layers.Conv2D, keras.layers.Dense)
    uses = collections.Counter(node.operation for node in nodes)
    readers = collections.Counter(id(x) for node in nodes for x in node.input_tensors)
    makers = {id(x): node for node in nodes for x in node.outputs}
    for node in nodes:
        below = node if type(node.operation) is Bias else None
        while below and (below is node or type(below.operation) in POOLING):
            tensor = id(below.input_tensors[0])
            below = makers.get(tensor) if readers[tensor] == 1 else None
        layer = below and below.operation
        if type(layer) in kinds and uses[layer] == uses[node.operation] == 1 and (
                not layer.use_bias and graph.activation_of(layer) == "linear"):
            found[layer] = node.operation
    return found


def plain(model, mean=0.0, std=1.0):
    """Return a model of Keras's own layers, raw pixels -> logits, and [(weight of `model`, weight
    there)]. mean, std: of training.augmentation.prepare. Raises NotPlain.
    """
    pixels = keras.Input(model.input.shape[1:], name="pixels")
    scaled = keras.layers.Rescaling(1 / (255 * std), -mean / std, name="standardization")(pixels)
    own_biases, made = biases(model), {}  # {operation: its counterparts}

    def layers_for(operation):
        if isinstance(operation, Sweeps):
            return [counterpart(layer, name=f"{operation.name}_{layer.name}") for layer in (
                operation.down, operation.up, operation.right, operation.left)]
        return [counterpart(operation, **{"use_bias": True} if operation in own_biases else {})]

    def apply(node, calls):
        (args, kwargs), own = calls[0], node.operation
        if own in own_biases.values():
            return args[:1]
        try:
            if own not in made:
                made[own] = layers_for(own)
            if isinstance(own, Sweeps):
                return [sweep(args[0], *made[own])]
            if type(own) is BatchNormalization:  # `of` is for its moments in training
                args, kwargs = args[:1], {}
            return [made[own][0](*args, **kwargs)]
        except Exception as error:  # Keras has no common type for what may be wrong
            raise NotPlain(f"{title(node)} has no counterpart in Keras") from error
    values, = graph.walk(model, [scaled], apply)
    logits, pairs = values[id(graph.functional(model).outputs[0])], []
    try:
        network = keras.Model(pixels, logits, name=model.name)
    except ValueError as error:  # a layer of one's own has the name of one that is added here
        raise NotPlain(first_line(error)) from error
    for own, layers in made.items():
        weights = [w for layer in (own, own_biases.get(own)) for w in getattr(layer, "weights", [])]
        pairs += zip(weights, [w for layer in layers for w in getattr(layer, "weights", [])],
                     strict=True)
    return network, pairs


def save(folder, model, mean, std):
    """Write model.keras, or weights.npz and a line that says why."""
    try:
        network, pairs = plain(model, mean, std)
    except NotPlain as reason:
        print(f"note     weights.npz in place of model.keras: {reason}")
        save_weights(folder, {name: v.numpy() for name, v in graph.name_weights(
            model.weights).items()})
        return
    for own, theirs in pairs:
        theirs.assign(own)
    with tempfile.TemporaryDirectory() as place, atomic_file(folder / "model.keras") as stream:
        network.save(f"{place}/model.keras")
        stream.write(pathlib.Path(place, "model.keras").read_bytes())


def load_model(file):
    """Return the model of a .keras file. Raises what Keras only warns of: weights that it does not
    find, and leaves random."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"keras\.src\.saving")
        return keras.models.load_model(file, compile=False)


def read(folder):
    """Return the weights {name: array} in a finished run's model.keras, under the names of its own
    layers; None if they lie elsewhere. It takes least memory before another network is there.
    Raises InputError if it is damaged."""
    file = folder / "model.keras"
    if (folder / "weights.npz").exists() or not file.exists():
        return None
    check_zip(file)
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        network = load_model(file)
    except Exception as error:  # Keras has no common type for what may be wrong
        raise InputError(f"{file} is damaged ({first_line(error)})") from error
    return {name: v.numpy() for name, v in graph.name_weights(network.weights).items()}


def load(folder, model, stored=None):
    """Return the newest weights of a run, {name: array} of graph.name_weights(model.weights): the
    final ones, or a checkpoint's. stored: read(folder), if that was done.

    Raises InputError if there are none, or they are damaged or another network's.
    """
    file, own = folder / "model.keras", graph.name_weights(model.weights)
    found = read(folder) if stored is None else stored
    if found is None:
        found = load_weights(folder)
        if not (folder / "weights.npz").exists():  # a checkpoint holds more
            found = {name: array for name, array in found.items() if name in own}
        graph.check(own, found, folder)
        return found
    try:
        with graph.without_values():
            network, pairs = plain(model)
    except NotPlain as error:
        raise InputError(f"{file} is of another network: {error} here") from error
    names = {id(v): name for name, v in graph.name_weights(network.weights).items()}
    graph.check(graph.name_weights(network.weights), found, file)
    place = {id(one): names[id(other)] for one, other in pairs}
    return {name: found[place[id(v)]] for name, v in own.items()}
