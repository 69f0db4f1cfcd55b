"""What a figure of one network says in numbers: a table made of the arrays kept beside it (.npz).

The figures need a checkpoint, which is too large to keep; these arrays are not. Each function takes
the {name: array} that the figure's draw_... of portraits.py returns, and yields the table's cells,
heading first.
"""
import numpy as np

import runs
from comparisons import mean_and_deviation


def layers_of(numbers, end):
    """Names of the layers that have an array "layer/end", in the figure's order."""
    return [key.removesuffix(f"/{end}") for key in numbers if key.endswith(f"/{end}")]


def statistics(numbers):
    """How often a layer's maps are active, in all images and by class; "layer/active" (classes + 1,
    maps) is the share of places, the last row of all images. Dead maps are in no ratio."""
    yield ("layer", "maps", "places active (%): mean of the maps (smallest .. largest)",
           "dead maps", "near-duplicate pairs",
           "most active class / least active: median of the maps", "largest",
           "least active class", "most active class")
    for layer in layers_of(numbers, "active"):
        active = 100 * numbers[f"{layer}/active"]
        *by_class, every = active
        least, most = np.min(by_class, 0), np.max(by_class, 0)
        ratio = np.divide(most, least, out=np.full(len(every), np.inf), where=least > 0)[most > 0]
        order = numbers["classes"][np.mean(by_class, 1).argsort()]
        yield (layer, len(every), f"{every.mean():.0f} ({every.min():.0f} .. {every.max():.0f})",
               len(numbers[f"{layer}/dead"]), len(numbers[f"{layer}/near_duplicates"]),
               f"{np.median(ratio):.1f}", f"{ratio.max():.1f}", order[0], order[-1])


def diagnose(numbers):
    """Faults of the first layer's filters, "norms" (filters,), and of dense layers, if any."""
    norms = numbers["norms"] / np.median(numbers["norms"])
    units, unused = numbers.get("dense_units", ()), numbers.get("dense_unused", np.zeros((0, 0)))
    yield ("filters", "dead", "near-duplicate pairs", "smallest norm / median",
           "largest norm / median", *["dense units positive on no test image"] * len(units))
    yield (len(norms), len(numbers["dead"]), len(numbers["near_duplicates"]),
           f"{norms.min():.1f}", f"{norms.max():.1f}", *(
               f"{now[-1]:,} of {count:,}; at most {now.max():,}, at step "
               f"{numbers['steps'][now.argmax()]:,}" for now, count in zip(unused.T, units)))


def evolution(numbers):
    """Which training image is each map's strongest: "image" (maps, snapshots)."""
    yield "strongest image of", *(f"step {step:,}" for step in numbers["steps"])
    for m, images in zip(numbers["maps"], numbers["image"]):
        yield f"map {m}", *images


def invariance(numbers):
    """Distances of features, in units of that of two images; mean over images and directions.

    "kind/amounts" (amounts,), "kind/distances" (2 layers, amounts, images), "kind/probability"
    (amounts, images), "layer/usual".
    """
    names = layers_of(numbers, "usual")
    yield ("image", *(f"{name}: distance / that of two images" for name in names),
           "probability of the true class")
    for kind, amounts, words in (
            ("shift", (1, 2, 3, 4, 10), "shifted up and down, {} px"),
            ("scale", (2 ** 0.1, 2 ** 0.5, 2.0), "larger and smaller, {:.3g} times"),
            ("rotation", (10, 20, 90, 180), "rotated both ways, by {} degrees")):
        at = numbers[f"{kind}/amounts"]
        size = np.exp(np.abs(np.log(at))) if kind == "scale" else np.abs(at)
        for amount in amounts:
            here = np.flatnonzero(np.isclose(size, amount))
            if not len(here):
                raise LookupError(f"{kind} by {amount} is not there")
            yield (words.format(amount),
                   *(f"{d[here].mean() / numbers[f'{name}/usual']:.2f}"
                     for name, d in zip(names, numbers[f"{kind}/distances"], strict=True)),
                   f"{numbers[f'{kind}/probability'][here].mean():.2f}")


def occlusion(numbers):
    """At how many places of the square another class is the most probable: "predicted" (images,
    rows, columns)."""
    places = numbers["predicted"][0].size
    yield ("class of the image", "its probability, nothing hidden",
           f"another class the most probable, of {places:,} places of the square")
    for label, whole, predicted in zip(numbers["labels"], numbers["untouched"],
                                       numbers["predicted"]):
        yield numbers["classes"][label], f"{whole:.2f}", (predicted != label).sum()


def correspondence(numbers):
    """Delta of fixed and of random parts, mean and standard deviation over groups of images:
    "part" and "part, mixed" (groups, layers)."""
    yield "layer", *(f"{parts} parts, images of {whose}" for whose in ("one class", "all classes")
                     for parts in ("fixed", "random"))
    cells = []  # (groups, layers) each
    for mixed in (False, True):
        own = {part: deltas for part, deltas in numbers.items() if part != "layers"
               and part.endswith(", mixed") == mixed}
        random = own.pop("random, mixed" if mixed else "random")
        cells += [np.stack([*own.values()]).mean(0), random]
    for i, layer in enumerate(numbers["layers"]):
        yield layer, *(mean_and_deviation(deltas[:, i], 3) for deltas in cells)


TABLES = {"statistics": statistics, "diagnose": diagnose, "evolution": evolution,
          "invariance": invariance, "occlusion": occlusion, "correspondence": correspondence}


def tabulate(path):
    """The Markdown table of a figure's numbers; InputError if they are not of one of TABLES."""
    if path.suffix != ".npz" or path.stem not in TABLES:
        raise runs.InputError(f"{path}: findings are of {', '.join(f'{t}.npz' for t in TABLES)}")
    numbers = runs.load_arrays(path)
    try:
        with np.errstate(all="raise"):
            header, first, *more = TABLES[path.stem](numbers)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise runs.InputError(f"{path} has not the arrays of this figure; draw it again "
                              f"({type(error).__name__}: {runs.first_line(error)})") from error
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, first, *more)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
