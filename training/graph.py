"""A functional Keras model as a graph: walk it, name its weights, say what it is made of.

An operation is a layer, or what arithmetic on Keras tensors made (`x + y`, `keras.ops.relu(x)`). A
node is one use of an operation: a layer that is called twice has two.
"""
import base64
import contextlib
import dis
import functools
import hashlib
import json
import marshal
import sys
import types
import warnings

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional

from system.command_line import InputError

ACTIVATIONS = {"Celu", "Elu", "Gelu", "HardShrink", "HardSigmoid", "HardSilu", "HardTanh",
               "LeakyRelu", "LogSigmoid", "ReLU", "Relu", "Relu6", "Selu", "Sigmoid", "Silu",
               "SoftShrink", "Softplus", "Softsign", "SparsePlus", "SparseSigmoid", "Squareplus",
               "Tanh", "TanhShrink", "Threshold"}  # operations of these names


@contextlib.contextmanager
def without_values():
    """Let networks that are built meanwhile have weights without values, which take no memory."""
    with keras.StatelessScope():
        yield
        global_state.set_global_attribute("uninitialized_variables", [])  # nor given them after


def functional(model):
    """Return the graph of a functional or sequential model; None if it has its own `call`."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    return None


def nodes(model):
    """Return the nodes of a functional model, but for its input, in an order to compute them in."""
    by_depth = functional(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
            if not node.is_input]


def node_of(model, tensor):
    """Return the node of a model that makes a Keras tensor."""
    return next(node for node in nodes(model) if any(x is tensor for x in node.outputs))


def walk(model, inputs, apply):
    """Compute the nodes of `model` in turn, as Keras's own Function._run_through_graph does.

    inputs: the model's input, one tensor for each part of a batch. apply(node, calls) gets the
    (args, kwargs) of each part and returns the output of each. Returns, for each part,
    {id(Keras tensor): value}.
    """
    source, = functional(model).inputs
    parts = [{id(source): x} for x in inputs]
    for node in nodes(model):
        outputs = apply(node, [node.arguments.fill_in(values) for values in parts])
        for values, output in zip(parts, outputs, strict=True):
            values |= {id(x): y for x, y in zip(node.outputs, keras.tree.flatten(output),
                                                strict=True)}
    return parts


def call(operation, args, kwargs, training):
    """Call an operation, in training or in evaluation mode if it knows these."""
    if "training" in getattr(operation, "_call_context_args", ()):
        kwargs = kwargs | {"training": training}
    return operation(*args, **kwargs)


def is_known(operation):
    """Return whether an operation is one of Keras's or of this project, not one's own."""
    return type(operation).__module__.startswith(("keras.", "training."))


def before_activation(operation, args, kwargs):
    """Return what the activation that an operation is, or ends in, is applied to, in evaluation
    mode."""
    if not getattr(operation, "weights", ()):
        return (*args, *kwargs.values())[0]
    activation, operation.activation = operation.activation, keras.activations.linear
    try:
        return call(operation, args, kwargs, training=False)
    finally:
        operation.activation = activation


def layers(model):
    """Return all layers of a model, also those within others."""
    return list(model._flatten_layers(include_self=False))


def activation_of(operation):
    """Name the nonlinearity that an operation is or ends in; "linear" if it has none."""
    kinds = keras.layers
    if isinstance(operation, (kinds.ReLU, kinds.LeakyReLU, kinds.PReLU, kinds.ELU)):
        return type(operation).__name__.lower()
    if isinstance(operation, keras.layers.Layer):
        recurrent = isinstance(operation, kinds.RNN)
        function = None if recurrent else getattr(operation, "activation", None)
        return getattr(function, "__name__", "linear" if function is None else "unnamed")
    name = type(operation).__name__
    return name.lower() if name in ACTIVATIONS else "linear"


def squashing(operation):
    """Return "softmax" or "sigmoid" if an operation, layer or not, is it or ends in it, else ""."""
    names = (getattr(getattr(operation, "activation", None), "__name__", ""),
             type(operation).__name__.lower())
    return next((kind for kind in ("softmax", "sigmoid") if kind in names), "")


def numbered(names):
    """Return the names, numbered where they occur again: relu, relu:2."""
    found = []
    for name in names:
        number = 1 + sum(other.split(":")[0] == name for other in found)
        found.append(name if number == 1 else f"{name}:{number}")
    return found


def named_nodes(model):
    """Return {name: node}: the name of its operation, and of its second use "relu:2"."""
    own = nodes(model)
    return dict(zip(numbered([node.operation.name for node in own]), own))


def stages(model):
    """Return {name: Keras tensor} of a network's activations, in their order; without any, of its
    convolutions and dense layers, but for the logits."""
    def is_weighted(operation):
        return all(hasattr(operation, name) for name in ("kernel", "activation"))
    hidden = {name: node for name, node in named_nodes(model).items()
              if node.outputs[0] is not functional(model).outputs[0]}
    return ({name: node.outputs[0] for name, node in hidden.items()
             if activation_of(node.operation) != "linear"}
            or {name: node.outputs[0] for name, node in hidden.items()
                if is_weighted(node.operation)})


def feature_maps(model):
    """Return {name: Keras tensor} of a model's feature maps: those larger than one position, as a
    gate's are not, or all of them if the images are of one."""
    image = tuple(model.inputs[0].shape[1:3])
    return {name: x for name, x in stages(model).items()
            if len(x.shape) == 4 and (tuple(x.shape[1:3]) != (1, 1) or image == (1, 1))}


