"""Trains the PyTorch twin of pix2pix on side-by-side pairs and translates others, for a comparison with pix2pix.py.

    python tests/reference/train_twin.py facades/train facades/val twin_test --steps 2000 --seed 0
    python tools/evaluate.py pairs twin_test

Labels on the right, photographs on the left (BtoA). Images are read, resized, cropped, mirrored and written as
pytorch-CycleGAN-and-pix2pix does it: Pillow's decoder and bicubic filter, values cut to whole numbers. In test, norm
uses the statistics of the image and there is no dropout, as in `pix2pix.py --mode test`. The generator's weights are
kept in OUTPUT_DIR/latest_net_G.pth, which tools/import-weights.py takes.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from reference_torch import PatchGan, Pix2Pix, Unet, init_weights
from torch import nn


def read_pair(path):
    """Path of a pair A|B => labels B and photograph A, Pillow images."""
    pair = Image.open(path).convert("RGB")
    middle = pair.width // 2
    return pair.crop((middle, 0, pair.width, pair.height)), pair.crop((0, 0, middle, pair.height))


def to_tensor(image):
    """Pillow image => float32 [1, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1


def to_image(tensor):
    """[1, 3, h, w] in [-1, 1] => Pillow image, values cut to whole numbers."""
    return Image.fromarray(((tensor[0].detach().numpy().transpose(1, 2, 0) + 1) / 2 * 255).astype(np.uint8))


def training_pairs(folder, scale, crop):
    """Endless (inputs, targets), in a new order each epoch, resized to `scale`, cropped to `crop`, half mirrored."""
    resized = [[image.resize((scale, scale), Image.BICUBIC) for image in read_pair(path)] for path in files(folder)]
    while True:
        for pair in random.sample(resized, len(resized)):
            left, top = random.randint(0, scale - crop), random.randint(0, scale - crop)
            mirrored = random.random() < 0.5
            images = [image.crop((left, top, left + crop, top + crop)) for image in pair]
            yield [to_tensor(image.transpose(Image.FLIP_LEFT_RIGHT) if mirrored else image) for image in images]


def files(folder):
    return sorted(path for path in Path(folder).iterdir() if path.suffix in (".jpg", ".png"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train_dir")
    parser.add_argument("test_dir")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ngf", type=int, default=64, help="filters of both networks")
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    generator, discriminator = Unet(ngf=args.ngf), PatchGan(ndf=args.ngf)
    model = Pix2Pix(generator.apply(init_weights), discriminator.apply(init_weights))
    pairs = training_pairs(args.train_dir, 286, 256)
    for step in range(1, args.steps + 1):
        losses = model.train_step(*next(pairs))
        if step % 100 == 0:
            print(f"step {step}/{args.steps}", losses, flush=True)
    for module in generator.modules():
        module.train(not isinstance(module, nn.Dropout))
    (args.output_dir / "images").mkdir(parents=True, exist_ok=True)
    torch.save(generator.state_dict(), args.output_dir / "latest_net_G.pth")
    for path in files(args.test_dir):
        inputs, targets = read_pair(path)
        with torch.no_grad():
            outputs = to_image(generator(to_tensor(inputs)))
        for kind, image in {"inputs": inputs, "outputs": outputs, "targets": targets}.items():
            image.save(args.output_dir / "images" / f"{path.stem}-{kind}.png")


if __name__ == "__main__":
    main()
