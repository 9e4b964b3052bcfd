"""What damaged and hostile media do to the file source: ``python bench/fuzz.py --json bench/results/fuzz-NAME.json``

Files are made from small clips (of the simulator, or real ones with ``--clips DIR``): cut off, bits flipped, spliced,
and written to do harm. Each is decoded to its end in a process of its own with bounded memory. What may come of it:

    whole      every frame was decoded, nothing was said
    partial    frames were decoded, and the log said what is wrong; or some came before a clear line
    refused    one clear line (an `RtpspError`) that names the file, and no frame
    BAD        no end within the time, a process that died, a traceback, a message of several lines

The exit code is 6 if one is BAD.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import resource
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import cv2  # isort: skip  # noqa: F401  (before av, as in rtpsp.stream.video)
import av
import click
from av.video.stream import VideoStream
from rich.console import Console

from rtpsp.arrays import Image
from rtpsp.errors import RtpspError
from rtpsp.sim.street import Street
from rtpsp.stream.names import shown
from rtpsp.stream.source import open_source

SECONDS = 10.0
MEMORY = 3 << 30  # bytes of address space beyond what the libraries take
FORMATS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("mp4", "libx264", {}), ("mov", "libx264", {"movflags": "faststart"}), ("mkv", "libx264", {}),
    ("ts", "libx264", {}), ("avi", "mpeg4", {}), ("mkv", "mjpeg", {}),
    ("mp4", "libx264", {"movflags": "frag_keyframe"}),
)  # fmt: skip


class Outcome(NamedTuple):
    """What came of one file; `verdict` as the head of this module has it."""

    verdict: str
    frames: int
    said: str


# the files


def clips(folder: Path, height: int = 120, width: int = 160, frames: int = 30) -> list[Path]:
    """A short clip of the simulator in each of `FORMATS`."""
    street = Street(height, width, 25.0, 1)
    pictures = [street.draw(index) for index in range(frames)]
    return [
        _encoded(folder / f"clip{number}.{suffix}", codec, options, pictures)
        for number, (suffix, codec, options) in enumerate(FORMATS)
    ]


def _encoded(path: Path, codec: str, options: dict[str, str], pictures: Sequence[Image]) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = 10
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damaged(data: bytes, chance: random.Random, other: bytes) -> tuple[str, bytes]:
    """One kind of damage to a file's bytes, by chance."""
    kind = chance.choice(("cut", "flip", "flip head", "flip tail", "zero", "splice", "drop", "noise", "repeat"))
    out = bytearray(data)
    size = len(out)
    start = chance.randrange(size)
    length = min(size - start, chance.choice((1, 16, 512, 4096)))
    if kind == "cut":
        return kind, bytes(out[:start])
    if kind.startswith("flip"):
        low, high = {"flip": (0, size), "flip head": (0, min(size, 2000)), "flip tail": (max(0, size - 2000), size)}[
            kind
        ]
        for _ in range(chance.choice((1, 8, 64, 512))):
            out[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        out[start : start + length] = bytes(length)
    elif kind == "splice":
        return kind, bytes(out[:start]) + other[chance.randrange(len(other)) :]
    elif kind == "drop":
        del out[start : start + length]
    elif kind == "noise":
        out[start : start + length] = chance.randbytes(length)
    else:
        out[start:start] = out[start : start + length] * chance.choice((1, 100))
    return kind, bytes(out)


def _patch(data: bytes, tag: bytes, offset: int, new: bytes) -> bytes:
    """Write bytes so many places behind a tag's first occurrence."""
    at = data.index(tag) + offset
    return data[:at] + new + data[at + len(new) :]


def hostile(mp4: bytes, mkv: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Name, suffix and bytes of files that are written to do harm; `mp4` and `mkv` hold H.264."""
    most = struct.pack(">I", 0xFFFFFFFF)
    yield "track of 65535x65535", ".mp4", _patch(mp4, b"tkhd", 80, struct.pack(">II", 65535 << 16, 65535 << 16))
    yield "sample entry of 65535x65535", ".mp4", _patch(mp4, b"avc1", 28, struct.pack(">HH", 65535, 65535))
    yield "time scale 0", ".mp4", _patch(mp4, b"mdhd", 16, bytes(4))
    yield "time scale of the film 0", ".mp4", _patch(mp4, b"mvhd", 16, bytes(4))
    yield "longest duration", ".mp4", _patch(mp4, b"mvhd", 20, most)
    yield "4294967295 samples", ".mp4", _patch(mp4, b"stsz", 12, most)
    yield "4294967295 chunks", ".mp4", _patch(mp4, b"stco", 8, most)
    yield "4294967295 times", ".mp4", _patch(mp4, b"stts", 8, most)
    yield "durations of 2^31 ticks", ".mp4", _patch(mp4, b"stts", 16, struct.pack(">I", 1 << 31))
    yield "samples of 2 GB", ".mp4", _patch(mp4, b"stsz", 8, struct.pack(">I", 0x7FFFFFFF))
    yield "encrypted by name", ".mp4", _patch(mp4, b"avc1", 0, b"encv")
    yield "unknown codec", ".mp4", _patch(mp4, b"avc1", 0, b"zzzz")
    yield "box of size 0", ".mp4", _patch(mp4, b"moov", -4, bytes(4))
    yield "box of size 1", ".mp4", _patch(mp4, b"moov", -4, struct.pack(">I", 1))
    yield "boxes in boxes", ".mp4", mp4[:32] + (struct.pack(">I", 1 << 20) + b"moov") * 20_000
    tracks = mp4[mp4.index(b"trak") - 4 :][: struct.unpack(">I", mp4[mp4.index(b"trak") - 4 :][:4])[0]]
    moov = mp4.index(b"moov") - 4
    size = struct.unpack(">I", mp4[moov : moov + 4])[0]
    many = mp4[moov + 4 : moov + size] + tracks * 3000
    yield "3000 tracks", ".mp4", mp4[:moov] + struct.pack(">I", len(many) + 4) + many
    yield "no time stamps", ".h264", mkv[mkv.index(b"\x00\x00\x00\x01") if b"\x00\x00\x00\x01" in mkv else 0 :]
    yield "size unknown", ".mkv", mkv.replace(b"\x18\x53\x80\x67", b"\x18\x53\x80\x67\x01" + b"\xff" * 7, 1)
    yield "pixel width 2^32", ".mkv", mkv.replace(b"\xb0\x81\xa0", b"\xb0\x84\xff\xff\xff\xff", 1)
    yield "film in a text", ".mp4", b"this is no film\n" * 1000
    yield "text by name", ".txt", b"nor is this\n" * 10
    yield "empty", ".mp4", b""
    yield "one byte", ".mkv", b"\x1a"
    yield "zeros", ".mp4", bytes(1 << 20)
    yield "noise", ".ts", random.Random(7).randbytes(1 << 20)
    yield "ftyp alone", ".mp4", mp4[:32]
    yield (
        "playlist of secrets",
        ".m3u8",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    )
    yield "playlist by name", ".mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"
    yield "playlist of itself", ".m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplaylist of itself.m3u8\n"
    yield "concat", ".ffconcat", b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'http://127.0.0.1:9/x'\n"
    yield "concat by name", ".mp4", b"ffconcat version 1.0\nfile '../../../../etc/passwd'\n"
    yield (
        "session description",
        ".sdp",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    )
    gif = (
        b"GIF89a\xff\xff\xff\xff\x80"
        + bytes(5)
        + b"\xff\xff\xff,"
        + bytes(4)
        + b"\xff\xff\xff\xff\x00\x02\x02D\x01\x00;"
    )
    yield "GIF of 65535x65535", ".mp4", gif
    y4m = b"YUV4MPEG2 W30000 H30000 F1:0 Ip A0:0 C420\nFRAME\n" + bytes(1000)
    yield "rate of 1:0 and 30000x30000", ".mp4", y4m
    yield "endless rate", ".mp4", b"YUV4MPEG2 W16 H16 F2147483647:1 C420\n" + (b"FRAME\n" + bytes(384)) * 50
    yield "one frame a century", ".mp4", b"YUV4MPEG2 W16 H16 F1:2147483647 C420\n" + (b"FRAME\n" + bytes(384)) * 50


def files(folder: Path, count: int, seed: int, given: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """`count` files, one after the other: the hostile ones first, then damaged ones.

    Yields:
        What was done, and the file, which may be removed once it was looked at.
    """
    data = [path.read_bytes() for path in given]
    made = clips(folder)  # the boxes and elements that are patched are those of our own
    mp4, mkv = made[0].read_bytes(), made[2].read_bytes()
    names = iter(('it\'s 100% "fine"', "two\nlines", "a:b?c*d", "-dash", "ünï"))
    done = 0
    for what, suffix, content in hostile(mp4, mkv):
        if done == count:
            return
        path = folder / f"{next(names, what)}{suffix}"
        path.write_bytes(content)
        yield what, path
        done += 1
    if done < count:
        path = folder / "sparse.mp4"
        path.write_bytes(_patch(mp4, b"mdat", -4, struct.pack(">I", 0)))
        with path.open("r+b") as file:
            file.truncate(4 << 30)
        yield "4 GB of nothing behind a film", path
        done += 1
    chance = random.Random(seed)
    while done < count:
        place = chance.randrange(len(data))
        kind, content = damaged(data[place], chance, chance.choice(data))
        path = folder / f"{done:03d}{given[place].suffix}"
        path.write_bytes(content)
        yield f"{kind}, {given[place].name}", path
        done += 1


# one file in a process of its own


def decode(path: str) -> Outcome:
    """Decode a file to its end, as a run does."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("rtpsp").addHandler(handler)
    frames = 0
    try:
        with open_source(path) as source:
            while (frame := source.read()) is not None:
                picture = frame.to_bgr(None)
                if picture.shape != (frame.height, frame.width, 3):
                    return Outcome(
                        "BAD", frames, f"a picture of {picture.shape}, {frame.height}x{frame.width} was said"
                    )
                frames += 1
    except RtpspError as error:
        said = str(error)
        clear = "\n" not in said and len(said) < 600 and (path in said or shown(path) in said)
        return Outcome(("partial" if frames else "refused") if clear else "BAD", frames, said)
    except BaseException:
        return Outcome("BAD", frames, traceback.format_exc())
    bad = [line for line in told if "\n" in line]
    return Outcome("BAD" if bad else "partial" if told else "whole", frames, "; ".join(bad or told))


def _child(path: str, answer: Connection) -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    answer.send(decode(path))


def in_child(path: Path, seconds: float = SECONDS) -> Outcome:
    """`decode` in a process of its own, which is ended when its time is over."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rtpsp.stream.video", "rtpsp.stream.images", "rtpsp.sim.street"])
    receive, send = processes.Pipe(duplex=False)
    child = processes.Process(target=_child, args=(str(path), send))
    child.start()
    send.close()
    try:
        if not receive.poll(seconds):
            child.kill()
            return Outcome("BAD", 0, f"no end within {seconds:g} s")
        outcome: Outcome = receive.recv()
    except EOFError:
        child.join()
        return Outcome("BAD", 0, f"the process ended with {child.exitcode}")
    finally:
        receive.close()
        child.join()
    return (
        outcome if child.exitcode == 0 else Outcome("BAD", outcome.frames, f"the process ended with {child.exitcode}")
    )


@click.command()
@click.option("--count", default=200, show_default=True, help="Files.")
@click.option("--seed", default=1, show_default=True, help="Which damage.")
@click.option("--clips", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Real clips.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(count: int, seed: int, folder: Path | None, path: Path | None) -> None:
    """Make files, decode each in a process of its own, and say what came of them."""
    console = Console(highlight=False)
    counts: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "made"
        made.mkdir()
        given = clips(Path(name))
        if folder is not None:
            given += sorted(file for file in folder.iterdir() if file.suffix in (".mp4", ".mkv", ".mov", ".avi", ".ts"))
        for what, file in files(made, count, seed, given):
            outcome = in_child(file)
            counts[outcome.verdict] += 1
            rows.append({"what": what, **outcome._asdict()})
            console.print(f"{outcome.verdict:8}{outcome.frames:5}  {what}: {outcome.said}"[:200], markup=False)
            file.unlink()
    console.print(", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items())))
    if path is not None:
        bad = [row for row in rows if row["verdict"] == "BAD"]
        told = {
            "files": count,
            "seed": seed,
            "clips": [clip.name for clip in given],
            "verdicts": dict(counts),
            "bad": bad,
        }
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(6 if counts["BAD"] else 0)


if __name__ == "__main__":
    main()