def first_convolution(model):
    """Return the first two-dimensional convolution of a network, or None."""
    return next((node.operation for node in nodes(model)
                 if isinstance(node.operation, keras.layers.Conv2D)), None)


def kernels_below(model):
    """Return {id(Keras tensor): the operations with a kernel that it is next made by}, through
    pooling, normalization and the like; of pixels that nothing convolves {None}."""
    found = {id(x): {None} for x in functional(model).inputs}
    for node in nodes(model):
        weighted = any(hasattr(node.operation, name) for name in ("kernel", "depthwise_kernel"))
        own = {node.operation} if weighted else set().union(
            *(found[id(x)] for x in node.input_tensors))
        found |= {id(x): own for x in node.outputs}
    return found


def stage_after(model, operation):
    """Return the name of the stage that an operation alone leads to, through pooling, normalization
    and the like; None if what it gives is first convolved again or joined with something else."""
    below = kernels_below(model)
    return next((name for name, x in stages(model).items() if below[id(x)] == {operation}), None)


def weights_below(model, tensor):
    """Return the weights of all operations that a Keras tensor of a model depends on."""
    found, needed = [], {id(tensor)}
    for node in reversed(nodes(model)):
        if any(id(x) in needed for x in node.outputs):
            needed |= {id(x) for x in node.input_tensors}
            found += getattr(node.operation, "weights", [])
    return found


def weights_of_figures(model):
    """Return {path: variable} of what figures of training read: the weights that the last feature
    maps depend on, or all weights if there are no feature maps."""
    *_, last = (None, *feature_maps(model).values())
    kept = {id(v) for v in (model.weights if last is None else weights_below(model, last))}
    return {path: v for path, v in name_weights(model.weights).items() if id(v) in kept}


def name_weights(variables):
    """Return {path: variable}; where several have one path, the later ones are numbered."""
    variables = list(variables)
    return dict(zip(numbered([variable.path for variable in variables]), variables))


def check(variables, arrays, source):
    """Raise InputError unless {name: array} of `source` are numbers and have the names and shapes
    of {name: variable}."""
    for name in [*variables, *arrays]:
        wanted, found = (tuple(x[name].shape) if name in x else "no such array"
                         for x in (variables, arrays))
        if wanted != found:
            raise InputError(f"{source} is of another network: {name} is {found} there and "
                             f"{wanted} in build_model")
        if arrays[name].dtype.kind not in "biuf":
            raise InputError(f"{source} is damaged: {name} holds {arrays[name].dtype}, no numbers")


def assign(variables, arrays, source):
    """Give {name: variable} the values {name: array} of `source`; InputError if they do not fit.
    """
    check(variables, arrays, source)
    for name, variable in variables.items():
        variable.assign(arrays[name])


UNTOLD = "dtype", "seed", "forget_bias", "module", "registered_name", "build_config"


def describe(model):
    """Describe each node, its options and inputs, as JSON: equal for equal networks.

    It leaves out what does not change what is computed from given weights: precision, seeds and
    initializers. Functions count by what they compute, not by where they stand in a file.
    """
    def plain(value):
        return _plain(value, sources)

    def options(operation):
        if functional(operation) is not None:
            return describe(operation)
        if isinstance(operation, keras.layers.Layer):
            try:
                with warnings.catch_warnings(action="ignore"):  # that a function is not portable
                    return plain(keras.saving.serialize_keras_object(operation).get("config"))
            except Exception:  # a layer of one's own without get_config
                pass
        return plain({name: value for name, value in vars(operation).items()
                      if not name.startswith("_") and name not in ("name", "built")
                      and not isinstance(value, (keras.Variable, keras.layers.Layer))})
    sources = {id(functional(model).inputs[0]): "input"}
    found = {}
    for i, node in enumerate(nodes(model)):
        name = f"{node.operation.name} {i}"
        sources |= {id(x): f"{name}/{k}" for k, x in enumerate(node.outputs)}
        found[name] = {"kind": type(node.operation).__name__, "options": options(node.operation),
                       "arguments": plain([node.arguments.args, node.arguments.kwargs])}
        if code := _own_code(node.operation):
            found[name]["code"] = code
    return json.loads(json.dumps(found))


