"""Several replicas and several workers: equal numbers, faults, what a user can get wrong; tools/cluster.py, which
starts workers; docs/distribute.md.

Replicas need their own process, whose CPU is divided before TensorFlow starts: `measured` runs compute() there.
"""

import contextlib
import copy
import functools
import importlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    ROOT,
    SCRIPTS,
    assert_one_line,
    assert_same,
    checkpoints,
    command_line,
    plain_environment,
    save_hd_data,
    save_pairs,
    tensors,
)
from run_tool import fails, run_tool

STEPS = ["--seed", 3, "--max_steps", 3, "--display_freq", 0, "--lr", 0.002, "--decay_epochs", 0, "--save_freq", 1]
SMALL = ["--ngf", 4, "--ndf", 4, "--crop_size", 32, "--scale_size", 36]
UNPAIRED = [*SMALL, "--n_blocks", 1, "--n_layers_d", 1, "--batch_size", 2]
FLAGS = {  # of trainings that do not depend on the number of replicas
    "cyclegan": [*UNPAIRED, "--pool_size", 3],
    "siamesegan": [*SCRIPTS["siamesegan"].tiny, "--batch_size", 4],
}
SLOW = {
    "pix2pix": [*SMALL, "--norm", "instance", "--batch_size", 2],
    "cut": [*UNPAIRED, "--flip_equivariance"],
    "animegan": [*SCRIPTS["animegan"].tiny, "--batch_size", 2],
    "ganilla": ["--ngf", 4, "--ndf", 4, "--crop_size", 64, "--scale_size", 72, "--batch_size", 2, "--pool_size", 3],
}


def saved(checkpoint):
    """All tensors of a checkpoint but the count of savings, which starts anew with each process."""
    return {name: value for name, value in tensors(checkpoint).items() if not name.startswith("save_counter")}


def compute(folder, names):
    """Trains with these scripts, on one device and on two replicas. Runs in a process of its own."""
    import tensorflow as tf

    # one for all trainings: in one process TensorFlow takes the collectives of a second strategy for those of the first
    make = functools.cache(lambda devices, make=tf.distribute.MirroredStrategy: make(list(devices)))
    tf.distribute.MirroredStrategy = lambda devices: make(tuple(devices))
    results = {}
    for name in names.split():
        script, flags = SCRIPTS[name], {**FLAGS, **SLOW}[name]
        data = script.save_data(Path(folder) / f"{name}-data")
        run = functools.partial(script.recorded, "--mode", "train", *STEPS, "--input_dir", data)
        _, model = run(*flags, "--replicas", 2, "--output_dir", f"{folder}/{name}-2")
        weights = tf.nest.flatten(script.module.weights_of(model)) + tf.nest.flatten(model.state)
        results[name] = [[value.numpy() for value in weight.values] for weight in weights]
        run(*flags, "--output_dir", f"{folder}/{name}-1")
    if "cyclegan" in names:
        script, data = SCRIPTS["cyclegan"], f"{folder}/cyclegan-data"
        flags = ["--mode", "train", "--input_dir", data, *STEPS, *FLAGS["cyclegan"]]
        script(*flags, "--output_dir", f"{folder}/resumed", "--replicas", 2, "--max_steps", 2)
        script("--mode", "train", "--checkpoint", f"{folder}/resumed", "--max_steps", 3)
        more = ["--output_dir", f"{folder}/wrong"]
        results["errors"] = [
            script.fails(*flags, *more, "--replicas", 2, "--batch_size", 3),
            script.fails(*flags, *more, "--replicas", 2, "--xla"),
            script.fails(*flags, *more, "--replicas", 3),
        ]
        results["scales"] = [scales(script.module, replicas) for replicas in (1, 2)]
    Path(folder, "results").write_bytes(pickle.dumps(results))


