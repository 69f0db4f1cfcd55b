"""PyTorch: eager or by torch.compile, channels_last, fused Adam; bfloat16 by autocast."""
import torch
import torch.nn.functional as fun
from torch import nn

from peers import CHUNK, RATE


class LeNet5(nn.Module):
    def __init__(self, case, weights):
        super().__init__()
        height, width, channels = case.shape
        self.act = nn.LeakyReLU(0.1) if case.norm else nn.ReLU()
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2, bias=not case.norm)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2, bias=not case.norm)
        self.norm1, self.norm2 = (nn.BatchNorm2d(n, 1e-3) if case.norm else nn.Identity()
                                  for n in (32, 64))
        self.hidden = nn.Linear(height // 4 * (width // 4) * 64, 1024)
        self.drop, self.logits = nn.Dropout(0.5), nn.Linear(1024, 10)
        with torch.no_grad():
            for layer, norm, kernel, bias in ((self.conv1, self.norm1, *weights[:2]),
                                              (self.conv2, self.norm2, *weights[2:4])):
                layer.weight.copy_(kernel.permute(3, 2, 0, 1))
                (norm if case.norm else layer).bias.copy_(bias)
                if case.norm:
                    norm.weight.requires_grad_(False)
            flat = weights[4].reshape(height // 4, width // 4, 64, 1024).permute(3, 2, 0, 1)
            self.hidden.weight.copy_(flat.flatten(1))
            self.logits.weight.copy_(weights[6].T)
            self.hidden.bias.copy_(weights[5])
            self.logits.bias.copy_(weights[7])

    def forward(self, x):
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = fun.max_pool2d(self.act(norm(conv(x))), 2)
        return self.logits(self.drop(self.act(self.hidden(x.flatten(1)))))


class Recurrent(nn.Module):
    def __init__(self, case, weights):
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[case.network]
        self.layer = kind(case.shape[1] * case.shape[2], case.units, batch_first=True)
        self.drop, self.logits = nn.Identity(), nn.Linear(case.units, 10)
        W, U, b, head, bias = weights

        def order(w):  # Keras has the update gate first, PyTorch the reset gate
            if case.network != "gru":
                return w
            z, r, n = w.split(case.units, dim=-1)
            return torch.cat([r, z, n], -1)
        both = order(b) if case.network == "gru" else torch.stack([b, torch.zeros_like(b)])
        with torch.no_grad():
            for name, value in (("weight_ih_l0", order(W).T), ("weight_hh_l0", order(U).T),
                                ("bias_ih_l0", both[0]), ("bias_hh_l0", both[1])):
                getattr(self.layer, name).copy_(value)
            self.logits.weight.copy_(head.T)
            self.logits.bias.copy_(bias)

    def forward(self, x):
        return self.logits(self.layer(x)[0][:, -1])


def build(case, compiled=False):
    images, labels = case.images()
    images, labels = torch.tensor(images).float() / 255, torch.tensor(labels).long()
    weights = [torch.tensor(w) for w in case.weights()]
    if case.network == "lenet5":
        model = LeNet5(case, weights).to(memory_format=torch.channels_last)
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    else:
        model = Recurrent(case, weights)
        images = images.reshape(case.count, case.shape[0], -1)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], RATE,
                                 fused=True)
    low = case.precision == "bfloat16"

    def step_loss(chosen):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = run(images[chosen])
        return fun.cross_entropy(logits.float(), labels[chosen])

    def loss():
        drop, model.drop = model.drop, nn.Identity()
        value = step_loss(torch.arange(case.batch)).item()
        model.drop = drop
        return value

    def train(steps):
        order = torch.randint(case.count, (steps, case.batch))
        for chosen in order:
            optimizer.zero_grad(set_to_none=True)
            step_loss(chosen).backward()
            optimizer.step()

    def predict():
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = torch.cat([run(part) for part in images.split(CHUNK)])
        model.train()
        return logits
    return loss, train, predict
