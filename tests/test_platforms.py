"""Windows, macOS and other versions of Python's packages, as far as Linux can show them: a process that lacks what the
other systems lack, and what the files say about encodings and packages. docs/platforms.md says what nobody has run."""

import ast
import codecs
import importlib
import json
import ntpath
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path, PureWindowsPath

import pytest
from conftest import ROOT, SCRIPTS, TINY, checkpoints, plain_environment, pngs, save_image, save_pairs
from packaging.requirements import Requirement
from packaging.version import Version
from run_tool import fails, run_tool

import pix2pix

pytestmark = pytest.mark.more
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
SOURCES = sorted(path for folder in (".", "tools", "samples", "web/demo") for path in (ROOT / folder).glob("*.py"))


# ------------------------------------------------------------------------------------------------- a process elsewhere

# Python runs this file at its start, in child processes too. Most of what it forbids it forbids to the files in $OURS
# alone: packages have code of their own for other systems, which Linux cannot run.
ELSEWHERE = r'''
import builtins
import io
import os
import signal
import sys

OURS = os.environ["OURS"].split(os.pathsep)
STANDARD = os.path.dirname(os.__file__)
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def is_ours(file):
    file = os.path.abspath(file)
    return any(file.startswith(os.path.join(folder, "")) for folder in OURS) and "site-packages" not in file


def called_by_us():
    """Whether the call comes from our files, directly or through the standard library (pathlib, shutil)."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith((STANDARD, "<frozen")) and frame.f_back:
        if "site-packages" in frame.f_code.co_filename:
            return False
        frame = frame.f_back
    return is_ours(frame.f_code.co_filename)


def import_less(name, globals=None, locals=None, fromlist=(), level=0, original=builtins.__import__):
    if name in MODULES and is_ours((globals or {}).get("__file__", "")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, locals, fromlist, level)


builtins.__import__ = import_less
for name in ("fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "mkfifo", "nice",
             "sched_getaffinity", "sched_setaffinity", "setsid"):
    delattr(os, name)
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "pause"):
    delattr(signal, name)


def open_file(file, mode="r", buffering=-1, encoding=None, *arguments, original=io.open, **options):
    """No /proc. The encoding of texts is that of Western Europe where none is given; of ours each gives one."""
    if isinstance(file, (str, os.PathLike)) and os.fspath(file).startswith("/proc/"):
        raise FileNotFoundError(2, "No such file or directory", file)
    if "b" not in mode and encoding in (None, "locale"):
        if called_by_us():
            raise EncodingWarning(f"{file} is opened without an encoding")
        encoding = "cp1252"
    return original(file, mode, buffering, encoding, *arguments, **options)


builtins.open = io.open = open_file
list_folder, link_of, real_path, is_folder = os.listdir, os.readlink, os.path.realpath, os.path.isdir


def forbid(path):
    """Files that are open can be neither removed nor renamed, nor the folders that they are in."""
    path = real_path(path)
    for number in list_folder("/proc/self/fd"):
        try:
            opened = link_of(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if opened == path or opened.startswith(os.path.join(path, "")):
            raise PermissionError(13, "The process cannot access the file because it is being used", path)


def replace_function(name, check):
    original = getattr(os, name)

    def replacement(*arguments, **options):
        if called_by_us():
            check(*arguments)
        return original(*arguments, **options)

    setattr(os, name, replacement)


def check_rename(source, target):
    forbid(source)
    if os.path.lexists(target):
        raise FileExistsError(17, "Cannot create a file when that file already exists", target)


def check_replace(source, target):
    forbid(source)
    forbid(target)
    if is_folder(target):
        raise PermissionError(13, "Access is denied", target)


def check_open(path, *_):
    if is_folder(path):
        raise PermissionError(13, "Permission denied", path)


replace_function("unlink", forbid)
replace_function("remove", forbid)
replace_function("rmdir", forbid)
replace_function("rename", check_rename)
replace_function("replace", check_replace)
replace_function("open", check_open)
'''

