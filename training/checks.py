"""What cannot be trained as it is written, or could not be resumed: refused before training begins.

Nodes that Keras and this project do not know are traced, for what changes state or draws random
numbers, and computed of random images, whole and in parts if they say that they can. The network
itself is computed of random images, for a softmax at its end.
"""
import random

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from system.command_line import InputError, first_line
from training import graph
from training.parallel import BATCH_NORM, CALLS, OURS, kind_of, tensors_of, title

HARMLESS = CALLS | {"ReadVariableOp", "VarHandleOp", "Placeholder", "NoOp", "PrintV2", "Assert"}


def check(model, input_shape, classes):
    """Raise InputError, naming the layer, if a network cannot be trained as it is written.

    input_shape: (height, width, channels) of the images; classes: how many there are.
    """
    own = graph.functional(model)
    if own is None or not isinstance(own._outputs_struct, keras.KerasTensor):
        raise InputError("build_model must return keras.Model(images, logits), without a `call` of "
                         "its own, or a keras.Sequential that begins with keras.Input")
    inputs, outputs = own.inputs, own.outputs
    taken, given = ([x.shape for x in tensors] for tensors in (inputs, outputs))
    if taken != [(None, *input_shape)] or given != [(None, classes)]:
        raise InputError(f"build_model must take images {(None, *input_shape)} and return logits "
                         f"(None, {classes}); it takes {', '.join(map(str, taken))} and returns "
                         f"{', '.join(map(str, given))}")
    if inputs[0].dtype != "float32":
        raise InputError(f"images are float32: keras.Input must not ask for {inputs[0].dtype}")
    for variable in model.variables:
        if "float" in variable.dtype and variable.dtype != "float32":
            raise InputError(f"{variable.path} is {variable.dtype}, weights must be float32; for "
                             "half the precision in what is computed use dtype=\"mixed_bfloat16\"")
    last = graph.node_of(model, outputs[0])
    if kind := graph.squashing(last.operation):
        raise InputError(f"{title(last)} ends in {kind}, which the loss applies itself; let "
                         "build_model return logits, without it")
    foreign = [node for node in _all_nodes(model) if _is_foreign(node)]
    if foreign:
        _check_traced(model, input_shape)
    for node in foreign:
        _try(node)
    is_linear = type(last.operation) is keras.layers.Dense and (
        graph.activation_of(last.operation) == "linear")  # most are: trying takes time
    if not is_linear and _gives_probabilities(model, input_shape):
        raise InputError(f"{title(last)} gives probabilities, of softmax it seems, which the loss "
                         "applies itself; let build_model return logits, without it")
    if any(kind_of(node) == "joined" for node in foreign):
        _note_mixing(model, input_shape)
    for layer in graph.layers(model):
        layer._losses.clear()


def _gives_probabilities(model, shape):
    """Return whether what a network gives random images is never below 0, and its sum 1."""
    images = np.random.default_rng(0).normal(size=(TRIAL, *shape))
    try:
        found = np.float32(model(np.float32(images), training=False))
    except Exception:  # random numbers are not what it takes
        return False
    return bool((found >= 0).all() and (abs(found.sum(axis=1) - 1) < 0.005).all())  # in bfloat16


def _note_mixing(model, shape):
    """Print which node it is if an image's logits depend on the images evaluated with it."""
    images = tf.constant(np.random.default_rng(0).normal(size=(TRIAL, *shape)), tf.float32)
    try:
        whole, *parts = graph.walk(model, [images, *tf.split(images, SPLIT)], lambda node, calls: [
            graph.call(node.operation, *own, training=False) for own in calls])
    except Exception:  # random numbers are not what it takes
        return
    within = 0.05 if any(own.compute_dtype != "float32" for own in graph.layers(model)) else 1e-3

    def mixes(tensor):
        found = np.float32(whole[id(tensor)])
        joined = np.concatenate([np.float32(part[id(tensor)]) for part in parts])
        return found.shape != joined.shape or not np.allclose(found, joined, within, within,
                                                              equal_nan=True)
    if mixes(graph.functional(model).outputs[0]):
        first = next(node for node in graph.nodes(model) for x in node.outputs
                     if x.shape[:1] != (None,) or mixes(x))
        print(f"note     {title(first)} mixes the images of a batch: what is predicted of an image "
              "depends on those beside it")


def _all_nodes(model):
    """Yield the nodes of a model and of models within it; InputError names one that is wrong."""
    for node in graph.nodes(model):
        kind = kind_of(node)
        if kind == "model":
            yield from _all_nodes(node.operation)
        elif kind == "joined" and type(node.operation) in BATCH_NORM:
            raise InputError(f"{title(node)}: only batch norm over the last axis, without renorm "
                             "and activity regularizer, can be trained here")
        else:
            yield node


def _is_foreign(node):
    """Return whether a node runs code that is neither ours nor known to depend on its input alone,
    or makes a mask."""
    layer, kind = type(node.operation), kind_of(node)
    return layer not in OURS and (
        kind in ("joined", "rule") or kind == "images" and "image_by_image" in vars(layer)
        or layer is keras.layers.Masking or getattr(node.operation, "mask_zero", False))


