"""Our networks and training steps beside those of PyTorch (reference_torch.py), from equal weights and equal batches: prints
the table of docs/pretrained.md. Needs PyTorch: pip install torch.

    python tests/parity.py             # some minutes on 2 cores; exit code 1 if a difference is above its limit
    python tests/parity.py --golden    # writes tests/golden/*.npz, with which test_golden.py compares where PyTorch is not
"""

import argparse
import copy
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

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"
FORWARD_LIMIT = 1e-4
STEP_LIMITS = {"losses": 1e-3, "weights": 1e-3, "gradients": 0.03}  # or four times PyTorch's own, where that is more


@functools.cache
def load_tool():
    """tools/import-weights.py as a module: it knows which of our weights is which of theirs."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    try:
        spec = importlib.util.spec_from_file_location("import_weights", ROOT / "tools" / "import-weights.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def load_twins():
    """reference_torch.py as a module."""
    import reference_torch
    import torch

    torch.set_num_threads(1)  # several would wait for those of TensorFlow
    return reference_torch


# ---------------------------------------------------------------------------------------------------------- networks


def discriminator_modules(network):
    """{name of a layer: name of the module in the original repositories}, for a discriminator."""
    convs = [layer for layer in network.layers if hasattr(layer, "kernel_size")]
    inside, modules = "net" if convs[0].kernel_size == (1, 1) else "model", {}
    for number, conv in enumerate(convs):
        place = max(0, 3 * number - 1)  # convolution and leaky ReLU, then convolution, norm and leaky ReLU
        modules |= {conv.name: f"{inside}.{place}", f"{conv.name}_norm": f"{inside}.{place + 1}"}
    return modules


def fill(network, state):
    """Gives a network of ours the weights {name in PyTorch: array}."""
    tool = load_tool()
    judges = any(layer.name == "layer_1" for layer in network.layers)
    tool.fill(network, state, discriminator_modules if judges else tool.original_modules)


def build(name, width=64):
    """A network of ours by name and width, without dropout."""
    pix2pix, cyclegan, ganilla = (importlib.import_module(script) for script in ("pix2pix", "cyclegan", "ganilla"))
    kind, _, number = name.partition("-")
    network = {
        "unet": lambda: pix2pix.build_generator(int(number), ngf=width),
        "resnet": lambda: cyclegan.build_resnet(int(number), width),
        "ganilla": lambda: ganilla.build_ganilla(ngf=width),
        "conditional": lambda: pix2pix.build_discriminator(6, width),
        "patchgan": lambda: cyclegan.build_patchgan(int(number), width),
    }[kind]()
    return leave_out_dropout(network)


def leave_out_dropout(network):
    """Its masks are drawn by other random numbers than PyTorch's. Returns the network."""
    for layer in network.layers:
        if "dropout" in layer.name:
            layer.rate = 0.0
    return network


def build_twin(name, width=64):
    """Its twin in PyTorch, without dropout."""
    twins = load_twins()
    kind, _, number = name.partition("-")
    norm = twins.nn.InstanceNorm2d
    return {
        "unet": lambda: twins.Unet(halvings=int(number), ngf=width, dropout=False),
        "resnet": lambda: twins.Resnet(int(number), width),
        "ganilla": lambda: twins.Ganilla(width),
        "conditional": lambda: twins.PatchGan(6, width),
        "patchgan": lambda: twins.PatchGan(3, width, int(number), norm) if number != "0" else twins.PixelGan(3, width),
    }[kind]()


def randomise(module, seed=0):
    """Gives a PyTorch module weights that keep the size of what goes through: no layer is lost in the output, and that is
    neither flat nor at the ends of tanh."""
    import torch

    draw, last = torch.Generator().manual_seed(seed), None
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            overlap = layer.stride[0] ** 2 if isinstance(layer, torch.nn.ConvTranspose2d) else 1
            inputs = layer.in_channels * layer.kernel_size[0] ** 2 / overlap
            layer.weight.data.normal_(0, inputs**-0.5, generator=draw)
        elif isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.normal_(1, 0.2, generator=draw)
        if getattr(layer, "bias", None) is not None:
            layer.bias.data.normal_(0, 0.1, generator=draw)
        last = layer if hasattr(layer, "kernel_size") else last
    last.weight.data.mul_(0.5)
    return module


