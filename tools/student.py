"""No command: a small generator that learns the translations of a trained one, for distill.py. It
is the generator of cut.py, trained by cut.py's own loop, so that its folder is one of cut.py's."""

from pathlib import Path

from common import UserError, load_algorithm
from perceptual import build_lpips

cut, CUT = load_algorithm("cut")
tf = cut.tf

MOST = 8  # pixels that --steady moves a photograph by, down or up, and left or right
WINDOW = 64  # pixels of an image that features are compared in: LPIPS was made for such patches


class Student(CUT):
    """CUT's generator with other losses: the images of B are the teacher's translations of those of
    A, under the same names. training=False: as CUT."""

    losses = ("l1", "features", "steady")

    def train_step(self, step, images):
        """One step on a batch of batches(). Returns the losses, float32 [3]."""
        args = self.args
        photos, targets = images
        n = len(photos)
        (generator,) = self.networks.values()
        (optimizer,) = self.optimizers.values()
        seed = tf.stack([args.seed, step])
        features = steady = tf.constant(0.0)
        inputs = photos
        if args.steady:
            offset = draw_offset(seed)
            inputs = tf.concat([photos, disturb(move(photos, offset), seed)], 0)

        with tf.GradientTape() as tape:
            outputs = generator(inputs)
            l1 = l1_loss(outputs[:n], targets)
            if args.features:
                features = self.feature_loss(outputs[:n], targets, seed)
            if args.steady:  # G(moved, disturbed) => G(photograph), moved
                steady = l1_loss(outputs[n:], move(outputs[:n], offset))
            scaled = optimizer.scale_loss(l1 + features + args.steady * steady)

        weights = generator.trainable_variables
        gradients = tape.gradient(scaled, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return tf.stack([l1, features, steady])

    def build_training(self, args):
        """The network that compares features, and the optimizer."""
        (generator,) = self.networks.values()
        if args.features:
            self.look, self.importance = build_lpips("vgg")
        self.optimizers["generator"] = cut.build_optimizer(
            generator.trainable_variables, args.lr, args.beta1, args.mixed_precision
        )
        self.learning_rates["generator"] = args.lr
        self.train_step = cut.compile_step(self.train_step, args.xla)

    def feature_loss(self, outputs, targets, seed):
        """LPIPS of images [n, h, w, 3] in [-1, 1], by VGG16, in a random window of them."""
        height, width = (min(side, WINDOW) for side in outputs.shape[1:3])
        both = tf.concat([outputs, targets], -1)
        seed = tf.random.experimental.stateless_fold_in(seed, 2)
        window = tf.image.stateless_random_crop(both, [len(both), height, width, 6], seed)
        window = (window + 1) * 127.5
        total = 0.0
        seen = self.look(window[..., :3])
        wanted = self.look(tf.stop_gradient(window[..., 3:]))
        for x, y, importance in zip(seen, wanted, self.importance, strict=True):
            difference = tf.square(to_unit(x) - to_unit(y)) * importance
            total += tf.reduce_mean(tf.reduce_sum(difference, -1))
        return total

    def find_training_images(self):
        """{domain: paths}, as many of B as of A, in the same order."""
        folder = Path(self.args.input_dir)
        twins = {Path(path).stem: path for _, path in cut.list_images(folder, "train", "B")}
        photos = [path for _, path in cut.list_images(folder, "train", "A")]
        photos = [path for path in photos if Path(path).stem in twins]
        return {"A": photos, "B": [twins[Path(path).stem] for path in photos]}

    def batches(self, paths, start, share=None):
        """Training batches from step `start` on: A and B, the same images, mirrored alike."""
        args = self.args
        domains = []
        for domain in ("A", "B"):
            domains.append(
                cut.random_batches(
                    paths[domain], self.domains[domain], self.scale, self.crop, args.batch_size,
                    args.flip, args.seed, start, args.cache_mb // 2, share, args.version,
                )
            )
        return tf.data.Dataset.zip(*domains)


class Distillation(cut.Training):
    """cut.py's training, which tells what continues it."""

    def say_goodbye(self):
        """Says why the training ended. Returns the exit code."""
        if self.unreadable:
            raise UserError(f"{self.unreadable}; step {self.step} is saved")
        if self.step < self.total or self.signals:
            print(f"stopped and saved at step {self.step}; the same command continues")
            return 128 + (self.signals[0] if self.signals else cut.signal.SIGTERM)
        return 0


def l1_loss(outputs, targets):
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(outputs - targets))


