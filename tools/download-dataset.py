"""Downloads a data set by name: pix2pix pairs, CycleGAN sets, AnimeGAN styles, illustrators.

    python tools/download-dataset.py --list
    python tools/download-dataset.py facades                  # -> facades/{train,val,test}
    python tools/download-dataset.py monet2photo        # -> monet2photo/{trainA,trainB,testA,testB}
    python tools/download-dataset.py illustrators/dulac       # -> illustrators/dulac/{trainB,testB}
    python tools/download-dataset.py illustrators             # all ten of them

Run the same command again to continue an interrupted download. The folder appears only when it is
complete. See docs/data.md.
"""

import collections
import contextlib
import csv
import dataclasses
import difflib
import errno
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import ssl
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common import Parser, UserError, positive_integer, run, write_text
from images import IMAGE_TYPES
from PIL import Image
from tqdm import tqdm

MARKER = ".download.json"  # in a folder this tool completed: where it came from
TIMEOUT = 60  # seconds without a byte before a connection counts as lost

# ---------------------------------------------------------------------------------------- catalogue


class Dataset(NamedTuple):
    """One name of --list. A fact that is not known is "?"."""

    # "pairs", "cyclegan", "animegan" or "illustrators": how it is fetched and laid out
    family: str
    # name of the archive (pairs), tensorflow-datasets config (cyclegan), folder of the style
    # (animegan), names of the artists (illustrators)
    source: str
    size: str
    counts: str
    terms: str
    cite: str


PIX2PIX = "Isola et al., CVPR 2017, arXiv:1611.07004"
CYCLEGAN = "Zhu et al., ICCV 2017, arXiv:1703.10593"
ANIMEGAN = "Chen, Liu, Chen: AnimeGAN, ISICA 2019, github.com/TachibanaYoshino/AnimeGAN"
TYLECEK = f"Tyleček, Šára, GCPR 2013; {PIX2PIX}"
CMP = "the CMP Facade Database's, cmp.felk.cvut.cz/~tylecr1/facade"
CITYSCAPES = (
    "research, non-commercial: cityscapes-dataset.com/license",
    f"Cordts et al., CVPR 2016; {PIX2PIX}",
)
GOOGLE = "tiles of Google Maps, Google's terms of service"
SHOES = "UT Zappos50K: academic, non-commercial use", f"Yu, Grauman, CVPR 2014; {PIX2PIX}"
BAGS = "product images from Amazon; no licence stated", f"Zhu et al., ECCV 2016; {PIX2PIX}"
NIGHT = (
    "the Transient Attributes set's; no licence known",
    f"Laffont et al., SIGGRAPH 2014; {PIX2PIX}",
)
ART = "paintings from WikiArt, photos from Flickr; no licence stated"
FLICKR = "photos from Flickr; no licence stated"
IMAGENET = "images from ImageNet: non-commercial research and education"
FILM = "frames of films, rights with their studios; the repository allows non-commercial use"
BOTH = "cyclegan"
YOSEMITE = "summer2winter_yosemite"
ANIME = "trainA 6656 photos, trainB ?, testA ?"
FREE = (
    "public domain in the USA, and where copyright lasts 70 years: docs/illustrators.md",
    "the artist, the book, Project Gutenberg; archives of github.com/GITenberg",
)
PLATES = "illustrators"
TEN = "caldecott crane denslow dulac greenaway neill potter rackham richardson wright"

