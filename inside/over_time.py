"""Show the norms of a recurrent net's state and gradient at each time step."""
import matplotlib.pyplot as plt
import numpy as np

from training.events import read_events

LABELS = {"state": "norm of the hidden state h", "gradient": "norm of the gradient d loss / d h",
          "memory": "norm of the cell state c",
          "memory_gradient": "norm of the gradient d loss / d c"}
OPTIONS = {"alike": "folders of other runs, to share the scale with"}


def draw(record, alike=()):
    """Draw the norms of hidden state (and an LSTM's cell state) and gradient at each time step, at
    each evaluation."""
    record.series("over_time/state")
    series, others = record.events, [read_events(folder) for folder in alike]
    labels = LABELS
    kinds = [kind for kind in labels if ("train", f"over_time/{kind}") in series]
    figure, axes = plt.subplots(len(kinds) // 2, 2, figsize=(11, 2 * len(kinds)), squeeze=False,
                                layout="constrained")
    numbers = {}
    for axis, kind in zip(axes.flat, kinds):
        updates, _, norms = series["train", f"over_time/{kind}"]
        numbers |= {"updates": updates, kind: np.stack(norms)}
        axis.plot(range(1, len(norms[0]) + 1), norms[0], "k--", label="before training", zorder=3)
        for i, norm in enumerate(norms[1:], 1):
            axis.plot(range(1, len(norm) + 1), norm,
                      color=plt.cm.viridis(i / max(1, len(norms) - 1)))
        axis.legend()
        same = [("train", f"over_time/{other}") for other in labels
                 if other.endswith("gradient") == kind.endswith("gradient")]
        values = np.concatenate([np.ravel(one[tag][2]) for one in (series, *others)
                                 for tag in same if tag in one])
        values = values[values > 0]
        axis.set(xlabel="time step", ylabel="mean over 100 images", title=labels[kind],
                 yscale="log", ylim=(values.min() / 1.5, values.max() * 1.5))
    scale = plt.Normalize(updates[0], updates[-1])
    figure.colorbar(plt.cm.ScalarMappable(scale, "viridis"), ax=axes, label="step")
    figure.suptitle(f"{record.name}: norms over time, from the first step to the last")
    return figure, numbers
