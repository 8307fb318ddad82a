"""tools/download-dataset.py through its command line, against a server on 127.0.0.1 that serves small real archives."""

import functools
import hashlib
import http.server
import importlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from run_tool import fails, run_tool

TOOL = pathlib.Path(__file__).parent.parent / "tools" / "download-dataset.py"
tool = functools.partial(run_tool, "download-dataset")
module = importlib.import_module("download-dataset")


# ------------------------------------------------------------------------------------------------------------- archives


def jpeg(seed, size=(32, 16)):
    """The bytes of a real JPEG of noise: incompressible, and different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tar_gz(files, links=()):
    """A tar.gz of {name: bytes}; links are (name, type, target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


FACADES = {f"facades/{split}/{i}.jpg": jpeg([len(split), i]) for split in ("train", "val", "test") for i in range(4)}
FACADES_TAR = tar_gz({**FACADES, "facades/train/._0.jpg": b"of macOS"})


# --------------------------------------------------------------------------------------------------------------- server


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name with ETag, Range and If-Range, as Apache does; the attributes make it misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests = {}, []  # requests: (path, headers, bytes of the body that were sent)
        self.drops = 0  # responses to cut off after half of the body
        self.has_ranges = True
        self.heeds_if_range = True
        self.status = 200
        self.length = None  # a Content-Length to send instead of the true one
        self.pause = None  # an Event: the second half of a body waits for it
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path.rsplit("/", 1)[1]
        data = server.files.get(name)
        if data is None or server.status != 200:
            server.requests.append((self.path, dict(self.headers), 0))
            self.send_error(404 if data is None else server.status)
            return
        etag, start, total = f'"{hashlib.md5(data).hexdigest()}"', 0, len(data)
        wanted = self.headers.get("Range")
        if wanted and server.has_ranges and (not server.heeds_if_range or self.headers.get("If-Range") == etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", server.length or str(total - start))
        self.end_headers()
        body = data[start:]
        half = len(body) // 2
        if server.drops:
            server.drops -= 1
            body = body[:half]
        server.requests.append((self.path, dict(self.headers), len(body)))
        self.wfile.write(body[:half])
        self.wfile.flush()
        if server.pause:
            server.pause.wait(30)
        self.wfile.write(body[half:])
        self.close_connection = True


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        if server.pause:
            server.pause.set()
        server.shutdown()


def command(*args):
    return [sys.executable, str(TOOL), *map(str, args)]


ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def get(server, tmp_path, name, *args):
    return tool(name, "--output_dir", tmp_path, "--url", server.url, *args)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder):
    """What contents() gives, less this tool's own record."""
    return {name: data for name, data in contents(folder).items() if name != ".download.json"}


PAIRS = {name.removeprefix("facades/"): data for name, data in FACADES.items()}

# --------------------------------------------------------------------------------------------------------- the good way


def test_pairs_arrive_whole_and_a_second_run_does_nothing(server, tmp_path):
    server.files["facades.tar.gz"] = FACADES_TAR
    result = get(server, tmp_path, "facades")
    assert (result.returncode, result.stderr) == (0, "")
    assert images(tmp_path / "facades") == PAIRS
    assert "test 4, train 4, val 4 images" in result.stdout
    # the set has no checksum on record: said plainly, with the one to compare
    assert hashlib.sha256(FACADES_TAR).hexdigest() in result.stdout and "no checksum is on record" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["facades"]  # no archive, part or scratch folder is left

    asked = len(server.requests)
    (tmp_path / "facades/train/0.jpg").write_bytes(b"touched")
    again = get(server, tmp_path, "facades")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert len(server.requests) == asked
    assert (tmp_path / "facades/train/0.jpg").read_bytes() == b"touched"


def test_a_url_may_be_the_archive_itself_and_the_right_checksum_passes(server, tmp_path):
    server.files["mirror.tgz"] = FACADES_TAR
    digest = hashlib.sha256(FACADES_TAR).hexdigest()
    url = f"{server.url}/some/where/mirror.tgz"
    result = tool("facades", "--output_dir", tmp_path / "new", "--url", url, "--sha256", digest.upper())
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "new/facades/.download.json").read_text())["sha256"] == digest
    assert server.requests[0][0] == "/some/where/mirror.tgz"
    assert fails(tool("facades", "--output_dir", tmp_path / "new", "--sha256", "0" * 64), "another archive")


def test_an_archive_the_user_put_there_is_used_and_left(tmp_path):
    (tmp_path / "facades.tar.gz").write_bytes(FACADES_TAR)
    result = tool("facades", "--output_dir", tmp_path, "--url", "http://127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    assert images(tmp_path / "facades") == PAIRS
    assert (tmp_path / "facades.tar.gz").read_bytes() == FACADES_TAR


ANIMEGAN = {
    "train_photo": "trainA",
    "Hayao/style": "trainB",
    "Shinkai/style": None,
    "Hayao/smooth": None,
    "test/test_photo": "testA",
    "test/HR_photo": None,
    "val": None,
}


@pytest.mark.parametrize("top", ["dataset/", ""])
def test_miyazaki_is_laid_out_unpaired(server, tmp_path, top):
    files = {f"{folder}/{i}.jpg": jpeg([n, i]) for n, folder in enumerate(ANIMEGAN) for i in range(2)}
    server.files["dataset.zip"] = zipped({top + name: data for name, data in files.items()})
    result = get(server, tmp_path, "miyazaki", "--keep_archive")
    assert result.returncode == 0, result.stderr
    wanted = {f"{ANIMEGAN[name.rsplit('/', 1)[0]]}/{name.rsplit('/', 1)[1]}": data for name, data in files.items()}
    assert images(tmp_path / "miyazaki") == {name: data for name, data in wanted.items() if not name.startswith("None")}

    # the kept archive serves the other style without a second download
    asked = len(server.requests)
    result = get(server, tmp_path, "shinkai")
    assert result.returncode == 0 and "there already" in result.stdout and len(server.requests) == asked
    assert (tmp_path / "shinkai/trainB/0.jpg").read_bytes() == files["Shinkai/style/0.jpg"]
    assert fails(get(server, tmp_path, "paprika"), "Paprika/style")  # not in this archive
    assert (tmp_path / "AnimeGAN-dataset.zip").exists()


# ------------------------------------------------------------------------------------------------------------- CycleGAN

DOMAINS = ["trainA", "trainB", "testA", "testB"]
HORSES = {f"horse2zebra/{part}/n02_{i}.jpg": jpeg([n, i]) for n, part in enumerate(DOMAINS) for i in range(3)}
HORSES["horse2zebra/testB/n02_9.jpg"] = HORSES["horse2zebra/testB/n02_0.jpg"]  # the same image under two names
HORSES_ZIP = zipped(HORSES)


@pytest.fixture
def tfds():
    """The package, which nothing but the CycleGAN sets needs."""
    return pytest.importorskip("tensorflow_datasets", reason="pip install tensorflow-datasets importlib_resources")


@pytest.fixture
def record(tfds, monkeypatch, tmp_path):
    """Puts back tfds' record of horse2zebra, which --sha256 replaces for the rest of the process."""
    builder, url, record = module.tfds_builder("horse2zebra", tmp_path / "scratch")
    monkeypatch.setitem(builder.url_infos, url, record)
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)