# Sizes and counts: the pix2pix and CycleGAN papers and download pages, tensorflow-datasets'
# checksums and catalogue.
# fmt: off
DATASETS = [
    ("facades", "pairs", "facades", "31 MB", "train 400, val 100, test 106", CMP, TYLECEK),
    ("cityscapes", "pairs", "cityscapes", "113 MB", "train 2975, val 500", *CITYSCAPES),
    ("maps", "pairs", "maps", "246 MB", "train 1096, val 1098", GOOGLE, PIX2PIX),
    ("edges2shoes", "pairs", "edges2shoes", "2.2 GB", "train 49825, val 200", *SHOES),
    ("edges2handbags", "pairs", "edges2handbags", "8.6 GB", "train 138567, val 200", *BAGS),
    ("night2day", "pairs", "night2day", "?", "train 17823, val ?, test ?", *NIGHT),
    ("monet2photo", BOTH, "monet2photo", "305 MB", "A 1072+121, B 6287+751", ART, CYCLEGAN),
    ("vangogh2photo", BOTH, "vangogh2photo", "307 MB", "A 400+400, B 6287+751", ART, CYCLEGAN),
    ("cezanne2photo", BOTH, "cezanne2photo", "280 MB", "A 525+58, B 6287+751", ART, CYCLEGAN),
    ("ukiyoe2photo", BOTH, "ukiyoe2photo", "293 MB", "A 562+263, B 6287+751", ART, CYCLEGAN),
    ("horse2zebra", BOTH, "horse2zebra", "117 MB", "A 1067+120, B 1334+140", IMAGENET, CYCLEGAN),
    ("apple2orange", BOTH, "apple2orange", "78 MB", "A 995+266, B 1019+248", IMAGENET, CYCLEGAN),
    (YOSEMITE, BOTH, YOSEMITE, "133 MB", "A 1231+309, B 962+238", FLICKR, CYCLEGAN),
    ("iphone2dslr_flower", BOTH, "iphone2dslr_flower", "340 MB", "?", FLICKR, CYCLEGAN),
    ("maps_unpaired", BOTH, "maps", "1477 MB", "A 1096+1098, B 1096+1098", GOOGLE, CYCLEGAN),
    ("facades_unpaired", BOTH, "facades", "35 MB", "A 400+106, B 400+106", CMP, CYCLEGAN),
    ("miyazaki", "animegan", "Hayao", "?", ANIME, FILM, ANIMEGAN),
    ("shinkai", "animegan", "Shinkai", "?", ANIME, FILM, ANIMEGAN),
    ("paprika", "animegan", "Paprika", "?", ANIME, FILM, ANIMEGAN),
    ("illustrators", PLATES, TEN, "1016 MB", "B 1207+144, of ten illustrators", *FREE),
    ("illustrators/caldecott", PLATES, "caldecott", "17 MB", "B 87+12, Randolph Caldecott", *FREE),
    ("illustrators/crane", PLATES, "crane", "553 MB", "B 82+10, Walter Crane", *FREE),
    ("illustrators/denslow", PLATES, "denslow", "24 MB", "B 136+9, W. W. Denslow", *FREE),
    ("illustrators/dulac", PLATES, "dulac", "60 MB", "B 140+16, Edmund Dulac", *FREE),
    ("illustrators/greenaway", PLATES, "greenaway", "153 MB", "B 135+22, Kate Greenaway", *FREE),
    ("illustrators/neill", PLATES, "neill", "123 MB", "B 118+12, John R. Neill", *FREE),
    ("illustrators/potter", PLATES, "potter", "17 MB", "B 144+25, Beatrix Potter", *FREE),
    ("illustrators/rackham", PLATES, "rackham", "45 MB", "B 123+12, Arthur Rackham", *FREE),
    ("illustrators/richardson", PLATES, "richardson", "9 MB", "B 91+10, F. Richardson", *FREE),
    ("illustrators/wright", PLATES, "wright", "15 MB", "B 151+16, Blanche Fisher Wright", *FREE),
]
# fmt: on
DATASETS = {name: Dataset(*facts) for name, *facts in DATASETS}

FAMILIES = {
    "pairs": "pix2pix: side-by-side pairs in train, val, test (no checksum on record)",
    "cyclegan": "CycleGAN, by tensorflow-datasets: trainA+testA, trainB+testB "
    "(checksums on record)",
    "animegan": "AnimeGAN release: photos in trainA and testA, film frames in trainB; no testB "
    "(no checksum on record)",
    "illustrators": "Colour plates of children's books: trainB+testB (checksums on record); the "
    "size is that of the books",
}
GANILLA = (
    "GANILLA's own illustrations cannot be redistributed: take illustrators, or see "
    "docs/ganilla.md for scans"
)


def listing():
    """The text of --list."""
    lines = []
    for family, title in FAMILIES.items():
        lines += [title, ""]
        for name, dataset in DATASETS.items():
            if dataset.family == family:
                lines.append(f"  {name:<24}{dataset.size:>8}   {dataset.counts}")
                lines += [f"      terms: {dataset.terms}", f"      cite:  {dataset.cite}"]
        lines.append("")
    return "\n".join([*lines, f"{GANILLA}."])


def lookup(name):
    if name in DATASETS:
        return DATASETS[name]
    if "ganilla" in name.lower():
        raise UserError(GANILLA)
    if f"illustrators/{name}" in DATASETS:
        raise UserError(f"unknown data set '{name}'; did you mean illustrators/{name}?")
    close = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"the names are {', '.join(DATASETS)};"
    raise UserError(f"unknown data set '{name}'; {hint} --list shows all")


# ----------------------------------------------------------------------------------------- download


class Dropped(Exception):
    """A failed transfer that may succeed when it is tried again."""


class Gone(UserError):
    """The server answers, but does not give the file."""


def byte_progress(size):
    """Progress bar over `size` bytes, or None if the size is not known. Quiet if stderr is no
    terminal."""
    return tqdm(total=size, unit="B", unit_scale=True, disable=None)


