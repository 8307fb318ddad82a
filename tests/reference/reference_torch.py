"""The networks and training steps of pix2pix, CycleGAN, GANILLA, CUT and AnimeGANv2 in PyTorch, to compare numbers and
speed with.

Written from the facts in docs/, with the parameter names that checkpoints of pytorch-CycleGAN-and-pix2pix have
(`model.model.0.weight`, `model.10.conv_block.1.weight` ...), those of GANILLA (`layer1.0.final_conv.1.weight` ...) and
of contrastive-unpaired-translation (`model.12.conv_block.1.weight`, `model.7.filt`, `mlp_0.0.weight` ...).
PyTorch is not a requirement of this project: `pip install torch` to use this file.

    python tests/reference/reference_torch.py pix2pix --crop_size 256 --bfloat16     # seconds for a training step
    python tests/reference/reference_torch.py cyclegan --crop_size 128
    python tests/reference/reference_torch.py ganilla --crop_size 128
    python tests/reference/reference_torch.py cut --crop_size 128
    python tests/reference/reference_torch.py animegan --crop_size 256        # its features have random weights
    python tests/reference/reference_torch.py pix2pix --translate photos      # images per second from file to file
"""

import argparse
import itertools
import json
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F


class UnetBlock(nn.Module):
    """One level of the U-Net: down, the levels below, up, with the skip connection around it."""

    def __init__(self, outer, inner, below=None, in_channels=None, outermost=False, dropout=False, norm=nn.BatchNorm2d):
        super().__init__()
        self.outermost, bias = outermost, norm is nn.InstanceNorm2d
        down = nn.Conv2d(in_channels or outer, inner, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(inner * 2 if below else inner, outer, 4, 2, 1, bias=outermost or bias)
        if outermost:
            layers = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, norm(inner), below, nn.ReLU(), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    def __init__(self, in_channels=3, out_channels=3, halvings=8, ngf=64, dropout=True, norm=nn.BatchNorm2d):
        super().__init__()
        block = UnetBlock(ngf * 8, ngf * 8, norm=norm)
        for _ in range(halvings - 5):
            block = UnetBlock(ngf * 8, ngf * 8, block, dropout=dropout, norm=norm)
        for width in (4, 2, 1):
            block = UnetBlock(ngf * width, ngf * width * 2, block, norm=norm)
        self.model = UnetBlock(out_channels, ngf, block, in_channels=in_channels, outermost=True, norm=norm)

    def forward(self, x):
        return self.model(x)


class ResnetBlock(nn.Module):
    def __init__(self, width, norm=nn.InstanceNorm2d):
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        half = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm(width)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm(width)]
        self.conv_block = nn.Sequential(*half, nn.ReLU(True), *again)

    def forward(self, x):
        return x + self.conv_block(x)


class ResizeConv(nn.Conv2d):
    """Nearest or bilinear x2, then a 3x3 convolution, in the place of a transposed one."""

    def __init__(self, *sizes, mode, **options):
        super().__init__(*sizes, **options)
        self.mode = mode

    def forward(self, x):
        return super().forward(F.pad(F.interpolate(x, scale_factor=2, mode=self.mode), (1, 1, 1, 1), "reflect"))


