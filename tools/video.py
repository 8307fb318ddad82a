"""No command: videos for translate.py and evaluate.py, read and written by the ffmpeg of package
imageio-ffmpeg."""

import contextlib
import itertools
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from common import UserError, written_whole

# what ffmpeg makes of a video for us: its first stream of pictures as PPM, one after the other
PPM = ["-map", "0:V:0", "-f", "image2pipe", "-c:v", "ppm", "-"]
MP4_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # copied; other sound becomes AAC


@dataclass
class Video:
    """What is known of a video file."""

    path: str
    rate: Fraction  # frames per second
    sound: str | None  # its codec
    seconds: float  # 0 if the file does not say
    ffmpeg: str  # the program to read it with


def describe(path):
    """A video file => Video. Raises UserError if it has no frames that can be read."""
    ffmpeg = find_ffmpeg(path)
    command = [ffmpeg, "-hide_banner", "-i", f"file:{path}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    text = done.stderr.decode(errors="replace")
    streams = re.findall(r"^ *Stream #.*?: (Video|Audio): ((\w+).*)", text, re.MULTILINE)
    pictures = []
    sounds = []
    for kind, line, codec in streams:
        if kind == "Audio":
            sounds.append(codec)
        elif "(attached pic)" not in line:
            pictures.append(line)
    if not pictures:
        reason = "damaged, or neither an image nor a video"
        if "Stream #" in text:
            reason = "it has no video stream"
        raise UserError(f"{path} cannot be read as a video ({reason})")
    rate = find_rate(path, pictures[0])
    time = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    seconds = int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3]) if time else 0
    return Video(path, rate, sounds[0] if sounds else None, seconds, ffmpeg)