def validator(headers):
    """What If-Range may name (RFC 9110, 13.1.5): a strong ETag, or the date; None if the server
    sends neither."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def state_of(archive):
    """The file next to a download that describes it: url, validator, size, and whether this tool
    completed it."""
    return archive.with_name(f"{archive.name}.state.json")


def read_state(archive):
    """The state of a download as a dict; empty, so that it starts over, if it was cut short by a
    crash."""
    try:
        state = json.loads(state_of(archive).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def read_marker(folder):
    """Where a folder that this tool completed came from: a dict with "url" and "sha256"."""
    try:
        made = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return {name: str(made[name]) for name in ("url", "sha256")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{folder / MARKER} is damaged, so that nothing says whether {folder} is complete: "
            "move or remove the folder"
        ) from None


def fetch(url, archive, retries):
    """Downloads url to `archive` through `archive`.part, and continues a part that is there."""
    partial = archive.with_name(f"{archive.name}.part")
    for tried in range(retries + 1):
        try:
            transfer(url, archive, partial)
            break
        except Dropped as error:
            if tried == retries:
                fails_there = getattr(error.__cause__, "code", 0) >= 500
                kind = Gone if fails_there else UserError
                raise kind(f"{error}; run the same command again to continue") from error
            print(f"{error}; trying again in {2**tried} s", file=sys.stderr)
            time.sleep(2**tried)
    os.replace(partial, archive)
    state = read_state(archive) | {"complete": True}
    state_of(archive).write_text(json.dumps(state), encoding="utf-8")


def open_url(url, headers):
    """The open response, or None for "no such range". Raises Dropped if trying again can help, else
    UserError."""
    host = urllib.parse.urlsplit(url).netloc
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return None
        answer = f"{url}: the server answers {error.code} {error.reason}"
        if error.code == 429 or error.code >= 500:
            raise Dropped(answer) from error
        raise Gone(
            f"{answer}; look at the address in a browser, or give a mirror with --url"
        ) from error
    except http.client.InvalidURL as error:
        raise UserError(f"{url} is not an address ({error}); give another --url") from error
    except urllib.error.URLError as error:
        why = error.reason
        if isinstance(why, ssl.SSLCertVerificationError):
            why = f"its certificate is not valid: {why.verify_message}"
        elif isinstance(why, socket.gaierror):
            why = "its name is not known"
        if "Range" in headers:  # it answered before, so the network may come back
            raise Dropped(f"cannot reach {host} ({why})") from error
        raise UserError(
            f"cannot reach {host} ({why}); check the network, or give a mirror with --url"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Dropped(f"{url}: the connection was lost before an answer ({error})") from error


def transfer(url, archive, partial):
    """One connection: gets what is missing of `partial`, or all of it if the rest may be of another
    version."""
    known = read_state(archive)
    have = partial.stat().st_size if partial.exists() and known.get("url") == url else 0
    size = known.get("size")
    if have and have == size:
        return
    headers = {"User-Agent": "download-dataset.py", "Accept-Encoding": "identity"}
    # without a validator the file may have changed: start over
    resuming = have and size and known.get("validator")
    if resuming:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    response = open_url(url, headers)
    if response is None or (
        response.status == 206 and not (resuming and continues(response.headers, have, known))
    ):
        partial.unlink(missing_ok=True)
        raise Dropped(f"{url}: the file has changed, so the part that was there is removed")
    with response:
        if response.status != 206:
            if resuming:
                print(
                    "the file has changed, or the server cannot continue a download: starting over",
                    file=sys.stderr,
                )
            have, length = 0, response.headers.get("Content-Length")
            size = int(length) if length and length.isdecimal() else None  # else as without one
        with partial.open("ab" if have else "wb") as out:
            # after the old part was emptied, so that a crash here cannot mix two versions
            if not have:
                state = {"url": url, "validator": validator(response.headers), "size": size}
                state_of(archive).write_text(json.dumps(state), encoding="utf-8")
            about = "size unknown" if size is None else f"{size / 1e6:.1f} MB"
            print(f"{'continuing' if have else 'downloading'} {url} ({about})", flush=True)
            copy_body(response, out, None if size is None else size - have)


def continues(headers, have, known):
    """Whether a 206 fits the part that is there: some servers honour Range but not If-Range."""
    whole = headers.get("Content-Range") == f"bytes {have}-{known['size'] - 1}/{known['size']}"
    # a 206 may leave out the validator
    return whole and validator(headers) in (None, known["validator"])


def copy_body(response, out, size):
    """Copies the body of `size` bytes (None: unknown) to the open file. Raises Dropped if the
    connection is lost."""
    chunk, copied, lost = b"-", 0, None
    with byte_progress(size) as progress:
        while chunk:
            try:
                chunk = response.read1(1 << 16)
            except (OSError, http.client.HTTPException) as error:
                chunk, lost = b"", error
            out.write(chunk)
            copied += len(chunk)
            progress.update(len(chunk))
    if lost or size not in (None, copied):
        raise Dropped(
            f"the connection was lost ({lost or 'closed early'}); {out.tell()} bytes are in "
            f"{out.name}"
        )


def sha256_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------ extract


class BadArchive(UserError):
    """The archive is at fault, so a copy that this tool downloaded is not worth keeping."""


# what zipfile and tarfile raise on an archive that is cut short, damaged, encrypted, or no archive
# at all
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    RuntimeError,
)


def entries(archive):
    """Yields (name, stream) for each file of a zip or tar.gz. Raises BadArchive where extraction
    would not be safe.

    No link is ever made on disk: a tar link to a file of the same archive is read as that file. Any
    other link is refused, and so are devices and names that are absolute or contain "..".
    """
    members = zip_members if archive.suffix == ".zip" else tar_members
    with archive.open("rb") as file, byte_progress(archive.stat().st_size) as progress:
        for name, stream in members(file):
            path = PurePosixPath(name.replace("\\", "/"))
            leaves = (
                path.is_absolute()
                or ".." in path.parts
                or re.match("[A-Za-z]:", name)
                or "\0" in name
            )
            if leaves or stream == UNSAFE:
                raise BadArchive(
                    f"{archive} is not safe: '{name}' is a device, or leads out of the archive's "
                    "folder"
                )
            if stream:
                with stream:
                    yield name, stream
            progress.update(file.tell() - progress.n)


UNSAFE = "unsafe"


def zip_members(file):
    """Yields (name, open stream) of each member; the stream is None for a folder and UNSAFE for a
    link or a device."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was packed on Windows
            regular = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            yield (
                info.filename,
                UNSAFE if not regular else None if info.is_dir() else archive.open(info),
            )