@pytest.mark.usefixtures("record")
def test_cyclegan_through_the_real_builder_keeps_bytes_and_names(server, tmp_path):
    server.files["horse2zebra.zip"] = HORSES_ZIP
    result = get(server, tmp_path, "horse2zebra", "--sha256", hashlib.sha256(HORSES_ZIP).hexdigest())
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert images(tmp_path / "horse2zebra") == {
        name.removeprefix("horse2zebra/"): data for name, data in HORSES.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["horse2zebra"]


@pytest.mark.usefixtures("tfds")
def test_cyclegan_is_held_to_the_checksum_that_tfds_carries(server, tmp_path):
    server.files["horse2zebra.zip"] = HORSES_ZIP
    assert fails(get(server, tmp_path, "horse2zebra"), "wrong length", "116867962", "--sha256")  # tfds' record
    assert not (tmp_path / "horse2zebra").exists()


@pytest.mark.usefixtures("tfds")
def test_tfds_itself_refuses_an_archive_of_another_checksum(tmp_path):
    """Past our own check, the builder compares with its record: it really is given the archive as its download."""
    archive = tmp_path / "horse2zebra.zip"
    archive.write_bytes(HORSES_ZIP)
    builder, _, _ = module.tfds_builder("horse2zebra", tmp_path / "scratch")
    with pytest.raises(module.UserError, match="wrong checksum"):
        module.write_with_tfds(builder, archive, tmp_path / "scratch" / "horse2zebra")


@pytest.mark.usefixtures("tfds")
def test_the_list_agrees_with_tfds():
    """Sizes are copied from tfds' record, so that --list needs no import of it: they must not drift apart."""
    from tensorflow_datasets.core.utils import resource_utils

    lines = (resource_utils.tfds_path() / "url_checksums" / "cycle_gan.txt").read_text().splitlines()
    recorded = {line.split("\t")[0].rsplit("/", 1)[1]: int(line.split("\t")[1]) for line in lines}
    del recorded["cityscapes.zip"]  # its builder dropped it for its licence
    sets = [dataset for dataset in module.DATASETS.values() if dataset.family == "cyclegan"]
    assert {f"{dataset.source}.zip": dataset.size for dataset in sets} == {
        name: f"{round(size / 1e6)} MB" for name, size in recorded.items()
    }


def test_importing_does_no_work_and_imports_no_tensorflow(tmp_path):
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); print([name for name in sys.modules if 'tensorflow' in name])"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parent)}
    result = subprocess.run(
        [sys.executable, "-c", code, TOOL], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------- a bad connection


def test_a_dropped_connection_goes_on_with_the_rest_only(server, tmp_path):
    server.files["facades.tar.gz"] = FACADES_TAR
    server.drops = 1
    result = get(server, tmp_path, "facades")
    assert result.returncode == 0, result.stderr
    assert images(tmp_path / "facades") == PAIRS
    (_, first, sent), (_, second, rest) = server.requests
    assert "Range" not in first and second["Range"] == f"bytes={sent}-" and second["If-Range"]
    assert sent + rest == len(FACADES_TAR) and 0 < rest < len(FACADES_TAR)


def test_tries_are_bounded_and_the_next_run_goes_on(server, tmp_path):
    server.files["facades.tar.gz"] = FACADES_TAR
    server.drops = 2
    result = get(server, tmp_path, "facades", "--retries", 1)
    assert result.returncode == 2 and len(server.requests) == 2
    assert "run the same command again" in result.stderr.splitlines()[-1]
    part = tmp_path / "facades.tar.gz.part"
    half = len(FACADES_TAR) // 2
    have = half + (len(FACADES_TAR) - half) // 2
    assert part.read_bytes() == FACADES_TAR[:have] and not (tmp_path / "facades").exists()
    assert get(server, tmp_path, "facades").returncode == 0
    assert server.requests[-1][1]["Range"] == f"bytes={have}-"
    assert images(tmp_path / "facades") == PAIRS
    assert not part.exists()


@pytest.mark.parametrize("length", ["abc", "-5", "1e3"])
def test_a_length_that_is_no_number_counts_as_unknown(server, tmp_path, length):
    server.files["facades.tar.gz"], server.length = FACADES_TAR, length
    result = get(server, tmp_path, "facades")
    assert (result.returncode, result.stderr) == (0, "") and "size unknown" in result.stdout
    assert images(tmp_path / "facades") == PAIRS
    shutil.rmtree(tmp_path / "facades")
    server.drops = 1
    assert fails(get(server, tmp_path, "facades"), "not a whole archive")


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.files["facades.tar.gz"] = FACADES_TAR
    server.drops, server.has_ranges = 1, False
    result = get(server, tmp_path, "facades")
    assert result.returncode == 0 and "starting over" in result.stderr
    assert images(tmp_path / "facades") == PAIRS


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_is_not_stitched(server, tmp_path, heeds_if_range):
    changed = tar_gz({name: data for name, data in FACADES.items() if "val" not in name})
    server.files["facades.tar.gz"] = FACADES_TAR
    server.drops, server.heeds_if_range = 1, heeds_if_range
    assert fails(get(server, tmp_path, "facades", "--retries", 0), "run the same command again")
    server.files["facades.tar.gz"] = changed
    result = get(server, tmp_path, "facades")
    assert result.returncode == 0, result.stderr
    assert images(tmp_path / "facades") == {name: data for name, data in PAIRS.items() if "val" not in name}


def test_a_part_of_another_mirror_is_not_stitched(server, tmp_path):
    server.files |= {"facades.tar.gz": FACADES_TAR, "other.tar.gz": FACADES_TAR}
    server.drops = 1
    get(server, tmp_path, "facades", "--retries", 0)
    assert tool("facades", "--output_dir", tmp_path, "--url", f"{server.url}/other.tar.gz").returncode == 0
    assert "Range" not in server.requests[-1][1]


LARGE = {f"facades/train/{i}.jpg": jpeg(i, (128, 128)) for i in range(6)}  # half of it is more than a buffer
LARGE_TAR = tar_gz(LARGE)


def interrupt_halfway(server, tmp_path, stop):
    """Starts the download and sends the signal when some of it, at most half, is on disk. Returns (code, stderr)."""
    server.files["facades.tar.gz"], server.pause = LARGE_TAR, threading.Event()
    arguments = command("facades", "--output_dir", tmp_path, "--url", server.url)
    # a shell that runs pytest in the background makes its children deaf to SIGINT, a terminal does not
    hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=hears)
    part = tmp_path / "facades.tar.gz.part"
    while not part.exists() or not part.stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=30)
    server.pause.set()
    server.pause = None
    assert 0 < part.stat().st_size <= len(LARGE_TAR) // 2
    return process.returncode, stderr


