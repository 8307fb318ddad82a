"""No command: videos for translate.py, read and written by the ffmpeg that the package imageio-ffmpeg brings."""

import contextlib
import itertools
import re
import signal
import subprocess
import tempfile
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from common import UserError, written_whole

MP4_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied; other sound becomes AAC


def describe(path):
    """A video file => its path, rate (frames per second, a Fraction), sound (codec or None), seconds, and the ffmpeg to
    read it with. Raises UserError if it has no frames that can be read."""
    try:
        import imageio_ffmpeg

        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        reason = "is no image; a video needs one more package: pip install imageio-ffmpeg"
        raise UserError(f"{path} {reason}") from None
    except RuntimeError as error:
        raise UserError(f"imageio-ffmpeg finds no ffmpeg for this machine: {error}") from None
    done = subprocess.run([ffmpeg, "-hide_banner", "-i", f"file:{path}"], stdin=subprocess.DEVNULL, capture_output=True)
    text = done.stderr.decode(errors="replace")
    streams = re.findall(r"^ *Stream #.*?: (Video|Audio): ((\w+).*)", text, re.MULTILINE)
    pictures = [line for kind, line, _ in streams if kind == "Video" and "(attached pic)" not in line]
    sound = [codec for kind, _, codec in streams if kind == "Audio"]
    if not pictures:
        reason = "it has no video stream" if "Stream #" in text else "damaged, or neither an image nor a video"
        raise UserError(f"{path} cannot be read as a video ({reason})")
    printed = re.search(r" ([\d.]+) (?:fps|tbr)", pictures[0])  # fps: the average, if the rate varies
    if not printed or not Fraction(printed[1]):
        raise UserError(f"{path} does not say its frame rate: give it one, as in ffmpeg -r 25 -i {path} new.mp4")
    rate = Fraction(printed[1])
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)  # ffmpeg prints 29.97 for 30000/1001
    rate = ntsc if abs(rate - ntsc) < Fraction(6, 1000) else rate
    time = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    seconds = int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3]) if time else 0
    return SimpleNamespace(path=path, rate=rate, sound=sound[0] if sound else None, seconds=seconds, ffmpeg=ffmpeg)


@contextlib.contextmanager
def frames(video, begin, seconds, target, unfinished, fit, resize):
    """The frames of a video of describe() from `begin` on, in seconds, as a source for translate_all() of translate.py.

    fit(frame) makes it ready for the network; resize(frame, (height, width)) undoes that. The video `target` has the
    size of this one, its sound, and its frame rate; if that varies, its average. Frames are upright. unfinished: a
    folder for `target` until it is whole.
    """
    times = {"-ss": begin, "-t": seconds}  # seeking to 0 would fail in a file without its end
    part_of_input = [str(word) for option in times.items() if option[1] for word in option]
    part_of_input += ["-i", f"file:{video.path}"]
    size, ended, writers = [], [], []

    def start(command, errors, **pipes):
        command = [video.ffmpeg, "-v", "error", *command]
        process = processes.enter_context(subprocess.Popen(command, stderr=errors, **pipes))
        processes.callback(process.kill)  # does nothing to one that has ended
        return process

    def reason(process, errors):  # why it failed, None if it did not
        code = process.wait()
        errors.seek(0)
        lines = re.sub(r"\[.*?\] ", "", errors.read().decode(errors="replace")).splitlines()
        full = [line for line in lines if re.search("No space left|File too large", line)]
        killed = [f"ffmpeg was ended by a signal ({signal.strsignal(-code)})"] if code < 0 else []
        return next((line.strip() for line in full + killed + lines if line.strip()), f"code {code}" if code else None)

    def items():
        return itertools.takewhile(lambda _: not ended, itertools.count(1))

    def read(_):
        header = [reader.stdout.readline() for _ in range(3)]  # "P6", the size of the upright frame, "255"
        width, height = map(int, header[1].split() or (0, 0))
        pixels = reader.stdout.read(height * width * 3)
        if not pixels or len(pixels) < height * width * 3:
            ended.append(True)
            return None
        size[:] = height, width
        return np.asarray(fit(np.frombuffer(pixels, np.uint8).reshape(height, width, 3)))

    def start_writer():
        height, width = size
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(video.rate), "-i", "-"]
        streams = ["-map", "0:v", "-map", "1:a:0?", "-c:a", "copy" if video.sound in MP4_SOUND else "aac"]
        chroma = "yuv444p" if height % 2 or width % 2 else "yuv420p"  # the latter, which all players take, is for even
        colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709", "-color_range", "tv"]
        encoder = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", chroma, *colour, "-f", "mp4"]
        return start([*raw, *part_of_input, *streams, *encoder, str(part)], writer_errors, stdin=subprocess.PIPE)

    def finish_writer():
        with contextlib.suppress(BrokenPipeError):
            writers[0].stdin.close()
        if writers[0].wait():
            what = reason(writers[0], writer_errors)
            raise UserError(f"{target} cannot be written: {what}; make room or choose another --output_dir")

    def write(_, pixels):
        if not writers:
            writers.append(start_writer())
        if list(pixels.shape[:2]) != size:
            pixels = resize(pixels, size).numpy()
        try:
            writers[0].stdin.write(pixels.tobytes())
        except BrokenPipeError:
            finish_writer()

    with contextlib.ExitStack() as processes:
        reader_errors, writer_errors = (processes.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        part = processes.enter_context(written_whole(target, unfinished))
        ppm = ["-map", "0:V:0", "-r", str(video.rate), "-f", "image2pipe", "-c:v", "ppm", "-"]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        reader = start([*part_of_input, *ppm], reader_errors, **streams)
        left = max(0, video.seconds - begin)
        total = round(video.rate * Fraction(min(left, seconds or left))) or None
        source = SimpleNamespace(items=items, read=read, write=write, threads=1, total=total, damage=None)
        yield source
        source.damage = reason(reader, reader_errors)
        if not writers:
            what = source.damage or f"it has {video.seconds:g} seconds"
            raise UserError(f"{video.path} has no frames from --start {begin:g} on: {what}")
        finish_writer()
