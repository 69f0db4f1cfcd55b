"""Speed of occlusion maps and deconvnet projections: this project and captum, results compared.

    pip install -r benchmarks/requirements.txt && python benchmarks/inside_speed.py

Both see the same LeNet-5 (random weights), the same images, and draw the same maps: occlusion of
ten images by an 8x8 square at stride 1, and the projections of 864 units. Each way in a process of
its own, in turn; median of seconds and of the ratio, with the smallest and the largest.

tf-keras-vis has neither: its methods are activation maximization, class activation maps and
saliency maps (https://pypi.org/project/tf-keras-vis/).
"""
import argparse
import json
import pathlib
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from throughput import arguments, in_process, print_tables, spread

SIDE = 8


def inputs():
    """Return ten images, 864 images for projections, and weights, the same in every process."""
    rng = np.random.default_rng(0)
    def normal(*shape, scale):
        return rng.normal(0, scale, shape).astype(np.float32)
    weights = [normal(5, 5, 1, 32, scale=0.2), normal(32, scale=0.1),
               normal(5, 5, 32, 64, scale=0.05), normal(64, scale=0.1),
               normal(3136, 1024, scale=0.02), normal(1024, scale=0.1),
               normal(1024, 10, scale=0.05), normal(10, scale=0.1)]
    return normal(10, 28, 28, 1, scale=1), normal(864, 28, 28, 1, scale=1), weights


def ours():
    """Return {"occlusion": seconds, "deconvolution": seconds} and the results of this project."""
    import cifar_lenet5
    from inside import occlusion as hiding
    from inside.deconvnet import one_unit, project
    images, many, weights = inputs()
    model = cifar_lenet5.build_model((28, 28, 1), 10, cifar_lenet5.Config())
    model.set_weights(weights)

    def occlusion():
        result = hiding.occlusion(model, "relu2", images, np.zeros(10, int), SIDE)
        # where the square lies inside, as captum's does
        return result["probability"][:, 3:-4, 3:-4]

    def deconvolution():
        maps = np.arange(len(many)) % 64
        return project(model, "relu2", many, lambda a: one_unit(a, 3, 3, maps))
    return occlusion, deconvolution


def lenet5_in_torch(weights):
    """Return LeNet-5 as a PyTorch module, with these weights."""
    import torch
    w = [torch.tensor(x) for x in weights]

    class LeNet5(torch.nn.Module):
        def __init__(self):
            super().__init__()
            nn = torch.nn
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
            self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
            self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
            self.hidden, self.logits = nn.Linear(3136, 1024), nn.Linear(1024, 10)

        def features(self, x):
            x = self.relu1(self.pool1(self.conv1(x)))
            return self.relu2(self.pool2(self.conv2(x)))

        def forward(self, x):
            x = self.features(x).permute(0, 2, 3, 1).flatten(1)
            return self.logits(self.relu3(self.hidden(x)))

    net = LeNet5().eval()
    with torch.no_grad():
        for layer, kernel, bias in ((net.conv1, w[0], w[1]), (net.conv2, w[2], w[3])):
            layer.weight.copy_(kernel.permute(3, 2, 0, 1))
            layer.bias.copy_(bias)
        for layer, kernel, bias in ((net.hidden, w[4], w[5]), (net.logits, w[6], w[7])):
            layer.weight.copy_(kernel.T)
            layer.bias.copy_(bias)
    return net


def captum():
    """Do the same with captum: Occlusion and Deconvolution."""
    import torch
    from captum.attr import Deconvolution, Occlusion
    images, many, weights = inputs()
    net = lenet5_in_torch(weights)

    class Unit(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net.features(x)

    def occlusion():
        x = torch.tensor(images).permute(0, 3, 1, 2)
        with torch.no_grad():
            whole = torch.softmax(net(x), 1)[:, 0]
            lost = Occlusion(lambda x: torch.softmax(net(x), 1)[:, 0]).attribute(
                x, sliding_window_shapes=(1, SIDE, SIDE), strides=1, perturbations_per_eval=256)
        return whole.numpy(), lost.numpy()[:, 0]

    def deconvolution():
        x = torch.tensor(many).permute(0, 3, 1, 2).requires_grad_()
        pixels = []
        method = Deconvolution(Unit())
        for k in range(64):  # one call for all units is three times as slow
            chosen = x[k::64]
            pixels.append(method.attribute(chosen, target=(k, 3, 3)).detach().numpy())
        result = np.empty((len(many), 28, 28), np.float32)
        for k in range(64):
            result[k::64] = pixels[k][:, 0]
        return result
    return occlusion, deconvolution


def measure(way, results):
    """Time the second of two calls of each function (s); the results go to an .npz file."""
    seconds, saved = {}, {}
    for name, function in zip(("occlusion", "deconvolution"), globals()[way]()):
        function()
        start = time.perf_counter()
        value = function()
        seconds[name] = time.perf_counter() - start
        for i, array in enumerate(value if isinstance(value, tuple) else (value,)):
            saved[f"{name}{i}"] = array
    np.savez(results, **saved)
    return seconds


def same(mine, theirs):
    """Return the largest differences of the results, relative to the largest value.

    captum's Occlusion gives per pixel the loss of probability averaged over the squares that hide
    it; the same is made of our map of probabilities. Its Deconvolution is our projection for a unit
    activation: it seeds 1, we the activation, and it goes on where a unit is off.
    """
    whole, lost = theirs["occlusion0"], theirs["occlusion1"]
    drop = whole[:, None, None] - mine["occlusion0"]
    total, count = np.zeros_like(lost), np.zeros_like(lost)
    for i in range(drop.shape[1]):
        for j in range(drop.shape[2]):
            total[:, i:i + SIDE, j:j + SIDE] += drop[:, i:i + 1, j:j + 1]
            count[:, i:i + SIDE, j:j + SIDE] += 1
    occlusion = np.abs(total / count - lost).max() / np.abs(lost).max()
    ours, other = mine["deconvolution0"][..., 0], theirs["deconvolution0"]
    active = np.abs(ours).max((1, 2)) > 0
    scaled = [x / np.abs(x).max((1, 2), keepdims=True) for x in (ours[active], other[active])]
    return {"occlusion": float(occlusion),
            "deconvolution": float(np.abs(scaled[0] - scaled[1]).max())}


def summarize(found):
    """Return the table of {"rounds": [{way: measure(way)}], "difference": same(...)}."""
    table = [f"{len(found['rounds'])} rounds\n", "| what | ours, s | captum, s | captum / ours | "
             "largest relative difference |", "|---|---|---|---|---|"]
    for name, words in (("occlusion", "occlusion maps of 10 images, stride 1"),
                        ("deconvolution", "deconvnet projections of 864 units")):
        mine, theirs = ([r[way][name] for r in found["rounds"]] for way in ("ours", "captum"))
        table.append(f"| {words} | {spread(mine)} | {spread(theirs)} | "
                     f"{spread([b / a for a, b in zip(mine, theirs)])} | "
                     f"{found['difference'][name]:.1g} |")
    return "\n".join(table)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    if options.read:
        print_tables(parser, lambda: summarize(options.read))
        return
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        files = {way: f"{folder}/{way}.npz" for way in ("ours", "captum")}
        for _ in range(options.rounds):
            rounds.append({way: in_process(__file__, way, file)
                           for way, file in files.items()})
        difference = same(*(np.load(file) for file in files.values()))
    found = {"rounds": rounds, "difference": difference}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(summarize(found))


if __name__ == "__main__":
    main()