# Runs command lines one after the other in one process, which saves the starts of TensorFlow.
DRIVER = r"""
import contextlib, importlib.util, io, json, os, runpy, sys, traceback

def call(file, arguments):
    sys.argv[:] = [file, *arguments]
    sys.path[0] = os.path.dirname(file)
    if arguments:
        runpy.run_path(file, run_name="__main__")
    else:
        spec = importlib.util.spec_from_file_location(os.path.basename(file)[:-3], file)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

results = []
with open(sys.argv[1], encoding="utf-8") as file:
    commands = json.load(file)
for file, arguments in commands:
    streams = [io.TextIOWrapper(io.BytesIO(), "cp1252", write_through=True) for _ in range(2)]  # as pipes are there
    code = 0
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            call(file, arguments)
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            code = traceback.format_exc()
    results.append([code, *(stream.buffer.getvalue().decode("cp1252") for stream in streams)])
print("RESULTS", json.dumps(results))
"""


def environment_elsewhere(folder, *ours):
    """Writes ELSEWHERE into a folder. Returns the environment in which Python runs it."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(ELSEWHERE, encoding="utf-8")
    ours = os.pathsep.join(map(str, (ROOT, *ours)))
    return plain_environment() | {"PYTHONPATH": str(folder), "OURS": ours, "PYTHONUTF8": "0"}


WHAT_LACKS = {  # a line of Python, and what it raises
    "import fcntl": "ModuleNotFoundError",
    "import resource": "ModuleNotFoundError",
    "from pwd import getpwuid": "ModuleNotFoundError",
    "import termios": "ModuleNotFoundError",
    "signal.SIGHUP": "AttributeError",
    "signal.SIGKILL": "AttributeError",
    "os.sched_getaffinity(0)": "AttributeError",
    "os.getuid()": "AttributeError",
    "os.getgid()": "AttributeError",
    "os.fork()": "AttributeError",
    "Path('/proc/cpuinfo').read_text(encoding='utf-8')": "FileNotFoundError",
    "open('/proc/meminfo', encoding='utf-8')": "FileNotFoundError",
    "open('a')": "EncodingWarning",
    "Path('a').read_text()": "EncodingWarning",
    "Path('b').write_text('')": "EncodingWarning",
    "os.open('folder', os.O_RDONLY)": "PermissionError",
    "os.rename('a', 'c')": "FileExistsError",
    "os.replace('empty', 'folder')": "PermissionError",
    "file = open('a', encoding='utf-8'); os.unlink('a')": "PermissionError",
    "file = open('folder/d', 'rb'); shutil.rmtree('folder')": "PermissionError",
    "open('a', encoding='utf-8').close(); open('a', 'rb').close(); Path('a').unlink()": None,
    "os.replace('a', 'c'); os.rename('empty', 'new'); shutil.rmtree('folder')": None,
    "import filelock, subprocess; subprocess.run(['true']); filelock.FileLock('l').acquire()": None,
}


def test_the_emulation_lacks_what_it_says(tmp_path):
    """Else the tests below would show nothing."""
    program = tmp_path / "program.py"
    start = "import os, shutil, signal, sys\nfrom pathlib import Path\n"
    program.write_text(start + "exec(compile(sys.argv[1], __file__, 'exec'))\n", encoding="utf-8")
    environment = environment_elsewhere(tmp_path / "elsewhere", tmp_path)
    for number, (line, error) in enumerate(WHAT_LACKS.items()):
        cwd = tmp_path / str(number)
        for name in ("folder", "empty"):
            (cwd / name).mkdir(parents=True)
        for name in ("a", "c", "folder/d"):
            (cwd / name).touch()
        done = subprocess.run([sys.executable, program, line], cwd=cwd, env=environment, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1] if done.stderr else None
        assert (last and last.split(":")[0]) == error, (line, done.stderr)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A function that tells what a command did in a process elsewhere: exit code, stdout, stderr. And the folder."""
    home = tmp_path_factory.mktemp("elsewhere")
    folder = home / "Übung 絵"
    data = save_pairs(folder / "data" / "train", ["1.png", "zwei.png", "三.png"])
    save_pairs(folder / "data" / "val", ["großes Haus.png", "四.png"])
    save_image(folder / "photos" / "早.jpg", pix2pix.read_image(data / "1.png"))
    train = ["--mode", "train", "--input_dir", data, "--output_dir", folder / "t", *TINY, "--progress_freq", 1]
    resize = ["--operation", "resize", "--size", 32, "--input_dir", data, "--output_dir", folder / "resized"]
    export = [folder / "t", "--format", "litert", "--output_dir", folder / "export"]
    commands = {name: (f"{name}.py", []) for name in SCRIPTS}
    commands |= {f"tools/{name}": (f"tools/{name}.py", []) for name in TOOLS}
    commands |= {
        "make-samples": ("samples/make-samples.py", []),
        "train": ("pix2pix.py", [*train, "--max_steps", 2, "--display_freq", 1, "--save_freq", 1]),
        "continue": ("pix2pix.py", ["--mode", "train", "--checkpoint", folder / "t", "--max_steps", 3]),
        "test": ("pix2pix.py", ["--mode", "test", "--checkpoint", folder / "t", "--output_dir", folder / "test"]),
        "translate": ("tools/translate.py", [folder / "t", folder / "photos", "--output_dir", folder / "out"]),
        "process": ("tools/process.py", [*resize, "--workers", 2]),
        "split": ("tools/split.py", ["--dir", data, "--output_dir", folder / "parts"]),
        "export": ("tools/export.py", export),
    }
    lines = [[str(ROOT / file), [str(argument) for argument in words]] for file, words in commands.values()]
    (home / "commands.json").write_text(json.dumps(lines), encoding="utf-8")
    (home / "driver.py").write_text(DRIVER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, home / "driver.py", home / "commands.json"],
        env=environment_elsewhere(home / "site"), cwd=home, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = dict(zip(commands, json.loads(done.stdout.split("RESULTS ")[1]), strict=True))

    def told(name):
        code, out, err = results[name]
        assert code == 0, (code, out, err)
        assert err == "", err
        return out

    return told, folder


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"tools/{name}" for name in TOOLS), "make-samples"])
def test_every_file_is_imported_elsewhere(elsewhere, name):
    told, _ = elsewhere
    assert told(name) == ""