class Resnet(nn.Module):
    """The ResNet generator of CycleGAN."""

    def __init__(self, n_blocks=9, ngf=64, upsample="transpose", norm=nn.InstanceNorm2d, channels=(3, 3)):
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels[0], ngf, 7, bias=bias), norm(ngf), nn.ReLU(True)]
        for width in (ngf, ngf * 2):
            layers += [nn.Conv2d(width, width * 2, 3, 2, 1, bias=bias), norm(width * 2), nn.ReLU(True)]
        layers += [ResnetBlock(ngf * 4, norm) for _ in range(n_blocks)]
        for width in (ngf * 4, ngf * 2):
            if upsample == "transpose":
                layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, bias=bias)]
            else:
                mode = "nearest" if upsample == "resize" else upsample
                layers += [ResizeConv(width, width // 2, 3, bias=bias, mode=mode)]
            layers += [norm(width // 2), nn.ReLU(True)]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, channels[1], 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class GanillaBlock(nn.Module):
    """A residual block that concatenates, and brings the width back with a third convolution."""

    def __init__(self, in_channels, width, stride):
        super().__init__()
        self.rp1, self.rp2 = nn.ReflectionPad2d(1), nn.ReflectionPad2d(1)
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 3, stride, bias=False), nn.InstanceNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, bias=False), nn.InstanceNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != width:
            shortcut = nn.Conv2d(in_channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.InstanceNorm2d(width))
        final = nn.Conv2d(width * 2, width, 3, bias=False)
        self.final_conv = nn.Sequential(nn.ReflectionPad2d(1), final, nn.InstanceNorm2d(width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(self.rp1(x))))
        y = self.bn2(self.conv2(self.rp2(y)))
        return F.relu(self.final_conv(torch.cat([y, self.shortcut(x)], 1)))


class FeaturePyramid(nn.Module):
    def __init__(self, ngf, weights):
        super().__init__()
        widths, self.weights = (ngf * 4, ngf * 2, ngf * 2, ngf), weights
        self.P5_1, self.P4_1, self.P3_1, self.P2_1 = (nn.Conv2d(width, ngf * 2, 1) for width in widths)
        self.rp, self.P2_2 = nn.ReflectionPad2d(1), nn.Conv2d(ngf * 2, ngf, 3)

    def forward(self, stages):
        x = 0
        laterals = (self.P5_1, self.P4_1, self.P3_1, self.P2_1)
        for lateral, weight, stage in zip(laterals, self.weights, reversed(stages), strict=True):
            x = F.interpolate(x + weight * lateral(stage), scale_factor=2)
        return self.P2_2(self.rp(x))


class Ganilla(nn.Module):
    """The generator of GANILLA."""

    def __init__(self, ngf=64, weights=(1, 1, 1, 1), channels=(3, 3)):
        super().__init__()
        first = nn.Conv2d(channels[0], ngf, 7)
        self.rp1, self.conv1, self.norm1 = nn.ReflectionPad2d(3), first, nn.InstanceNorm2d(ngf)
        self.rp2, self.pool = nn.ReflectionPad2d(1), nn.MaxPool2d(3, 2)
        plan, width = [(ngf, 1), (ngf * 2, 2), (ngf * 2, 2), (ngf * 4, 2)], ngf
        for number, (out, stride) in enumerate(plan, start=1):
            setattr(self, f"layer{number}", nn.Sequential(GanillaBlock(width, out, stride), GanillaBlock(out, out, 1)))
            width = out
        self.fpn = FeaturePyramid(ngf, weights)
        self.rp3, self.conv2 = nn.ReflectionPad2d(3), nn.Conv2d(ngf, channels[1], 7)

    def forward(self, x):
        stages = [self.pool(self.rp2(F.relu(self.norm1(self.conv1(self.rp1(x))))))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            stages.append(layer(stages[-1]))
        return torch.tanh(self.conv2(self.rp3(self.fpn(stages[1:]))))


class Halve(nn.Module):
    """A fixed blur at stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("filt", outer_square([1, 2, 1], 16).repeat(channels, 1, 1, 1))

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt.to(x.dtype), stride=2, groups=x.shape[1])


class Double(nn.Module):
    """A fixed blur, transposed at stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("filt", outer_square([1, 3, 3, 1], 16).repeat(channels, 1, 1, 1))

    def forward(self, x):
        padded, filt = F.pad(x, (1, 1, 1, 1), "replicate"), self.filt.to(x.dtype)
        return F.conv_transpose2d(padded, filt, stride=2, padding=2, groups=x.shape[1])[:, :, 1:-1, 1:-1]


def outer_square(values, total):
    return torch.outer(torch.tensor(values), torch.tensor(values))[None, None].float() / total


class CutResnet(nn.Module):
    """The antialiased ResNet generator of CUT."""

    def __init__(self, n_blocks=9, ngf=64):
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7), nn.InstanceNorm2d(ngf), nn.ReLU()]
        for width in (ngf * 2, ngf * 4):
            layers += [nn.Conv2d(width // 2, width, 3, 1, 1), nn.InstanceNorm2d(width), nn.ReLU(), Halve(width)]
        layers += [ResnetBlock(ngf * 4) for _ in range(n_blocks)]
        for width in (ngf * 2, ngf):
            layers += [Double(width * 2), nn.Conv2d(width * 2, width, 3, 1, 1), nn.InstanceNorm2d(width), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())
        # what the contrastive loss compares: the padded image, both convolutions that are halved, blocks 1 and 5
        self.compared = [index for index in (0, 4, 8, 12, 16) if index < 12 + n_blocks]

    def forward(self, x):
        return self.model(x)

    def features(self, x):
        found = []
        for index in range(self.compared[-1] + 1):
            x = self.model[index](x)
            if index in self.compared:
                found.append(x)
                if x.requires_grad:  # in channels-last order PyTorch 2.13 takes a wrong one for InstanceNorm2d
                    x.register_hook(torch.Tensor.contiguous)
        return found


class Heads(nn.Module):
    """A perceptron of two layers for each feature."""

    def __init__(self, widths):
        super().__init__()
        for number, width in enumerate(widths):
            layers = nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 256)
            setattr(self, f"mlp_{number}", nn.Sequential(*layers))

    def forward(self, features):
        return [getattr(self, f"mlp_{number}")(x) for number, x in enumerate(features)]


class PatchGan(nn.Module):
    """antialias: as in CUT, where blurs halve instead of strides."""

    def __init__(self, in_channels=6, ndf=64, n_layers=3, norm=nn.BatchNorm2d, antialias=False):
        super().__init__()
        bias, stride = norm is nn.InstanceNorm2d, 1 if antialias else 2
        layers, width = [nn.Conv2d(in_channels, ndf, 4, stride, 1), nn.LeakyReLU(0.2)], ndf
        for n in range(1, n_layers + 1):
            layers += [Halve(width)] if antialias else []
            previous, width = width, ndf * min(2**n, 8)
            stride = 1 if n == n_layers or antialias else 2
            layers += [nn.Conv2d(previous, width, 4, stride, 1, bias=bias), norm(width), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


class PixelGan(nn.Module):
    """The discriminator that sees one pixel at a time, with instance norm."""

    def __init__(self, in_channels=3, ndf=64):
        super().__init__()
        first, second, last = nn.Conv2d(in_channels, ndf, 1), nn.Conv2d(ndf, ndf * 2, 1), nn.Conv2d(ndf * 2, 1, 1)
        self.net = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.InstanceNorm2d(ndf * 2), nn.LeakyReLU(0.2), last)

    def forward(self, x):
        return self.net(x)


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
    """The networks, optimizers and training step, discriminator first."""

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


class ImagePool:
    """The last `size` fakes; with even odds a new one is swapped for an old one."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, images):
        result = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and random.random() < 0.5:
                place = random.randrange(self.size)
                image, self.images[place] = self.images[place], image
            result.append(image)
        return torch.stack(result)


class CycleGan:
    """Both generators and discriminators (those of GANILLA too), optimizers and the training step, generators first."""

    def __init__(self, a_to_b, b_to_a, d_a, d_b, lr=2e-4, beta1=0.5, cycle=10.0, identity=5.0, pool=50, gan="lsgan",
                 bfloat16=False):  # fmt: skip
        self.a_to_b, self.b_to_a, self.d_a, self.d_b = a_to_b, b_to_a, d_a, d_b
        chain = itertools.chain
        self.optimizer_g = torch.optim.Adam(chain(a_to_b.parameters(), b_to_a.parameters()), lr, (beta1, 0.999))
        self.optimizer_d = torch.optim.Adam(chain(d_a.parameters(), d_b.parameters()), lr, (beta1, 0.999))
        self.cycle, self.identity, self.bfloat16 = cycle, identity, bfloat16
        self.pool_a, self.pool_b = ImagePool(pool), ImagePool(pool)
        self.gan = bce if gan == "bce" else lambda logits, label: F.mse_loss(logits, torch.full_like(logits, label))

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def train_step(self, a, b):
        """a, b: [n, c, h, w] in [-1, 1]. Returns the losses by name as floats."""
        self.d_a.requires_grad_(False)
        self.d_b.requires_grad_(False)
        with self.autocast():
            fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
            recovered_a, recovered_b = self.b_to_a(fake_b), self.a_to_b(fake_a)
            same_a, same_b = (self.b_to_a(a), self.a_to_b(b)) if self.identity else (a, b)
            logits_a, logits_b = self.d_a(fake_a), self.d_b(fake_b)
        losses = {
            "gan_AtoB": self.gan(logits_b.float(), 1.0),
            "gan_BtoA": self.gan(logits_a.float(), 1.0),
            "cycle_A": (recovered_a.float() - a).abs().mean(),
            "cycle_B": (recovered_b.float() - b).abs().mean(),
            "identity_A": (same_a.float() - a).abs().mean(),
            "identity_B": (same_b.float() - b).abs().mean(),
        }
        gan = losses["gan_AtoB"] + losses["gan_BtoA"]
        cycle, identity = losses["cycle_A"] + losses["cycle_B"], losses["identity_A"] + losses["identity_B"]
        self.optimizer_g.zero_grad()
        (gan + self.cycle * cycle + self.identity * identity).backward()
        self.optimizer_g.step()
        self.optimizer_d.zero_grad()
        for name, network, pool, real, fake in (
            ("discrim_A", self.d_a, self.pool_a, a, fake_a.float()),
            ("discrim_B", self.d_b, self.pool_b, b, fake_b.float()),
        ):
            network.requires_grad_(True)
            with self.autocast():
                on_real, on_fake = network(real), network(pool.query(fake))
            losses[name] = (self.gan(on_real.float(), 1.0) + self.gan(on_fake.float(), 0.0)) / 2
            losses[name].backward()
        self.optimizer_d.step()
        return {name: loss.item() for name, loss in losses.items()}


def patch_nce(queries, keys):
    """The contrastive loss of queries and keys [n, count, 256], one number for each of the n images."""
    queries, keys = (x / (x.square().sum(-1, keepdim=True).sqrt() + 1e-7) for x in (queries, keys.detach()))
    logits = queries @ keys.transpose(1, 2) / 0.07
    labels = torch.arange(logits.shape[1]).expand(logits.shape[:2])
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)


class Cut:
    """CUT's networks, optimizers and training step: the discriminator first, then the generator with the heads."""

    def __init__(self, generator, discriminator, heads, lr=2e-4, beta1=0.5, nce=1.0, identity=True, bfloat16=False):
        self.generator, self.discriminator, self.heads = generator, discriminator, heads
        self.optimizer_g, self.optimizer_d, self.optimizer_f = (
            torch.optim.Adam(network.parameters(), lr, (beta1, 0.999)) for network in (generator, discriminator, heads)
        )
        self.nce, self.identity, self.bfloat16 = nce, identity, bfloat16

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def train_step(self, a, b, places=None, mirror=False):
        """a, b: [n, c, h, w] in [-1, 1]. Returns the losses by name as floats.

        places: for each feature [n, count] or, with identity, [2 * n, count], numbers of pixels; random if missing.
        mirror: whether the inputs are mirrored, and the features of their translations mirrored back.
        """
        inputs = torch.cat([a, b]) if self.identity else a
        with self.autocast():
            outputs = self.generator(inputs.flip(3) if mirror else inputs)
            fake = outputs[: len(a)]
            self.discriminator.requires_grad_(True)
            on_fake, on_real = self.discriminator(fake.detach()).float(), self.discriminator(b).float()
        discrim = (on_fake.square().mean() + (on_real - 1).square().mean()) / 2
        self.optimizer_d.zero_grad()
        discrim.backward()
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        with self.autocast():
            gan = (self.discriminator(fake).float() - 1).square().mean()
            queries = self.generator.features(outputs)
            with torch.no_grad():
                keys = self.generator.features(inputs)
        queries = [query.flip(3) for query in queries] if mirror else queries
        if places is None:
            places = [torch.stack([torch.randperm(k[0, 0].numel())[:256] for _ in k]) for k in keys]
        queries, keys = self.heads(sample(queries, places)), self.heads(sample(keys, places))
        nce = sum(patch_nce(query, key) for query, key in zip(queries, keys, strict=True)) / len(keys)
        self.optimizer_g.zero_grad()
        self.optimizer_f.zero_grad()
        (gan + self.nce * nce.mean()).backward()
        self.optimizer_g.step()
        self.optimizer_f.step()
        losses = {"discrim": discrim, "gan": gan, "nce": nce[: len(a)].mean()}
        losses["nce_identity"] = nce[len(a) :].mean() if self.identity else torch.zeros(())
        return {name: loss.item() for name, loss in losses.items()}


class AnimeStep(nn.Sequential):
    """A convolution of AnimeGANv2's generator, padded by reflection, with its layer norm."""

    def __init__(self, inputs, outputs, size=3, stride=1, groups=1, bias=False, last=False):
        padding = (0, 1, 0, 1) if stride == 2 else size // 2
        parts = [
            nn.ReflectionPad2d(padding),
            nn.Conv2d(inputs, outputs, size, stride, groups=groups, bias=bias),
            nn.GroupNorm(1, outputs),
        ]
        super().__init__(*parts, *([] if last else [nn.LeakyReLU(0.2)]))


class AnimeBlock(nn.Module):
    """An inverted residual block: wide, depthwise, narrow."""

    def __init__(self, inputs, outputs):
        super().__init__()
        wide = 2 * inputs
        self.parts = nn.Sequential(
            AnimeStep(inputs, wide, 1),
            AnimeStep(wide, wide, groups=wide, bias=True),
            AnimeStep(wide, outputs, 1, last=True),
        )
        self.has_skip = inputs == outputs

    def forward(self, x):
        return x + self.parts(x) if self.has_skip else self.parts(x)


class AnimeGenerator(nn.Sequential):
    """The generator of AnimeGANv2, layer by layer as the paper's table and the authors' code have it."""

    def __init__(self, ngf=32):
        w = ngf
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        blocks = [AnimeBlock(4 * w, 8 * w), *(AnimeBlock(8 * w, 8 * w) for _ in range(3))]
        super().__init__(
            AnimeStep(3, w, 7), AnimeStep(w, 2 * w, stride=2), AnimeStep(2 * w, 2 * w),
            AnimeStep(2 * w, 4 * w, stride=2), AnimeStep(4 * w, 4 * w),
            AnimeStep(4 * w, 4 * w), *blocks, AnimeStep(8 * w, 4 * w),
            up, AnimeStep(4 * w, 4 * w), AnimeStep(4 * w, 4 * w),
            up, AnimeStep(4 * w, 2 * w), AnimeStep(2 * w, 2 * w), AnimeStep(2 * w, w, 7),
            nn.Conv2d(w, 3, 1, bias=False), nn.Tanh(),
        )  # fmt: skip


class SpectralConv(nn.Module):
    """A convolution whose kernel is divided by its largest singular value, one power iteration per call, from u."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) * 0.02)
        self.register_buffer("u", torch.randn(outputs))

    def forward(self, x):
        matrix = self.weight.permute(2, 3, 1, 0).reshape(-1, len(self.u))
        with torch.no_grad():
            v = F.normalize(matrix @ self.u, dim=0)
            u = F.normalize(matrix.T @ v, dim=0)
        self.u = u
        x = F.pad(x, (1, 0, 1, 0) if self.stride == 2 else (1, 1, 1, 1))
        return F.conv2d(x, self.weight / (v @ matrix @ u), stride=self.stride)


class AnimeDiscriminator(nn.Sequential):
    """The discriminator of AnimeGANv2."""

    def __init__(self, ndf=32):
        w = ndf
        layers = [SpectralConv(3, w), nn.LeakyReLU(0.2)]
        for inputs, outputs in ((w, 2 * w), (4 * w, 4 * w)):
            layers += [SpectralConv(inputs, outputs, 2), nn.LeakyReLU(0.2)]
            layers += [SpectralConv(outputs, 2 * outputs), nn.GroupNorm(1, 2 * outputs), nn.LeakyReLU(0.2)]
        layers += [SpectralConv(8 * w, 8 * w), nn.GroupNorm(1, 8 * w), nn.LeakyReLU(0.2), SpectralConv(8 * w, 1)]
        super().__init__(*layers)


class Vgg16(nn.Module):
    """VGG16 to conv4_3, before its ReLU, divided by `size`. kernels: [out, in, 3, 3]; random if missing."""

    def __init__(self, kernels=None, size=1.0):
        super().__init__()
        widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
        if kernels is None:
            sides = itertools.pairwise(widths)
            kernels = [torch.randn(after, before, 3, 3) * (2 / 9 / before) ** 0.5 for before, after in sides]
        self.kernels = kernels
        self.size = size

    def forward(self, images):
        x = (images.flip(1) + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
        for index, kernel in enumerate(self.kernels):
            if index in (2, 4, 7):
                x = F.max_pool2d(x, 2)
            x = F.conv2d(x, kernel, padding=1)
            if index < 9:
                x = F.relu(x)
        return x.float() / self.size


# rows: Y, U and V of red, green and blue
YUV = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]]
)


def to_yuv(images):
    """[n, 3, h, w] in [-1, 1] => Y, U and V, [n, h, w] each."""
    return torch.einsum("yc,nchw->ynhw", YUV, (images + 1) / 2)


def to_grey(images):
    """[n, 3, h, w] => their luma in three channels."""
    return torch.einsum("c,nchw->nhw", YUV[0], images)[:, None].repeat(1, 3, 1, 1)


def gram(x):
    """Feature maps => their Gram matrices."""
    return torch.einsum("nchw,ndhw->ncd", x, x) / x[0].numel()


class AnimeGan:
    """AnimeGANv2's networks, optimizers and training step of the second phase."""

    def __init__(self, generator, discriminator, features, lr=2e-5, lr_d=4e-5, weights=(1, 1.5, 300, 3, 0.5),
                 bfloat16=False):  # fmt: skip
        self.generator, self.discriminator, self.look = generator, discriminator, features
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr, (0.5, 0.999))
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr_d, (0.5, 0.999))
        self.weights = weights
        self.bfloat16 = bfloat16

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def train_step(self, photos, styles, smooth=None):
        """Images [n, 3, h, w] in [-1, 1]; smooth: those of the style with blurred edges, which the authors make once
        before a training; the styles themselves if missing. Returns the six losses as floats."""
        smooth = styles if smooth is None else smooth
        grey = to_grey(styles)
        with self.autocast():
            outputs = self.generator(photos).float()
            logits = self.discriminator(torch.cat([styles, outputs.detach(), grey, to_grey(smooth)])).float()
        on_style, on_output, on_grey, on_smooth = logits.chunk(4)
        discrim = 1.7 * (on_style - 1).square().mean() + 1.7 * on_output.square().mean()
        discrim = discrim + 1.7 * on_grey.square().mean() + on_smooth.square().mean()
        self.optimizer_d.zero_grad()
        discrim.backward()
        self.optimizer_d.step()
        with self.autocast():
            gan = (self.discriminator(outputs).float() - 1).square().mean()
            with torch.no_grad():
                on_photos, on_styles = self.look(torch.cat([photos, grey])).chunk(2)
            on_outputs = self.look(outputs)
        losses = [gan, *self.compare(photos, outputs, on_photos, on_styles, on_outputs)]
        self.optimizer_g.zero_grad()
        sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True)).backward()
        self.optimizer_g.step()
        return [loss.item() for loss in (discrim, *losses)]

    def compare(self, photos, outputs, on_photos, on_styles, on_outputs):
        """The losses of content, style, colour and variation."""
        content = (on_photos - on_outputs).abs().mean()
        style = (gram(on_styles) - gram(on_outputs)).abs().mean()
        (y, u, v), (wanted_y, wanted_u, wanted_v) = to_yuv(outputs), to_yuv(photos)
        colour = (y - wanted_y).abs().mean() + F.huber_loss(u, wanted_u) + F.huber_loss(v, wanted_v)
        down, right = outputs[:, :, 1:] - outputs[:, :, :-1], outputs[..., 1:] - outputs[..., :-1]
        return content, style, colour, (down.square().mean() + right.square().mean()) / 2