def to_unit(x):
    """Feature maps [n, h, w, c] divided by their lengths; the root has no gradient at 0."""
    return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), -1, keepdims=True) + 1e-10)


def draw_offset(seed):
    """How far the photographs of a step are moved, int32 [2]: -MOST to MOST rows and columns."""
    seed = tf.random.experimental.stateless_fold_in(seed, 3)
    return tf.random.stateless_uniform([2], seed, -MOST, MOST + 1, tf.int32)


def move(images, offset):
    """Images [n, h, w, c] => moved by rows and columns, int32 [2]; what comes in is reflected."""
    padded = tf.pad(images, [[0, 0], [MOST, MOST], [MOST, MOST], [0, 0]], "REFLECT")
    start = tf.concat([[0], MOST - offset, [0]], 0)
    return tf.ensure_shape(tf.slice(padded, start, images.shape), images.shape)


def disturb(images, seed):
    """Images in [-1, 1] => up to 10 % brighter or darker, with noise of 2.5 levels of 255."""
    seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in (4, 5)]
    brightness = tf.random.stateless_uniform([], seeds[0], 0.9, 1.1)
    noise = tf.random.stateless_normal(images.shape, seeds[1], 0.0, 0.02)
    return tf.clip_by_value((images + 1) * brightness - 1 + noise, -1, 1)


def count_macs(network, size):
    """The multiplications of a generator's convolutions for one image of (height, width)."""
    images = tf.TensorSpec([1, *size, network.input.shape[-1]], tf.float32)
    graph = tf.function(lambda x: network(x, training=False)).get_concrete_function(images).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative"):
            _, kernel, *more = operation.inputs
            # a transposed convolution multiplies each pixel of its input, the last tensor
            pixels = more[0] if more else operation.outputs[0]
            _, height, width, _ = pixels.shape
            total += height * width * kernel.shape.num_elements()
    return total


def describe(student, teacher, size):
    """Says how large two generators are, at (height, width)."""
    few, many = count_macs(student, size), count_macs(teacher, size)
    height, width = size
    print(
        f"student {student.count_params():,} parameters, {few / 1e9:.2f} GMAC at {height}x{width}; "
        f"teacher {teacher.count_params():,}, {many / 1e9:.2f}, {many / few:.1f} times as many",
        flush=True,
    )


def train(argv, domains, facts, teacher):
    """Trains a student, or goes on. argv: cut.py's command line; domains: {"A": options of a
    Domain, "B": ...}; facts: "features", whether VGG16 compares them, and "steady", the weight of
    that loss; teacher: its network. Returns the exit code."""
    args = None
    try:
        values = cut.copy.deepcopy(cut.FLAGS)
        values(argv)
        args = cut.complete(values, argv, Student)
        args.domains = domains
        args.features = facts["features"]
        args.steady = facts["steady"]
        cut.prepare(args)
        training = Distillation(args, Student, cut.find_beginning(args))
        (generator,) = training.model.networks.values()
        describe(generator, teacher, training.model.crop)
        return training.run()
    except BrokenPipeError:  # the reader has gone, as in `| head`
        cut.turn_off(cut.sys.stdout)
        return 141
    except Exception as error:
        message = cut.explain(error, args)
        if message is None:
            raise
        raise UserError(message) from None
