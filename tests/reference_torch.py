"""The reference networks and training step of pix2pix in PyTorch, to compare with: numbers and speed.

Written from the facts in docs/pix2pix.md, with the parameter names that checkpoints of pytorch-CycleGAN-and-pix2pix have
(`model.model.0.weight` ...). PyTorch is no requirement of this project: `pip install torch` to use this file.

    python tests/reference_torch.py pix2pix --crop_size 256 --bfloat16     # seconds for a training step
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class UnetBlock(nn.Module):
    """One level of the U-Net: down, the levels below, up, with the skip connection around it."""

    def __init__(self, outer, inner, below=None, in_channels=None, outermost=False, dropout=False):
        super().__init__()
        self.outermost = outermost
        down = nn.Conv2d(in_channels or outer, inner, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(inner * 2 if below else inner, outer, 4, 2, 1, bias=outermost)
        if outermost:
            layers = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, nn.BatchNorm2d(outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, nn.BatchNorm2d(inner), below, nn.ReLU(), up, nn.BatchNorm2d(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    def __init__(self, in_channels=3, out_channels=3, halvings=8, ngf=64, dropout=True):
        super().__init__()
        block = UnetBlock(ngf * 8, ngf * 8)
        for _ in range(halvings - 5):
            block = UnetBlock(ngf * 8, ngf * 8, block, dropout=dropout)
        for width in (4, 2, 1):
            block = UnetBlock(ngf * width, ngf * width * 2, block)
        self.model = UnetBlock(out_channels, ngf, block, in_channels=in_channels, outermost=True)

    def forward(self, x):
        return self.model(x)


class PatchGan(nn.Module):
    def __init__(self, in_channels=6, ndf=64, n_layers=3):
        super().__init__()
        layers, width = [nn.Conv2d(in_channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
        for n in range(1, n_layers + 1):
            previous, width = width, ndf * min(2**n, 8)
            stride = 2 if n < n_layers else 1
            layers += [nn.Conv2d(previous, width, 4, stride, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


def init_weights(module):
    """N(0, 0.02) for convolutions, N(1, 0.02) for norm scales, 0 for biases."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)


class Pix2Pix:
    """The networks, optimisers and training step, discriminator first."""

    def __init__(self, generator, discriminator, lr=2e-4, beta1=0.5, l1_weight=100.0, gan_weight=1.0, bfloat16=False):
        self.generator, self.discriminator = generator, discriminator
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr, (beta1, 0.999))
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr, (beta1, 0.999))
        self.l1_weight, self.gan_weight, self.bfloat16 = l1_weight, gan_weight, bfloat16

    def train_step(self, inputs, targets):
        """inputs, targets: [n, c, h, w] in [-1, 1]. Returns the losses discrim, gan, l1 as floats."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            outputs = self.generator(inputs)
            self.discriminator.requires_grad_(True)
            real = self.discriminator(torch.cat([inputs, targets], 1)).float()
            fake = self.discriminator(torch.cat([inputs, outputs.detach()], 1)).float()
        loss_d = (bce(real, 1.0) + bce(fake, 0.0)) / 2
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            fake = self.discriminator(torch.cat([inputs, outputs], 1)).float()
        gan, l1 = bce(fake, 1.0), (outputs.float() - targets).abs().mean()
        self.optimizer_g.zero_grad()
        (self.gan_weight * gan + self.l1_weight * l1).backward()
        self.optimizer_g.step()
        return {"discrim": loss_d.item(), "gan": gan.item(), "l1": l1.item()}


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithm", choices=["pix2pix"])
    parser.add_argument("--crop_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 autocast and channels-last memory")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    layout = torch.channels_last if args.bfloat16 else torch.contiguous_format
    halvings = min(8, (args.crop_size & -args.crop_size).bit_length() - 1)
    generator = Unet(halvings=halvings).apply(init_weights).to(memory_format=layout)
    discriminator = PatchGan().apply(init_weights).to(memory_format=layout)
    model = Pix2Pix(generator, discriminator, bfloat16=args.bfloat16)
    shape = (args.batch_size, 3, args.crop_size, args.crop_size)
    inputs, targets = (torch.rand(shape).mul(2).sub(1).to(memory_format=layout) for _ in range(2))
    seconds = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        model.train_step(inputs, targets)
        seconds.append(time.perf_counter() - start)
    seconds = seconds[args.warmup :]
    print(json.dumps({"seconds_per_step": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}))


if __name__ == "__main__":
    main()
