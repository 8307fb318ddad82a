"""What animegan.py has of its own: the networks, the losses, edges that are blurred, two phases, features of VGG; ten
training steps as in PyTorch."""

import importlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SCRIPTS, paint, pngs, save_domains, save_image
from random_vgg import random_features
from reference.parity import draw_images, load_reference
from run_tool import fails, run_tool

import animegan

script = SCRIPTS["animegan"]


def make_model(training=True, **changes):
    """AnimeGAN with the smallest networks, with changes of the flags; photographs for the size of its features."""
    return animegan.AnimeGAN(script.options(**changes), training)


@pytest.fixture
def data(tmp_path):
    return script.save_data(tmp_path / "data")


@pytest.fixture(autouse=True)
def repeatable():
    keras.utils.set_random_seed(0)


# ---------------------------------------------------------------------------------------------------------- networks


def test_parameters_are_those_of_the_authors_code():
    assert animegan.build_generator().count_params() == 2_143_552
    discriminator = animegan.build_discriminator()
    assert sum(np.prod(weight.shape) for weight in discriminator.trainable_variables) == 1_128_800
    assert discriminator.compute_output_shape((1, 256, 256, 3)) == (1, 64, 64, 1)


def test_images_keep_their_sizes():
    generator = animegan.build_generator(2)
    for size in ((8, 8), (36, 100)):
        assert generator(tf.zeros([1, *size, 3])).shape == (1, *size, 3)


def test_images_of_a_batch_do_not_see_each_other():
    """Layer norm is over one image."""
    images = draw_images(0, 2, 32, 32, 3)
    for network in (animegan.build_generator(4), animegan.build_discriminator(4)):
        both = network(images)
        alone = tf.concat([network(images[:1]), network(images[1:])], 0)
        np.testing.assert_allclose(both, alone, atol=1e-4)


def test_a_residual_generator_begins_as_the_identity():
    generator = animegan.build_generator(4, residual=True)
    assert generator.count_params() == animegan.build_generator(4).count_params()
    images = draw_images(1, 2, 16, 24, 3)
    np.testing.assert_allclose(generator(images), 0.98 * images, atol=1e-5)
    last = generator.get_layer("last").kernel
    last.assign(last + 1)
    changed = generator(images).numpy()
    assert (np.abs(changed - images) > 0.1).mean() > 0.5 and np.abs(changed).max() <= 1


