"""What a figure of one network says in numbers: a table made of the arrays kept beside it (.npz).

The figures need a checkpoint, which is too large to keep; their arrays are not.
"""
import numpy as np

import runs
from comparisons import mean_and_deviation


def between(values, scale=1.0, digits=0):
    """"46 (24 .. 76)": mean, smallest and largest."""
    low, mean, high = (f"{scale * f(values):.{digits}f}" for f in (np.min, np.mean, np.max))
    return f"{mean} ({low} .. {high})"


def layers_of(numbers, end):
    """Names of the layers that have an array "layer/end"."""
    return [key.removesuffix(f"/{end}") for key in numbers if key.endswith(f"/{end}")]


def statistics(numbers):
    """How often a layer's maps are active, all and by class."""
    yield ("layer", "maps", "places active (%), of a map", "dead maps", "near-duplicate pairs",
           "most / least active class, median of maps", "largest of them", "least active class",
           "most active class")
    for layer in layers_of(numbers, "active"):
        *by_class, every = numbers[f"{layer}/active"]
        ratio = np.max(by_class, 0) / np.maximum(np.min(by_class, 0), 1e-12)
        order = np.array(numbers["classes"])[np.mean(by_class, 1).argsort()]
        yield (layer, len(every), between(every, 100), len(numbers[f"{layer}/dead"]),
               len(numbers[f"{layer}/near_duplicates"]), f"{np.median(ratio):.1f}",
               f"{ratio.max():.1f}", order[0], order[-1])


def diagnose(numbers):
    """Faults of the first layer's filters."""
    norms = numbers["norms"] / np.median(numbers["norms"])
    yield ("filters", "dead", "near-duplicate pairs", "smallest norm / median",
           "largest norm / median")
    yield (len(norms), len(numbers["dead"]), len(numbers["near_duplicates"]),
           f"{norms.min():.1f}", f"{norms.max():.1f}")


def evolution(numbers):
    """At which snapshots another image became a map's strongest."""
    seen = ", ".join(f"{step:,}" for step in numbers["steps"])
    yield "map", f"another image takes over at step, of {seen}"
    for m, images in zip(numbers["maps"], numbers["image"]):
        steps = numbers["steps"][1:][np.diff(images) != 0]
        yield m, ", ".join(f"{step:,}" for step in steps)


def invariance(numbers):
    """Distances of features, in units of that of two images; both directions together."""
    names = layers_of(numbers, "usual")
    yield ("image", *(f"{name}: distance / that of two images" for name in names),
           "probability of the true class")
    for kind, amounts, words in (
            ("shift", (1, 2, 3, 4, 10), "shifted up and down, {} px"),
            ("scale", (2 ** 0.1, 2 ** 0.5, 2.0), "larger and smaller, {:.2g} times"),
            ("rotation", (10, 20, 90, 180), "rotated both ways, by {} degrees")):
        at = numbers[f"{kind}/amounts"]
        size = np.exp(np.abs(np.log(at))) if kind == "scale" else np.abs(at)
        for amount in amounts:
            here = np.isclose(size, amount)
            yield (words.format(amount),
                   *(f"{d[here].mean() / numbers[f'{name}/usual']:.2f}"
                     for name, d in zip(names, numbers[f"{kind}/distances"])),
                   f"{numbers[f'{kind}/probability'][here].mean():.2f}")


def correspondence(numbers):
    """Delta of fixed and of random parts, mean and standard deviation over groups of images."""
    yield "layer", *(f"{parts} parts, images of {whose}" for whose in ("one class", "all classes")
                     for parts in ("fixed", "random"))
    for i, layer in enumerate(numbers["layers"]):
        cells = []
        for end in ("", ", mixed"):
            fixed = [values for key, values in numbers.items() if key != "layers"
                     and key.endswith(", mixed") == bool(end) and not key.startswith("random")]
            random = numbers["random" + end].reshape(len(fixed[0]), -1, len(numbers["layers"]))
            cells += [np.mean(fixed, 0)[:, i], random.mean(1)[:, i]]
        yield layer, *(mean_and_deviation(cell, 3) for cell in cells)


TABLES = {"statistics": statistics, "diagnose": diagnose, "evolution": evolution,
          "invariance": invariance, "correspondence": correspondence}


def tabulate(path):
    """The Markdown table of a figure's numbers; InputError if they are not of one of TABLES."""
    if path.suffix != ".npz" or path.stem not in TABLES:
        raise runs.InputError(f"{path}: findings are of {', '.join(f'{t}.npz' for t in TABLES)}")
    try:
        header, first, *more = TABLES[path.stem](runs.load_arrays(path))
    except (KeyError, ValueError, TypeError) as error:
        raise runs.InputError(f"{path} is not what visualize.py wrote: {runs.first_line(error)}"
                              ) from error
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, first, *more)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
