"""Show what the last layer sees of test images in TensorBoard's projector.

Smilkov et al., Embedding projector: interactive visualization and interpretation of embeddings
(arXiv 1611.05469).
"""
import math

import numpy as np
from PIL import Image
from tensorboard.plugins import projector

import utils
from inside.pictures import tiles
from inside.trained import outputs
from system.command_line import NotDrawn
from system.files import atomic_file
from training import graph

OPTIONS = {"count": "how many test images"}


def draw(record, count=1000):
    """Write features, labels and thumbnails of test images into a run, where TensorBoard looks."""
    network = record.network
    if record.is_keras:
        raise NotDrawn("TensorBoard's projector shows runs only")
    data, total = network.data, len(network.data.test_labels)
    chosen = utils.evenly(total, count)  # they may lie class by class
    images = data.test_images[chosen]
    last = graph.node_of(network.model, network.model.output)
    features, = outputs(network.model, last.input_tensors[:1], images, network.inputs)
    features = features.reshape(len(features), -1)
    part = network.folder / "result"  # the projector looks where event files are
    folder = part / "projector"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "features.bytes") as stream:
        stream.write(np.float32(features).tobytes())
    with atomic_file(folder / "labels.tsv") as stream:
        stream.write("".join(f"{' '.join(data.classes[k].split())}\n"
                             for k in data.test_labels[chosen]).encode())
    sheet = tiles(images, math.ceil(math.sqrt(len(images))), 255)
    with atomic_file(folder / "images.png") as stream:
        Image.fromarray(sheet[..., 0] if images.shape[3] == 1 else sheet).save(stream, "PNG")
    config = projector.ProjectorConfig()
    shown = config.embeddings.add(
        tensor_name="features of test images", tensor_path="projector/features.bytes",
        tensor_shape=features.shape, metadata_path="projector/labels.tsv")
    shown.sprite.image_path = "projector/images.png"
    shown.sprite.single_image_dim.extend([images.shape[2], images.shape[1]])  # width, height
    projector.visualize_embeddings(str(part), config)
    print(f"wrote {folder}, shown in TensorBoard's Projector")
    return []
