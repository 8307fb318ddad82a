"""How many frames a second a page of tools/make_page.py translates.

    python tests/live_speed.py photo.html                   # for 20 seconds
    python tests/live_speed.py photo.html --seconds 60 --record

The camera is the one that Chromium imitates, at 60 frames a second. It needs what tests/test_page.py needs. Other
programs take time from the browser, so let none run.
"""

import argparse
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


def measure(browser, page, seconds, is_recording):
    """Runs the camera for a while. => {name: number}, times in seconds."""
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
    begin = time.monotonic()
    time.sleep(seconds)
    network = browser.js("network")
    took = time.monotonic() - begin
    translated, dropped = browser.js(counts)
    came = translated + dropped - translated_before - dropped_before
    return {"seconds": took, "frames": len(network), "came": came, "network": sum(network) / 1000}


def report(measured):
    frames = measured["frames"]
    per_frame = 1000 * measured["seconds"] / frames
    network = 1000 * measured["network"] / frames
    print(f"{frames / measured['seconds']:.1f} frames/s translated, {measured['came'] / measured['seconds']:.1f} came")
    print(f"{network:.1f} ms in the network, {per_frame - network:.1f} ms between two networks")


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
            report(measure(browser, args.page, args.seconds, args.record))
        finally:
            browser.close()


if __name__ == "__main__":
    main()