def find_ffmpeg(path):
    """The ffmpeg of imageio-ffmpeg. Raises UserError."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        reason = "is no image; a video needs one more package: pip install imageio-ffmpeg"
        raise UserError(f"{path} {reason}") from None
    except RuntimeError as error:
        raise UserError(f"imageio-ffmpeg finds no ffmpeg for this machine: {error}") from None


def find_rate(path, line):
    """The frame rate that ffmpeg prints in the line of a stream; the average, if it varies."""
    printed = re.search(r" ([\d.]+) (?:fps|tbr)", line)
    if not printed or not Fraction(printed[1]):
        raise UserError(
            f"{path} does not say its frame rate: give it one, as in ffmpeg -r 25 -i {path} new.mp4"
        )
    rate = Fraction(printed[1])
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)  # ffmpeg prints 29.97 for 30000/1001
    return ntsc if abs(rate - ntsc) < Fraction(6, 1000) else rate


def read_frame(stream):
    """The next PPM of a stream of them, uint8 RGB [h, w, 3]; None at its end."""
    # a file begins with "P6", width and height, and "255", each on a line
    _, size, _ = [stream.readline() for _ in range(3)]
    width, height = map(int, size.split() or (0, 0))
    pixels = stream.read(height * width * 3)
    if not pixels or len(pixels) < height * width * 3:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def read_frames(path):
    """The frames of a video, one after the other, uint8 RGB [h, w, 3]. Raises UserError."""
    video = describe(path)
    command = [video.ffmpeg, "-v", "error", "-i", f"file:{path}", "-r", str(video.rate), *PPM]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stderr=errors, **pipes) as process,
    ):
        try:
            frame = read_frame(process.stdout)
            while frame is not None:
                yield frame
                frame = read_frame(process.stdout)
            reason = find_reason(process, errors)
        finally:
            process.kill()  # does nothing to one that has ended
    if reason:
        raise UserError(f"{path} cannot be read to its end: {reason}")


class Frames:
    """The frames of a video from `begin` on, in seconds, as a source for translate.py.

    fit(frame) makes a frame ready for the network; resize(frame, (height, width)) undoes that. The
    video `target` has the size of this one, its sound, and its frame rate; if that varies, its
    average. Frames are upright. unfinished: a folder for `target` until it is whole.
    """

    threads = 1

    def __init__(self, video, begin, seconds, target, unfinished, fit, resize):
        self.video = video
        self.begin = begin
        self.target = target
        self.unfinished = unfinished
        self.fit = fit
        self.resize = resize
        left = max(0, video.seconds - begin)
        self.total = round(video.rate * Fraction(min(left, seconds or left))) or None
        self.input = []  # the options of ffmpeg for the part that is read
        if begin:  # seeking to 0 would fail in a file without its end
            self.input += ["-ss", str(begin)]
        if seconds:
            self.input += ["-t", str(seconds)]
        self.input += ["-i", f"file:{video.path}"]
        self.size = None  # (height, width)
        self.has_ended = False
        self.writer = None
        self.damage = None  # why ffmpeg could not read to the end

    @contextlib.contextmanager
    def opened(self):
        """Starts to read; at the end of the block the video is finished. Raises UserError."""
        with contextlib.ExitStack() as self.processes:
            self.reader_errors = self.processes.enter_context(tempfile.TemporaryFile())
            self.writer_errors = self.processes.enter_context(tempfile.TemporaryFile())
            self.part = self.processes.enter_context(written_whole(self.target, self.unfinished))
            self.reader = self.start(
                [*self.input, "-r", str(self.video.rate), *PPM],
                self.reader_errors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            yield self
            self.damage = find_reason(self.reader, self.reader_errors)
            if not self.writer:
                what = self.damage or f"it has {self.video.seconds:g} seconds"
                raise UserError(
                    f"{self.video.path} has no frames from --start {self.begin:g} on: {what}"
                )
            self.finish_writer()

    def start(self, command, errors, **pipes):
        """Starts ffmpeg, which ends with the block of opened() at the latest."""
        command = [self.video.ffmpeg, "-v", "error", *command]
        process = self.processes.enter_context(subprocess.Popen(command, stderr=errors, **pipes))
        self.processes.callback(process.kill)  # does nothing to one that has ended
        return process

    def items(self):
        """The numbers of the frames, from 1 to the end."""
        return itertools.takewhile(lambda _: not self.has_ended, itertools.count(1))

    def read(self, _):
        """The next frame for the network, uint8 RGB [h, w, 3]; None at the end."""
        frame = read_frame(self.reader.stdout)
        if frame is None:
            self.has_ended = True
            return None
        self.size = frame.shape[:2]
        return self.fit(frame)

    def write(self, _, pixels):
        """Adds a translated frame to the video."""
        if not self.writer:
            self.start_writer()
        if pixels.shape[:2] != self.size:
            pixels = self.resize(pixels, self.size)
        try:
            self.writer.stdin.write(pixels.tobytes())
        except BrokenPipeError:
            self.finish_writer()

    def start_writer(self):
        """Starts the ffmpeg that takes frames and makes the MP4 file of them."""
        height, width = self.size
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        raw += ["-r", str(self.video.rate), "-i", "-"]
        sound = "copy" if self.video.sound in MP4_SOUND else "aac"
        streams = ["-map", "0:v", "-map", "1:a:0?", "-c:a", sound]
        is_odd = height % 2 or width % 2
        chroma = "yuv444p" if is_odd else "yuv420p"  # the latter, which all players take, is even
        colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv"]
        colour += ["-colorspace", "bt709", "-color_range", "tv"]
        encoder = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", chroma, *colour, "-f", "mp4"]
        self.writer = self.start(
            [*raw, *self.input, *streams, *encoder, str(self.part)],
            self.writer_errors,
            stdin=subprocess.PIPE,
        )

    def finish_writer(self):
        """Ends the video. Raises UserError if ffmpeg could not write it."""
        with contextlib.suppress(BrokenPipeError):
            self.writer.stdin.close()
        if self.writer.wait():
            what = find_reason(self.writer, self.writer_errors)
            raise UserError(
                f"{self.target} cannot be written: {what}; make room or choose another --output_dir"
            )


def find_reason(process, errors):
    """Why a process of ffmpeg failed, from the file of its errors; None if it did not."""
    code = process.wait()
    errors.seek(0)
    text = re.sub(r"\[.*?\] ", "", errors.read().decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if re.search("No space left|File too large", line):
            return line
    if code < 0:
        return f"ffmpeg was ended by a signal ({signal.strsignal(-code)})"
    if lines:
        return lines[0]
    return f"code {code}" if code else None
