"""Show the norms of a recurrent network's state and gradient at each time step.

The norm whose vanishing Bengio, Simard & Frasconi (1994) and Pascanu, Mikolov & Bengio, On the
difficulty of training recurrent neural networks (arXiv 1211.5063), explain.
"""
import matplotlib.pyplot as plt
import numpy as np

import utils

ROWS = "norm of the state", "norm of the gradient of the loss\n(nats) with respect to it"
KINDS = (("h", "-", ("state", "gradient")), ("c", ":", ("memory", "memory_gradient")))
CURVES = 7  # of the evaluations after the first, evenly chosen, so that one can tell them apart


def draw(record):
    """Draw the norms of hidden state (and an LSTM's cell state) and gradient at each time step."""
    return draw_together([record])


def draw_together(records):
    """Draw the norms of several runs beside each other, on one scale."""
    for record in records:
        record.series("over_time/state")
    return side_by_side({record.name: record.events for record in records})


def side_by_side(runs, data=""):
    """Return (figure, {run/kind: (evaluations, time steps)}) of {run: its events}: a column for
    each run, the norms of its states above those of the gradients, in the course of training."""
    figure, axes = plt.subplots(2, len(runs), figsize=(1.2 + max(5, 3.3 * len(runs)), 5.6),
                                sharex=True, sharey="row", squeeze=False, layout="constrained")
    numbers = {}
    for (name, events), column in zip(runs.items(), axes.T):
        for letter, line, kinds in KINDS:
            for axis, kind in zip(column, kinds):
                if ("train", f"over_time/{kind}") in events:
                    steps, _, norms = events["train", f"over_time/{kind}"]
                    numbers |= {f"{name}/steps": steps, f"{name}/{kind}": np.stack(norms)}
                    draw_norms(axis, np.stack(norms), letter, line)
        column[0].set_title(name)
        column[1].legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        column[1].set_xlabel("time step")
    for axis, label in zip(axes[:, 0], ROWS):
        axis.set(yscale="log", ylabel=label)
        axis.yaxis.set_major_formatter("{x:g}")
    figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, 100), "viridis"), ax=axes, aspect=40,
                    label="training done (%)")
    cell = " and cell state c" * any(key.endswith("/memory") for key in numbers)
    blank = " that are not blank there" * any(np.isnan(norms).any() for norms in numbers.values())
    figure.suptitle(f"Hidden state h{cell} at each time step, mean over 100 training images{blank}"
                    f"{data and chr(10)}{data}", fontsize=10)
    return figure, numbers


def draw_norms(axis, norms, letter, line):
    """Draw norms (evaluations, time steps): the first black, some of the others in colour."""
    time, last = range(1, norms.shape[1] + 1), len(norms) - 1
    axis.plot(time, norms[0], line, color="black", lw=2, label=f"{letter} before training")
    for i in 1 + utils.evenly(last, CURVES):
        axis.plot(time, norms[i], line, color=plt.cm.viridis(i / last),
                  label=f"{letter} at the end" if i == last else None)