def scales(module, replicas):
    """Loss scales and weights of float16, where the loss of the last of 4 images overflows in steps 1 and 2."""
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices("CPU")[:replicas]]
    strategy = tf.distribute.MirroredStrategy(devices) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        weight = tf.Variable([1.0, 2.0])
        optimizer = module.build_optimizer([weight], 0.1, 0.5, "float16")

    def train_step(step, images):
        with tf.GradientTape() as tape:
            factors = tf.where(tf.logical_and(images == 3.0, tf.logical_or(step == 1, step == 2)), np.inf, images + 1)
            scaled = optimizer.scale_loss(tf.reduce_mean(factors[:, None] * weight**2))
        optimizer.apply_gradients([(tape.gradient(scaled, weight), weight)])
        return tf.stack([optimizer.dynamic_scale.value])

    with strategy.scope():
        compiled = module.compile_step(train_step, False)
    images = tf.data.Dataset.from_tensor_slices(tf.range(4.0)).batch(4 // replicas).repeat()
    batches = iter(strategy.distribute_datasets_from_function(lambda share: images))
    found = [float(compiled(tf.constant(step, tf.int64), next(batches)).numpy()[0]) for step in range(5)]
    return found, [np.asarray(value) for value in getattr(weight, "values", [weight])]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """measured(names): the folder of the trainings of compute(), and its results."""

    @functools.cache
    def measure(names):
        folder = tmp_path_factory.mktemp("distribute")
        code = "import sys; sys.path.insert(0, 'tests'); import test_distribute as tests; "
        code += f"tests.compute({str(folder)!r}, {names!r})"
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder, pickle.loads((folder / "results").read_bytes())

    return measure


# --------------------------------------------------------------------------------------------------- one machine


def check_replicas(measured, names, name):
    """The gradients of the first step, in Adam's averages; after one more step losses and pools, more loosely, since
    Adam makes whole steps of gradients that are nothing but rounding, as those of biases before a norm."""
    folder, results = measured(names)
    for first, second in results[name]:
        np.testing.assert_array_equal(first, second)
    one, two = (tensors(folder / f"{name}-{n}" / "model-1") for n in (1, 2))
    assert one.keys() == two.keys()
    averages = {}  # {(optimizer, "momentums" or "velocities"): {key: length}}
    for key, value in one.items():
        optimizer, kind, *_ = key.split("/")
        if kind in ("momentums", "velocities"):
            averages.setdefault((optimizer, kind), {})[key] = np.linalg.norm(value)
    assert len(averages) >= 4
    for lengths in averages.values():  # biases before a norm have no gradient but rounding
        longest = max(lengths.values())
        for key, length in lengths.items():
            assert np.linalg.norm(one[key] - two[key]) <= 1e-3 * (length + longest), key
    one, two = (tensors(folder / f"{name}-{n}" / "model-2") for n in (1, 2))
    for key in [key for key in one if key.startswith(("smoothed", "pool"))]:
        assert np.linalg.norm(one[key] - two[key]) <= 0.02 * np.linalg.norm(one[key]), key
    options = [json.loads((folder / f"{name}-{n}" / "options.json").read_text()) for n in (1, 2)]
    assert [(o["replicas"], o["cluster"]) for o in options] == [(1, False), (2, False)]


@pytest.mark.more
@pytest.mark.parametrize("name", FLAGS)
def test_two_replicas_are_one_device_up_to_rounding_and_equal_to_each_other(measured, name):
    check_replicas(measured, " ".join(FLAGS), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_two_replicas_of_the_others(measured, name):
    check_replicas(measured, " ".join(SLOW), name)


@pytest.mark.more
def test_a_training_continues_on_replicas_bit_for_bit(measured):
    """It takes their number from options.json; the pool comes from the checkpoint."""
    folder, _ = measured(" ".join(FLAGS))
    assert_same(saved(folder / "resumed" / "model-3"), saved(folder / "cyclegan-2" / "model-3"))


@pytest.mark.more
def test_what_replicas_cannot_do_is_one_line(measured):
    shared, xla, devices = measured(" ".join(FLAGS))[1]["errors"]
    assert "--batch_size 3" in shared and "2 replicas" in shared
    assert "--xla" in xla and "--replicas 3" in devices and "at most 2" in devices


@pytest.mark.more
def test_an_infinity_on_one_replica_skips_the_update_on_all(measured):
    """Also in steps in which the other replica's gradients are finite. The scales are those of one device."""
    (one, weights), (two, copies) = measured(" ".join(FLAGS))[1]["scales"]
    assert one == two == [2.0**15, 2.0**14, 2.0**13, 2.0**13, 2.0**13]
    np.testing.assert_array_equal(*copies)
    assert np.isfinite(copies[0]).all()
    np.testing.assert_allclose(copies[0], weights[0], rtol=1e-6)


def shares(count):
    import tensorflow as tf

    return [tf.distribute.InputContext(count, index, 2 * count) for index in range(count)]


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_workers_have_the_parts_of_each_batch(tmp_path, cache_mb):
    """Of 2 workers with 2 replicas each; from a step on that is not the first."""
    module = SCRIPTS["pix2pix"].module
    paths = [str(path) for path in sorted(save_pairs(tmp_path, [f"{i}.png" for i in range(5)]).iterdir())]
    pairs = module.Pairs(module.Domain(), module.Domain(), {})
    flags = paths, pairs, (36, 36), (32, 32), 4, True, 3, 2, cache_mb
    whole = list(module.random_batches(*flags).take(2).as_numpy_iterator())
    parts = [list(module.random_batches(*flags, share).take(4).as_numpy_iterator()) for share in shares(2)]
    for step, batch in enumerate(whole):
        pieces = [piece for part in parts for piece in part[2 * step : 2 * step + 2]]
        assert batch.shape == (4, 32, 32, 6)
        np.testing.assert_array_equal(batch, np.concatenate(pieces))


def test_workers_have_the_parts_of_each_batch_of_crops(tmp_path):
    """Also where a batch spans two rounds of the cache."""
    module, folder = SCRIPTS["siamesegan"].module, save_hd_data(tmp_path)
    paths = [str(path) for path in sorted((folder / "trainA").iterdir())]
    flags = paths, module.Domain(), 64, 96, 3, 8, 2, 4, True, 3, 1  # 2 images in memory, 6 crops of them
    whole = np.concatenate(list(module.crop_batches(*flags).take(3).as_numpy_iterator()))
    parts = [list(module.crop_batches(*flags, share).take(6).as_numpy_iterator()) for share in shares(2)]
    pieces = [piece for step in range(3) for part in parts for piece in part[2 * step : 2 * step + 2]]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_a_worker_reads_only_its_own_part(tmp_path):
    """4 images a batch: a file that has gone is missed by the worker whose part it is in, not by the other one."""
    import tensorflow as tf

    module = SCRIPTS["pix2pix"].module
    paths = [str(path) for path in sorted(save_pairs(tmp_path, [f"{i}.png" for i in range(4)]).iterdir())]
    os.remove(paths[2])
    found = []
    for index in range(2):
        share = tf.distribute.InputContext(2, index, 2)
        pairs = module.Pairs(module.Domain(), module.Domain(), {})
        flags = paths, pairs, (36, 36), (32, 32), 4, True, 3, 0, 0, share
        try:
            with module.naming_unreadable(paths, pairs.read):
                found.append(str(len(list(module.random_batches(*flags).take(1)))))
        except module.UserError as error:
            found.append(str(error))
    message, read = sorted(found)
    assert read == "1" and message.startswith(f"{paths[2]} ")


# ------------------------------------------------------------------------------------------------- several machines


def free_ports(count):
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in range(count)]


def tf_config(ports, index):
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


CLUSTER = ROOT / "tools" / "cluster.py"


def launcher_fails(patch, config, *words):
    """tools/cluster.py, waiting 1 second at most, with a TF_CONFIG that it cannot take: one line with the words."""
    module = importlib.import_module("cluster")
    patch.setenv("TF_CONFIG", config)
    patch.setattr(module, "wait_for_workers", functools.partial(module.wait_for_workers, 1))
    fails(run_tool("cluster", ROOT / "pix2pix.py", "--mode", "train", "--seed", 1), *words)


def test_the_script_alone_asks_for_tf_config(monkeypatch, tmp_path):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    data = save_pairs(tmp_path / "in", ["0.png", "1.png"])
    flags = ["--input_dir", data, "--output_dir", tmp_path / "o", "--seed", 1, "--cluster"]
    message = SCRIPTS["pix2pix"].fails("--mode", "train", *SMALL, *flags)
    assert "--cluster needs TF_CONFIG" in message and "tools/cluster.py" in message
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["localhost"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["localhost:2222"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["localhost:99999"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["localhost:2222"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"chief": ["a:1"], "worker": ["localhost:2222"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": {"localhost:2222": 0}}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["localhost:2222", "localhost:99999"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param('{"cluster":' * 50_000, id="deeply nested objects"),
    ],
)
def test_a_broken_tf_config_is_one_line(monkeypatch, config):
    launcher_fails(monkeypatch, config, "TF_CONFIG", '"index": 0')


def test_a_missing_tf_config_is_one_line(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    fails(run_tool("cluster", ROOT / "pix2pix.py", "--mode", "train"), "TF_CONFIG", '"index": 0')


def test_an_address_that_stands_twice_in_tf_config_is_named(monkeypatch):
    """Each of them would take the other for itself, and wait for ever."""
    ports = free_ports(2)
    launcher_fails(monkeypatch, tf_config([*ports, ports[1]], 0), f"localhost:{ports[1]} is twice")


def test_a_port_in_use_is_one_line(monkeypatch):
    with socket.create_server(("", 0)) as used:
        port = used.getsockname()[1]
        launcher_fails(monkeypatch, tf_config([port, *free_ports(1)], 0), f"port {port}", "in use")


@pytest.mark.parametrize("host", ["localhost", "no-such-host.invalid", "a..b", "a" * 300])
def test_a_worker_that_never_comes_is_named(monkeypatch, host):
    """Also one whose name no network can have."""
    ports = free_ports(2)
    config = json.loads(tf_config(ports, 0))
    config["cluster"]["worker"][1] = f"{host}:{ports[1]}"
    launcher_fails(monkeypatch, json.dumps(config), f"no answer from {host}:{ports[1]} in 1 s")


@pytest.mark.parametrize("words", [["no such.py"], ["--mode", "train"], [ROOT], [ROOT / "README.md"]])
def test_the_launcher_wants_a_script(words):
    fails(run_tool("cluster", *words), str(words[0]), "pix2pix.py")


def test_the_launcher_explains_itself():
    for words, code in (([], 2), (["--help"], 0), (["-h"], 0)):
        result = run_tool("cluster", *words)
        assert result.returncode == code and "TF_CONFIG" in result.stdout + result.stderr


STUB = """
import json, os, socket, sys, time
config = json.loads(os.environ["TF_CONFIG"])
address = config["cluster"]["worker"][config["task"]["index"]]
with socket.create_server(("", int(address.split(":")[1]))):  # as TensorFlow does
    time.sleep(2)
print(os.getpid(), json.dumps(sys.argv[1:]))
sys.exit(7)
"""


def test_the_launcher_waits_for_all_and_then_becomes_the_script(tmp_path):
    """With the same process id, which signals of a cluster go to, with its flags and --cluster, and its exit code."""
    ports, workers, script = free_ports(2), [], tmp_path / "script.py"
    script.write_text(STUB)
    for index in range(2):
        environment = plain_environment() | {"TF_CONFIG": tf_config(ports, index)}
        command = [sys.executable, CLUSTER, script, "--mode", "train", "--name=two words"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(command, env=environment, **options))
        if index == 0:
            assert workers[0].stdout.readline() == (
                f"waiting for the workers localhost:{ports[0]}, localhost:{ports[1]}, 300 s at most\n"
            )
            time.sleep(1)
            assert workers[0].poll() is None  # it waits
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        flags = '["--mode", "train", "--name=two words", "--cluster"]'
        assert (worker.returncode, err) == (7, "") and out.splitlines()[-1] == f"{worker.pid} {flags}"


class Cluster:
    """Two workers in processes of their own."""

    def __init__(self, *flags, script="cyclegan", per_worker=([], [])):
        ports = free_ports(2)
        self.workers = []
        for index, more in enumerate(per_worker):
            environment = plain_environment() | {"TF_CONFIG": tf_config(ports, index)}
            _, *words = command_line(["--mode", "train", *flags, *more], script)
            command = [sys.executable, CLUSTER, *words]
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            self.workers.append(subprocess.Popen(command, env=environment, **options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def wait_for(self, path):
        deadline = time.monotonic() + 250
        while not path.exists():
            assert all(worker.poll() is None for worker in self.workers) and time.monotonic() < deadline
            time.sleep(0.05)

    def end(self, timeout=250):
        """[(exit code, stdout, stderr)] of the workers."""
        outputs = [worker.communicate(timeout=timeout) for worker in self.workers]
        return [(worker.returncode, *output) for worker, output in zip(self.workers, outputs, strict=True)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return save_pairs(tmp_path_factory.mktemp("pairs"), [f"{i}.png" for i in range(5)], 40, 40)


LONG = [*SMALL, "--seed", 3, "--batch_size", 2, "--display_freq", 0, "--progress_freq", 1, "--save_freq", 5]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_are_two_replicas_bit_for_bit_whatever_happens_to_them(pairs, tmp_path):
    """SIGTERM to the second worker, kill -9 of each, restarts: after 60 steps the bits of an undisturbed training."""
    folder, flags = tmp_path / "o", [*LONG, "--input_dir", pairs]
    with Cluster(*flags, "--max_steps", 60, "--output_dir", folder, script="pix2pix") as cluster:
        cluster.wait_for(folder / "model-5.index")
        cluster.workers[1].send_signal(signal.SIGTERM)
        (code, out, err), (code_1, out_1, err_1) = cluster.end()
    assert (code, code_1, err, err_1) == (143, 143, "", "")
    step = checkpoints(folder)[-1]
    assert all(f"stopped and saved at step {step};" in text for text in (out, out_1))
    assert "epoch" in out and "epoch" not in out_1 and len(list(folder.glob("events*"))) == 1
    for victim in (1, 0):
        step = checkpoints(folder)[-1]
        with Cluster("--checkpoint", folder, script="pix2pix") as cluster:
            cluster.wait_for(folder / f"model-{(step // 5 + 2) * 5}.index")
            cluster.workers[victim].kill()
            killed = time.monotonic()
            code, out, err = cluster.end()[1 - victim]
        assert time.monotonic() - killed < 60
        assert code == 2
        assert_one_line(err, "another worker", "--checkpoint")
    with Cluster("--checkpoint", folder, script="pix2pix") as cluster:
        assert [code for code, *_ in cluster.end()] == [0, 0]
    undisturbed = tmp_path / "replicas"
    command = command_line(["--mode", "train", *flags, "--max_steps", 60, "--output_dir", undisturbed, "--replicas", 2])
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert_same(saved(folder / "model-60"), saved(undisturbed / "model-60"))


@pytest.mark.slow
def test_workers_that_disagree_say_so(pairs, tmp_path):
    """Nothing is written."""
    flags = [*SMALL, "--batch_size", 2, "--input_dir", pairs, "--output_dir", tmp_path / "o", "--max_steps", 2]
    with Cluster(*flags, script="pix2pix", per_worker=(["--seed", 1], ["--seed", 2])) as cluster:
        for seed, (code, _, err) in enumerate(cluster.end(), start=1):
            assert code == 2
            assert_one_line(err, "disagree", f"seed {seed}")
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_damaged_image_of_one_worker_stops_both_and_is_named(tmp_path):
    """Each of the 18 images is in the batch of one worker. The first 16 are looked at before the training begins."""
    folder = tmp_path / "in"
    save_pairs(folder, [f"{i}.png" for i in range(18)], 40, 40)
    (folder / "17.png").write_bytes(b"damaged")
    flags = [*LONG, "--input_dir", folder, "--output_dir", tmp_path / "o", "--max_steps", 9, "--cache_mb", 0]
    with Cluster(*flags, script="pix2pix") as cluster:
        results = cluster.end()
    assert sorted(code for code, *_ in results) == [2, 143]
    assert_one_line(next(err for code, _, err in results if code == 2), "17.png", "is saved")


@pytest.mark.slow
def test_a_damaged_image_that_all_workers_see_stops_them_before_they_begin(tmp_path):
    folder = tmp_path / "in"
    save_pairs(folder, [f"{i}.png" for i in range(4)], 40, 40)
    (folder / "2.png").write_bytes(b"damaged")
    with Cluster(*LONG, "--input_dir", folder, "--output_dir", tmp_path / "o", script="pix2pix") as cluster:
        for code, _, err in cluster.end():
            assert code == 2
            assert_one_line(err, "2.png")
    assert not (tmp_path / "o").exists()


# --------------------------------------------------------------------------------------------- docs/distribute.md

STUBS = {
    "python": 'echo "$TF_CONFIG"; echo "$@"',
    "scontrol": "printf 'node%s\\n' 07 08",
    "srun": 'for SLURM_PROCID in 0 1; do export SLURM_PROCID; "${@:2}"; done',
}


def configurations(script, folder, **variables):
    """Runs a recipe with stand-ins for the programs of a cluster: [(TF_CONFIG, arguments of python)]."""
    for name, body in STUBS.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"} | variables
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = re.findall(r"(\{.*?\}\})\n(.*)\n", done.stdout, re.DOTALL if "\n  " in done.stdout else 0)
    return [(json.loads(config), arguments.split()) for config, arguments in pairs]


def test_recipes_set_tf_config(tmp_path):
    """And continue where there is a checkpoint."""
    page = (ROOT / "docs" / "distribute.md").read_text()
    slurm = re.search(r"```bash\n(.*?)```", page, re.DOTALL)[1]
    pod = re.search(r"- \|\n(.*?)\n        resources", page, re.DOTALL)[1]
    for done in (False, True):
        if done:
            (tmp_path / "horse2zebra_cyclegan_train").mkdir()
            (tmp_path / "horse2zebra_cyclegan_train" / "checkpoint").touch()
        pods = [configurations(pod, tmp_path, JOB_COMPLETION_INDEX=index)[0] for index in "01"]
        nodes = configurations(slurm, tmp_path, SLURM_JOB_NODELIST="node[07-08]")
        runs = {"node0{}:2222": (nodes, 7), "train-{}.train:2222": (pods, 0)}
        for host, (found, first) in runs.items():
            assert [config["task"] for config, _ in found] == [{"type": "worker", "index": i} for i in range(2)]
            hosts = {"worker": [host.format(first), host.format(first + 1)]}
            assert all(config["cluster"] == hosts for config, _ in found)
            for _, words in found:
                assert words[:2] == ["tools/cluster.py", "cyclegan.py"]
                assert {"--seed", "--batch_size"} <= set(words)
                values = copy.deepcopy(SCRIPTS["cyclegan"].module.FLAGS)
                assert values(words[1:])[1:] == []  # all of them are flags
                assert bool(values.checkpoint) == (done and host.startswith("node"))
