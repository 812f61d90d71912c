"""Six networks that people train, in PyTorch, for `lockstep bench models` to run beside ours (src/bench/networks.ts has the same).

Adam, synthetic data, f32, no tricks that a reader of PyTorch's tutorials would not know. Convolutional networks run in the memory format
that is faster for them. Prints one JSON line. Run it twice, with the default malloc and with MALLOC_MMAP_MAX_=0
MALLOC_TRIM_THRESHOLD_=17179869184; the better one counts.
"""

import argparse
import json

import torch
from stopwatch import set_up, settings, time_steps
from torch import nn


def pattern(*shape):
    """Numbers in 0..1 that both sides know: ours are channels last."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7919) % 1009 / 1009).reshape(shape)


def pictures(batch, side):
    return pattern(batch, side, side, 3).permute(0, 3, 1, 2)


def classes(batch):
    return torch.arange(batch) % 10


def mlp():
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    return model, nn.CrossEntropyLoss(), pattern(128, 784), classes(128)


def cnn():
    layers = []
    cin = 3
    for cout in (32, 64, 128):
        layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(), nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        cin = cout
    model = nn.Sequential(*layers, ChannelsLastFlatten(), nn.Linear(4 * 4 * 128, 128), nn.ReLU(), nn.Linear(128, 10))
    return model, nn.CrossEntropyLoss(), pictures(64, 32), classes(64)


class ChannelsLastFlatten(nn.Module):
    """No copy where memory is channels last; the dense layer sees its inputs in TensorFlow's order."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 128, batch_first=True)
        # Two biases are added up; as in Keras one of them is learned.
        nn.init.zeros_(self.lstm.bias_hh_l0).requires_grad_(False)
        self.dense = nn.Linear(128, 10)

    def forward(self, x):
        return self.dense(self.lstm(x)[0][:, -1])


def lstm():
    return Lstm(), nn.CrossEntropyLoss(), pattern(64, 32, 64), classes(64)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(256, 128)
        self.positions = nn.Parameter(torch.randn(64, 128) * 0.02)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.dense = nn.Linear(128, 256)

    def forward(self, ids):
        return self.dense(self.encoder(self.embedding(ids) + self.positions)).flatten(0, 1)


def transformer():
    ids = (torch.arange(16 * 64) * 31) % 256
    return Transformer(), nn.CrossEntropyLoss(), ids.reshape(16, 64), (ids * 7) % 256


def normalized(convolution):
    return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True)]


def mobilenet():
    layers = normalized(nn.Conv2d(3, 32, 3, 2, 1, bias=False))
    cin = 32
    for cout, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers += normalized(nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False))
        layers += normalized(nn.Conv2d(cin, cout, 1, bias=False))
        cin = cout
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 10))
    return model, nn.CrossEntropyLoss(), pictures(16, 97), classes(16)


def twice(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([twice(3, 16), twice(16, 32)])
        self.pool = nn.MaxPool2d(2)
        self.bottom = twice(32, 64)
        self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), twice(64, 32), nn.ConvTranspose2d(32, 16, 2, 2), twice(32, 16)])
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](self.pool(first))
        x = self.bottom(self.pool(second))
        x = self.up[1](torch.cat([second, self.up[0](x)], 1))
        x = self.up[3](torch.cat([first, self.up[2](x)], 1))
        return self.out(x)


def unet():
    masks = (torch.arange(8 * 64 * 64) % 3 == 0).float()
    return UNet(), nn.BCEWithLogitsLoss(), pictures(8, 64), masks.reshape(8, 1, 64, 64)


NETWORKS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "transformer": transformer, "mobilenet": mobilenet, "unet": unet}
CHANNELS_LAST = {"cnn", "mobilenet"}


def trained(model):
    """Parameters that are learned, each with how it lies in TensorFlow.js: the shape there, and the way from its axes to PyTorch's."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            order = list(range(parameter.dim()))
            if isinstance(module, nn.ConvTranspose2d) and parameter.dim() == 4:
                order = [3, 2, 0, 1]
            elif isinstance(module, nn.Conv2d) and parameter.dim() == 4:
                order = [2, 3, 0, 1] if module.groups > 1 else [3, 2, 0, 1]
            elif isinstance(module, (nn.Linear, nn.LSTM, nn.MultiheadAttention)) and parameter.dim() == 2:
                order = [1, 0]
            shape = [0] * len(order)
            for axis, there in enumerate(order):
                shape[there] = parameter.shape[axis]
            yield parameter, shape, order


def load(model, file):
    """Weights of ours, f32 one after another, each in TensorFlow.js' order of axes."""
    weights = torch.from_file(file, size=sum(p.numel() for p, _, _ in trained(model)))
    at = 0
    with torch.no_grad():
        for parameter, shape, order in trained(model):
            values = weights[at : at + parameter.numel()].reshape(shape).permute(order)
            parameter.copy_(values)
            at += parameter.numel()


def training(network, weights=None, memory_format=""):
    """A step of the network, its examples and its parameters. `weights` is a file of ours; without it they are PyTorch's own."""
    model, criterion, inputs, targets = NETWORKS[network]()
    if weights:
        load(model, weights)
    if (memory_format or ("channels_last" if network in CHANNELS_LAST else "contiguous")) == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    else:
        inputs = inputs.contiguous()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, len(inputs), sum(parameter.numel() for parameter, _, _ in trained(model))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument("--weights")
    parser.add_argument("--memory_format", default="", choices=["", "contiguous", "channels_last"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    args = parser.parse_args()
    set_up(args.threads)
    if args.network is None:
        print(json.dumps(settings()))
        return
    step, examples, parameters = training(args.network, args.weights, args.memory_format)
    timed = time_steps(step, examples, args.warmup, args.steps)
    print(json.dumps({**settings(), "parameters": parameters, **timed}))


if __name__ == "__main__":
    main()