def sample(maps, places):
    """Feature maps [n, c, h, w] at places [n, count] => [n, count, c], for each feature."""
    pixels = [feature.flatten(2).transpose(1, 2).float() for feature in maps]
    return [x[torch.arange(len(x))[:, None], torch.as_tensor(where)] for x, where in zip(pixels, places, strict=True)]


def init_weights_xavier(module):
    """Xavier's normal distribution with a gain of 0.02, as in CUT; biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_normal_(module.weight, 0.02)
        nn.init.zeros_(module.bias)


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def translate(network, folder, size, bfloat16):
    """The test loop of the originals on a folder of images: Pillow reads, the network translates, Pillow writes a PNG,
    one image after the other. Returns the seconds that each takes, and those of the network in them."""
    seconds, network_seconds = [], []
    with tempfile.TemporaryDirectory() as out, torch.no_grad():
        for path in sorted(Path(folder).iterdir()):
            start = time.perf_counter()
            image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
            before = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                y = network(x.contiguous(memory_format=torch.channels_last) if bfloat16 else x)
            network_seconds.append(time.perf_counter() - before)
            pixels = ((y[0].float().permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy()
            Image.fromarray(pixels).save(Path(out, f"{path.stem}.png"))
            seconds.append(time.perf_counter() - start)
    return seconds, network_seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithm", choices=["pix2pix", "cyclegan", "ganilla", "cut", "animegan"])
    parser.add_argument("--crop_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--n_blocks", type=int, default=9, help="of the generators of CycleGAN and CUT")
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 autocast and channels-last memory")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--translate", metavar="FOLDER", help="translate its images instead of training")
    args = parser.parse_args()
    torch.manual_seed(0)
    layout = torch.channels_last if args.bfloat16 else torch.contiguous_format

    def ready(network):
        return network.apply(init_weights).to(memory_format=layout)

    if args.algorithm == "pix2pix":
        halvings = min(8, (args.crop_size & -args.crop_size).bit_length() - 1)
        model = Pix2Pix(ready(Unet(halvings=halvings)), ready(PatchGan()), bfloat16=args.bfloat16)
    elif args.algorithm == "cut":
        networks = [CutResnet(args.n_blocks), PatchGan(3, norm=nn.InstanceNorm2d, antialias=True)]
        networks = [network.apply(init_weights_xavier).to(memory_format=layout) for network in networks]
        model = Cut(*networks, Heads([3, 128, 256, 256, 256]).apply(init_weights_xavier), bfloat16=args.bfloat16)
    elif args.algorithm == "animegan":
        networks = [network.to(memory_format=layout) for network in (AnimeGenerator(), AnimeDiscriminator())]
        model = AnimeGan(*networks, Vgg16(), bfloat16=args.bfloat16)
    else:
        build = Ganilla if args.algorithm == "ganilla" else lambda: Resnet(args.n_blocks)
        generators = [ready(build()) for _ in range(2)]
        discriminators = [ready(PatchGan(3, norm=nn.InstanceNorm2d)) for _ in range(2)]
        model = CycleGan(*generators, *discriminators, bfloat16=args.bfloat16)
    if args.translate:
        network = model.generator if args.algorithm == "pix2pix" else model.a_to_b
        seconds = [times[args.warmup :] for times in translate(network, args.translate, args.crop_size, args.bfloat16)]
        rates = [len(times) / sum(times) for times in seconds]
        print(json.dumps({"images_per_second": rates[0], "network_images_per_second": rates[1]}))
        return
    shape = (args.batch_size, 3, args.crop_size, args.crop_size)
    first, second = (torch.rand(shape).mul(2).sub(1).to(memory_format=layout) for _ in range(2))
    seconds = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        model.train_step(first, second)
        seconds.append(time.perf_counter() - start)
    seconds = seconds[args.warmup :]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"seconds_per_step": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
    print(json.dumps(figures | {"peak_memory_gib": memory}))


if __name__ == "__main__":
    main()
