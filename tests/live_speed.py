"""How many frames a second a page of tools/make_page.py translates, and where the time goes.

    python tests/live_speed.py photo.html                   # for 20 seconds
    python tests/live_speed.py photo.html --seconds 60 --record

The camera is the one that Chromium imitates, at 60 frames a second. It needs what tests/test_page.py needs, and Linux.
Other programs take time from the browser: it prints the load, and the processor time per frame, which depends less on
what else runs.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from test_page import BROWSERS, LIBRARY, Browser

NOTE = """
  window.network = [];
  document.addEventListener("translated", event => network.push(event.detail));
"""
OFTEN = """
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = wanted => {
    wanted.video.frameRate = 60;
    return ask(wanted);
  };
"""


def children_of(pid):
    """The process and all that it has started, as far as they still run."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found = {pid}
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found


def processor_seconds(pid):
    """{name of a thread: seconds that such threads of a process and its children have computed}."""
    seconds = {}
    for process in children_of(pid):
        for folder in Path(f"/proc/{process}/task").glob("*"):
            try:
                name = (folder / "comm").read_text().strip()
                spent = int((folder / "schedstat").read_text().split()[0]) / 1e9
            except OSError:
                continue
            if name == "chromium":
                name = "page" if is_renderer(process) else "browser"
            seconds[name] = seconds.get(name, 0) + spent
    return seconds


def is_renderer(process):
    try:
        return "--type=renderer" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False


def measure(browser, page, seconds, is_recording):
    """Runs the camera for a while. => {name: number}, and the processor seconds of each kind of thread."""
    browser.open(page.resolve().as_uri(), before=NOTE + OFTEN)
    browser.wait("document.body.dataset.ready !== 'cpu'")
    browser.click("#camera-button")
    browser.wait("!document.getElementById('live-bar').hidden", 60)
    if is_recording:
        browser.click("#record-button")
    time.sleep(2)
    counts = "[...document.getElementById('counts').textContent.matchAll(/\\d+/g)].map(Number)"
    translated_before, dropped_before = browser.js(counts)
    browser.js("network.length = 0")
    before = processor_seconds(browser.process.pid)
    begin = time.monotonic()
    time.sleep(seconds)
    network = browser.js("network")
    took = time.monotonic() - begin
    after = processor_seconds(browser.process.pid)
    translated, dropped = browser.js(counts)
    threads = {name: spent - before.get(name, 0) for name, spent in after.items()}
    came = translated + dropped - translated_before - dropped_before
    return {"seconds": took, "frames": len(network), "came": came, "network": sum(network) / 1000}, threads


def report(measured, threads):
    frames = measured["frames"]
    per_frame = 1000 * measured["seconds"] / frames
    network = 1000 * measured["network"] / frames
    print(f"{frames / measured['seconds']:.1f} frames/s translated, {measured['came'] / measured['seconds']:.1f} came")
    print(f"{network:.1f} ms in the network, {per_frame - network:.1f} ms between two networks")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("processor time per frame:")
    for name, spent in sorted(threads.items(), key=lambda item: -item[1]):
        if 1000 * spent / frames >= 0.5:
            print(f"  {name}: {1000 * spent / frames:.1f} ms")
    print(f"  all: {1000 * sum(threads.values()) / frames:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="an HTML file of tools/make_page.py for photos")
    parser.add_argument("--seconds", type=float, default=20, help="how long it measures (20)")
    parser.add_argument("--record", action="store_true", help="records meanwhile")
    args = parser.parse_args()
    executable = next(filter(None, map(shutil.which, BROWSERS["chrome"])), None)
    if not executable or not LIBRARY.exists() or not args.page.exists():
        sys.exit(f"needs {args.page}, chromium and {LIBRARY}: tests/README.md says how to install them")
    with tempfile.TemporaryDirectory() as downloads:
        browser = Browser("chrome", executable, Path(downloads))
        try:
            report(*measure(browser, args.page, args.seconds, args.record))
        finally:
            browser.close()


if __name__ == "__main__":
    main()
