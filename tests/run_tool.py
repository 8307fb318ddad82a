"""No tests: run_tool() runs a command of tools/ in the process of the tests, which saves its start."""

import contextlib
import importlib
import io
import subprocess
import sys

import pytest
from conftest import ROOT, assert_one_line

sys.path.insert(0, str(ROOT / "tools"))
import common


def run_tool(name, *arguments):
    """tools/NAME.py as a user runs it: exit code, stdout and stderr, as of subprocess.run()."""
    module, words = importlib.import_module(name), [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [f"{name}.py", *words])
        with pytest.raises(SystemExit) as caught:
            common.run(module.main)
    return subprocess.CompletedProcess([name, *words], caught.value.code or 0, out.getvalue(), err.getvalue())


def fails(result, *words):
    """A call that the user got wrong: exit code 2, and one line on stderr with all the words, which is returned."""
    assert result.returncode == 2, result
    assert_one_line(result.stderr, *words)
    return result.stderr