def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(server, tmp_path):
    code, stderr = interrupt_halfway(server, tmp_path, signal.SIGINT)
    assert code == 130 and stderr.count("\n") == 1 and "same command again" in stderr
    part = (tmp_path / "facades.tar.gz.part").read_bytes()
    assert part == LARGE_TAR[: len(part)]
    assert not (tmp_path / "facades").exists()
    assert get(server, tmp_path, "facades").returncode == 0
    assert server.requests[-1][1]["Range"] == f"bytes={len(part)}-"
    assert images(tmp_path / "facades") == {name.removeprefix("facades/"): data for name, data in LARGE.items()}


def test_a_kill_while_downloading_leaves_nothing_that_stops_the_next_run(server, tmp_path):
    (tmp_path / ".facades.incomplete/facades/train").mkdir(parents=True)  # as a kill while extracting leaves it
    (tmp_path / ".facades.incomplete/facades/train/stale.jpg").write_bytes(b"stale")
    assert interrupt_halfway(server, tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    assert get(server, tmp_path, "facades").returncode == 0
    assert images(tmp_path / "facades") == {name.removeprefix("facades/"): data for name, data in LARGE.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["facades"]


def test_404_names_the_address(server, tmp_path):
    assert fails(get(server, tmp_path, "facades"), f"{server.url}/facades.tar.gz", "404", "--url")
    assert list(tmp_path.iterdir()) == []


def test_503_is_tried_again_and_then_given_up(server, tmp_path):
    server.files["facades.tar.gz"], server.status = FACADES_TAR, 503
    result = get(server, tmp_path, "facades", "--retries", 1)
    assert result.returncode == 2 and "503" in result.stderr and len(server.requests) == 2


def test_no_server(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert fails(tool("facades", "--output_dir", tmp_path, "--url", url), "cannot reach 127.0.0.1", "network")


def test_no_such_host(tmp_path):
    url = "http://no-such-host.invalid"
    assert fails(tool("facades", "--output_dir", tmp_path, "--url", url), "cannot reach no-such-host.invalid")


# --------------------------------------------------------------------------------------------------------- bad archives


def test_a_wrong_checksum_is_refused_and_the_archive_kept(server, tmp_path):
    """It may be the checksum that is wrong: the right one then needs no second download."""
    server.files["facades.tar.gz"] = FACADES_TAR
    digest = hashlib.sha256(FACADES_TAR).hexdigest()
    assert fails(get(server, tmp_path, "facades", "--sha256", "0" * 64), "wrong checksum", digest, "0" * 64, "delete")
    assert not (tmp_path / "facades").exists()
    assert get(server, tmp_path, "facades", "--sha256", digest).returncode == 0
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["facades"]


def test_a_bad_archive_of_the_users_own_is_not_removed(tmp_path):
    (tmp_path / "facades.tar.gz").write_bytes(FACADES_TAR[:-2000])
    assert fails(tool("facades", "--output_dir", tmp_path), "not a whole archive")
    assert contents(tmp_path) == {"facades.tar.gz": FACADES_TAR[:-2000]}


@pytest.mark.parametrize(
    "data",
    [b"<html>not here</html>", FACADES_TAR[:-2000], FACADES_TAR[:3000] + b"\0" * 50 + FACADES_TAR[3050:], b""],
    ids=["page", "cut", "damaged", "empty"],
)
def test_an_archive_that_is_none(server, tmp_path, data):
    server.files["facades.tar.gz"] = data
    assert fails(get(server, tmp_path, "facades"), "not a whole archive")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_something_else(server, tmp_path):
    server.files["facades.tar.gz"] = tar_gz({"cats/1.jpg": jpeg(1)})
    assert fails(get(server, tmp_path, "facades"), "no images in train")
    assert list(tmp_path.iterdir()) == []


def zip_link(target):
    info = zipfile.ZipInfo("dataset/train_photo/link.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return zipped({"dataset/train_photo/1.jpg": jpeg(1), info: target.encode()})


MALICIOUS = {
    "tar absolute": tar_gz({**FACADES, "/{outside}/train/evil.jpg": b"evil"}),
    "tar ..": tar_gz({**FACADES, "facades/train/../../../../outside/train/evil.jpg": b"evil"}),
    "tar symlink": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.SYMTYPE, "../../../../outside/secret.jpg")]),
    "tar symlink absolute": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.SYMTYPE, "/etc/passwd")]),
    "tar symlink to a folder": tar_gz(FACADES, [("facades/val", tarfile.SYMTYPE, "../../../outside")]),
    "tar link to itself": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.SYMTYPE, "x.jpg")]),
    "tar hard link": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.LNKTYPE, "../../outside/secret.jpg")]),
    "tar device": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.CHRTYPE, "")]),
    "tar pipe": tar_gz(FACADES, [("facades/train/x.jpg", tarfile.FIFOTYPE, "")]),
    "zip absolute": zipped({"/outside/train_photo/evil.jpg": b"evil"}),
    "zip ..": zipped({"dataset/train_photo/../../../outside/train_photo/evil.jpg": b"evil"}),
    "zip .. of Windows": zipped({"dataset\\..\\..\\outside\\train_photo\\evil.jpg": b"evil"}),
    "zip drive": zipped({"C:/train_photo/evil.jpg": b"evil"}),
    "zip symlink": zip_link("../../../outside/secret.jpg"),
}