def parameters(module):
    """The weights of a PyTorch module {name: array}."""
    return {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


def to_torch(images):
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def run_twin(module, images):
    """[n, h, w, c] => [n, h, w, c], by a PyTorch module, norms by the statistics of the batch."""
    import torch

    with torch.no_grad():
        return module(to_torch(images)).numpy().transpose(0, 2, 3, 1)


def draw_images(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def compare_networks(name, width, shapes):
    """Parameters of ours, of PyTorch's; the largest difference of their outputs for each shape, from random weights; and for
    the first shape that of PyTorch's from its own in float64."""
    network, module = build(name, width), randomise(build_twin(name, width))
    fill(network, parameters(module))
    counts = network.count_params(), sum(parameter.numel() for parameter in module.parameters())
    batches = [draw_images(0, *shape) for shape in shapes]
    theirs = [run_twin(module, images) for images in batches]
    ours = [network(images, training=True).numpy() for images in batches]
    exact = run_twin(module.double(), batches[0].astype(np.float64))
    differences = [float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True)]
    return *counts, differences, float(np.abs(theirs[0] - exact).max())


# ------------------------------------------------------------------------------------------------------------- steps


def options(script, **changes):
    """The default flags of a script as a namespace, with changes."""
    flags = importlib.import_module(script).FLAGS
    flags.unparse_flags()
    flags([script])
    return SimpleNamespace(**{**flags.flag_values_dict(), "seed": 0, **changes})


def build_training(script, size, ngf, n_blocks, calm):
    """Our model, and {name: twin of its network}, all with equal weights: those that a training starts with, or, calm, larger
    ones, to be trained in steps a tenth as large."""
    import torch

    torch.manual_seed(0)
    sizes = {"n_blocks": n_blocks} if script == "cyclegan" else {}
    o = options(script, ngf=ngf, ndf=ngf, crop_size=str(size), lr=2e-5 if calm else 2e-4, **sizes)
    model = importlib.import_module(script).ALGORITHM(o, training=True)
    if script == "pix2pix":
        names = [f"unet-{model.halvings}", "conditional"]
        leave_out_dropout(model.generator)
    else:
        names = [f"resnet-{n_blocks}" if script == "cyclegan" else "ganilla"] * 2 + ["patchgan-3"] * 2
    modules = {key: build_twin(name, ngf) for key, name in zip(model.networks, names, strict=True)}
    for seed, (key, network) in enumerate(model.networks.items()):
        if calm:
            randomise(modules[key], seed)
        else:
            modules[key].apply(load_twins().init_weights)
        fill(network, parameters(modules[key]))
    return model, modules


def state_of_training(model):
    """{(network, name in PyTorch): (weight, Adam's mean of its gradients)} of ours.

    Without biases before a norm: they change nothing, and their gradients are 0 but for rounding, which Adam makes steps of.
    """
    tool, state = load_tool(), {}
    for key, network in model.networks.items():
        optimizer = model.optimizers.get(key) or model.optimizers[key.split("_")[0]]
        judges, layers = "discriminator" in key, {layer.name for layer in network.layers}
        weights = tool.original_weights(network, discriminator_modules if judges else tool.original_modules)
        for name, weight in weights.items():
            layer, kind = weight.path.split("/")
            mean = optimizer._momentums[optimizer._get_variable_index(weight)]
            if kind == "kernel" or f"{layer}_norm" not in layers:
                state[key, name] = [v.numpy().transpose(tool.TO_TORCH[v.ndim]) for v in (weight, mean)]
    return state


def state_of_twin(twin, modules, names):
    """The same of PyTorch's, for these names."""
    state = {}
    for key, name in names:
        parameter = modules[key].get_parameter(name)
        optimizer = twin.optimizer_g if "generator" in key else twin.optimizer_d
        state[key, name] = parameter.detach().numpy(), optimizer.state[parameter]["exp_avg"].numpy()
    return state


def distance(state, truth, part):
    """Of all numbers together, relative to those of the second."""
    apart = sum(np.square(state[name][part] - truth[name][part], dtype=np.float64).sum() for name in truth)
    return float(np.sqrt(apart / sum(np.square(truth[name][part], dtype=np.float64).sum() for name in truth)))


def compare_steps(script, size, steps, ngf, n_blocks=9, calm=False):
    """{number of steps: {"losses", "weights", "gradients": (ours, PyTorch's)}}, the relative differences from PyTorch in
    float64 after the first step and the last; of the losses the largest up to there, gradients of the first step alone."""
    import tensorflow as tf
    import torch

    model, modules = build_training(script, size, ngf, n_blocks, calm)
    exact = {key: copy.deepcopy(module).double() for key, module in modules.items()}
    training = load_twins().Pix2Pix if script == "pix2pix" else load_twins().CycleGan
    single, double = (training(*networks.values(), lr=model.o.lr) for networks in (modules, exact))
    worst, results = [0.0, 0.0], {}
    for step in range(steps):
        images = draw_images(step, 2, 1, size, size, 3)
        first, second = (to_torch(side) for side in images)
        theirs = single.train_step(first, second)
        with mock.patch.object(torch.Tensor, "float", lambda self: self):  # the twins round to float32 here and there
            truth = double.train_step(first.double(), second.double())
        batch = np.concatenate(images, -1) if script == "pix2pix" else tuple(tf.constant(side) for side in images)
        ours = dict(zip(model.losses, model.train_step(tf.constant(step, tf.int64), batch).numpy(), strict=True))
        for number, losses in enumerate((ours, theirs)):
            worst[number] = max(worst[number], *(abs(float(losses[name]) / truth[name] - 1) for name in truth))
        if step + 1 in (1, steps):
            ours = state_of_training(model)
            theirs, truth = (state_of_twin(*twin, list(ours)) for twin in ((single, modules), (double, exact)))
            weights, gradients = ([distance(state, truth, part) for state in (ours, theirs)] for part in (0, 1))
            results[step + 1] = {"losses": tuple(worst), "weights": weights} | ({"gradients": gradients} if step == 0 else {})
    return results


# ------------------------------------------------------------------------------------------------- schedule and pool


def schedule_difference(epochs=100, decay_epochs=100, epoch_size=10):
    """The largest difference of the learning rates, as a share of the first one: ours falls by step, theirs by epoch."""
    import torch

    decayed = importlib.import_module("cyclegan").decayed
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 2e-4)
    rule = lambda epoch: 1.0 - max(0, epoch + 1 - epochs) / (decay_epochs + 1)  # noqa: E731
    scheduler, worst = torch.optim.lr_scheduler.LambdaLR(optimizer, rule), 0.0
    total = (epochs + decay_epochs) * epoch_size
    for step in range(total):
        rate = decayed(2e-4, step, total, decay_epochs * epoch_size)
        worst = max(worst, abs(rate - optimizer.param_groups[0]["lr"]) / 2e-4)
        if (step + 1) % epoch_size == 0:
            optimizer.step()
            scheduler.step()
    return worst