def test_a_training_and_a_test_elsewhere(elsewhere):
    """Two steps, one more, a test of the held-out images, in a folder and with images that have any letters."""
    told, folder = elsewhere
    out = told("train")
    assert [line[1] for line in SCRIPTS["pix2pix"].progress(out)] == ["1", "2"] and "done: step 2" in out
    assert "done: step 3" in told("continue") and checkpoints(folder / "t") == [1, 2, 3]
    assert "(2 images)" in told("test")
    assert sorted(pngs(folder / "test")) == sorted(
        f"{name}-{kind}.png" for name in ("großes Haus", "四") for kind in ("inputs", "outputs", "targets")
    )
    page = (folder / "test" / "index.html").read_text(encoding="utf-8")
    assert "großes Haus" in page and "四" in page


def test_tools_elsewhere(elsewhere):
    told, folder = elsewhere
    assert "done: 1 images" in told("translate") and (folder / "out" / "早.png").exists()
    assert ": 3 made, 0 there already, 0 failed" in told("process")
    assert {path.name for path in (folder / "resized").iterdir()} == {"1.png", "zwei.png", "三.png"}
    assert "2 train, 1 val" in told("split") and len(list((folder / "parts").rglob("*.png"))) == 3
    assert "model.tflite" in told("export") and (folder / "export" / "model.tflite").stat().st_size > 10_000


def test_names_of_files_are_allowed_on_windows(elsewhere):
    """Also of those that hold locks and traces."""
    _, folder = elsewhere
    names = [path.name for path in folder.rglob("*")]
    assert len(names) > 50 and not [name for name in names if re.search(r'[<>:"/\\|?*\x00-\x1f]|[. ]$', name)]


