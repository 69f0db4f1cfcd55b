"""Show what a network makes of your own pictures: classes, projections, what it depends on.

By the deconvnet and the grey square of Zeiler & Fergus, Visualizing and understanding convolutional
networks (arXiv 1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from inside.deconvnet import one_unit, project
from inside.occlusion import occlusion
from inside.pictures import as_grey, as_signed, meaning_of_colours, show
from inside.reading import draw_reading
from inside.trained import outputs, read_pictures
from system.command_line import NotDrawn

TAKES = "RUN FILE..."


def draw(record, pictures=()):
    """Draw each picture as the network sees it, with what it answers; a list of figures."""
    network, drawn = record.network, []
    images = read_pictures(network, pictures)
    for file, image in zip(pictures, images):
        one = image[None]
        logits, = outputs(network.model, [network.model.output], one, network.inputs)
        p = tf.nn.softmax(logits).numpy()[0]
        if network.layers:
            figure, numbers = draw_maps(network, file, one, p)
        else:
            best = network.data.classes[p.argmax()]
            figure, numbers = draw_reading(network, one, [f"{file.name}: {best}, {p.max():.2f}"])
        name = f"picture_{file.stem}"
        while name in [other for other, *_ in drawn]:
            name += "_"
        drawn.append((name, figure, numbers | {"classes": np.array(network.data.classes),
                                               "probabilities": p}))
    return drawn


def draw_maps(network, file, image, p):
    """Draw a picture, its classes, the projection of each layer's strongest unit, an occlusion map.
    """
    inputs, classes, best = network.inputs(image), network.data.classes, int(p.argmax())
    figure, axes = plt.subplots(1, 3 + len(network.layers), layout="constrained",
                                figsize=(2.9 * (3 + len(network.layers)), 3.1))
    show(axes[0], as_grey(inputs[0]), f"{file.name}, fitted,\nits contrast stretched")
    top = np.argsort(-p)[:10][::-1]
    axes[1].barh(range(len(top)), p[top])
    axes[1].set(yticks=range(len(top)), yticklabels=[classes[c] for c in top], xlim=(0, 1),
                xlabel="probability", title=f"{classes[best]}: {p[best]:.2f}")
    numbers = {}
    values = outputs(network.model, [network.stages[name] for name in network.layers], inputs)
    for axis, layer, x in zip(axes[2:-1], network.layers, values):
        row, column, feature_map = np.unravel_index(x[0].argmax(), x.shape[1:])
        try:
            pixels = project(network.model, layer, inputs, one_unit(x, row, column, feature_map))[0]
        except NotDrawn as error:
            show(axis, np.ones((1, 1, 3)), str(error))
            continue
        show(axis, as_signed(pixels), f"{layer}: projection of the strongest\nunit, of map "
             f"{feature_map} ({meaning_of_colours(inputs.shape[3])})")
        numbers[f"{layer}/projection"] = pixels
    side = max(1, round(min(image.shape[1:3]) * 2 / 7))
    hidden = occlusion(network.model, network.layers[-1], inputs, [best], side,
                       -(-min(image.shape[1:3]) // 32), network.grey)["probability"][0]
    figure.colorbar(show(axes[-1], hidden, f"probability of {classes[best]} with a\n{side}x{side} "
                         "grey square centred here", vmin=0, vmax=1), ax=axes[-1], shrink=0.8)
    figure.suptitle(f"{network.name}; {network.data.title}", fontsize=9)
    return figure, numbers | {"occlusion": hidden}