def pool_statistics(query, size, count, batch_size=50):
    """Of `count` fakes that came after the pool was full: the share that was kept back for an older one, the mean age of those
    older ones in fakes, and the share of them older than 4 * size. query: [n, 1, 1, 3] => [n, 1, 1, 3]."""
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

    pool, twin = importlib.import_module("cyclegan").ImagePool(size, (1, 1)), load_twins().ImagePool(size)
    swap, seeds = tf.function(pool.swap), iter(range(count))
    random.seed(0)
    ours = pool_statistics(lambda x: swap(tf.constant(x), tf.constant([0, next(seeds)], tf.int64)).numpy(), size, count)
    return ours, pool_statistics(lambda x: twin.query(torch.from_numpy(x)).numpy(), size, count)


# ------------------------------------------------------------------------------------------------------------- golden

SMALL = {  # name: width, height and width of the picture
    "unet-6": (2, 64, 64),
    "resnet-2": (4, 32, 40),
    "ganilla": (4, 48, 32),
    "conditional": (4, 64, 64),
    "patchgan-3": (4, 64, 64),
}


def write_golden():
    """tests/golden/NAME.npz: input, output and the weights by their names in PyTorch, of each small network."""
    GOLDEN.mkdir(exist_ok=True)
    for name, (width, height, breadth) in SMALL.items():
        module = randomise(build_twin(name, width))
        for parameter in module.parameters():  # half of the bytes, and exact
            parameter.data = parameter.data.half().float()
        images = draw_images(0, 1, height, breadth, 6 if name == "conditional" else 3).astype(np.float16)
        weights = {name: values.astype(np.float16) for name, values in parameters(module).items()}
        output = run_twin(module, images.astype(np.float32))
        np.savez_compressed(GOLDEN / f"{name}.npz", input=images, output=output, **weights)
        print(f"{GOLDEN / name}.npz: {(GOLDEN / f'{name}.npz').stat().st_size} bytes, outputs vary by {output.std():.2f}")