def test_dockrun_elsewhere(tmp_path):
    """Where users have no numbers it says so in a line, or leaves them out."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\nexit 0\n")
    docker.chmod(0o755)
    environment = environment_elsewhere(tmp_path / "site") | {"PATH": str(docker.parent)}
    command = [sys.executable, ROOT / "tools" / "dockrun.py", "python", "pix2pix.py"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr


def test_dockrun_on_windows_names_wsl2():
    dockrun = importlib.import_module("dockrun")
    dockrun.check_system("posix")
    with pytest.raises(dockrun.UserError, match="WSL2"):
        dockrun.check_system("nt")


def test_a_command_to_compare_with_keeps_its_backslashes():
    benchmark = importlib.import_module("benchmark")
    command = r'C:\Python\python.exe "C:\my files\other.py" --steps 9'
    assert benchmark.words_of(command, is_windows=True) == command
    assert benchmark.words_of('python "my files/other.py"', is_windows=False) == ["python", "my files/other.py"]


@pytest.mark.parametrize(("path", "root", "name"), [
    (r".\a\x.jpg", ".", r"a\x.jpg"),
    (r"D:\photos\a\..\b\x.jpg", r"D:\photos", r"b\x.jpg"),
    (r"D:\photos/..b/x.jpg", r"D:\photos", r"..b\x.jpg"),
    (r"D:\other\x.jpg", r"D:\photos", r"D\other\x.jpg"),
    (r"E:\photos\x.jpg", r"D:\photos", r"E\photos\x.jpg"),
    (r"\\host\share\x.jpg", r"D:\photos", r"host\share\x.jpg"),
])  # fmt: skip
def test_translations_of_listed_files_stay_in_the_folder_on_windows(path, root, name):
    translate = importlib.import_module("translate")
    assert translate.name_inside(path, root, ntpath) == name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_lists_of_names_as_editors_and_shells_of_windows_write_them(tmp_path, encoding):
    """`dir -Name > names.txt` of PowerShell 5 gives UTF-16."""
    translate = importlib.import_module("translate")
    text = "Übung.jpg\r\na\\絵.png\r\n"
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    (tmp_path / "names.txt").write_bytes(mark + text.encode(encoding))
    assert list(translate.names_listed(tmp_path / "names.txt")) == ["Übung.jpg", "a\\絵.png"]


def test_npm_is_started_by_the_name_that_was_found(tmp_path, monkeypatch):
    """On Windows it is called npm.cmd, which only a shell finds as npm."""
    npm = tmp_path / "npm.cmd"
    npm.write_text("#!/bin/sh\necho no network here >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(shutil, "which", lambda name: str(npm) if name == "npm" else None)
    fails(run_tool("make_page", "any", "--output", tmp_path / "a.html"), "npm cannot fetch", "no network here")


# ------------------------------------------------------------------------------------------------------ other platforms


def cpuinfo(flags):
    """What an x86 processor tells under Linux."""
    return f"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\npower management:\n"


ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\n"
PROCESSORS = {  # name: (/proc/cpuinfo, whether TensorFlow runs on it)
    "x86 with AVX": (cpuinfo("fpu sse sse2 sse4_2 xsave avx f16c hypervisor lahf_lm avx2"), True),
    "x86 with AVX as the last": (cpuinfo("fpu sse sse2 sse4_2 avx"), True),
    "x86 without": (cpuinfo("fpu sse sse2 ssse3 sse4_1 sse4_2 hypervisor lahf_lm"), False),
    "ARM": (ARM, True),
    "empty": ("", True),
    "no such file": (None, True),
}


@pytest.mark.parametrize(("text", "expected"), PROCESSORS.values(), ids=PROCESSORS)
def test_processors_that_tensorflow_runs_on(monkeypatch, text, expected):
    def read(path, encoding):
        assert path == Path("/proc/cpuinfo") and encoding == "utf-8"
        if text is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert pix2pix.has_avx() is expected


@pytest.mark.parametrize("name", ["x86 with AVX", "x86 without", "ARM"])
def test_what_tensorflow_says_as_it_ends_is_not_hidden(tmp_path, name):
    """On a processor without AVX it writes why to file 2 and aborts, as Keras does here. Else what its C++ code says
    there is of no use to anyone."""
    text, runs = PROCESSORS[name]
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    replaced = [
        "import io",
        "original = io.open",
        f"texts = {{'/proc/cpuinfo': {str(tmp_path / 'cpuinfo')!r}}}",
        "io.open = lambda file, *words, **options: original(texts.get(str(file), file), *words, **options)",
    ]
    (tmp_path / "sitecustomize.py").write_text("\n".join(replaced), encoding="utf-8")
    (tmp_path / "keras.py").write_text("import os\nos.write(2, b'to use AVX instructions')\nos.abort()\n")
    environment = plain_environment() | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, ROOT / "pix2pix.py", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == ("" if runs else "to use AVX instructions")


def test_a_backslash_separates_folders_on_windows_only(monkeypatch):
    """Elsewhere TensorFlow, which finds files by patterns, would find none in such a folder."""
    path = r"C:\Users\me\facades_train"
    names = {"checkpoint": None, "output_dir": "out", "input_dir": r"D:\photos"}

    def check(**changes):
        pix2pix.check_names(types.SimpleNamespace(**names | {"mode": "train"} | changes))

    check()  # of images Pillow finds any
    for changes in ({"checkpoint": path}, {"output_dir": path}):
        with pytest.raises(pix2pix.UserError, match=r"facades_train.*rename it"):
            check(**changes)
        with monkeypatch.context() as windows:
            windows.setattr(os, "sep", "\\")
            check(**changes)
            for name in changes:
                with pytest.raises(pix2pix.UserError, match="rename it"):
                    check(**{name: path + "[1]"})
    check(output_dir=path, mode="test")


def test_paths_in_commands_to_paste_have_quotes_where_a_shell_needs_them(monkeypatch):
    assert [pix2pix.in_quotes(path) for path in ("a_train", "my photos", Path("it's"))] == [
        "a_train", "'my photos'", "'it'\"'\"'s'"
    ]  # fmt: skip
    monkeypatch.setattr(os, "sep", "\\")  # cmd.exe knows double quotes alone
    for path in (r"C:\Users\me\a_train", r"..\Übung-1.b"):
        assert pix2pix.in_quotes(path) == path
    for path in (r"C:\my photos", "a&b", "a(1)"):
        assert pix2pix.in_quotes(PureWindowsPath(path)) == f'"{path}"'


def test_a_file_that_another_program_reads_is_replaced_a_little_later(monkeypatch):
    """As Windows demands. Anywhere else the first refusal counts."""
    refusals = []

    def replace(path):
        if len(refusals) < 3:
            refusals.append(path)
            raise PermissionError(13, "The process cannot access the file because it is being used", path)

    monkeypatch.setattr(pix2pix.time, "sleep", lambda _: None)
    part = types.SimpleNamespace(replace=replace)
    with pytest.raises(PermissionError):
        pix2pix.move_over(part, "page")
    with pytest.raises(PermissionError):
        pix2pix.move_over(part, "page", tries=2)
    refusals.clear()
    pix2pix.move_over(part, "page", tries=4)
    assert refusals == ["page"] * 3


# ------------------------------------------------------------------------------------------------------------ encodings


def is_text(mode, default):
    """Whether a file is opened as text. mode: an expression, or None; default: what it is without."""
    if mode is None:
        return default
    modes = [node.value for node in ast.walk(mode) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any("b" not in text for text in modes)


def opens_text(call):
    """Whether a call opens a file or a pipe as text: open(), Path.open(), read_text(), subprocess.run() and so on."""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", None)
    owner = getattr(getattr(function, "value", None), "id", None)  # os of os.open()
    options = {option.arg: option.value for option in call.keywords}
    first, second = [*call.args, None, None][:2]
    if name == "open" and (isinstance(function, ast.Name) or owner == "io"):
        return is_text(options.get("mode", second), True)
    if name == "open" and owner not in ("Image", "os", "tarfile", "webbrowser", "zipfile"):  # of a Path
        is_mode = first is None or is_text(first, False) or "mode" in options
        return is_mode and is_text(options.get("mode", first), True)
    if name == "fdopen":
        return is_text(options.get("mode", second), True)
    if name in ("TemporaryFile", "NamedTemporaryFile"):
        return is_text(options.get("mode", first), False)
    if name in ("read_text", "write_text") and isinstance(function, ast.Attribute):
        return len(call.args) < (1 if name == "read_text" else 2)
    if owner == "subprocess":
        texts = [options.get("text"), options.get("universal_newlines")]
        return any(isinstance(value, ast.Constant) and value.value is True for value in texts)
    return False


def texts_without_encoding(source):
    """The numbers of the lines of a program that open text in the encoding of the system."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno for call in calls
        if opens_text(call) and not any(option.arg == "encoding" for option in call.keywords)
    ]  # fmt: skip


