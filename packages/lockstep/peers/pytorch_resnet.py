"""The same training step in PyTorch, for `lockstep bench peers` to run beside ours.

ResNet v1 for CIFAR-10 (6n+2 layers, projection shortcuts, as the Model Garden builds it) and ResNet-50 v1.5 for ImageNet,
channels_last, SGD with momentum 0.9 and weight decay, synthetic data. Prints one JSON line. Run it twice, with the default
malloc and with MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184; the better one counts.
"""

import argparse
import json

import torch
from stopwatch import set_up, settings, time_steps
from torch import nn


def conv_bn(cin, cout, kernel, stride):
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout)
    )


class Block(nn.Module):
    def __init__(self, cin, width, stride, bottleneck, project):
        super().__init__()
        cout = width * 4 if bottleneck else width
        if bottleneck:
            self.body = nn.ModuleList(
                [conv_bn(cin, width, 1, 1), conv_bn(width, width, 3, stride), conv_bn(width, cout, 1, 1)]
            )
        else:
            self.body = nn.ModuleList([conv_bn(cin, width, 3, stride), conv_bn(width, width, 3, 1)])
        self.shortcut = conv_bn(cin, cout, 1, stride) if project else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = x
        for index, layer in enumerate(self.body):
            y = layer(y)
            if index + 1 < len(self.body):
                y = self.relu(y)
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    def __init__(self, dataset, size):
        super().__init__()
        if dataset == "cifar10":
            counts, widths, bottleneck, classes = [(size - 2) // 6] * 3, [16, 32, 64], False, 10
            self.stem = nn.Sequential(conv_bn(3, 16, 3, 1), nn.ReLU(inplace=True))
            channels = 16
        else:
            counts = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[size]
            widths, bottleneck, classes = [64, 128, 256, 512], True, 1001
            self.stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
            channels = 64
        blocks = []
        for stage, (count, width) in enumerate(zip(counts, widths)):
            for index in range(count):
                # The Model Garden projects in the first block of every stage, shapes equal or not.
                blocks.append(Block(channels, width, 2 if stage and index == 0 else 1, bottleneck, index == 0))
                channels = width * 4 if bottleneck else width
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(channels, classes)

    def forward(self, x):
        return self.dense(self.blocks(self.stem(x)).mean((2, 3)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--resnet_size", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    args = parser.parse_args()
    set_up(args.threads)
    side, classes = (32, 10) if args.dataset == "cifar10" else (224, 1001)
    model = ResNet(args.dataset, args.resnet_size).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    images = torch.randn(args.batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(args.batch_size) % classes
    criterion = nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    print(json.dumps({**settings(), **time_steps(step, args.batch_size, args.warmup, args.steps)}))


if __name__ == "__main__":
    main()