def tar_members(file):
    """As zip_members, for a tar.gz; checked by Python's filter "data" (from 3.11.4; Debian 12 has
    3.11.2)."""
    check = getattr(tarfile, "data_filter", lambda info, folder: info)
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        for info in archive:
            # extractfile follows a link to another member, and to nothing else; it gives None for a
            # device
            try:
                check(info, f"{file.name}.d")
                stream = None if info.isdir() else archive.extractfile(info) or UNSAFE
            except (tarfile.TarError, KeyError, RecursionError):
                stream = UNSAFE
            yield info.name, stream
        # tarfile takes a damaged header for the end of the archive: reading on to gzip's own end
        # checks its CRC
        while archive.fileobj.read(1 << 20):
            pass


def unpack(archive, content, layout, required):
    """Writes the files whose folder ends in a key of `layout`, e.g. {"Hayao/style": "trainB"}, to
    its value."""
    for name, stream in entries(archive):
        path = PurePosixPath(name)
        for source, target in layout.items():
            inside = ends_with(path.parent, source)
            if inside and not path.name.startswith("."):  # "._x.jpg" comes from macOS
                (content / target).mkdir(parents=True, exist_ok=True)
                file = allowed_name(path.name)
                try:
                    with (content / target / file).open("xb") as out:
                        shutil.copyfileobj(stream, out, 1 << 20)
                except FileExistsError as error:
                    raise BadArchive(
                        f"{archive} holds two files for {target}/{file}"
                    ) from error
    missing = [
        source
        for source, target in layout.items()
        if target in required and not count(content / target)
    ]
    if missing:
        raise BadArchive(
            f"{archive} holds no images in {', '.join(missing)}; is it the right archive?"
        )


IS_WINDOWS = os.name == "nt"


def allowed_name(name):
    """The name of a file of an archive, as the system takes it: Windows has no 16:45.jpg."""
    return re.sub(r'[<>:"|?*]', "-", name) if IS_WINDOWS else name


def ends_with(folder, tail):
    parts = PurePosixPath(tail).parts
    return folder.parts[-len(parts) :] == parts


def count(folder):
    return (
        sum(path.name.lower().endswith(IMAGE_TYPES) for path in folder.iterdir())
        if folder.is_dir()
        else 0
    )


def animegan_layout(archive, style):
    """The layout for the photos and one style. The folder of the test photos differs between
    releases."""
    folders = {PurePosixPath(name).parent for name, _ in entries(archive)}
    for test in ("test/test_photo", "test/real", "test/HR_photo", "test", "val"):
        if any(ends_with(folder, test) for folder in folders):
            return {"train_photo": "trainA", f"{style}/style": "trainB", test: "testA"}
    raise BadArchive(f"{archive} holds no test photos (test/..., val); is it the right archive?")


# ------------------------------------------------------------------------------ tensorflow-datasets


