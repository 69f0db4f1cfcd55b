"""What a trained net does with images, as arrays: statistics, strongest units, occlusion, deltas.

Pure functions of a model and network inputs; visualize.py draws and writes what they return. The
numbers in brackets are the sections and figures of Zeiler & Fergus (arXiv 1311.2901).
"""
import itertools

import keras
import numpy as np
import tensorflow as tf

import graph
from deconvnet import one_unit, project, receptive_field


def outputs(model, tensors, images, batch=500):
    """The values of Keras tensors of a model for many images, in evaluation mode: a list of float32
    arrays."""
    submodel = tf.function(keras.Model(model.input, list(tensors)))
    parts = [tf.nest.flatten(submodel(tf.constant(images[i:i + batch], tf.float32), training=False))
             for i in range(0, len(images), batch)]
    return [np.concatenate([np.float32(part[k]) for part in parts]) for k in range(len(parts[0]))]


def output(model, name, images):
    """What the node `name` (graph.named_nodes) gives for many images, in evaluation mode."""
    return outputs(model, graph.named_nodes(model)[name].outputs[:1], images)[0]


def activation_statistics(activations, labels, classes):
    """Statistics of a layer's feature maps over images: {name: array (classes + 1, maps)}.

    activations (n, height, width, maps), labels (n,). Row c is of class c, the last row of all
    images: mean, standard deviation and maximum over images and places, and the fraction of places
    that are active (above zero). A map is dead if it is active nowhere, in any image.
    """
    groups = [activations[labels == c] for c in range(classes)] + [activations]
    axes = tuple(range(activations.ndim - 1))
    return {"mean": np.stack([g.mean(axes) for g in groups]),
            "std": np.stack([g.std(axes) for g in groups]),
            "max": np.stack([g.max(axes) for g in groups]),
            "active": np.stack([(g > 0).mean(axes) for g in groups])}


def near_duplicates(activations, threshold=0.95):
    """Pairs of feature maps whose activations correlate above `threshold`: [(i, j, r)], i < j."""
    flat = activations.reshape(-1, activations.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(flat, rowvar=False)  # nan for a map that never changes
    i, j = np.nonzero(np.triu(np.nan_to_num(r), 1) > threshold)
    return [(int(a), int(b), float(r[a, b])) for a, b in zip(i, j)]


def strongest(activations, count=9):
    """For every feature map the `count` images that excite it most: (maps, count) of
    (image, row, column, activation), strongest first; an image counts once, at its strongest place.
    """
    n, _, width, maps = activations.shape
    flat = activations.reshape(n, -1, maps)
    best = flat.max(1)  # (images, maps)
    image = np.argsort(-best, axis=0, kind="stable")[:count].T  # (maps, count)
    place = np.take_along_axis(flat.argmax(1).T, image, 1)
    return image, place // width, place % width, np.take_along_axis(best.T, image, 1)


def project_strongest(model, name, images, count=9):
    """The strongest units of every feature map of a layer, seen through the deconvnet [fig. 2].

    Returns strongest(...) and, each a list over maps of lists over units, the image patches under
    the units' receptive fields and the projections there (height, width, channels).
    """
    activations = output(model, name, images)
    image, row, column, value = strongest(activations, count)
    chosen = image.ravel()
    unit = row.ravel(), column.ravel(), np.repeat(np.arange(len(image)), image.shape[1])
    pixels = np.concatenate([  # in parts, to bound memory
        project(model, name, images[chosen[i:i + 256]],
                lambda activations, i=i: one_unit(activations, *(u[i:i + 256] for u in unit)))
        for i in range(0, len(chosen), 256)])
    patches, projections = [], []
    for i, (r, c) in enumerate(zip(*unit[:2])):
        top, bottom, left, right = receptive_field(model, name, int(r), int(c))
        patches.append(images[chosen[i], top:bottom, left:right])
        projections.append(pixels[i, top:bottom, left:right])
    shape = image.shape[1]
    nested = [[x[k:k + shape] for k in range(0, len(x), shape)] for x in (patches, projections)]
    return (image, row, column, value), *nested


def occlude(images, side, stride, grey):
    """Every image with a grey square at every position: (images, rows, columns) in turn.

    The square's centre visits every `stride`-th pixel from the first to at least the last, so that
    every pixel is covered; clipped at the border. Returns (centres of rows, of columns, generator
    of (image, row index, column index, occluded image)).
    """
    height, width = images.shape[1:3]
    rows, columns = (np.unique(np.r_[np.arange(0, n, stride), n - 1]) for n in (height, width))

    def generate():
        for n, i, j in itertools.product(range(len(images)), range(len(rows)), range(len(columns))):
            hidden = images[n].copy()
            top, left = rows[i] - (side - 1) // 2, columns[j] - (side - 1) // 2
            hidden[max(top, 0):top + side, max(left, 0):left + side] = grey
            yield n, i, j, hidden
    return rows, columns, generate()


def occlusion(model, name, images, labels, side=8, stride=1, grey=0.0, chunk=2048):
    """How the network's view of images changes as a grey square hides each part of them [fig. 7].

    images: network input; labels (n,); grey in the model's input range. Of layer `name` the feature
    map that was strongest without occlusion is followed. From the same forward passes, each
    (images, rows, columns): "activation", that map's total; "probability" of the true class;
    "predicted", the most probable class. Also "map" (images,), and "rows", "columns", the centres.
    `chunk` images at a time: no influence on the result.
    """
    submodel = tf.function(keras.Model(
        model.input, [graph.named_nodes(model)[name].outputs[0], model.output]),
        reduce_retracing=True)
    whole = submodel(tf.constant(images, tf.float32), training=False)[0].numpy()
    followed = whole.max((1, 2)).argmax(1)
    rows, columns, positions = occlude(images, side, stride, grey)
    shape = len(images), len(rows), len(columns)
    result = {"activation": np.empty(shape), "probability": np.empty(shape),
              "predicted": np.empty(shape, int)}
    while part := list(itertools.islice(positions, chunk)):
        n, i, j, hidden = zip(*part)
        n = np.array(n)
        activations, logits = submodel(tf.constant(np.stack(hidden), tf.float32), training=False)
        totals = np.asarray(activations).sum((1, 2))
        probabilities = tf.nn.softmax(logits).numpy()
        result["activation"][n, i, j] = totals[np.arange(len(n)), followed[n]]
        result["probability"][n, i, j] = probabilities[np.arange(len(n)), np.asarray(labels)[n]]
        result["predicted"][n, i, j] = probabilities.argmax(1)
    return result | {"map": followed, "rows": rows, "columns": columns}


def transform(images, kind, amount):
    """Images moved down by `amount` pixels, scaled by `amount`, or rotated by `amount` degrees.

    kind: "shift", "scale" or "rotation"; about the centre; the border's pixels go on outside.
    """
    if kind not in ("shift", "scale", "rotation"):
        raise ValueError(f"no transformation {kind!r}: shift, scale or rotation")
    height, width = images.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    angle = np.radians(amount) if kind == "rotation" else 0.0
    zoom = 1 / amount if kind == "scale" else 1.0
    shift = amount if kind == "shift" else 0.0
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    row = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y - shift, 0, 0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(images, tf.float32), transforms=tf.constant([row], tf.float32),
        output_shape=[height, width], fill_value=0.0, interpolation="BILINEAR",
        fill_mode="NEAREST").numpy()