@pytest.mark.parametrize("attack", MALICIOUS)
def test_a_malicious_archive_is_refused_and_nothing_is_written(server, tmp_path, attack):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.jpg").write_bytes(b"secret")
    name = "facades" if attack.startswith("tar") else "miyazaki"
    server.files |= {"facades.tar.gz": MALICIOUS[attack], "dataset.zip": MALICIOUS[attack]}
    assert fails(get(server, tmp_path / "in", name), "not safe")
    assert contents(tmp_path) == {"outside/secret.jpg": b"secret"}
    assert list((tmp_path / "in").iterdir()) == []


def test_a_malicious_tar_is_refused_without_the_filter_of_newer_pythons(tmp_path, monkeypatch):
    """Python 3.11.2, of Debian 12, has no tarfile.data_filter."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    for attack in MALICIOUS:
        if attack.startswith("tar"):
            (tmp_path / "facades.tar.gz").write_bytes(MALICIOUS[attack])
            assert fails(tool("facades", "--output_dir", tmp_path), "not safe")


@pytest.mark.parametrize("kind, target", [(tarfile.SYMTYPE, "0.jpg"), (tarfile.LNKTYPE, "facades/train/0.jpg")])
def test_a_link_within_the_archive_becomes_a_file(server, tmp_path, kind, target):
    server.files["facades.tar.gz"] = tar_gz(FACADES, [("facades/train/link.jpg", kind, target)])
    result = get(server, tmp_path, "facades")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "facades/train/link.jpg").is_symlink()
    assert images(tmp_path / "facades") == {**PAIRS, "train/link.jpg": PAIRS["train/0.jpg"]}


@pytest.mark.usefixtures("record")
def test_names_that_windows_does_not_take_are_changed_there(server, tmp_path, monkeypatch):
    """The photos of monet2photo have colons in their names, at which tfds fails on Windows."""
    monkeypatch.setattr(module, "IS_WINDOWS", True)
    photo = "horse2zebra/trainA/2013-11-08 16:45:24.jpg"
    data = zipped({**HORSES, photo: jpeg([5, 5])})
    server.files["horse2zebra.zip"] = data
    result = get(server, tmp_path, "horse2zebra", "--sha256", hashlib.sha256(data).hexdigest())
    assert (result.returncode, result.stderr) == (0, "")
    wanted = {name.removeprefix("horse2zebra/"): data for name, data in HORSES.items()}
    assert images(tmp_path / "horse2zebra") == {**wanted, "trainA/2013-11-08 16-45-24.jpg": jpeg([5, 5])}
    two = zipped({**HORSES, photo: jpeg([5, 5]), photo.replace("16:", "16?"): jpeg([6, 6])})
    server.files["horse2zebra.zip"] = two
    (tmp_path / "two").mkdir()
    result = get(server, tmp_path / "two", "horse2zebra", "--sha256", hashlib.sha256(two).hexdigest())
    assert fails(result, "two files for trainA/2013-11-08 16-45-24.jpg")


@pytest.mark.usefixtures("record")
def test_a_cyclegan_archive_is_looked_through_before_tfds_has_it(server, tmp_path):
    data = zipped({**HORSES, "horse2zebra/../../evil.jpg": b"evil"})
    server.files["horse2zebra.zip"] = data
    assert fails(get(server, tmp_path, "horse2zebra", "--sha256", hashlib.sha256(data).hexdigest()), "not safe")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- the disk


def test_a_folder_in_the_way_is_left_alone(server, tmp_path):
    server.files["facades.tar.gz"] = FACADES_TAR
    (tmp_path / "facades").mkdir()
    (tmp_path / "facades/mine.txt").write_text("mine")
    assert fails(get(server, tmp_path, "facades"), str(tmp_path / "facades"), "in the way", "--output_dir")
    assert contents(tmp_path) == {"facades/mine.txt": b"mine"} and not server.requests


def test_an_output_dir_that_is_a_file(server, tmp_path):
    (tmp_path / "file").write_text("")
    assert fails(get(server, tmp_path / "file", "facades"), str(tmp_path / "file"))


def test_an_output_dir_that_cannot_be_looked_into(server, tmp_path):
    """A name that is too long stands for all that a system refuses, such as a folder of another user."""
    assert fails(get(server, tmp_path / ("x" * 300), "facades"), "x" * 300, "File name too long")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_while_downloading(server, tmp_path):
    """/dev/full answers every write with the kernel's own ENOSPC."""
    server.files["facades.tar.gz"] = FACADES_TAR
    (tmp_path / "facades.tar.gz.part").symlink_to("/dev/full")
    assert fails(get(server, tmp_path, "facades"), "full", str(tmp_path), "same command again")
    assert not (tmp_path / "facades").exists()