def stroked(image, width):
    """What --stroke makes of an image [h, w, 3] in [-1, 1], pixel by pixel: of eight round neighbourhoods the mean of
    the one that varies least, where one varies far less."""
    half = width // 2
    height, breadth = image.shape[:2]

    def mean(values):
        means = np.zeros_like(values)
        for row in range(height):
            for column in range(breadth):
                part = values[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
                means[row, column] = part.mean((0, 1))
        return means

    colours = mean(mean(image))
    variance = (mean(mean(image**2)) - colours**2).sum(-1) + 1e-3
    slant = round(0.7 * width)
    places = [(0, width), (0, -width), (width, 0), (-width, 0)]
    places += [(y, x) for y in (slant, -slant) for x in (slant, -slant)]
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(breadth):
            inside = [(row + y, column + x) for y, x in places]
            inside = [(y, x) for y, x in inside if 0 <= y < height and 0 <= x < breadth]
            shares = [variance[place] ** -4 for place in inside]
            result[row, column] = np.average([colours[place] for place in inside], axis=0, weights=shares)
    return result


@pytest.mark.parametrize("width", [1, 3, 4])
def test_strokes_are_those_of_a_loop_over_pixels(width):
    generator = animegan.build_generator(4, residual=True, stroke=width)
    assert generator.count_params() == animegan.build_generator(4).count_params()
    image = tf.image.resize(draw_images(1, 1, 8, 12, 3), (24, 36), "bicubic").numpy()
    image = np.clip(image, -1, 1)
    expected = stroked(np.float64(image[0]), width)
    np.testing.assert_allclose(generator(image)[0], 0.98 * expected, atol=1e-4)
    if width > 1:
        assert np.abs(expected - image[0]).mean() > 0.01


def test_strokes_wider_than_the_image():
    image = draw_images(1, 1, 8, 8, 3)
    painted = animegan.build_generator(4, residual=True, stroke=64)(image).numpy()
    mean = image.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(painted, np.broadcast_to(0.98 * mean, painted.shape), atol=1e-4)


def test_strokes_flatten_areas_and_keep_edges():
    noise = np.random.default_rng(0).normal(0, 0.1, [1, 32, 64, 3])
    image = np.concatenate([np.full([1, 32, 32, 3], -0.5), np.full([1, 32, 32, 3], 0.5)], 2) + noise
    painted = animegan.build_generator(4, residual=True, stroke=4)(np.float32(image)).numpy() / 0.98
    left, right = painted[:, :, :32], painted[:, :, 32:]
    assert left.std() < 0.05 and right.std() < 0.05
    assert left[:, :, -1].mean() < -0.4 and right[:, :, 0].mean() > 0.4


def test_ink_is_where_an_image_is_darker_than_around():
    """A dark line on grey is drawn, and the dark side of an edge; a light line, a slope and a plain area are not."""
    photo = np.zeros([1, 40, 60, 3], np.float32)
    photo[:, :, 10:12] = -0.4
    photo[:, :, 30:32] = 0.4
    photo[:, :, 45:] = np.linspace(0, 0.2, 15)[:, None]
    lines = np.array(animegan.draw_lines(tf.constant(photo), 4))[0, :, :, 0]
    assert lines.shape == (40, 60) and lines.min() >= 0 and lines.max() <= 1
    assert lines[:, 10:12].min() > 0.8
    assert lines[:, 30:32].max() == 0 and lines[:, 18:24].max() == 0 and lines[:, 48:].max() == 0
    photo = np.concatenate([np.full([1, 40, 20, 3], -0.2), np.full([1, 40, 20, 3], 0.6)], 2)
    plain, half, full = (
        animegan.build_generator(4, residual=True, stroke=4, ink=ink)(np.float32(photo)).numpy()[0]
        for ink in (0, 0.5, 1)
    )
    assert plain[:, 19].mean() > half[:, 19].mean() + 0.1 > full[:, 19].mean() + 0.2
    np.testing.assert_allclose(full[:, [8, 32]], plain[:, [8, 32]], atol=1e-4)


@pytest.mark.more
@pytest.mark.parametrize("kind", ["keras", "litert", "saved_model", "onnx"])
def test_strokes_are_exported(data, tmp_path, kind):
    """The exported network gives the pixels of test."""
    if kind == "onnx":
        runtime = pytest.importorskip("onnxruntime")
    folder = tmp_path / "t"
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--residual", "--stroke", 3, "--ink", 0.5]
    flags += ["--init_steps", 0, "--lr", 0.01]
    script(*flags, "--max_steps", 2, "--display_freq", 0, "--output_dir", folder)
    script("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "test")
    if kind == "saved_model":
        script("--mode", "export", "--checkpoint", folder, "--output_dir", tmp_path / "export")
    else:
        result = run_tool("export", folder, "--format", kind, "--output_dir", tmp_path / "export")
        assert result.returncode == 0, result.stderr
    images = pngs(tmp_path / "test")
    name = next(name for name in images if name.endswith("-inputs.png"))
    inputs, expected = images[name][None], images[name.replace("-inputs", "-outputs")]
    if kind == "litert":
        (path,) = (tmp_path / "export").glob("*.tflite")
        signature = tf.lite.Interpreter(str(path)).get_signature_runner()
        (outputs,) = signature(**dict.fromkeys(signature.get_input_details(), inputs)).values()
    elif kind == "keras":
        outputs = keras.models.load_model(tmp_path / "export/model.keras")(inputs)
    elif kind == "onnx":
        session = runtime.InferenceSession(tmp_path / "export/model.onnx")
        (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    else:
        serve = tf.saved_model.load(str(tmp_path / "export/saved_model")).signatures["serving_default"]
        (outputs,) = serve(tf.constant(inputs)).values()
    assert np.abs(np.float32(outputs[0]) - expected).max() <= 1


@pytest.mark.more
def test_a_residual_generator_trains_and_is_exported(data, tmp_path):
    """Its first translations are the photographs; the exported network gives the pixels of test."""
    folder = tmp_path / "t"
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--residual", "--init_steps", 0, "--seed", 1]
    script(*flags, "--max_steps", 2, "--lr", 0, "--display_freq", 0, "--output_dir", folder)
    script("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "test")
    images = pngs(tmp_path / "test")
    photos = [name for name in images if name.endswith("-inputs.png")]
    assert len(photos) == 4
    for name in photos:
        output = images[name.replace("-inputs", "-outputs")]
        assert np.abs(np.float32(images[name]) - output).mean() < 4
    exported = run_tool("export", folder, "--format", "litert", "--output_dir", tmp_path / "export")
    assert exported.returncode == 0 and list((tmp_path / "export").glob("*.tflite"))
    pytest.importorskip("torch")
    fails(run_tool("import-weights", "--export", tmp_path / "x.pth", folder), "have no --residual")


def copy_weights(torch, network, module):
    """The trained weights of a network into a module that has the same, in the same order."""
    weights = network.trainable_variables
    parameters = list(module.parameters())
    assert len(weights) == len(parameters)
    for weight, parameter in zip(weights, parameters, strict=True):
        value = weight.numpy()
        if value.ndim == 4:
            is_depthwise = value.shape[3] == 1 and tuple(parameter.shape[:2]) == (value.shape[2], 1)
            value = value.transpose(2, 3, 0, 1) if is_depthwise else value.transpose(3, 2, 0, 1)
        assert tuple(parameter.shape) == value.shape
        parameter.data = torch.tensor(value)


def to_torch(torch, images):
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)


def test_generator_is_that_of_torch():
    torch = pytest.importorskip("torch")
    network = animegan.build_generator(4)
    for weight in network.weights:
        if "norm" in weight.path:
            weight.assign(weight + np.random.default_rng(1).normal(0, 0.3, weight.shape))
    module = load_reference().AnimeGenerator(4)
    copy_weights(torch, network, module)
    for shape in ((1, 64, 64, 3), (2, 36, 100, 3)):
        images = draw_images(2, *shape)
        with torch.no_grad():
            expected = module(to_torch(torch, images)).permute(0, 2, 3, 1).numpy()
        assert expected.std() > 0.05
        np.testing.assert_allclose(network(images), expected, atol=1e-3)


def names_of_animegan2_pytorch():
    """The tensors of a generator of animegan2-pytorch, in the order of its layers."""

    def step(place, has_bias=False):
        convolution = [f"{place}.1.weight", f"{place}.1.bias"][: 1 + has_bias]
        return [*convolution, f"{place}.2.weight", f"{place}.2.bias"]

    names = [name for number in range(3) for name in step(f"block_a.{number}")]
    names += [name for number in range(2) for name in step(f"block_b.{number}")]
    names += step("block_c.0")
    for block in range(1, 5):
        inside = f"block_c.{block}.layers"
        names += step(f"{inside}.0") + step(f"{inside}.1", has_bias=True)
        names += [f"{inside}.2.weight", f"{inside}.3.weight", f"{inside}.3.bias"]
    names += step("block_c.5")
    for place in ("block_d.0", "block_d.1", "block_e.0", "block_e.1", "block_e.2"):
        names += step(place)
    return [*names, "out_layer.0.weight"]


def test_weights_of_animegan2_pytorch(tmp_path):
    """Imported, a test gives the pixels of PyTorch; exported, the tensors are the same."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    module = load_reference().AnimeGenerator(4)
    for weight in module.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    state = dict(zip(names_of_animegan2_pytorch(), (weight.data for weight in module.parameters()), strict=True))
    torch.save(state, tmp_path / "hayao.pth")
    flags = ["--script", "animegan", "--output_dir"]
    result = run_tool("import-weights", tmp_path / "hayao.pth", *flags, tmp_path / "hayao")
    assert result.returncode == 0 and "AnimeGANv2 generator" in result.stdout, result
    image = paint(64, 48, 3)
    path = save_image(tmp_path / "one.png", image)
    test = ["--checkpoint", tmp_path / "hayao", "--input_dir", path, "--native_size"]
    script("--mode", "test", *test, "--output_dir", tmp_path / "test")
    with torch.no_grad():
        outputs = module(to_torch(torch, np.float32(image[None]) / 127.5 - 1)).permute(0, 2, 3, 1).numpy()[0]
    expected = np.rint((outputs + 1) * 127.5).astype(int)
    assert expected.std() > 10
    assert np.abs(pngs(tmp_path / "test")["one-outputs.png"].astype(int) - expected).max() <= 1
    assert run_tool("import-weights", tmp_path / "hayao", "--export", tmp_path / "again.pth").returncode == 0
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)
    state["out_layer.0.weight"] = torch.zeros(1, 4, 1, 1)
    torch.save(state, tmp_path / "grey.pth")
    result = run_tool("import-weights", tmp_path / "grey.pth", *flags, tmp_path / "grey")
    assert result.returncode == 2 and "3 to 1 channels" in result.stderr


def twin_of_discriminator(torch, network, width):
    """The discriminator in PyTorch, with equal weights and vectors u."""
    module = load_reference().AnimeDiscriminator(width)
    copy_weights(torch, network, module)
    ours = [layer for layer in network.layers if isinstance(layer, animegan.SpectralConv2D)]
    theirs = [layer for layer in module if hasattr(layer, "u")]
    for layer, other in zip(ours, theirs, strict=True):
        other.u = torch.tensor(layer.u.numpy())
    return module


def test_discriminator_is_that_of_torch():
    torch = pytest.importorskip("torch")
    network = animegan.build_discriminator(4)
    module = twin_of_discriminator(torch, network, 4)
    images = draw_images(3, 2, 48, 64, 3)
    for _ in range(3):
        expected = module(to_torch(torch, images)).permute(0, 2, 3, 1).detach().numpy()
        found = network(images)
        assert expected.shape == (2, 12, 16, 1)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        # each call moves u; after a layer norm no output tells
        ours = [layer.u.numpy() for layer in network.layers if hasattr(layer, "u")]
        theirs = [layer.u.numpy() for layer in module if hasattr(layer, "u")]
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ losses


def test_losses_by_hand():
    a, b = (0.8 * draw_images(seed, 2, 8, 12, 3).astype(np.float64) for seed in (4, 5))
    x, y = tf.constant(a, tf.float32), tf.constant(b, tf.float32)
    matrices = [image.reshape(-1, 3).T @ image.reshape(-1, 3) / image.size for image in a]
    np.testing.assert_allclose(animegan.gram(x), matrices, atol=1e-6)
    assert float(animegan.l1_loss(x, y)) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    far = np.array([0.5, -2.0, 3.0], np.float32)
    assert float(animegan.huber_loss(tf.constant(far), 0.0)) == pytest.approx(np.mean([0.125, 1.5, 2.5]))
    to_yuv = np.array(
        [[0.299, -0.14714119, 0.61497538], [0.587, -0.28886916, -0.51496512], [0.114, 0.43601035, -0.10001026]]
    )
    difference = (a - b) / 2 @ to_yuv
    expected = np.abs(difference[..., 0]).mean() + (difference[..., 1:] ** 2 / 2).mean((0, 1, 2)).sum()
    assert np.abs(difference[..., 1:]).max() < 1  # so Huber's loss is the square here
    assert float(animegan.colour_loss(x, y)) == pytest.approx(expected, rel=1e-4)
    steps = np.square(np.diff(a, axis=1)).mean() / 2 + np.square(np.diff(a, axis=2)).mean() / 2
    assert float(animegan.variation_loss(x)) == pytest.approx(steps, rel=1e-5)
    grey = animegan.to_grey(x)
    np.testing.assert_allclose(grey, np.repeat(a @ [[0.299], [0.587], [0.114]], 3, -1), atol=1e-6)


def scene():
    """A drawing with sharp and with soft edges, uint8 RGB [96, 96, 3]."""
    image = np.full((96, 96, 3), 220, np.uint8)
    image[20:60, 15:50] = (60, 90, 160)
    image[50:80, 40:85] = (200, 120, 40)
    image[:, 88:] = np.linspace(220, 150, 8)[:, None].astype(np.uint8)
    return image


def test_edges_alone_are_blurred():
    image = scene()
    signed = tf.constant(np.float32(image[None]) / 127.5 - 1)
    edges = animegan.find_edges(signed).numpy()[0, ..., 0]
    smooth = (animegan.smooth_edges(signed).numpy()[0] + 1) * 127.5
    assert edges[40, 15] == edges[40, 49] == 1 and edges[40, 30] == edges[5, 5] == 0
    np.testing.assert_allclose(smooth[edges == 0], image[edges == 0], atol=1e-3)
    steps_before = np.abs(np.diff(image[40].astype(int), axis=0)).max()
    steps_after = np.abs(np.diff(smooth[40], axis=0)).max()
    assert steps_after < steps_before / 2


def test_edges_are_those_of_opencv():
    """The authors' edge_smooth, with the edges of Canny's detector."""
    cv2 = pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    for image in (scene(), np.array(paint(96, 96, 3)) // 2 + scene() // 2):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        theirs = cv2.dilate(cv2.Canny(grey, 100, 200), np.ones((5, 5), np.uint8)) > 0
        ours = animegan.find_edges(tf.constant(np.float32(image[None]) / 127.5 - 1)).numpy()[0, ..., 0] > 0
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.75
        kernel = cv2.getGaussianKernel(5, 0)
        blurred = cv2.filter2D(image.astype(np.float32), -1, kernel @ kernel.T, borderType=cv2.BORDER_REFLECT_101)
        smooth = (animegan.smooth_edges(tf.constant(np.float32(image[None]) / 127.5 - 1)).numpy()[0] + 1) * 127.5
        np.testing.assert_allclose(smooth[ours], blurred[ours], atol=0.01)


# ---------------------------------------------------------------------------------------------------------- features


def test_features_have_one_size_whatever_the_network(data):
    """Divided by their mean size on photographs; or as they are."""
    model = make_model(input_dir=str(data), relative_features=True)
    paths = sorted((data / "trainA").iterdir())
    photos = [model.domains["A"].read(str(path), model.crop) for path in paths]
    sizes = [np.abs(model.look(model.domains["A"].to_signed(photo[None]))).mean() for photo in photos]
    assert np.mean(sizes) == pytest.approx(1, rel=1e-4)
    plain = make_model(input_dir=str(data), relative_features=False)
    assert float(plain.feature_size) == 1
    size = np.abs(plain.look(plain.domains["A"].to_signed(photos[0][None]))).mean()
    assert size == pytest.approx(sizes[0] * float(model.feature_size), rel=1e-4)


def test_features_are_before_the_last_relu_at_an_eighth_of_the_size():
    features = animegan.build_features(str(random_features()))
    maps = features(draw_images(6, 1, 64, 40, 3)).numpy()
    assert maps.shape == (1, 8, 5, 512) and 0.3 < (maps < 0).mean() < 0.7
    with h5py.File(random_features()) as file:
        kernel = file["block1_conv1"]["kernel"][...]
    (first,) = features.get_layer("block1_conv1")._inbound_nodes[-1].output_tensors
    network = keras.Model(features.input, first)
    image = draw_images(7, 1, 16, 16, 3)
    levels = (image[..., ::-1] + 1) * 127.5 - [103.939, 116.779, 123.68]
    expected = tf.nn.relu(tf.nn.conv2d(np.float32(levels), kernel, 1, "SAME"))
    np.testing.assert_allclose(network(image), expected, rtol=1e-3, atol=1e-2)


def test_the_vgg16_of_lpips_for_keras():
    """What make-features.py does to the first convolution: the same maps, away from the border."""
    tool = importlib.import_module("make-features")
    draw = np.random.default_rng(0)
    kernel, bias = draw.normal(size=[3, 3, 3, 4]), draw.normal(size=4)
    levels = draw.uniform(0, 255, [1, 12, 12, 3])
    theirs = (levels / 127.5 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    ours = levels[..., ::-1] - [103.939, 116.779, 123.68]
    expected = tf.nn.conv2d(theirs, kernel, 1, "VALID") + bias
    new_kernel, new_bias = tool.to_keras(kernel, bias)
    np.testing.assert_allclose(tf.nn.conv2d(ours, new_kernel, 1, "VALID") + new_bias, expected, rtol=1e-6)


def test_features_that_cannot_be_had(data, tmp_path, monkeypatch):
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--output_dir", tmp_path / "t"]
    assert "no such file" in script.fails(*flags, "--features", tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    assert "neither VGG19 nor VGG16" in script.fails(*flags, "--features", tmp_path / "other.h5")

    def no_network(**options):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG19", no_network)
    message = script.fails(*flags, "--features", "vgg19")
    assert "URL fetch failure" in message and "docs/animegan.md" in message
    assert not (tmp_path / "t").exists()


def test_make_features_says_what_it_needs(tmp_path, monkeypatch):
    importlib.import_module("make-features")
    result = run_tool("make-features", tmp_path / "a.txt")
    assert result.returncode == 2 and "ends in .h5" in result.stderr


def test_other_data_than_rgb_is_refused(tmp_path):
    for part in ("trainA", "trainB"):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "a.npy", np.zeros([40, 40, 2], np.uint16))
    flags = ["--mode", "train", "--input_dir", tmp_path, *script.tiny, "--output_dir", tmp_path / "t"]
    assert "for 8-bit RGB" in script.fails(*flags)


# ---------------------------------------------------------------------------------------------------------- training


def weights_of(model):
    return {name: [w.numpy() for w in network.trainable_variables] for name, network in model.networks.items()}


def has_moved(before, after):
    return {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}


@pytest.mark.more
def test_the_first_phase_trains_the_generator_alone(data):
    model = make_model(input_dir=str(data), init_steps=2)
    images = tf.constant(draw_images(8, 1, 32, 32, 3)), tf.constant(draw_images(9, 1, 32, 32, 3))
    states = [weights_of(model)]
    losses = []
    for step in range(3):
        losses.append(model.train_step(tf.constant(step, tf.int64), images).numpy())
        states.append(weights_of(model))
    assert has_moved(states[0], states[1]) == has_moved(states[1], states[2]) == {"generator_AtoB"}
    assert has_moved(states[2], states[3]) == {"generator_AtoB", "discriminator"}
    assert losses[0][2] > 0 and (np.delete(losses[0], 2) == 0).all() and (losses[2] > 0).all()
    assert [int(model.optimizers[name].iterations) for name in ("content", "generator", "discriminator")] == [2, 1, 1]


def twin_of(torch, model):
    """A training of both networks in PyTorch, from the weights of a model."""
    reference = load_reference()
    args = model.args
    generator = reference.AnimeGenerator(args.ngf)
    copy_weights(torch, model.networks["generator_AtoB"], generator)
    discriminator = twin_of_discriminator(torch, model.networks["discriminator"], args.ndf)
    with h5py.File(random_features()) as file:
        names = [f"block{block}_conv{n}" for block, n in ((1, 2), (2, 2), (3, 3), (4, 3)) for n in range(1, n + 1)]
        kernels = [torch.tensor(file[name]["kernel"][...].transpose(3, 2, 0, 1)) for name in names]
    features = reference.Vgg16(kernels, float(model.feature_size))
    weights = args.gan_weight, args.content_weight, args.style_weight, args.colour_weight, args.variation_weight
    return reference.AnimeGan(generator, discriminator, features, args.lr, args.lr_d, weights)


@pytest.mark.parametrize("size", [32, 48])
def test_ten_steps_are_those_of_torch(data, size):
    torch = pytest.importorskip("torch")
    model = make_model(input_dir=str(data), init_steps=0, crop_size=str(size), scale_size=str(size), lr=1e-4, lr_d=1e-4)
    twin = twin_of(torch, model)
    for step in range(10):
        photos, styles = draw_images(20 + step, 2, size, size, 3), draw_images(50 + step, 2, size, size, 3)
        smooth = animegan.smooth_edges(tf.constant(styles)).numpy()
        expected = twin.train_step(*(to_torch(torch, images) for images in (photos, styles, smooth)))
        found = model.train_step(tf.constant(step, tf.int64), (tf.constant(photos), tf.constant(styles)))
        np.testing.assert_allclose(found, expected, rtol=1e-3 if step == 0 else 0.03, atol=1e-5)
    images = draw_images(99, 1, size, size, 3)
    with torch.no_grad():
        expected = twin.generator(to_torch(torch, images)).permute(0, 2, 3, 1).numpy()
    start = make_model(input_dir=str(data), init_steps=0).networks["generator_AtoB"]
    found = model.networks["generator_AtoB"](images)
    moved = np.abs(found - start(images)).mean()
    assert np.abs(found - expected).mean() < 0.1 * moved and moved > 1e-3


@pytest.mark.more
def test_the_content_phase_copies_a_photograph(data, tmp_path):
    """A hundred steps halve the content loss, and the picture comes nearer to the photograph."""
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--ngf", 8, "--init_steps", 200, "--max_steps", 200]
    out = script(*flags, "--progress_freq", 20, "--display_freq", 0, "--seed", 1, "--output_dir", tmp_path / "t")
    content = script.losses(out)[:, 2]
    assert content[-1] < 0.8 * content[0]


@pytest.mark.more
def test_pictures_and_styles_may_change_places(tmp_path):
    data = save_domains(tmp_path / "data", {"trainA": ["1.png"], "trainB": ["1.png"]})
    save_image(data / "testB" / "x.png", paint(40, 40, 9))
    flags = [*script.tiny, "--which_direction", "BtoA", "--max_steps", 3, "--display_freq", 0, "--seed", 1]
    script("--mode", "train", "--input_dir", data, *flags, "--output_dir", tmp_path / "t")
    out = script("--mode", "test", "--checkpoint", tmp_path / "t", "--output_dir", tmp_path / "test")
    assert "(1 image" in out