def import_tfds():
    """Imports tensorflow-datasets, which is slow and needed for the CycleGAN sets only."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # or TensorFlow would take a GPU's memory
    try:
        import tensorflow_datasets
    except ImportError as error:
        reason = f"the CycleGAN sets need tensorflow-datasets ({error})"
        raise UserError(f"{reason}: pip install tensorflow-datasets importlib_resources") from error
    return tensorflow_datasets


@contextlib.contextmanager
def quiet():
    """Hides what tfds prints and what TensorFlow's C++ logs at import, which no setting
    turns off."""
    saved = os.dup(2)
    with (
        open(os.devnull, "w", encoding="utf-8") as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def tfds_builder(config, scratch):
    """tfds' builder of a CycleGAN set, its address of the archive, and its record (size, checksum)
    of it."""
    builder = import_tfds().builder(f"cycle_gan/{config}", data_dir=scratch / "tfds")
    url = next(url for url in builder.url_infos if url.endswith(f"/{config}.zip"))
    return builder, url, builder.url_infos[url]


def write_with_tfds(builder, archive, content):
    """Runs tfds' builder on the archive and writes its examples, byte for byte, under their
    original names."""
    # tfds does not give an example's file name: find it by the bytes
    names = collections.defaultdict(list)
    for name, stream in entries(archive):
        path = PurePosixPath(name)
        names[path.parent.name, hashlib.sha256(stream.read()).digest()].append(path.name)
    tfds = import_tfds()
    # tfds takes an archive in manual_dir instead of downloading it, and checks it against the same
    # checksum
    options = {"try_download_gcs": False, "force_checksums_validation": True}
    config = tfds.download.DownloadConfig(manual_dir=archive.parent, **options)
    try:
        with quiet():
            builder.download_and_prepare(
                download_dir=content.parent / "tfds", download_config=config
            )
            for split in builder.info.splits:
                (content / split).mkdir(parents=True)
                as_stored = {"image": tfds.decode.SkipDecoding()}
                for example in tfds.as_numpy(builder.as_dataset(split=split, decoders=as_stored)):
                    data = example["image"]
                    (
                        content / split / names[split, hashlib.sha256(data).digest()].pop()
                    ).write_bytes(data)
    except OSError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"tensorflow-datasets cannot prepare {archive}, which is kept: {reason}"
        ) from error


# ------------------------------------------------------------------------------------- illustrators

GITHUB = "https://github.com"
TABLES = Path(__file__).resolve().parent
PAUSE = 1  # seconds after each download, so that GitHub is not burdened
BYTES_PER_PIXEL = 0.45  # of the plates as JPEG; 0.42 on average at the size of the set


class Book(NamedTuple):
    """A line of illustrators-books.tsv. A commit of the repository is the source."""

    gutenberg: str  # its number at Project Gutenberg
    artist: str
    title: str
    repository: str
    commit: str
    archive_mb: int  # at least: some files of four archives could not be counted
    rights: str


class Plate(NamedTuple):
    """A line of illustrators-plates.tsv: a file of the set, and how it is made."""

    file: str  # e.g. dulac/50852-001.jpg
    folder: str  # trainB or testB
    gutenberg: str
    image: str  # path in the repository
    left: int  # the crop, in pixels of that image
    top: int
    right: int
    bottom: int
    long_side: int  # of the file in the set
    source_sha256: str  # of the bytes of the image
    pixels_sha256: str  # of the pixels of the file in the set, RGB

    @property
    def place(self):
        """Where the file stands in the artist's folder."""
        return f"{self.folder}/{self.file.rsplit('/', 1)[1]}"

    def size(self, longest):
        """(width, height) for a longer side of at most `longest`, None: that of the set."""
        width = self.right - self.left
        height = self.bottom - self.top
        whole = max(width, height)
        target = min(longest or self.long_side, whole)
        return max(1, round(width * target / whole)), max(1, round(height * target / whole))


def read_table(name, kind):
    """A table of TABLES, as a list of the named tuples `kind`."""
    rows = []
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            values = {
                field: of_type(row[field]) for field, of_type in kind.__annotations__.items()
            }
            rows.append(kind(**values))
    return rows


def obtain_illustrators(artists, args):
    """Makes the folders of the artists that are not complete. Returns the exit code: 1 if books are
    missing."""
    wanted = {}
    plates = read_table("illustrators-plates.tsv", Plate)
    for book in read_table("illustrators-books.tsv", Book):
        if book.artist in artists:
            of_book = [plate for plate in plates if plate.gutenberg == book.gutenberg]
            wanted.setdefault(book.artist, {})[book] = of_book
    for artist in artists:
        wanted[artist] = still_missing(folder_of(artist, args), wanted[artist], args.size)
    wanted = {artist: books for artist, books in wanted.items() if books}
    check_space(wanted, args)
    lost = []
    for artist, books in wanted.items():
        lost += obtain_artist(artist, books, args)
    if not lost:
        return 0
    number = sum(len(books) for books in wanted.values())
    summary = (
        f"{len(lost)} of {number} books could not be had ({', '.join(lost)}); run the same command "
        "again to try again, or give a mirror with --url"
    )
    if not any(folder_of(artist, args).exists() for artist in artists):
        raise UserError(summary)
    print(f"incomplete: {summary}", file=sys.stderr)
    return 1


def folder_of(artist, args):
    return Path(args.output_dir) / "illustrators" / artist


def still_missing(folder, books, size):
    """Those of the books, {Book: [Plate]}, that the folder lacks."""
    if not (folder / MARKER).exists():
        refuse_foreign(folder)
        return books
    made = read_artist_marker(folder)
    if made["size"] != size:
        raise UserError(
            f"{folder} exists, made {describe_size(made['size'])}, not {describe_size(size)}; "
            "move or remove it"
        )
    if not made["missing"]:
        print(f"{folder} is complete already ({describe_size(size)}): nothing to do")
    return {book: of_book for book, of_book in books.items() if book.gutenberg in made["missing"]}


def describe_size(size):
    return f"with --size {size}" if size else "without --size"


