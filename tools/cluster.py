"""Starts a training that several machines share: checks TF_CONFIG and waits until all are there.

    python tools/cluster.py cyclegan.py --mode train --input_dir horse2zebra --batch_size 8 --seed 1

Run the same command on each machine. It adds --cluster to the script's flags and then becomes the
script. Without it TensorFlow waits for ever for a machine that does not come. docs/distribute.md
says what TF_CONFIG has to be.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from common import UserError, run

EXAMPLE = (
    "TF_CONFIG in the environment is missing or damaged; for the first machine it is e.g. "
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
SECONDS = 300  # to wait for the other machines


def read_cluster():
    """[(host, port)] of all machines in TF_CONFIG, and the port of this one. Raises UserError."""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        task = config["task"]
        workers = config["cluster"]["worker"]
        is_good = list(config["cluster"]) == ["worker"] and task["type"] == "worker"
        is_good = is_good and isinstance(workers, list)
        is_good = is_good and task["index"] in range(len(workers))
        addresses = [re.fullmatch(r"(.+):(\d{1,5})", worker).groups() for worker in workers]
        is_good = is_good and all(0 < int(port) < 2**16 for _, port in addresses)
        own_port = int(addresses[task["index"]][1])
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError):
        is_good = False
    if not is_good:
        raise UserError(EXAMPLE)
    twice = [worker for worker in workers if workers.count(worker) > 1]
    if twice:
        raise UserError(
            f"{twice[0]} is twice in TF_CONFIG: give each machine an address of its own"
        )
    return addresses, own_port


def wait_for_workers(seconds=SECONDS):
    """Waits until all machines of TF_CONFIG answer. Raises UserError if one does not."""
    addresses, own_port = read_cluster()
    try:
        listener = socket.create_server(("", own_port))
    except OSError as error:
        raise UserError(
            f"port {own_port} of TF_CONFIG: {error.strerror}; choose another one, on all machines"
        ) from None
    except OverflowError:
        raise UserError(EXAMPLE) from None
    names = [f"{host}:{port}" for host, port in addresses]
    print(f"waiting for the workers {', '.join(names)}, {seconds} s at most", flush=True)
    deadline = time.monotonic() + seconds
    with listener:  # until TensorFlow takes the port
        for host, port in addresses:
            while not is_listening(host, port):
                if time.monotonic() > deadline:
                    raise UserError(
                        f"no answer from {host}:{port} in {seconds} s: start all workers again"
                    )
                time.sleep(0.2)


def is_listening(host, port):
    """Whether a program answers at an address."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except (OSError, UnicodeError):  # the latter for what is no name of a machine
        return False
    return True


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__ or "")
        return 0 if arguments else 2
    script = Path(arguments[0])
    if script.suffix != ".py" or not script.is_file():
        raise UserError(
            f"{script} is no script: give pix2pix.py, cyclegan.py or another one, and its flags"
        )
    wait_for_workers()
    command = [sys.executable, *arguments, "--cluster"]
    if os.name == "nt":  # where a process cannot become another one
        return subprocess.call(command)
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(main)