OPENED = {
    "open(path)": True,
    "open(path, 'w')": True,
    "open(path, mode='a')": True,
    "io.open(path)": True,
    "path.open()": True,
    "path.open('w')": True,
    "path.open(mode='x')": True,
    "Path(a).read_text()": True,
    "Path(a).write_text(text)": True,
    "os.fdopen(3)": True,
    "tempfile.TemporaryFile('w')": True,
    "tempfile.NamedTemporaryFile(mode='w')": True,
    "subprocess.run(command, text=True)": True,
    "subprocess.Popen(command, universal_newlines=True)": True,
    "open(path, encoding='utf-8')": False,
    "open(path, 'rb')": False,
    "path.open('ab' if have else 'wb')": False,
    "path.open('r', encoding='utf-8')": False,
    "Path(a).read_text(encoding='utf-8')": False,
    "Path(a).read_text('utf-8')": False,
    "Path(a).write_text(text, 'utf-8')": False,
    "write_text(path, text)": False,  # of common.py
    "Image.open(path)": False,
    "tarfile.open(path)": False,
    "archive.open(info)": False,
    "os.open(path, os.O_RDONLY)": False,
    "tempfile.TemporaryFile()": False,
    "subprocess.run(command)": False,
    "subprocess.run(command, text=True, encoding='utf-8')": False,
}