def invariance(model, tensors, images, labels, kind, amounts):
    """How features follow a transformation of the image [fig. 5].

    tensors: of two layers. Returns (distances, probabilities): Euclidean distance of the feature
    vectors of original and transformed image, (layers, amounts, images), and probability of the
    true class, (amounts, images).
    """
    tensors = [*tensors, model.output]
    original = outputs(model, tensors, images)
    distances, probabilities = [], []
    for amount in amounts:
        moved = outputs(model, tensors, transform(images, kind, amount))
        distances.append([np.linalg.norm((a - b).reshape(len(images), -1), axis=1)
                          for a, b in zip(original[:-1], moved)])
        p = tf.nn.softmax(moved[-1]).numpy()
        probabilities.append(p[np.arange(len(images)), labels])
    return np.stack(distances, 1), np.stack(probabilities)


def sign_distance(differences):
    """Delta [section 4.3, table 1]: how differently images react to the loss of the same part.

    differences (n, features): features of the image minus those of the image with the part hidden.
    The Hamming distance of their signs, mean over pairs of images and features, 0 .. 1; lower means
    that the part means the same to the network in every image.
    """
    signs = np.sign(differences)
    pairs = list(itertools.combinations(range(len(signs)), 2))
    return float(np.mean([(signs[i] != signs[j]).mean() for i, j in pairs]))


def correspondence(model, tensors, images, parts, grey=0.0):
    """sign_distance of each layer for each part: (parts, layers).

    parts: list over parts of a list over images of (row slice, column slice), what is hidden.
    """
    original = outputs(model, tensors, images)
    table = []
    for part in parts:
        hidden = images.copy()
        for image, (rows, columns) in zip(hidden, part):
            image[rows, columns] = grey
        changed = outputs(model, tensors, hidden)
        table.append([sign_distance((a - b).reshape(len(images), -1))
                      for a, b in zip(original, changed)])
    return np.array(table)