# --------------------------------------------------------------------------------------------------------- the table

NETWORKS = [  # name, what it is, parameters by REFERENCE, other size, size of the batch of 2
    ("unet-8", "U-Net 256, batch norm", 54_413_955, (256, 512), (256, 256)),
    ("unet-7", "U-Net 128, batch norm", 41_828_995, (128, 384), (128, 128)),
    ("resnet-9", "ResNet, 9 blocks, instance norm", 11_378_179, (132, 200), (128, 128)),
    ("resnet-6", "ResNet, 6 blocks, instance norm", 7_837_699, (132, 200), (128, 128)),
    ("ganilla", "GANILLA, instance norm", 7_228_419, (240, 176), (128, 128)),
    ("conditional", "PatchGAN 70, 6 channels, batch norm", 2_768_705, (286, 200), (128, 128)),
    ("patchgan-3", "PatchGAN 70, 3 channels, instance norm", 2_764_737, (286, 200), (128, 128)),
    ("patchgan-5", "PatchGAN 286, instance norm", 11_154_369, (286, 200), (128, 128)),
    ("patchgan-1", "PatchGAN 16, instance norm", 136_385, (286, 200), (128, 128)),
    ("patchgan-0", "PixelGAN, instance norm", 8_705, (286, 200), (128, 128)),
]
TRAININGS = [  # script, crop, steps, ngf = ndf, blocks, calm
    ("pix2pix", 64, 10, 16, 0, True),
    ("cyclegan", 64, 10, 16, 3, True),
    ("ganilla", 64, 10, 16, 0, True),
    ("pix2pix", 128, 10, 16, 0, False),
    ("cyclegan", 64, 10, 16, 3, False),
    ("ganilla", 64, 10, 16, 0, False),
    ("pix2pix", 128, 1, 64, 0, False),
    ("cyclegan", 64, 1, 64, 9, False),
    ("ganilla", 64, 1, 64, 0, False),
]


def print_table():
    """Prints all of it. Returns what is above its limit, in words."""
    import tensorflow as tf
    import torch

    began, above = time.monotonic(), []

    def check(what, value, limit):
        if not value <= limit:
            above.append(f"{what}: {value:.2g} is above {limit:g}")
        return f"{value:.1e}"

    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, on a CPU, float32.\n")
    print("| network | parameters: ours | PyTorch | paper's code | difference at 256×256 | at another size | batch of 2 | "
          "PyTorch's own rounding |")  # fmt: skip
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
    print(f"\nLearning rate, 100 + 100 epochs: at most {rates} of its first value apart (ours falls by step, theirs by epoch).")
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
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    if args.golden:
        write_golden()
        return 0
    above = print_table()
    for line in above:
        print(f"above its limit: {line}", file=sys.stderr)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
