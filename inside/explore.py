"""Write one HTML page to explore a network with: images, maps, patches, a grey square, rows read.

What each unit shows is as in the toolbox of Yosinski et al. (arXiv 1506.06579). The page needs no
server and no network: all it shows is in it, as base64 of bytes.
"""
import base64
import html
import json
import pathlib

import numpy as np

import utils
from inside import units
from inside.reader import Reader, order_of_onset
from inside.scores import probabilities
from inside.units import LARGEST, share, signed

OPTIONS = {"count": "test images in the page, half of them mistakes as far as there are any"}
PAGE = pathlib.Path(__file__).with_suffix(".html")


def draw(record, count=100):
    """Write the page into the run's folder of figures; returns it as a file, not a figure."""
    network = record.network
    model, arrays = describe(network, count)
    model["arrays"] = {name: base64.b64encode(np.ascontiguousarray(x, np.uint8)).decode()
                       for name, x in arrays.items()}
    text = json.dumps(model, separators=(",", ":"))
    for sign in "<>&":  # no end of the script, whatever a class is called
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    page = PAGE.read_text(encoding="utf-8").replace("<title>Explore a network</title>",
                                    f"<title>{html.escape(record.name)}</title>")
    page = page.replace("{{model}}", text)
    if len(page.encode()) > LARGEST and count > 4:
        return draw(record, count // 2)
    return [("explore.html", page, {})]


def describe(network, count):
    """Return (facts for JSON, {name: uint8 array}) of a network and some test images."""
    data, p = network.data, probabilities(network)
    chosen = choose(p.argmax(1) == data.test_labels, count)
    images, shape = data.test_images[chosen], data.test_images.shape[1:]
    facts = dict(
        title=f"{network.name}: {network.model.name}", data=data.title, classes=data.classes,
        height=shape[0], width=shape[1], channels=shape[2],
        labels=data.test_labels[chosen].tolist(), predicted=p[chosen].argmax(1).tolist())
    arrays = {"images": images, "probability": share(p[chosen])}
    if network.layers:
        facts["layers"], room, most = [], units.KERNELS, units.most_maps(network)
        for layer in network.layers:
            maps = utils.evenly(network.stages[layer].shape[3], most)
            about, of_layer = units.describe_layer(network, layer, images, maps)
            kernels, of_kernels = units.describe_kernels(network, layer, maps, room)
            room -= sum(x.size for x in of_kernels.values())
            without = [x["without"] for x in (kernels, about) if "without" in x]
            facts["layers"].append(about | kernels | dict(without=without))
            arrays |= of_layer | of_kernels
        facts["grid"], facts["side"], arrays["occluded"] = units.hidden(network, images)
        facts["grey"] = round(float(data.train_images.mean()))
    else:
        reader = Reader(network)
        states = reader.states(images)[0]
        order = order_of_onset(reader.states(data.test_images[:1000])[0])
        when = np.where(reader.pixels.any(0), reader.pixels.argmax(0), -1)  # -1: never read
        facts |= dict(steps=states.shape[1], units=states.shape[2], what=reader.what,
                      when=when.ravel().tolist())
        arrays |= {"believed": share(reader.believed(states)),
                   "states": signed(states[..., order], max(1, np.abs(states).max()))}
    return facts, arrays


def choose(right, count):
    """Return indices of `count` images, half of them wrong as far as there are so many."""
    wrong, right = np.flatnonzero(~right), np.flatnonzero(right)
    few = min(len(wrong), max(count // 2, count - len(right)))
    return np.sort(np.r_[wrong[utils.evenly(len(wrong), few)] if few else wrong[:0],
                         right[utils.evenly(len(right), count - few)] if len(right) else right])
