"""Compares our networks and training steps with PyTorch's (reference_torch.py), from equal weights on equal batches.

    python tests/reference/parity.py             # prints the tables of docs/parity.md, in some minutes on 2 cores;
                                                 # exit code 1 if a difference is above its limit
    python tests/reference/parity.py --golden    # writes tests/golden/*.npz, for test_golden.py, which needs no PyTorch

Needs PyTorch: pip install torch.
"""

import argparse
import copy
import dataclasses
import functools
import importlib
import importlib.util
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
FORWARD_LIMIT = 1e-4
STEP_LIMITS = {"losses": 1e-3, "weights": 1e-3, "gradients": 0.03}  # or four times PyTorch's own difference


@functools.cache
def load_tool():
    """tools/import-weights.py as a module: it maps our weights to PyTorch's."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    try:
        spec = importlib.util.spec_from_file_location("import_weights", ROOT / "tools" / "import-weights.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def load_reference():
    """reference_torch.py as a module."""
    import torch
    from reference import reference_torch

    torch.set_num_threads(1)  # several would wait for those of TensorFlow
    return reference_torch


# ---------------------------------------------------------------------------------------------------------- networks


def original_modules(network):
    """{name of a layer: name of its module in the original repositories}, for a generator, a discriminator or heads."""
    names = {layer.name for layer in network.layers}
    if "head_1_1" in names:
        heads = [name.split("_")[1:] for name in names if name.startswith("head_")]
        return {f"head_{n}_{part}": f"mlp_{int(n) - 1}.{2 * int(part) - 2}" for n, part in heads}
    convs = [layer for layer in network.layers if hasattr(layer, "kernel_size")]
    if convs[0].name != "layer_1":
        return load_tool().original_modules(network)
    prefix, modules = "net" if convs[0].kernel_size == (1, 1) else "model", {}
    for number, conv in enumerate(convs):
        blurs = sum(f"layer_{before + 1}_blur" in names for before in range(number))
        index = max(0, 3 * number - 1) + blurs  # convolution and leaky ReLU, then convolution, norm and leaky ReLU
        modules |= {conv.name: f"{prefix}.{index}", f"{conv.name}_norm": f"{prefix}.{index + 1}"}
    return modules


def fill(network, state):
    """Gives a network of ours the weights {name in PyTorch: array}."""
    load_tool().fill(network, state | load_tool().fixed_filters(network), original_modules)


def copy_weights(network, module):
    """Gives a PyTorch module the weights of our network."""
    import torch

    state = load_tool().extract(network, original_modules)
    assert state.keys() == dict(module.named_parameters()).keys()
    module.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()}, strict=False)


def parse_name(name):
    """Name of a network, as in unet-8 or resnet-9-batch => kind, number of halvings, blocks or layers, kind of norm."""
    kind, number, norm = f"{name}--".split("-")[:3]
    return kind, number, norm or ("batch" if kind in ("unet", "conditional") else "instance")


def build(name, width=64):
    """Our network of a name and width, without dropout."""
    scripts = ("pix2pix", "cyclegan", "ganilla", "cut")
    pix2pix, cyclegan, ganilla, cut = (importlib.import_module(script) for script in scripts)
    kind, number, norm = parse_name(name)
    module, bias = pix2pix if kind in ("unet", "conditional") else cyclegan, norm == "instance"
    norm = module.InstanceNorm if bias else module.BatchNorm
    network = {
        "unet": lambda: pix2pix.build_generator(int(number), ngf=width, norm=norm, bias=bias),
        "resnet": lambda: cyclegan.build_generator(int(number), width, norm=norm, bias=bias),
        "ganilla": lambda: ganilla.build_generator(ngf=width),
        "conditional": lambda: pix2pix.build_discriminator(6, width, norm),
        "patchgan": lambda: cyclegan.build_discriminator(int(number), width, norm),
        "cut": lambda: cut.build_generator(int(number), width),
        "cutgan": lambda: cut.build_discriminator(int(number), width),
        "heads": lambda: cut.build_heads([3, width * 2, width * 4, width * 4, width * 4][: int(number)]),
    }[kind]()
    return without_dropout(network)


def without_dropout(network):
    """Turns off dropout, whose masks PyTorch draws by other random numbers. Returns the network."""
    for layer in network.layers:
        if "dropout" in layer.name:
            layer.rate = 0.0
    return network


def build_reference(name, width=64, channels=(3, 3)):
    """The same network in PyTorch, without dropout; generators and PatchGANs also with other channels of inputs and
    outputs, which a conditional discriminator sees both of, and another one the outputs."""
    reference = load_reference()
    kind, number, norm = parse_name(name)
    norm = reference.nn.BatchNorm2d if norm == "batch" else reference.nn.InstanceNorm2d
    return {
        "unet": lambda: reference.Unet(*channels, halvings=int(number), ngf=width, dropout=False, norm=norm),
        "resnet": lambda: reference.Resnet(int(number), width, norm=norm, channels=channels),
        "ganilla": lambda: reference.Ganilla(width, channels=channels),
        "conditional": lambda: reference.PatchGan(sum(channels), width, norm=norm),
        "patchgan": lambda: (
            reference.PatchGan(channels[1], width, int(number), norm) if number != "0" else reference.PixelGan(3, width)
        ),
        "cut": lambda: reference.CutResnet(int(number), width),
        "cutgan": lambda: reference.PatchGan(3, width, int(number), norm, antialias=True),
        "heads": lambda: reference.Heads([3, width * 2, width * 4, width * 4, width * 4][: int(number)]),
    }[kind]()


def randomise(module, seed=0):
    """Gives a PyTorch module random weights that keep the variance of what goes through, and returns it.

    So every layer counts in the output, which is neither constant nor at the ends of tanh.
    """
    import torch

    draw, last = torch.Generator().manual_seed(seed), None
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            overlap = layer.stride[0] ** 2 if isinstance(layer, torch.nn.ConvTranspose2d) else 1
            inputs = layer.in_channels * layer.kernel_size[0] ** 2 / overlap
            layer.weight.data.normal_(0, inputs**-0.5, generator=draw)
        elif isinstance(layer, torch.nn.Linear):
            layer.weight.data.normal_(0, layer.in_features**-0.5, generator=draw)
        elif isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.normal_(1, 0.2, generator=draw)
        if getattr(layer, "bias", None) is not None:
            layer.bias.data.normal_(0, 0.1, generator=draw)
        last = layer if hasattr(layer, "kernel_size") else last
    if last:
        last.weight.data.mul_(0.5)
    return module


def parameters(module):
    """The weights of a PyTorch module {name: array}."""
    return {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


def to_torch(images):
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def run_reference(module, images):
    """[n, h, w, c] => [n, h, w, c], by a PyTorch module; norms use the statistics of the batch."""
    import torch

    with torch.no_grad():
        return module(to_torch(images)).numpy().transpose(0, 2, 3, 1)


def draw_images(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def compare_networks(name, width, shapes):
    """Compares a network with PyTorch's, with random weights.

    Returns the number of parameters of each, the largest difference of their outputs for each shape and, for the first
    shape, that of PyTorch in float32 from PyTorch in float64.
    """
    network, module = build(name, width), randomise(build_reference(name, width))
    fill(network, parameters(module))
    counts = network.count_params(), sum(parameter.numel() for parameter in module.parameters())
    batches = [draw_images(0, *shape) for shape in shapes]
    theirs = [run_reference(module, images) for images in batches]
    ours = [network(images, training=True).numpy() for images in batches]
    exact = run_reference(module.double(), batches[0].astype(np.float64))
    differences = [float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True)]
    return *counts, differences, float(np.abs(theirs[0] - exact).max())


# ------------------------------------------------------------------------------------------------------------- steps


def default_args(module, **changes):
    """The default flags as an algorithm takes them, with changes."""
    values = copy.deepcopy(module.FLAGS)
    values([module.__name__])
    rgb = dataclasses.asdict(module.Domain())
    more = {"seed": 0, "given": set(), "domains": {"A": rgb, "B": rgb}}
    return SimpleNamespace(**{**values.flag_values_dict(), **more, **changes})


def build_training(script, size, ngf, n_blocks, calm, norm="", channels=(3, 3)):
    """Our model, and {name: the same network in PyTorch}, with equal weights.

    They are those that a training starts with or, if calm, larger ones, which are trained in steps a tenth as large.
    """
    import torch

    torch.manual_seed(0)
    module, algorithm = load_tool().load_algorithm(script)
    changes = {"n_blocks": n_blocks} if script in ("cyclegan", "cut") else {}
    changes |= {"norm": norm} if norm else {}
    domains = [dataclasses.asdict(module.Domain(count)) for count in channels]
    changes["domains"] = dict(zip("AB", domains, strict=True))
    args = default_args(module, ngf=ngf, ndf=ngf, crop_size=str(size), lr=2e-5 if calm else 2e-4, **changes)
    model = algorithm(args, training=True)
    if script == "pix2pix":
        names = [f"unet-{model.halvings}-{norm}", f"conditional--{norm}"]
        without_dropout(model.generator)
    elif script == "cut":
        names = [f"cut-{n_blocks}", "cutgan-3", "heads-5" if n_blocks >= 5 else "heads-4"]
    else:
        names = [f"resnet-{n_blocks}-{norm}" if script == "cyclegan" else "ganilla"] * 2 + [f"patchgan-3-{norm}"] * 2
    seen = [channels, channels[::-1], channels[::-1], channels]  # by G_AtoB, G_BtoA, D_A, D_B
    if script in ("pix2pix", "cut"):
        seen = [channels] * len(names)
    modules = {}
    for key, name, both in zip(model.networks, names, seen, strict=True):
        modules[key] = build_reference(name, ngf, both)
    for seed, (key, network) in enumerate(model.networks.items()):
        if calm:
            randomise(modules[key], seed)
        else:
            reference = load_reference()
            modules[key].apply(reference.init_weights_xavier if script == "cut" else reference.init_weights)
        fill(network, parameters(modules[key]))
    return model, modules


def effective_weights(network):
    """{name in PyTorch: our weight}, without biases before a norm.

    Those change nothing, and their gradients are 0 but for rounding, which Adam turns into steps.
    """
    layers = {layer.name for layer in network.layers}

    def has_effect(weight):
        layer, kind = weight.path.split("/")
        return kind == "kernel" or f"{layer}_norm" not in layers

    weights = load_tool().original_weights(network, original_modules)
    return {name: weight for name, weight in weights.items() if has_effect(weight)}


def distances(network, module, start):
    """Euclidean distances of the effective weights of our trained network: from PyTorch's, and from those at the start,
    which get_weights() gave."""
    start = {weight.path: value for weight, value in zip(network.weights, start, strict=True)}
    parts = []
    for name, weight in effective_weights(network).items():
        ours, theirs = weight.numpy(), module.get_parameter(name).detach().numpy()
        theirs = theirs.transpose(load_tool().FROM_TORCH[theirs.ndim])
        parts.append([(ours - theirs).ravel(), (ours - start[weight.path]).ravel()])
    return [float(np.linalg.norm(np.concatenate(part))) for part in zip(*parts, strict=True)]


def state_of_training(model):
    """{(network, name in PyTorch): (weight, Adam's mean of its gradients)} of ours."""
    state = {}
    for key, network in model.networks.items():
        optimizer = model.optimizers.get(key.split("_")[0], model.optimizers["generator"])  # cut.py: heads too
        for name, weight in effective_weights(network).items():
            mean = optimizer._momentums[optimizer._get_variable_index(weight)]
            state[key, name] = [v.numpy().transpose(load_tool().TO_TORCH[v.ndim]) for v in (weight, mean)]
    return state


def state_of_reference(trainer, modules, names):
    """The same for the given names, of PyTorch."""
    state = {}
    for key, name in names:
        parameter = modules[key].get_parameter(name)
        optimizer = getattr(trainer, {"g": "optimizer_g", "d": "optimizer_d", "h": "optimizer_f"}[key[0]])
        state[key, name] = parameter.detach().numpy(), optimizer.state[parameter]["exp_avg"].numpy()
    return state


def distance(state, truth, part):
    """Relative Euclidean distance of a state from the true one; part 0: weights, 1: means of the gradients."""
    apart = sum(np.square(state[name][part] - truth[name][part], dtype=np.float64).sum() for name in truth)
    return float(np.sqrt(apart / sum(np.square(truth[name][part], dtype=np.float64).sum() for name in truth)))


def drawn_by(model, step, images):
    """What a training step of cut.py draws: the places of each feature, int64, and whether it mirrors its inputs."""
    import tensorflow as tf

    step = tf.constant(step, tf.int64)
    inputs = np.concatenate(images) if model.args.nce_identity else images[0]
    places = model.draw_places(step, model.encode(inputs), len(inputs) // len(images[0]))
    return [where.numpy().astype(np.int64) for where in places], bool(model.draw_mirror(step))


def compare_steps(script, size, steps, ngf, n_blocks=9, calm=False, norm="", batch_size=1, channels=(3, 3)):
    """Trains ours and PyTorch's in float32, and returns their relative differences from PyTorch in float64.

    {number of steps: {"losses", "weights", "gradients": (ours, PyTorch's)}} after the first step and the last; of the
    losses the largest difference so far, gradients only after the first step.
    """
    import tensorflow as tf
    import torch

    model, modules = build_training(script, size, ngf, n_blocks, calm, norm, channels)
    exact = {key: copy.deepcopy(module).double() for key, module in modules.items()}
    training = getattr(load_reference(), {"pix2pix": "Pix2Pix", "cut": "Cut"}.get(script, "CycleGan"))
    single, double = (training(*networks.values(), lr=model.args.lr) for networks in (modules, exact))
    worst, results = [0.0, 0.0], {}
    for step in range(steps):
        images = draw_images(step, 2, batch_size, size, size, max(channels))
        images = images[0][..., : channels[0]], images[1][..., : channels[1]]
        first, second = (to_torch(image) for image in images)
        drawn = drawn_by(model, step, images) if script == "cut" else []
        theirs = single.train_step(first, second, *drawn)
        with mock.patch.object(torch.Tensor, "float", lambda self: self):  # reference_torch.py rounds to float32
            truth = double.train_step(first.double(), second.double(), *drawn)
        batch = tf.concat(list(images), -1) if script == "pix2pix" else tuple(tf.constant(image) for image in images)
        losses = model.train_step(tf.constant(step, tf.int64), batch).numpy()
        ours = dict(zip(model.losses, losses, strict=True))
        for number, losses in enumerate((ours, theirs)):
            worst[number] = max(worst[number], *(abs(float(losses[name]) / truth[name] - 1) for name in truth))
        if step + 1 in (1, steps):
            ours = state_of_training(model)
            theirs, truth = (state_of_reference(*other, list(ours)) for other in ((single, modules), (double, exact)))
            weights, gradients = ([distance(state, truth, part) for state in (ours, theirs)] for part in (0, 1))
            results[step + 1] = {"losses": tuple(worst), "weights": weights}
            if step == 0:
                results[1]["gradients"] = gradients
    return results


# ------------------------------------------------------------------------------------------------- schedule and pool


def schedule_difference(epochs=100, decay_epochs=100, epoch_size=10):
    """The largest difference of the learning rates, relative to the first: ours falls by step, PyTorch's by epoch."""
    import torch

    learning_rate_at = importlib.import_module("cyclegan").learning_rate_at
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 2e-4)
    rule = lambda epoch: 1.0 - max(0, epoch + 1 - epochs) / (decay_epochs + 1)  # noqa: E731
    scheduler, worst = torch.optim.lr_scheduler.LambdaLR(optimizer, rule), 0.0
    total = (epochs + decay_epochs) * epoch_size
    for step in range(total):
        rate = learning_rate_at(step, 2e-4, total, decay_epochs * epoch_size)
        worst = max(worst, abs(rate - optimizer.param_groups[0]["lr"]) / 2e-4)
        if (step + 1) % epoch_size == 0:
            optimizer.step()
            scheduler.step()
    return worst


def pool_statistics(query, size, count, batch_size=50):
    """What a pool does with `count` fakes after it is full. query: [n, 1, 1, 3] => [n, 1, 1, 3].

    Returns the share that is swapped for an older fake, the mean age of those older ones, counted in fakes, and the
    share of them that are older than 4 * size.
    """
    ages = []
    for start in range(0, size + count, batch_size):
        numbers = np.arange(start, start + batch_size, dtype=np.float32)
        out = query(np.ones([batch_size, 1, 1, 3], np.float32) * numbers.reshape(-1, 1, 1, 1))[:, 0, 0, 0]
        ages += (numbers - out).tolist()
    ages = np.array(ages[size:])
    swapped = ages[ages > 0]
    return len(swapped) / len(ages), float(swapped.mean()), float((swapped > 4 * size).mean())


def compare_pools(count, size=50):
    """pool_statistics of ours and of PyTorch's."""
    import tensorflow as tf
    import torch

    pool, theirs = importlib.import_module("cyclegan").ImagePool(size, (1, 1, 3)), load_reference().ImagePool(size)
    swap, seeds = tf.function(pool.swap), iter(range(count))
    random.seed(0)
    ours = pool_statistics(lambda x: swap(tf.constant(x), tf.constant([0, next(seeds)], tf.int64)).numpy(), size, count)
    return ours, pool_statistics(lambda x: theirs.query(torch.from_numpy(x)).numpy(), size, count)


# ------------------------------------------------------------------------------------------------------------- golden

SMALL = {  # name: ngf or ndf, height and width of the image
    "unet-6": (2, 64, 64),
    "resnet-2": (4, 32, 40),
    "ganilla": (4, 48, 32),
    "conditional": (4, 64, 64),
    "patchgan-3": (4, 64, 64),
}


def write_golden():
    """tests/golden/NAME.npz: input, output and the weights by their names in PyTorch, of each small network."""
    GOLDEN.mkdir(exist_ok=True)
    for name, (filters, height, width) in SMALL.items():
        module = randomise(build_reference(name, filters))
        for parameter in module.parameters():  # half of the bytes, and exact
            parameter.data = parameter.data.half().float()
        images = draw_images(0, 1, height, width, 6 if name == "conditional" else 3).astype(np.float16)
        weights = {name: values.astype(np.float16) for name, values in parameters(module).items()}
        output = run_reference(module, images.astype(np.float32))
        np.savez_compressed(GOLDEN / f"{name}.npz", input=images, output=output, **weights)
        size = (GOLDEN / f"{name}.npz").stat().st_size
        print(f"{GOLDEN / name}.npz: {size} bytes, outputs vary by {output.std():.2f}")


# --------------------------------------------------------------------------------------------------------- the table

NETWORKS = [  # name, title, parameters in the paper's code, another size, size of the batch of 2
    ("unet-8", "U-Net 256, batch norm", 54_413_955, (256, 512), (256, 256)),
    ("unet-7", "U-Net 128, batch norm", 41_828_995, (128, 384), (128, 128)),
    ("resnet-9", "ResNet, 9 blocks, instance norm", 11_378_179, (132, 200), (128, 128)),
    ("resnet-6", "ResNet, 6 blocks, instance norm", 7_837_699, (132, 200), (128, 128)),
    ("unet-8-instance", "U-Net 256, instance norm", 54_409_603, (256, 512), (256, 256)),
    ("resnet-9-batch", "ResNet, 9 blocks, batch norm", 11_383_427, (132, 200), (128, 128)),
    ("ganilla", "GANILLA, instance norm", 7_228_419, (240, 176), (128, 128)),
    ("conditional", "PatchGAN 70, 6 channels, batch norm", 2_768_705, (286, 200), (128, 128)),
    ("patchgan-3", "PatchGAN 70, 3 channels, instance norm", 2_764_737, (286, 200), (128, 128)),
    ("patchgan-5", "PatchGAN 286, instance norm", 11_154_369, (286, 200), (128, 128)),
    ("patchgan-1", "PatchGAN 16, instance norm", 136_385, (286, 200), (128, 128)),
    ("patchgan-0", "PixelGAN, instance norm", 8_705, (286, 200), (128, 128)),
    ("cut-9", "CUT's ResNet, 9 blocks, antialiased", 11_378_179, (132, 200), (128, 128)),
    ("cutgan-3", "CUT's PatchGAN, antialiased", 2_764_737, (286, 200), (128, 128)),
]
TRAININGS = [  # script, crop, steps, ngf = ndf, blocks, calm
    ("pix2pix", 64, 10, 16, 0, True),
    ("cyclegan", 64, 10, 16, 3, True),
    ("ganilla", 64, 10, 16, 0, True),
    ("cut", 64, 10, 16, 5, True),
    ("pix2pix", 128, 10, 16, 0, False),
    ("cyclegan", 64, 10, 16, 3, False),
    ("ganilla", 64, 10, 16, 0, False),
    ("cut", 64, 10, 16, 5, False),
    ("pix2pix", 128, 1, 64, 0, False),
    ("cyclegan", 64, 1, 64, 9, False),
    ("ganilla", 64, 1, 64, 0, False),
    ("cut", 64, 1, 64, 9, False),
]


def print_table():
    """Prints the tables. Returns what is above its limit, as lines to print."""
    import tensorflow as tf
    import torch

    began, above = time.monotonic(), []

    def check(what, value, limit):
        if not value <= limit:
            above.append(f"{what}: {value:.2g} is above {limit:g}")
        return f"{value:.1e}"

    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, on a CPU, float32.\n")
    print("| network | parameters: ours | PyTorch | paper's code | difference at 256×256 | at another size | "
          "batch of 2 | PyTorch's own rounding |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, title, expected, other, pair in NETWORKS:
        channels = 6 if name == "conditional" else 3
        shapes = [(1, 256, 256, channels), (1, *other, channels), (2, *pair, channels)]
        ours, theirs, differences, rounding = compare_networks(name, 64, shapes)
        if not ours == theirs == expected:
            above.append(f"{title}: {ours} parameters, PyTorch {theirs}, expected {expected}")
        cells = [check(title, difference, FORWARD_LIMIT) for difference in differences]
        cells[1] += f" ({other[0]}×{other[1]})"
        cells.append(f"{rounding:.1e}")
        print(f"| {title} | {ours:,} | {theirs:,} | {expected:,} | {' | '.join(cells)} |", flush=True)

    print("\nTraining steps, relative differences from PyTorch in float64 (PyTorch: of its own float32):\n")
    kinds = " | ".join(f"{kind}: ours | PyTorch" for kind in STEP_LIMITS)
    print(f"| algorithm | ngf = ndf | crop | learning rate | step | {kinds} |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for script, size, steps, ngf, n_blocks, calm in TRAININGS:
        for count, differences in compare_steps(script, size, steps, ngf, n_blocks, calm).items():
            cells = []
            for kind, (ours, theirs) in differences.items():
                what = f"{script}, ngf {ngf}, step {count}, {kind}"
                cells += [check(what, ours, max(STEP_LIMITS[kind], 4 * theirs)), f"{theirs:.1e}"]
            cells += ["", ""] * (count > 1)
            blocks = f", {n_blocks} blocks" if n_blocks else ""
            rate = "2e-5, larger weights" if calm else "2e-4"
            print(f"| {script} | {ngf}{blocks} | {size} | {rate} | {count} | {' | '.join(cells)} |", flush=True)

    rates = check("learning rate", schedule_difference(), 0.02)
    print(f"\nLearning rate, 100 + 100 epochs: at most {rates} of its first value apart (ours falls by step, theirs by "
          "epoch).")  # fmt: skip
    (share, age, old), (their_share, their_age, their_old) = compare_pools(50_000)
    check("pool, share of older fakes", abs(share - their_share), 0.02)
    check("pool, age", abs(age / their_age - 1), 0.1)
    print("Image pool of 50, over 50,000 fakes (ours / PyTorch's): shown an older fake instead "
          f"{share:.1%} / {their_share:.1%}, on average {age:.0f} / {their_age:.0f} fakes old, "
          f"{old:.1%} / {their_old:.1%} of them more than 200.")  # fmt: skip
    print(f"\n{time.monotonic() - began:.0f} s")
    return above


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", action="store_true", help="write tests/golden instead")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if args.golden:
        write_golden()
        return 0
    above = print_table()
    for line in above:
        print(f"above its limit: {line}", file=sys.stderr)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