def _plain(value, sources):
    """Return a value as JSON; sources: {id(Keras tensor): its name}."""
    def plain(value):
        return _plain(value, sources)
    if isinstance(value, dict) and value.get("class_name") == "__lambda__":
        config = value["config"]
        return [_hash(marshal.loads(base64.b64decode(config["code"]))),
                plain(config["defaults"]), plain(config["closure"])]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()
                if k not in UNTOLD and not str(k).endswith("_initializer")}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, keras.KerasTensor):
        return sources.get(id(value), "?")
    if hasattr(value, "__code__"):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_hash(value.__code__), plain(value.__defaults__), plain(cells)]
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _hash(code):
    told = [code.co_code.hex(), code.co_names, code.co_varnames, [
        _hash(c) if isinstance(c, types.CodeType) else
        repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c) for c in code.co_consts]]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _own_code(operation):
    """Return the code that an operation runs and that is not Keras's: of its class and the classes
    below, of functions that it or its layers hold, and of what these name, constants too."""
    found, left, seen = [], [], {}

    def follow(name, value, told=False):
        value = getattr(value, "__func__", getattr(value, "fget", value))
        if _is_constant(value):
            found.append([name, _plain(value, {})])
        if _is_constant(value) or id(value) in seen:
            return
        seen[id(value)] = value
        if callable(value) and hasattr(value, "__wrapped__"):
            left.append((name, value.__wrapped__))
        code = getattr(value, "__code__", None)
        if isinstance(value, functools.partial):
            left.extend((name, x) for x in (value.func, value.args, value.keywords))
        elif code is None and callable(value) and not isinstance(
                value, (type, keras.layers.Layer)) and not _is_library(type(value)):
            left.extend([(name, type(value).__call__),
                         *sorted(getattr(value, "__dict__", {}).items())])
        if code is None or _is_library(value):
            return
        if not told:
            found.append(_hash(code))
        left.extend((name, x) for name, x in _named(value)
                    if not told or not _is_constant(x) or name in value.__globals__)
    is_layer = isinstance(operation, keras.layers.Layer) and functional(operation) is None
    parts = operation._flatten_layers() if is_layer else [operation]
    for part in parts:
        if _is_of_project(type(part)):
            continue
        for kind in filter(_is_own, type(part).__mro__):
            for name, value in sorted(vars(kind).items()):
                if name != "image_by_image" and (hasattr(value, "__code__") or name[:2] != "__"):
                    follow(name, value)
        for name, value in sorted(vars(part).items()):
            if callable(value) and not (  # Keras wraps each layer's own build; a lambda: options
                    name.endswith("_initializer") or hasattr(type(part), name)):
                follow(name, value, not _is_own(type(operation)) and (
                    not is_layer or getattr(value, "__name__", "") == "<lambda>"))
    while left:
        follow(*left.pop(0))
    return found


def _is_of_project(kind):
    return kind.__module__.startswith("training.") and (
        keras.saving.get_registered_name(kind) != kind.__name__)


def _is_own(kind):
    """Return whether a class is neither Keras's, TensorFlow's nor this project's."""
    return kind.__module__.split(".")[0] not in ("builtins", "keras", "tensorflow") and (
        not _is_of_project(kind))


def _is_constant(value):
    """Return whether a value is plain throughout."""
    if isinstance(value, (list, tuple, dict)):
        return all(map(_is_constant, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray, np.generic))


def _is_library(function):
    """Return whether a function or module is installed, or Python's own."""
    root = str(getattr(function, "__module__", None) or function.__name__).split(".")[0]
    return root in sys.stdlib_module_names or "-packages" in str(
        getattr(sys.modules.get(root), "__file__", ""))


def _named(function):
    """Yield (name, value) of what a function's code takes from around it and from its module."""
    def of(code):
        yield code
        for own in code.co_consts:
            if isinstance(own, types.CodeType):
                yield from of(own)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        yield name, cell.cell_contents
    for code in of(function.__code__):
        names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
        for name in sorted(names & set(function.__globals__)):
            value = function.__globals__[name]
            if not isinstance(value, types.ModuleType):
                yield name, value
            elif not _is_library(value):
                yield from ((n, vars(value)[n]) for n in code.co_names if n in vars(value))
