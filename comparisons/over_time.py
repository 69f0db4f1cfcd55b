"""Draw the norms of recurrent nets' states and gradients at each time step, all on one scale."""
import matplotlib.pyplot as plt
import numpy as np

from comparisons.measures import series_of
from inside.over_time import LABELS
from system.command_line import NotDrawn


def make(rows):
    """Return (figure, {run/kind: (steps, time steps)}): state and gradient of one seed beside each
    other, a row for each kind of state of each run."""
    lines = []  # (name, steps, norms of a state, norms of its gradient) and their labels
    for row in rows:
        series = series_of(row)
        for kind, gradient in (("state", "gradient"), ("memory", "memory_gradient")):
            if ("train", f"over_time/{kind}") in series:
                lines.append((row["configuration"], row["seed"], [
                    (name, series["train", f"over_time/{name}"]) for name in (kind, gradient)]))
    if not lines:
        raise NotDrawn("none of these runs recorded its norms over time")
    figure, axes = plt.subplots(len(lines), 2, figsize=(11, 3.2 * len(lines)), sharex=True,
                                sharey="col", squeeze=False, layout="constrained")
    numbers = {}
    for (name, seed, pair), beside in zip(lines, axes):
        for (kind, (steps, _, norms)), axis in zip(pair, beside):
            numbers |= {f"{name}/steps": steps, f"{name}/{kind}": np.stack(norms)}
            at = range(1, len(norms[0]) + 1)
            axis.plot(at, norms[0], "k--", label="before training", zorder=3)
            for i, norm in enumerate(norms[1:], 1):
                axis.plot(at, norm, color=plt.cm.viridis(i / max(1, len(norms) - 1)))
            axis.set(title=f"{name}, seed {seed}: {LABELS[kind]}", yscale="log",
                     ylabel="mean over 100 images")
        scale = plt.cm.ScalarMappable(plt.Normalize(steps[0], steps[-1]), "viridis")
        figure.colorbar(scale, ax=beside[1], label="step")
        beside[0].legend()
    for axis in axes[-1]:
        axis.set_xlabel("time step")
    return figure, numbers