@pytest.mark.parametrize(("line", "found"), OPENED.items())
def test_texts_without_an_encoding_are_found(line, found):
    assert bool(texts_without_encoding(line)) is found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_opened_with_an_encoding(path):
    """Or Windows would take them for cp1252."""
    assert texts_without_encoding(path.read_text(encoding="utf-8")) == []


# ------------------------------------------------------------------------------------------------------------- packages

PACKAGES = {"PIL": "pillow", "absl": "absl-py", "keras": "tensorflow"}  # by other names; Keras comes with TensorFlow


def imports_of(tree, at_start=False):
    """The packages that a program imports, but for those it can do without; at_start: as it is imported."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Try) and "ImportError" in {getattr(h.type, "id", "") for h in node.handlers}:
            continue
        elif not (at_start and isinstance(node, (ast.FunctionDef, ast.Lambda))):
            found |= imports_of(node, at_start)
    return found


def foreign_packages(path, at_start=False):
    """The packages, by the names of PyPI, that a program imports beside Python's own."""
    names = imports_of(ast.parse(path.read_text(encoding="utf-8")), at_start) - sys.stdlib_module_names
    return {PACKAGES.get(name, name) for name in names}


def requirements_of(name):
    """{package: its range, a packaging.SpecifierSet} of a file of requirements."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {requirement.name: requirement.specifier for requirement in found}


def header_of(script):
    """{"requires-python": ..., "dependencies": [...]} of the `# /// script` lines, as uv reads them."""
    text = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    lines = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", text, re.MULTILINE)[1].splitlines()
    pairs = [line.removeprefix("# ").split(" = ") for line in lines]
    return {name: json.loads(value) for name, value in pairs}


@pytest.mark.parametrize("script", SCRIPTS)
def test_imports_are_those_of_the_header(script):
    """Nothing that `uv run` would miss, and nothing that it would bring in vain, but for TensorBoard, a program."""
    listed = header_of(script)["dependencies"]
    assert len(set(listed)) == len(listed)
    assert foreign_packages(ROOT / f"{script}.py") | {"tensorboard"} == set(listed)


@pytest.mark.parametrize("script", SCRIPTS)
def test_imports_are_those_of_the_requirements(script):
    assert foreign_packages(ROOT / f"{script}.py") | {"tensorboard"} == set(requirements_of("requirements.txt"))


@pytest.mark.parametrize("tool", [*TOOLS, "../samples/make-samples", "../web/demo/make-data", "../web/demo/record"])
def test_tools_start_with_the_requirements_alone(tool):
    """What only a part of a tool needs it imports in that part, and names it where it is missing."""
    packages = foreign_packages(ROOT / "tools" / f"{tool}.py", at_start=True)
    assert packages - set(TOOLS) <= set(requirements_of("requirements.txt"))


def test_requirements_are_ranges():
    for package, versions in requirements_of("requirements.txt").items():
        kinds = [version.operator for version in versions]
        assert ">=" in kinds and "==" not in kinds, package


@pytest.mark.parametrize("name", ["tests/requirements.txt", "tests/lowest.txt"])
def test_tested_versions_lie_in_the_ranges(name):
    pins = {package: next(iter(pin)).version for package, pin in requirements_of(name).items()}
    for package, versions in requirements_of("requirements.txt").items():
        assert versions.contains(pins[package]), package


def test_the_lowest_versions_are_where_the_ranges_begin():
    """All but for the patch level."""
    pins = {package: next(iter(pin)).version for package, pin in requirements_of("tests/lowest.txt").items()}
    for package, versions in requirements_of("requirements.txt").items():
        lowest = next(version.version for version in versions if version.operator == ">=")
        assert Version(pins[package]).release[:2] == Version(lowest).release[:2], package


def test_the_versions_of_python_are_said_alike():
    ranges = {header_of(script)["requires-python"] for script in SCRIPTS}
    assert ranges == {">=3.11,<3.14"}
    for name in ("README.md", "docs/platforms.md"):
        assert "Python 3.11 to 3.13" in " ".join((ROOT / name).read_text(encoding="utf-8").split())
    assert 'target-version = "py311"' in (ROOT / "ruff.toml").read_text(encoding="utf-8")