def read_artist_marker(folder):
    """The marker of an artist's folder: a dict with "size", "missing" and "files"."""
    try:
        made = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return {
            "size": made["size"],
            "missing": [str(number) for number in made["missing"]],
            "files": dict(made["files"]),
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{folder / MARKER} is damaged, so that nothing says whether {folder} is complete: "
            "move or remove the folder"
        ) from None


def check_space(wanted, args):
    """Says what will be downloaded, and how much room it takes. Raises UserError if the disk has
    less."""
    if not wanted:
        return
    books = [book for of_artist in wanted.values() for book in of_artist]
    pixels = 0
    for of_artist in wanted.values():
        for of_book in of_artist.values():
            for plate in of_book:
                width, height = plate.size(args.size)
                pixels += width * height
    download = sum(book.archive_mb for book in books)
    images = round(pixels * BYTES_PER_PIXEL / 1e6) + 1
    archives = download if args.keep_archive else max(book.archive_mb for book in books)
    place = Path(args.output_dir)
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free / 1e6
    print(
        f"books to download: {len(books)}, about {download} MB, one after the other; needs about "
        f"{images + archives} MB on the disk, {images} MB of which are the images; "
        f"{free:.0f} MB are free",
        flush=True,
    )
    if free < images + archives:
        raise UserError(
            f"the disk of {place.resolve()} has {free:.0f} MB free, and about {images + archives} "
            "MB are needed: make room, or give another --output_dir"
        )


def obtain_artist(artist, books, args):
    """Obtains the books, {Book: [Plate]}, and makes or completes the artist's folder. Returns what
    could not be had, in words."""
    folder = folder_of(artist, args)
    scratch = folder.with_name(f".{artist}.incomplete")
    content = scratch / artist
    for part in ("trainB", "testB"):
        (content / part).mkdir(parents=True, exist_ok=True)
    lost, missing, files, others = [], [], {}, 0
    for book, plates in books.items():
        try:
            record = obtain_book(book, plates, scratch, args)
        except (Gone, BadArchive) as error:
            print(f"missing: {book.title} (Gutenberg {book.gutenberg}): {error}", file=sys.stderr)
            missing.append(book.gutenberg)
            lost.append(f"{artist}: {book.title}")
            continue
        files |= record["files"]
        others += record["other_pixels"]
    if files:
        finish(folder, content, {"size": args.size, "missing": missing, "files": files})
        counts = {part: count(folder / part) for part in ("trainB", "testB")}
        print(f"{folder}: {describe_counts(counts)} images{judge(others, len(files), args.size)}")
    shutil.rmtree(scratch)
    return lost


def judge(others, number, size):
    """What is known of the pixels, as the end of a line."""
    if size:
        return "; sources as on record"
    if not others:
        return "; sources and pixels as on record"
    return (
        f"; sources as on record, but {others} of {number} have other pixels: another version of "
        "Pillow, which resizes or stores a little differently"
    )


def finish(folder, content, made):
    """Gives the folder its name, or adds to the one that lacked these files."""
    if not folder.exists():
        write_marker(content, made)
        content.rename(folder)
        return
    before = read_artist_marker(folder)
    for place in made["files"]:
        (folder / place).parent.mkdir(exist_ok=True)
        os.replace(content / place, folder / place)
    write_marker(folder, made | {"files": before["files"] | made["files"]})


def write_marker(folder, made):
    made = {"name": f"illustrators/{folder.name}", **made}
    write_text(folder / MARKER, json.dumps(made, indent=1))


def obtain_book(book, plates, scratch, args):
    """Writes the plates of a book to `scratch`/ARTIST. Returns what was written: "files",
    {place: sha256}, and "other_pixels", the number of files whose pixels are not those of the
    set."""
    content = scratch / book.artist
    note = scratch / f"{book.gutenberg}.json"  # written last, so that a kill leaves none
    archive = Path(args.output_dir) / f"gutenberg-{book.gutenberg}.zip"
    record = read_record(note, content, args.size)
    if record:
        if archive.exists() and read_state(archive).get("complete"):  # killed before it was left
            leave(archive, args.keep_archive)
        print(f"{book.title}: there already", flush=True)
        return record
    for plate in plates:  # of a run that was killed
        (content / plate.place).unlink(missing_ok=True)
    url = f"{(args.url or GITHUB).rstrip('/')}/{book.repository}/archive/{book.commit}.zip"
    was_there = archive.exists()
    ours = have_archive(url, archive, args.retries)
    try:
        sources = read_sources(archive, plates)
        record = {"size": args.size, "files": {}, "other_pixels": 0}
        for plate in plates:
            data = crop(sources[plate.image], plate, args.size)
            (content / plate.place).write_bytes(data)
            record["files"][plate.place] = hashlib.sha256(data).hexdigest()
            if not args.size and sha256_of_pixels(data) != plate.pixels_sha256:
                record["other_pixels"] += 1
    except (BadArchive, *BROKEN) as error:
        raise BadArchive(describe_bad(archive, error, ours)) from error
    write_text(note, json.dumps(record))
    if ours:
        leave(archive, args.keep_archive)
    print(f"{book.title}: {len(plates)} images", flush=True)
    if not was_there:
        time.sleep(PAUSE)
    return record