def _check_traced(model, shape):
    """Look at the graph that foreign operations make in training for what could not be resumed."""
    def functions(traced):
        return {body.signature.name: [own.op for own in body.node_def]
                for body in traced.as_graph_def().library.function}

    def compute(inputs, model=model):
        def apply(node, calls):
            inputs = tensors_of(node, calls[0])
            if kind_of(node) != "images" and any(
                    keras.src.backend.get_keras_mask(x) is not None for x in inputs):
                raise InputError(f"{title(node)} gets a mask, which only layers that act on each "
                                 "image by itself can use here")
            if kind_of(node) == "model":
                return [compute(inputs[0], node.operation)]
            if not _is_foreign(node):
                return [graph.call(node.operation, *calls[0], training=False)]
            traced = tf.compat.v1.get_default_graph()
            before, known = len(traced.get_operations()), set(functions(traced))
            captured = len(traced.external_captures)
            try:
                output = graph.call(node.operation, *calls[0], training=True)
            except Exception as error:
                raise InputError(f"{title(node)} cannot be computed in a graph: "
                                 f"{first_line(error)}") from error
            kinds = [op.type for op in traced.get_operations()[before:]] + sum(
                (ops for name, ops in functions(traced).items() if name not in known), [])
            for kind in kinds:
                definition = op_def_registry.get(kind)
                if definition is not None and definition.is_stateful and kind not in HARMLESS:
                    _refuse_random(node, kind)
            if any(x.dtype == tf.resource and id(x) not in variables
                   for x in traced.external_captures[captured:]):
                raise InputError(f"{title(node)} uses a variable that Keras does not know of and "
                                 "that no checkpoint would hold; make it with add_weight")
            for symbol, x in zip(node.outputs, keras.tree.flatten(output)):
                if symbol.shape[:1] == (None,) and (x.shape[0] or 0) % TRIAL:
                    raise InputError(f"{title(node)} gives {x.shape[0]} rows for {TRIAL} images; "
                                     "it must give as many for each image")
            return [output]
        output, = graph.functional(model).outputs
        values, = graph.walk(model, [inputs], apply)
        return values[id(output)]
    variables = {id(v.value.handle) for v in model.variables}
    tf.function(compute, autograph=False).get_concrete_function(
        tf.TensorSpec((TRIAL, *shape), tf.float32))


TRIAL, SPLIT = 7, [4, 3]  # images that a foreign operation is tried with, and their parts


def _refuse_random(node, how):
    raise InputError(f"{title(node)} draws random numbers or changes its state in training "
                     f"({how}), which a resumed run could not repeat; use Dropout, SpatialDropout "
                     "or GaussianNoise, or leave it out")


def _try(node):
    """Compute a foreign operation of random numbers: twice, and in parts if it says that it can."""
    if any(None in x.shape[1:] or x.shape[:1] != (None,) for x in node.input_tensors):
        return
    layer, kind, rng = node.operation, kind_of(node), np.random.default_rng(0)
    within = 1e-3 if getattr(layer, "compute_dtype", "float32") == "float32" else 0.05
    inputs = [tf.cast(rng.normal(size=(TRIAL, *x.shape[1:])), x.dtype) for x in node.input_tensors]

    def call(*inputs):
        args, kwargs = node.arguments.fill_in(dict(zip(map(id, node.input_tensors), inputs)))
        return keras.tree.flatten(graph.call(layer, args, kwargs, training=True))

    def differ(one, other):
        return any(a.shape != b.shape or not np.allclose(
            a, b, rtol=within, atol=within, equal_nan=True) for a, b in zip(
                map(np.float64, one), map(np.float64, other), strict=True))
    whole = []
    try:
        for seed in (1, 2):
            np.random.seed(seed)
            random.seed(seed)
            whole.append(call(*inputs))
    except Exception:  # random numbers are not what it takes; that it can be computed is known
        whole = [[], []]
    if differ(*whole):
        _refuse_random(node, "of NumPy or Python")
    if kind == "joined":
        return
    losses = [loss for own in layer._flatten_layers() for loss in own._losses]
    if losses:
        raise InputError(f"{title(node)} adds a loss, of which its parts know nothing: leave out "
                         "image_by_image and on_parts")
    parts = [tf.split(x, SPLIT) for x in inputs]
    try:
        if kind == "rule":
            joined = [tf.concat(layer.on_parts(*parts), axis=0)]
        else:
            joined = [tf.concat(pair, axis=0) for pair in zip(*(call(*own) for own in zip(*parts)))]
        wrong = differ(whole[0], joined)
    except Exception as error:
        raise InputError(f"{title(node)} cannot be computed in parts: {first_line(error)}"
                         ) from error
    if wrong:
        raise InputError(f"{title(node)} gives the parts of a batch something else than the "
                         "whole; leave out image_by_image, or mend on_parts")
