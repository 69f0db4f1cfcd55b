"""Show a recurrent network reading images step by step: what it believes, holds and remembers.

Memory as Jaeger, Short term memory in echo state networks, GMD report 152 (2001).
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.pictures import show
from inside.reader import Reader, hide_steps, measure, order_of_onset
from inside.trained import recognised_of_each_class, require_same_images

OPTIONS = {"count": "classes to show at most, an image of each"}


def draw(record, count=10):
    """Draw the reading of some images step by step, and the curves over all test images."""
    network, data = record.network, record.network.data
    chosen = recognised_of_each_class(network, count)
    labels = [data.classes[c] for c in data.test_labels[chosen]]
    curves = measure(network)
    of = network.of_all(chosen)
    return [("reading", *draw_reading(network, data.test_images[chosen], labels, of)),
            ("reading_curves", draw_curves({record.name: curves}, data), curves)]


def draw_reading(network, images, titles, of=""):
    """Draw what the last recurrent layer holds as it reads each of some uint8 images, and what
    hiding a row costs the answer; of: what the title says about their choice."""
    data, reader = network.data, Reader(network)
    states, gates = reader.states(images), reader.gates(images)
    order = order_of_onset(reader.states(data.test_images[:1000])[0])
    believed, classes = reader.believed(states[0]), np.array(data.classes)
    lost = hide_steps(reader, images, believed[:, -1].argmax(1))
    bounded = 1 if np.abs(states[0]).max() <= 1 else None  # as tanh makes it
    columns = [("hidden state h", states[0], bounded)] + [
        ("cell state c", c, None) for c in states[1:]]
    columns += [(name, x, 1) if name == "candidate" else (f"{name} gate", x, 0)
                for name, x in gates.items()]
    figure, axes = plt.subplots(len(images), 3 + len(columns), layout="constrained", squeeze=False,
                                figsize=(4.6 + 2.6 * (1 + len(columns)), 1.7 * len(images) + 1.2),
                                width_ratios=[0.9, 1.2, 0.9, *[2] * len(columns)])
    what = reader.what
    for i, row in enumerate(axes):
        picture = images[i].swapaxes(0, 1) if what == "column" else images[i]
        show(row[0], np.broadcast_to(picture / 255, (*picture.shape[:2], 3)), titles[i],
             aspect="equal" if what == "step" else "auto")
        row[int(what == "step")].set_ylabel(f"{what}, read from the top" if what != "step" else
                                       "step, the first at the top", fontsize=8)
        heat = [show(row[1], believed[i], "probability of each class" * (i == 0), aspect="auto",
                     cmap="Blues", vmin=0, vmax=1)]
        row[1].set_xticks(range(len(classes))[:20], classes[:20], fontsize=7)
        row[2].barh(range(lost.shape[1]), lost[i], height=1)
        row[2].set(ylim=(lost.shape[1] - 0.5, -0.5), yticks=[],
                   xlim=(min(0, lost.min()), max(0.05, lost.max())))
        row[2].set_title(f"hiding a {what}" * (i == 0), fontsize=9)
        row[2].tick_params(labelsize=7)
        for axis, (title, values, kind) in zip(row[3:], columns):
            limit = 1 if kind is not None else max(np.percentile(np.abs(values), 99), 1e-9)
            heat.append(show(axis, values[i][:, order], title * (i == 0), aspect="auto",
                             cmap="viridis" if kind == 0 else "RdBu_r",
                             vmin=0 if kind == 0 else -limit, vmax=limit))
            if i == len(axes) - 1:
                axis.set_xlabel("unit, by when it turns on", fontsize=8)
    axes[-1, 2].set_xlabel("probability lost\nof the answer", fontsize=8)
    for axis, image in zip(np.delete(axes[-1], (0, 2)), heat):
        figure.colorbar(image, ax=axis, orientation="horizontal", shrink=0.8)
    figure.suptitle(f"{network.name}: what the last recurrent layer holds after each {what} of an "
                    f"image{of}\n{data.title}")
    return figure, dict(images=images, probability=believed, lost=lost, order=order, **gates,
                        **dict(zip(("state", "cell"), states)))


def draw_together(records):
    """Draw the curves of several networks beside each other."""
    require_same_images(records)
    named = {record.name: measure(record.network) for record in records}
    return draw_curves(named, records[0].network.data), {
        f"{name}/{key}": x for name, own in named.items() for key, x in own.items()}


def draw_curves(named, data):
    """Draw {name: numbers of measure()}: accuracy after each row, hidden rows, memory."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    what, = found if len(found := {str(own["what"]) for own in named.values()}) == 1 else ("step",)
    for i, (name, own) in enumerate(named.items()):
        steps = np.arange(1, len(own["accuracy"]) + 1)
        axes[0].plot(steps, 100 * own["accuracy"], label=name)
        axes[1].plot(steps, own["hidden"])
        axes[2].plot(steps - 1, own["memory"], color=f"C{i}")
        if "memory_untrained" in own:
            axes[2].plot(steps - 1, own["memory_untrained"], color=f"C{i}", ls=":",
                         label="" if axes[2].get_legend_handles_labels()[0] else "before training")
    count = len(data.test_labels)
    few = max(own["hidden_images"] for own in named.values())
    axes[0].set(xlabel=f"{what}s read", ylabel="accuracy (%)", ylim=(0, 101),
                title=f"accuracy after so many {what}s,\n{count:,} test images")
    axes[1].set(xlabel=f"{what} that is hidden", ylabel="probability lost",
                title=f"what hiding one {what} costs the true class,\n{few:,} test images")
    axes[2].set(xlabel=f"{what}s read since", ylabel="R2 of a linear decoder", ylim=(-0.05, 1.02),
                title=f"how well the states give back\nwhat a {what} before read" if what == "step"
                else f"how well the states give back\na {what} read before")
    axes[0].legend()
    if axes[2].get_legend_handles_labels()[0]:
        axes[2].legend()
    figure.suptitle(f"{', '.join(named)}: reading {what} by {what}, and what is remembered\n"
                    f"{data.title}", fontsize=10)
    return figure


def table(numbers):
    """Yield accuracy and memory after some steps: "accuracy", "memory" and, if it is known,
    "memory_untrained" (steps,) of one network, or "<name>/accuracy" ... of several; of single
    images nothing."""
    names = [key.removesuffix("accuracy") for key in numbers if key.endswith("accuracy")]
    if not names:
        return
    steps = max(len(numbers[f"{name}accuracy"]) for name in names)
    chosen = [k for k in (1, 4, 7, 10, 14, 18, 21, 24, 28) if k <= steps]
    every = {str(numbers.get(f"{name}what", "row")) for name in names}
    what = every.pop() if len(every) == 1 else "step"
    yield f"{what}s", *chosen
    for name in names:
        of = name.rstrip("/") + ": " * bool(name)
        accuracy = numbers[f"{name}accuracy"]
        yield f"{of}accuracy after so many (%)", *(
            f"{100 * accuracy[k - 1]:.1f}" if k <= len(accuracy) else "" for k in chosen)
        for key, title in (("memory", f"R2 of a {what} read so many before"),
                           ("memory_untrained", "the same before training")):
            if name + key in numbers:
                values = numbers[name + key]
                yield of + title, *(f"{values[k]:.2f}" if k < len(values) and np.isfinite(
                    values[k]) else "" for k in chosen)
