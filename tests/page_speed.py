"""How long a page of tools/make_page.py that one draws in takes for a translation.

    python tests/page_speed.py cats.html                              # in Chromium
    python tests/page_speed.py cats.html --browser firefox
    taskset -c 1 python tests/page_speed.py cats.html --share 4       # with a quarter of core 1

It draws 12 strokes and prints the times in the network, of the CPU alone. It needs what
tests/test_page.py needs. Other programs take time from the browser, so let none run.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from test_page import BROWSERS, LIBRARY, Browser

NOTE = """
  window.network = [];
  document.addEventListener("translated", event => network.push(event.detail));
"""
BUSY = "while True: pass"


def measure(browser, page, strokes=12):
    """Draws strokes, waiting for each one's translation. => milliseconds in the network."""
    browser.open(page.resolve().as_uri(), before=NOTE)
    browser.js("network.length = 0")
    for index in range(strokes):
        before = browser.js("network.length")
        height = 0.2 + 0.05 * index
        browser.drag((0.3, height), (0.6, height))
        browser.wait(f"network.length > {before}")
    return browser.js("network")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="an HTML file of tools/make_page.py for lines or labels")
    parser.add_argument("--browser", choices=BROWSERS, default="chrome", help="(chrome)")
    parser.add_argument("--share", type=int, default=1, help="how many programs share the core of taskset (1)")
    args = parser.parse_args()
    executable = next(filter(None, map(shutil.which, BROWSERS[args.browser])), None)
    if not executable or not LIBRARY.exists() or not args.page.exists():
        sys.exit(f"needs {args.page}, {args.browser} and {LIBRARY}: tests/README.md says how to install them")
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(args.share - 1)]
    try:
        with tempfile.TemporaryDirectory() as downloads:
            browser = Browser(args.browser, executable, Path(downloads))
            try:
                times = measure(browser, args.page)
            finally:
                browser.close()
    finally:
        for process in busy:
            process.kill()
    print(f"{len(times)} translations: {min(times):.0f} ms at best, {statistics.median(times):.0f} ms median")


if __name__ == "__main__":
    main()