def read_record(note, content, size):
    """What an earlier run noted of a book, if its files are there and whole; else None."""
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        if record["size"] != size:
            return None
        for place, digest in record["files"].items():
            if sha256_of(content / place) != digest:
                return None
        return {"files": record["files"], "other_pixels": int(record["other_pixels"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_sources(archive, plates):
    """{path in the repository: bytes} of the images that the plates are cropped from. Raises
    BadArchive."""
    wanted = {plate.image: plate.source_sha256 for plate in plates}
    sources = {}
    for name, stream in entries(archive):
        path = name.partition("/")[2]  # GitHub packs everything in a folder REPOSITORY-COMMIT
        if path in wanted:
            sources[path] = stream.read()
    for path, digest in wanted.items():
        if path not in sources:
            raise BadArchive(f"{archive} holds no {path}; is it the right archive?")
        actual = hashlib.sha256(sources[path]).hexdigest()
        if actual != digest:
            raise BadArchive(
                f"{path} in {archive} has the wrong checksum, sha256 {actual} and not {digest}"
            )
    return sources


def crop(data, plate, longest):
    """The bytes of a source, known by its sha256 => those of the plate, a JPEG."""
    with Image.open(io.BytesIO(data)) as image:
        box = (plate.left, plate.top, plate.right, plate.bottom)
        size = plate.size(longest)
        if image.format == "JPEG" and image.size == size:
            return data  # all of it, as it is: storing it anew would lose a little
        plain = image.convert("RGB").crop(box)
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    plain.save(file, "JPEG", quality=92)
    return file.getvalue()


def sha256_of_pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


# --------------------------------------------------------------------------------------------- main


def official(dataset, scratch):
    """A set's archive: its address, the name it gets here, tfds' builder and tfds' record of it
    (else None, None)."""
    if dataset.family == "cyclegan":
        builder, url, record = tfds_builder(dataset.source, scratch)
        return url, record.filename, builder, record
    if dataset.family == "pairs":
        # https, as no checksum is on record
        file = f"{dataset.source}.tar.gz"
        return f"https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/{file}", file, None, None
    url = "https://github.com/TachibanaYoshino/AnimeGAN/releases/download/dataset-1/dataset.zip"
    return url, "AnimeGAN-dataset.zip", None, None


def verify(archive, size, sha256):
    """The archive's sha256, compared with the expected one. If it differs the archive is kept:
    either may be wrong."""
    digest, actual = sha256_of(archive), archive.stat().st_size
    advice = f"delete {archive} to download it again, or give --sha256 {digest} if you trust it"
    if size not in (None, actual):
        raise UserError(f"{archive} has the wrong length, {actual} bytes and not {size}; {advice}")
    if sha256 not in (None, digest):
        raise UserError(
            f"{archive} has the wrong checksum, sha256 {digest} and not {sha256}; {advice}"
        )
    if sha256 is None:
        print(
            f"no checksum is on record for this set: compare sha256 {digest}, and give it with "
            "--sha256 next time"
        )
    return digest


def obtain(name, dataset, folder, args):
    """Downloads, checks, extracts, and gives the folder its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{name}.incomplete")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    content = scratch / name
    source, filename, builder, record = official(dataset, scratch)
    url, archive = source, folder.with_name(filename)
    if args.url:
        is_file = args.url.endswith((".zip", ".tar.gz", ".tgz"))
        url = args.url if is_file else f"{args.url.rstrip('/')}/{source.rsplit('/', 1)[1]}"
    ours = have_archive(url, archive, args.retries)
    try:
        expected = (
            (None, args.sha256)
            if args.sha256 or not record
            else (int(record.size), record.checksum)
        )
        digest = verify(archive, *expected)
        print(f"extracting {archive}", flush=True)
        if dataset.family == "cyclegan" and IS_WINDOWS:
            # tfds cannot: the photos of monet2photo are called 2013-11-08 16:45:24.jpg and so on
            domains = ("trainA", "trainB", "testA", "testB")
            unpack(archive, content, {name: name for name in domains}, required=domains)
        elif dataset.family == "cyclegan":
            # these differ from the record only after --sha256, for a repacked mirror
            length = type(record.size)(archive.stat().st_size)
            builder.url_infos[source] = dataclasses.replace(record, checksum=digest, size=length)
            write_with_tfds(builder, archive, content)
        elif dataset.family == "pairs":
            unpack(
                archive,
                content,
                {"train": "train", "val": "val", "test": "test"},
                required={"train"},
            )
        else:
            unpack(
                archive,
                content,
                animegan_layout(archive, dataset.source),
                required={"trainA", "trainB", "testA"},
            )
        counts = {path.name: count(path) for path in sorted(content.iterdir())}
        marker = {"name": name, "url": url, "sha256": digest, "images": counts}
        (content / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")
        content.rename(folder)
    except (BadArchive, *BROKEN) as error:
        raise BadArchive(describe_bad(archive, error, ours)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if ours:
        leave(archive, args.keep_archive)
    print(f"{folder}: {describe_counts(counts)} images")


def have_archive(url, archive, retries):
    """Downloads the archive if it is not there. Returns whether this tool downloaded it: else the
    user put it there, and it stays there."""
    state = read_state(archive)
    if archive.exists() and (not state.get("complete") or state.get("url") == url):
        print(f"using {archive}, which is there already")
    else:
        fetch(url, archive, retries)
    return read_state(archive).get("complete", False)


def describe_bad(archive, error, ours):
    """Why an archive is of no use, for the user. One that this tool downloaded is removed."""
    reason = str(error)
    if not isinstance(error, BadArchive):
        reason = f"{archive} is not a whole archive ({error}); is the address right?"
    if ours:
        archive.unlink()
        state_of(archive).unlink()
        reason += " (the download was removed)"
    return reason


def leave(archive, keep):
    """Removes what this tool needed of an archive that it downloaded, and unless `keep` the archive
    itself."""
    state_of(archive).unlink()
    if not keep:
        archive.unlink()


def describe_counts(counts):
    return ", ".join(f"{part} {number}" for part, number in counts.items())


def parse():
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", help="name of the data set, as --list shows it")
    parser.add_argument(
        "--output_dir", default=".", help="folder in which the folder NAME is made (default: here)"
    )
    parser.add_argument(
        "--url", help="mirror: address of the archive, or of the folder that holds it"
    )
    parser.add_argument(
        "--sha256", help="checksum that the archive must have, instead of the one on record"
    )
    parser.add_argument(
        "--retries", type=int, default=4, help="times to continue after a lost connection (4)"
    )
    parser.add_argument(
        "--keep_archive", action="store_true", help="keep the archive, for a later run"
    )
    parser.add_argument(
        "--size",
        type=positive_integer,
        help="illustrators: the longer side in pixels, at most; plates are never enlarged "
        "(default: that of the set, mostly 448)",
    )
    parser.add_argument(
        "--list", action="store_true", help="print all names with size, counts, terms and citation"
    )
    args = parser.parse_args()
    if not args.name and not args.list:
        raise UserError("give the name of a data set; --list shows them")
    if args.url and urllib.parse.urlsplit(args.url).scheme not in ("http", "https"):
        raise UserError(f"--url {args.url}: give an address that begins with http:// or https://")
    if args.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", args.sha256):
        raise UserError(f"--sha256 {args.sha256}: a sha256 has 64 hexadecimal digits")
    if args.retries < 0:
        raise UserError(f"--retries {args.retries}: give 0 or more")
    args.sha256 = args.sha256 and args.sha256.lower()
    if args.name and args.name.endswith("/"):  # as a shell completes a folder's name
        args.name = args.name.rstrip("/")
    return args


def main():
    args = parse()
    if args.list:
        with contextlib.suppress(BrokenPipeError):  # `--list | head`
            print(listing(), flush=True)
            return 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains when it closes stdout
        return 0
    dataset = lookup(args.name)
    check_flags(dataset, args)
    try:
        if dataset.family == "illustrators":
            return obtain_illustrators(dataset.source.split(), args)
        folder = Path(args.output_dir) / args.name
        if not is_complete(folder, args.sha256):
            obtain(args.name, dataset, folder, args)
    except KeyboardInterrupt:
        print(
            "interrupted; what was downloaded is kept: run the same command again to continue",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        place = Path(args.output_dir)
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"the disk of {place.resolve()} is full; make room and run the same command "
                "again: the download continues"
            ) from error
        raise UserError(f"{error.filename or place}: {error.strerror or error}") from error
    return 0


def check_flags(dataset, args):
    """Raises UserError for flags that mean nothing for this set."""
    if dataset.family != "illustrators":
        if args.size:
            raise UserError(f"--size is for illustrators: {args.name} has the sizes it came with")
        return
    if args.sha256:
        raise UserError("--sha256: the checksums of the illustrators are on record; leave it out")
    if args.url and args.url.endswith((".zip", ".tar.gz", ".tgz")):
        raise UserError(
            f"--url {args.url}: give what stands before REPOSITORY/archive/COMMIT.zip, in place of "
            f"{GITHUB}"
        )


def is_complete(folder, sha256):
    """Whether this tool completed the folder before. Raises UserError if something else is
    there."""
    if (folder / MARKER).exists():
        made = read_marker(folder)
        if sha256 not in (None, made["sha256"]):
            raise UserError(
                f"{folder} exists, made from another archive (sha256 {made['sha256']}); move or "
                "remove it"
            )
        print(
            f"{folder} is complete already (from {made['url']}, sha256 {made['sha256']}): nothing "
            "to do"
        )
        return True
    refuse_foreign(folder)
    return False


def refuse_foreign(folder):
    """Raises UserError if there is a folder that this tool did not complete."""
    if os.path.lexists(folder):
        raise UserError(
            f"{folder} is in the way: not completed by this tool; move it, or give another "
            "--output_dir"
        )


if __name__ == "__main__":
    run(main)