SMALL_DISK = [
    "unshare",
    "-rm",
    "sh",
    "-c",
    'mount -t tmpfs -o size="$1" none "$2" && shift 2 && "$@"; code=$?; ls -A "$0"; exit $code',
]


def on_small_disk(size, folder, *args):
    """Runs the tool with a tmpfs of that size on `folder`; prints what the folder holds at the end."""
    return subprocess.run(
        [*SMALL_DISK, str(folder), size, str(folder), *command(*args, "--output_dir", folder)],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("unshare"), reason="a tmpfs cannot be mounted here")
@pytest.mark.parametrize("size, left", [("8k", ".part"), ("60k", "facades.tar.gz")], ids=["downloading", "extracting"])
def test_a_disk_that_fills_up(server, tmp_path, size, left):
    files = {f"facades/train/{i}.jpg": bytes([i]) * 30_000 for i in range(4)} | {
        "facades/train/n.jpg": jpeg(7, (128, 128))
    }
    server.files["facades.tar.gz"] = tar_gz(files)
    assert 8_192 < len(server.files["facades.tar.gz"]) < 40_000
    probe = subprocess.run([*SMALL_DISK, str(tmp_path), "4k", str(tmp_path), "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    result = on_small_disk(size, tmp_path, "facades", "--url", server.url)
    assert fails(result, "full", "same command again")
    listed = result.stdout.splitlines()
    assert any(line.endswith(left) for line in listed)  # what was downloaded is kept
    assert "facades" not in listed and ".facades.incomplete" not in listed


# -------------------------------------------------------------------------------------------------------- illustrators


def picture(seed, size, kind="JPEG"):
    """The bytes of a smooth image, as printed plates are, different for each seed."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    waves = [127 + 120 * np.sin(rows / (9 + seed) + columns / (13 + 3 * channel)) for channel in range(3)]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(buffer, kind, quality=95)
    return buffer.getvalue()


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class Shelf:
    """Two books by one artist and one by another: archives as GitHub packs them, and the tables that describe them."""

    # file, folder, image, size of the image, crop (left, top, right, bottom), longer side in the set
    PLATES = (
        ("dulac/1-001.jpg", "trainB", "1-h/images/a.jpg", (90, 60), (0, 0, 90, 60), 90),  # whole
        ("dulac/1-002.jpg", "trainB", "1-h/images/b.png", (90, 60), (10, 5, 70, 55), 60),  # cropped
        ("dulac/1-003.jpg", "trainB", "1-h/images/c.jpg", (200, 300), (20, 30, 180, 270), 80),  # and made smaller
        ("dulac/2-001.jpg", "testB", "2-h/images/a.jpg", (300, 200), (0, 0, 300, 200), 80),
        ("wright/3-001.jpg", "trainB", "3-h/a.jpg", (120, 100), (0, 0, 60, 100), 80),
        ("wright/3-002.jpg", "testB", "3-h/a.jpg", (120, 100), (60, 0, 120, 100), 80),  # of the same image
    )
    TITLES = {"1": "Tales", "2": "The Tempest", "3": "Rhymes"}

    def __init__(self, folder):
        self.sources = {}
        self.archives = {}
        for number in self.TITLES:
            top = f"Book_{number}-{number * 40}"
            files = {f"{top}/README.rst": b"about", f"{top}/{number}-h/images/cover.jpg": picture(99, (40, 40))}
            for seed, (file, _, image, size, *_) in enumerate(self.PLATES):
                if image.startswith(f"{number}-h"):
                    data = picture(seed if number != "3" else 7, size, "PNG" if image.endswith("png") else "JPEG")
                    files[f"{top}/{image}"] = self.sources[file] = data
            self.archives[number] = zipped(files)
        self.folder = folder
        self.write_tables()

    def write_tables(self, pixels=None):
        """The tables. `pixels` takes the place of every checksum of pixels."""
        self.folder.mkdir(exist_ok=True)
        books = ["\t".join(module.Book._fields)]
        for number, title in self.TITLES.items():
            artist = "wright" if number == "3" else "dulac"
            books.append(f"{number}\t{artist}\t{title}\tmirror/Book_{number}\t{number * 40}\t1\tpublic domain")
        plates = ["\t".join(module.Plate._fields)]
        for file, part, image, _, box, longest in self.PLATES:
            digest = hashlib.sha256(self.sources[file]).hexdigest()
            of_pixels = pixels or hashlib.sha256(pixels_of(self.expected(file)).tobytes()).hexdigest()
            plates.append("\t".join(map(str, (file, part, file[-9], image, *box, longest, digest, of_pixels))))
        (self.folder / "illustrators-books.tsv").write_text("\n".join(books) + "\n")
        (self.folder / "illustrators-plates.tsv").write_text("\n".join(plates) + "\n")

    def expected(self, file):
        """The bytes of a plate: of the source itself where all of it is taken, as it is."""
        *_, box, longest = next(row for row in self.PLATES if row[0] == file)
        data = self.sources[file]
        if file == "dulac/1-001.jpg":
            return data
        image = Image.open(io.BytesIO(data)).convert("RGB").crop(box)
        scale = longest / max(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        return buffer.getvalue()

    def folders(self, artist, numbers=("1", "2", "3")):
        """{place: bytes} of an artist's folder with those books."""
        rows = [row for row in self.PLATES if row[0].startswith(artist) and row[0][-9] in numbers]
        return {f"{row[1]}/{row[0].split('/')[1]}": self.expected(row[0]) for row in rows}


@pytest.fixture
def shelf(server, tmp_path, monkeypatch):
    shelf = Shelf(tmp_path / "tables")
    monkeypatch.setattr(module, "TABLES", shelf.folder)
    monkeypatch.setattr(module, "PAUSE", 0)
    two = module.DATASETS["illustrators"]._replace(source="dulac wright")
    monkeypatch.setitem(module.DATASETS, "illustrators", two)
    server.files |= {f"{number * 40}.zip": data for number, data in shelf.archives.items()}
    return shelf


def asked_for(server):
    """The books that were asked for, in order."""
    return [path[-5] for path, _, _ in server.requests]


def fails_last_line(result, *words):
    return result.returncode == 2 and all(word in result.stderr.splitlines()[-1] for word in words)


def test_illustrators_are_cropped_by_the_table(server, shelf, tmp_path):
    out = tmp_path / "out"
    result = get(server, out, "illustrators")
    assert (result.returncode, result.stderr) == (0, "")
    assert images(out / "illustrators/dulac") == shelf.folders("dulac")
    assert images(out / "illustrators/wright") == shelf.folders("wright")
    assert images(out / "illustrators/dulac")["trainB/1-001.jpg"] == shelf.sources["dulac/1-001.jpg"]
    # a crop shows what is in its box: compared with the source itself, not with another crop
    plate = pixels_of((out / "illustrators/dulac/trainB/1-002.jpg").read_bytes())
    source = pixels_of(shelf.sources["dulac/1-002.jpg"])[5:55, 10:70]
    assert plate.shape == source.shape and np.abs(plate.astype(int) - source).mean() < 3
    assert pixels_of((out / "illustrators/dulac/trainB/1-003.jpg").read_bytes()).shape == (80, 53, 3)

    for words in ("books to download: 3, about 3 MB", "MB on the disk", "MB are free"):
        assert words in result.stdout
    assert "illustrators/dulac: trainB 3, testB 1 images; sources and pixels as on record" in result.stdout
    assert [path for path, _, _ in server.requests] == [
        f"/mirror/Book_{number}/archive/{number * 40}.zip" for number in "123"
    ]
    assert [path.name for path in out.iterdir()] == ["illustrators"]
    assert sorted(path.name for path in (out / "illustrators").iterdir()) == ["dulac", "wright"]

    again = get(server, out, "illustrators")
    assert again.returncode == 0 and again.stdout.count("nothing to do") == 2 and len(server.requests) == 3


def test_one_artist_and_another_size(server, shelf, tmp_path):
    result = get(server, tmp_path, "illustrators/dulac", "--size", 150)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "illustrators/dulac"
    assert asked_for(server) == ["1", "2"] and not (tmp_path / "illustrators/wright").exists()
    sizes = {name: pixels_of(data).shape[1::-1] for name, data in images(folder).items()}
    assert sizes == {  # never enlarged
        "trainB/1-001.jpg": (90, 60), "trainB/1-002.jpg": (60, 50), "trainB/1-003.jpg": (100, 150),
        "testB/2-001.jpg": (150, 100),
    }  # fmt: skip
    assert "sources as on record" in result.stdout
    fails(get(server, tmp_path, "illustrators/dulac"), str(folder), "with --size 150, not without --size")
    assert len(server.requests) == 2


def test_a_book_that_is_gone_is_named_and_comes_later(server, shelf, tmp_path):
    gone = server.files.pop(f"{'2' * 40}.zip")
    result = get(server, tmp_path, "illustrators")
    assert result.returncode == 1
    missing, summary = result.stderr.splitlines()
    assert missing.startswith("missing: The Tempest (Gutenberg 2)") and "404" in missing
    assert "1 of 3 books" in summary and "dulac: The Tempest" in summary and "same command again" in summary
    folder = tmp_path / "illustrators/dulac"
    assert images(folder) == shelf.folders("dulac", ["1"])
    assert images(tmp_path / "illustrators/wright") == shelf.folders("wright")

    again = get(server, tmp_path, "illustrators/dulac")  # still gone, and nothing else is missing
    assert asked_for(server)[3:] == ["2"]
    assert again.returncode == 1 and "404" in again.stderr and "1 of 1 books" in again.stderr
    assert images(folder) == shelf.folders("dulac", ["1"])

    (folder / "trainB/mine.txt").write_text("mine")
    server.files[f"{'2' * 40}.zip"] = gone
    last = get(server, tmp_path, "illustrators")
    assert (last.returncode, last.stderr) == (0, "") and asked_for(server)[4:] == ["2"]
    assert images(folder) == shelf.folders("dulac") | {"trainB/mine.txt": b"mine"}
    assert "nothing to do" in get(server, tmp_path, "illustrators/dulac").stdout
    assert sorted(path.name for path in (tmp_path / "illustrators").iterdir()) == ["dulac", "wright"]


def test_a_server_in_trouble_is_a_missing_book(server, shelf, tmp_path):
    server.status = 503
    result = get(server, tmp_path, "illustrators/wright", "--retries", 0)
    assert result.returncode == 2 and "503" in result.stderr and "Rhymes" in result.stderr
    assert not (tmp_path / "illustrators/wright").exists()
    assert list((tmp_path / "illustrators").iterdir()) == []


def test_no_network_ends_at_once_and_goes_on_later(server, shelf, tmp_path):
    server.drops = 1
    result = get(server, tmp_path, "illustrators/dulac", "--retries", 0)
    assert fails_last_line(result, "connection was lost", "same command again") and asked_for(server) == ["1"]
    assert get(server, tmp_path, "illustrators/dulac").returncode == 0
    assert images(tmp_path / "illustrators/dulac") == shelf.folders("dulac")


def changed_archive(shelf):
    top = f"Book_2-{'2' * 40}"
    return zipped({f"{top}/2-h/images/a.jpg": picture(50, (300, 200))})


@pytest.mark.parametrize(
    "change, words",
    [
        (changed_archive, ["2-h/images/a.jpg", "wrong checksum", "removed"]),
        (lambda shelf: zipped({"Book_2-x/README.rst": b"x"}), ["holds no 2-h/images/a.jpg", "removed"]),
        (lambda shelf: shelf.archives["2"][:-200], ["not a whole archive", "removed"]),
        (lambda shelf: zipped({"../2-h/images/a.jpg": b"evil"}), ["not safe", "removed"]),
    ],
    ids=["changed", "empty", "cut", "malicious"],
)
def test_a_book_that_is_another_is_named_and_the_rest_goes_on(server, shelf, tmp_path, change, words):
    server.files[f"{'2' * 40}.zip"] = change(shelf)
    result = get(server, tmp_path / "out", "illustrators")
    assert result.returncode == 1 and "The Tempest" in result.stderr.splitlines()[0]
    for word in words:
        assert word in result.stderr.splitlines()[0]
    assert images(tmp_path / "out/illustrators/dulac") == shelf.folders("dulac", ["1"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["illustrators"]


class LikeGitHub(http.server.BaseHTTPRequestHandler):
    """Sends the reader on to another address, and archives in chunks: no length, no ranges. The first is cut off."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        if not self.path.startswith("/codeload"):
            self.send_response(302)
            self.send_header("Location", f"/codeload{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", '"fixed"')
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = self.server.archive
        half = len(data) // 2
        self.wfile.write(b"%x\r\n%s\r\n" % (half, data[:half]))
        self.close_connection = True
        if self.server.cuts:
            self.server.cuts -= 1
            return
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data) - half, data[half:]))


def test_archives_that_come_as_from_github(shelf, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), LikeGitHub) as server:
        server.requests, server.archive, server.cuts = [], shelf.archives["3"], 1
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        result = tool("illustrators/wright", "--output_dir", tmp_path, "--url", url)
        server.shutdown()
    assert result.returncode == 0, result.stderr
    assert "size unknown" in result.stdout and "connection was lost" in result.stderr
    path = f"/mirror/Book_3/archive/{'3' * 40}.zip"
    assert [asked for asked, _ in server.requests] == [path, f"/codeload{path}"] * 2
    assert not any("Range" in headers for _, headers in server.requests)  # it starts over
    assert images(tmp_path / "illustrators/wright") == shelf.folders("wright")


def test_other_pixels_are_told(server, shelf, tmp_path):
    shelf.write_tables(pixels="0" * 64)
    result = get(server, tmp_path, "illustrators/wright")
    assert result.returncode == 0 and "2 of 2 have other pixels" in result.stdout


def test_an_archive_that_is_there_needs_no_network(shelf, tmp_path):
    (tmp_path / "gutenberg-3.zip").write_bytes(shelf.archives["3"])
    result = tool("illustrators/wright", "--output_dir", tmp_path, "--url", "http://127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    assert images(tmp_path / "illustrators/wright") == shelf.folders("wright")
    assert (tmp_path / "gutenberg-3.zip").read_bytes() == shelf.archives["3"]


def test_a_kill_in_the_second_book_keeps_the_first(server, shelf, tmp_path):
    """In a process of its own, with a copy of the tool beside the tables of the test."""
    for name in ("download-dataset.py", "common.py", "images.py"):
        shutil.copy(TOOL.with_name(name), shelf.folder)
    arguments = [sys.executable, shelf.folder / "download-dataset.py", "illustrators/dulac", "--url", server.url]
    arguments += ["--output_dir", tmp_path / "out"]
    server.pause = threading.Event()
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    part = tmp_path / "out/gutenberg-1.zip.part"
    wait_for(process, lambda: part.exists() and part.stat().st_size)
    server.pause.set()
    server.pause = threading.Event()
    part = tmp_path / "out/gutenberg-2.zip.part"
    wait_for(process, lambda: part.exists() and part.stat().st_size)
    process.kill()
    process.wait()
    server.pause.set()
    server.pause = None
    folder = tmp_path / "out/illustrators"
    assert [path.name for path in folder.iterdir()] == [".dulac.incomplete"]
    # a file of the second book that was cut short, as a kill a moment later leaves one
    (folder / ".dulac.incomplete/dulac/testB/2-001.jpg").write_bytes(b"cut")

    result = get(server, tmp_path / "out", "illustrators/dulac")
    assert result.returncode == 0, result.stderr
    assert "Tales: there already" in result.stdout and asked_for(server) == ["1", "2", "2"]
    assert server.requests[-1][1]["Range"].startswith("bytes=")
    assert images(folder / "dulac") == shelf.folders("dulac")
    assert [path.name for path in folder.iterdir()] == ["dulac"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["illustrators"]


def wait_for(process, is_so):
    while not is_so():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("damage", ["size", "file", "note"])
def test_what_is_damaged_or_of_another_size_is_made_again(server, shelf, tmp_path, damage):
    """After a run that got the first book, and lost the network in the second."""
    original = module.fetch

    def fetch(url, archive, retries):
        if archive.name == "gutenberg-2.zip":
            raise module.UserError("no network")
        original(url, archive, retries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fetch", fetch)
        fails(get(server, tmp_path, "illustrators/dulac", *(["--size", 30] if damage == "size" else [])), "no network")
    scratch = tmp_path / "illustrators/.dulac.incomplete"
    if damage == "file":
        (scratch / "dulac/trainB/1-002.jpg").write_bytes(b"damaged")
    if damage == "note":
        (scratch / "1.json").write_text('{"size": null, "files": ["x"]}')
    result = get(server, tmp_path, "illustrators/dulac")
    assert result.returncode == 0, result.stderr
    assert "there already" not in result.stdout and asked_for(server) == ["1", "1", "2"]
    assert images(tmp_path / "illustrators/dulac") == shelf.folders("dulac")


def test_a_small_disk_is_refused_before_anything_is_asked_for(server, shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    result = get(server, tmp_path, "illustrators")
    assert fails(result, str(tmp_path), "1 MB free", "make room") and not server.requests


def test_an_artists_folder_in_the_way_is_left_alone(server, shelf, tmp_path):
    (tmp_path / "illustrators/wright").mkdir(parents=True)
    (tmp_path / "illustrators/wright/mine.txt").write_text("mine")
    assert fails(get(server, tmp_path, "illustrators"), "illustrators/wright", "in the way")
    (tmp_path / "illustrators/wright/.download.json").write_text("{}")
    assert fails(get(server, tmp_path, "illustrators"), "is damaged")
    assert not server.requests and (tmp_path / "illustrators/wright/mine.txt").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["dulac"], ["did you mean illustrators/dulac?"]),
        (["illustrators/dulak"], ["did you mean illustrators/dulac?"]),
        (["illustrators", "--sha256", "0" * 64], ["--sha256", "on record"]),
        (["illustrators", "--url", "http://x/archive.zip"], ["--url", "REPOSITORY/archive/COMMIT.zip"]),
        (["illustrators", "--size", "0"], ["--size", "at least 1"]),
        (["facades", "--size", "300"], ["--size", "illustrators"]),
    ],
)
def test_what_a_user_can_get_wrong_with_illustrators(arguments, words):
    assert fails(tool(*arguments), *words)


def real_tables():
    return module.read_table("illustrators-books.tsv", module.Book), module.read_table(
        "illustrators-plates.tsv", module.Plate
    )


def test_the_tables_are_whole():
    books, plates = real_tables()
    by_number = {book.gutenberg: book for book in books}
    assert (len(books), len(by_number), len(plates), len({plate.file for plate in plates})) == (54, 54, 1351, 1351)
    for book in books:
        assert book.repository.endswith(f"_{book.gutenberg}") and len(book.commit) == 40
        assert book.rights == "Public domain in the USA" and book.archive_mb > 0
    for plate in plates:
        assert plate.file.split("/")[0] == by_number[plate.gutenberg].artist
        assert plate.folder in ("trainB", "testB") and 0 <= plate.left < plate.right and 0 <= plate.top < plate.bottom
        assert len(plate.source_sha256) == len(plate.pixels_sha256) == 64
        assert 300 < plate.long_side <= max(plate.right - plate.left, plate.bottom - plate.top)


def test_no_book_is_on_both_sides_but_where_there_is_only_one():
    books, plates = real_tables()
    for artist in {book.artist for book in books}:
        numbers = [book.gutenberg for book in books if book.artist == artist]
        sides = {number: {plate.folder for plate in plates if plate.gutenberg == number} for number in numbers}
        assert set().union(*sides.values()) == {"trainB", "testB"}
        assert len(numbers) == 1 or all(len(side) == 1 for side in sides.values())
    sources = [{plate.source_sha256 for plate in plates if plate.folder == part} for part in ("trainB", "testB")]
    assert not sources[0] & sources[1]


def test_the_list_agrees_with_the_tables():
    books, plates = real_tables()
    total = module.DATASETS["illustrators"]
    assert sorted(total.source.split()) == sorted({book.artist for book in books})
    for name in ["", *total.source.split()]:
        dataset = module.DATASETS[f"illustrators/{name}".rstrip("/")]
        size = sum(book.archive_mb for book in books if name in (book.artist, ""))
        of_artist = [plate for plate in plates if plate.file.startswith(name)]
        train = sum(plate.folder == "trainB" for plate in of_artist)
        assert dataset.size == f"{size} MB"
        assert dataset.counts.startswith(f"B {train}+{len(of_artist) - train}, ")


@pytest.mark.realdata
def test_the_checksums_are_those_of_the_shared_plates():
    """The table's pixels come from the set that was cropped by hand, not from this tool."""
    folder = TOOL.parent.parent.parent / "shared/data/illustrators"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    _, plates = real_tables()
    others = {"greenaway/49041-020.jpg", "rackham/26998-009.jpg"}  # docs/illustrators.md says why
    for plate in plates[::9] + [plate for plate in plates if plate.file in others]:
        digest = module.sha256_of_pixels((folder / plate.file).read_bytes())
        assert (digest == plate.pixels_sha256) == (plate.file not in others), plate.file


# ------------------------------------------------------------------------------------------------------------ the words


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["facade"], ["did you mean facades?"]),
        (["horse2zebras"], ["did you mean horse2zebra?"]),
        (["zzz"], ["facades", "miyazaki", "--list"]),
        (["ganilla"], ["docs/ganilla.md"]),
        ([], ["--list"]),
        (["facades", "--nope"], ["--nope", "--help"]),
        (["facades", "--url", "ftp://x/facades.tar.gz"], ["http://"]),
        (["facades", "--sha256", "abc"], ["64"]),
        (["facades", "--retries", "-1"], ["--retries"]),
        (["facades", "--retries", "many"], ["--retries", "many"]),
    ],
)
def test_what_a_user_can_get_wrong(arguments, words):
    assert fails(tool(*arguments), *words)


def test_list_names_every_set_with_terms_and_citation():
    result = tool("--list")
    assert result.returncode == 0 and result.stderr == ""
    names = module.DATASETS
    lines = result.stdout.splitlines()
    for name in names:
        (row,) = [i for i, line in enumerate(lines) if line.split()[:1] == [name]]
        assert lines[row + 1].strip().startswith("terms: ") and lines[row + 2].strip().startswith("cite: ")
    asked = "facades cityscapes maps edges2shoes edges2handbags night2day monet2photo vangogh2photo cezanne2photo"
    asked += " ukiyoe2photo horse2zebra apple2orange summer2winter_yosemite iphone2dslr_flower maps_unpaired"
    asked += " facades_unpaired miyazaki"
    assert set(asked.split()) <= set(names)
    assert "docs/ganilla.md" in result.stdout
    assert max(map(len, lines)) <= 128


def test_help_has_a_line_for_every_option():
    result = tool("--help")
    assert result.returncode == 0
    for option in ("--output_dir", "--url", "--sha256", "--retries", "--keep_archive", "--list", "--size"):
        assert option in result.stdout
