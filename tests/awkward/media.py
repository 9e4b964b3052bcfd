"""Awkward sources and outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2  # isort: skip  (before av, as in rtpsp.stream.video)
import av
import numpy as np

from rtpsp.arrays import Image
from rtpsp.stream.source import open_source
from tests.awkward import files
from tests.awkward.case import Case, Ran, nothing, run

MASKS = ("--save-masks", "masks")


def masks(folder: Path) -> list[Image]:
    found = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").glob("*.png"))]
    return [np.asarray(mask, np.uint8) for mask in found if mask is not None]


def shows(*pictures: tuple[int, int], quarters: Sequence[Sequence[int]] = files.QUARTERS) -> Callable[[Ran], None]:
    """Each mask has its size, and in each quarter's middle the class of the picture there."""

    def check(ran: Ran) -> None:
        got = masks(ran.folder)
        assert [mask.shape for mask in got] == list(pictures)
        for mask in got:
            height, width = mask.shape
            for row in range(2):
                for column in range(2):
                    middle = mask[
                        height * (1 + 4 * row) // 8 : height * (3 + 4 * row) // 8,
                        width * (1 + 4 * column) // 8 : width * (3 + 4 * column) // 8,
                    ]
                    assert (middle == quarters[row][column]).all(), (row, column, np.unique(middle))

    return check


def turned(degrees: int) -> list[list[int]]:
    """The quarters of a picture that was turned counterclockwise."""
    return [list(row) for row in np.rot90(np.array(files.QUARTERS), degrees // 90)]


def has_masks(count: int) -> Callable[[Ran], None]:
    def check(ran: Ran) -> None:
        assert len(masks(ran.folder)) == count

    return check


def plays(name: str, count: int, size: tuple[int, int]) -> Callable[[Ran], None]:
    """The recording has so many pictures of one size, and times that rise."""

    def check(ran: Ran) -> None:
        with av.open(str(ran.folder / name)) as container:
            pictures = list(container.decode(video=0))
        assert [(picture.height, picture.width) for picture in pictures] == [size] * count
        times = [picture.pts or 0 for picture in pictures]
        assert times == sorted(set(times))

    return check


def leaves(*names: str) -> Callable[[Ran], None]:
    """Nothing else lies in the folder: no half file, no temporary one."""

    def check(ran: Ran) -> None:
        assert sorted(path.name for path in ran.folder.rglob("*")) == sorted(names)

    return check


def all_of(*checks: Callable[[Ran], None]) -> Callable[[Ran], None]:
    def check(ran: Ran) -> None:
        for one in checks:
            one(ran)

    return check


def clip(folder: Path) -> Path:
    return files.video(folder / "clip.mp4")


def in_file(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: make(folder / name)


def written(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def written_video(path: Path) -> None:
    """A video, for a name that FFmpeg's writer does not take."""
    files.video(path.with_name("x.mp4")).rename(path)


def several(*makers: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for one in makers:
            one(folder)

    return make


def images(folder: Path, **more: bytes) -> None:
    for number in range(3):
        files.image(folder / "frames" / f"{number}.png")
    for name, data in more.items():
        (folder / "frames" / name.replace("_", ".")).write_bytes(data)


def mended_by_skipping(folder: Path) -> None:
    files.image(folder / "frames" / "0.png")
    files.image(folder / "frames" / "2.png")
    for name in ("1.png", "3.png"):
        (folder / "frames" / name).write_bytes(b"no image")


def mixed(folder: Path) -> None:
    for number, size in enumerate([(48, 64), (64, 48), (30, 90), (47, 63)]):
        files.image(folder / "frames" / f"{number}.png", files.picture(*size))


def write_only(path: Path) -> Path:
    """A file that not even root may read; elsewhere one that its owner may not."""
    for known in ("/sys/bus/platform/drivers_probe", "/sys/bus/pci/drivers_probe"):
        if Path(known).exists():
            path.symlink_to(known)
            return path
    path.write_bytes(b"secret")
    path.chmod(0)
    return path


def why_root_reads_all() -> str | None:
    if os.name == "nt":
        return "Windows has no such mode"
    if os.geteuid() == 0 and not Path("/sys/bus/platform/drivers_probe").exists():
        return "root may read every file, and this kernel shows no write-only one"
    return None


def why_no_fifo() -> str | None:
    return None if hasattr(os, "mkfifo") else "this system has no named pipes"


def why_not_linux() -> str | None:
    return None if sys.platform == "linux" else "needs a device of Linux"


def why_no_mount() -> str | None:
    """A small file system can be made by root on Linux only, and in few containers."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root mounts a small disk; /dev/full stands for one in another case"
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True)
        if tried.returncode:
            return "this container may not mount a small disk; /dev/full stands for one in another case"
        subprocess.run(["umount", folder], check=True)
    return None


def small_disk(folder: Path, size: str) -> None:
    files.video(folder / "clip.mp4", 60, (240, 320), noise=True)
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder / "disk")], check=True)


def full_disk(folder: Path) -> None:
    small_disk(folder, "4k")
    (folder / "disk" / "filler").write_bytes(bytes(4096))


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder / "disk")], check=True)


def first_plays(ran: Ran) -> None:
    """A part of the recording can be decoded."""
    with open_source(str(ran.folder / "disk" / "out.mp4")) as source:
        assert sum(1 for _ in iter(source.read, None)) > 3


def masks_are_whole(ran: Ran) -> None:
    """No mask was left half written."""
    found = sorted((ran.folder / "disk" / "masks").glob("*.png"))
    assert found and all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None for path in found)


LONG = "x" * 5000

VIDEO_FILES = [
    Case("no such file", nothing, run("--source", "nosuch.mp4"), 3, r"no file 'nosuch\.mp4': check the path"),
    Case(
        "a misspelt name in a folder that is there",
        in_file("drive.mp4", files.video),
        run("--source", "driev.mp4"),
        3,
        r"no file 'driev\.mp4': did you mean drive\.mp4\?",
    ),
    Case(
        "a file in a folder that is not there",
        nothing,
        run("--source", "vidoes/drive.mp4"),
        3,
        r"no file 'vidoes/drive\.mp4': there is no folder vidoes",
    ),
    Case(
        "a text file named .mp4",
        written("text.mp4", b"not a video\n" * 100),
        run("--source", "text.mp4"),
        3,
        r"text\.mp4 is not a video that can be read.*: give a video",
    ),
    Case(
        "a PNG named .mp4",
        lambda folder: files.image(folder / "a.png").rename(folder / "a.mp4"),
        (*run("--source", "a.mp4"), *MASKS),
        0,
        None,
        shows((48, 64)),
    ),
    Case("an empty file", written("zero.mp4", b""), run("--source", "zero.mp4"), 3, r"zero\.mp4 .*the file is empty"),
    Case(
        "an mp4 that was cut off before its index",
        in_file("cut.mp4", partial(files.cut, share=0.6, index_first=False)),
        run("--source", "cut.mp4"),
        3,
        r"cut\.mp4 .*cut short",
    ),
    Case(
        "an mp4 with its index in front, cut off later",
        in_file("cut.mp4", partial(files.cut, share=0.6, index_first=True)),
        run("--source", "cut.mp4", frames=99),
        0,
        r"cut\.mp4 ended after 2\d of 50 frames: it may be cut short",
    ),
    Case(
        "an mp4 with its index in front and nothing more",
        in_file("cut.mp4", partial(files.cut, share=0.01, index_first=True)),
        run("--source", "cut.mp4"),
        3,
        r"cut\.mp4.*none of its frames can be decoded",
    ),
    Case("sound alone", in_file("song.mp4", files.sound), run("--source", "song.mp4"), 3, r"holds audio and no video"),
    Case(
        "an mp4 without a frame",
        in_file("none.mp4", files.no_frames),
        run("--source", "none.mp4"),
        3,
        r"none\.mp4.*(no video|no frame)",
    ),
    Case(
        "a header that says 1000 s where there are 5 frames",
        lambda folder: files.patched(
            clip(folder), (b"mvhd", 20, (10**6).to_bytes(4, "big")), (b"mdhd", 20, (12_800_000).to_bytes(4, "big"))
        ),
        (*run("--source", "clip.mp4", frames=99), *MASKS),
        0,
        None,
        shows(*[(48, 64)] * 5),
    ),
    Case(
        "a header that says 1000 frames where there are 5",
        lambda folder: files.patched(
            files.video(folder / "clip.avi", codec="mpeg4"),
            (b"avih", 24, (1000).to_bytes(4, "little")),
            (b"strh", 40, (1000).to_bytes(4, "little")),
        ),
        (*run("--source", "clip.avi", frames=99), *MASKS),
        0,
        r"clip\.avi ended after 5 of 1000 frames: it may be cut short",
        shows(*[(48, 64)] * 5),
    ),
    Case(
        "a header that says one frame of five lasts 100 s",
        lambda folder: files.patched(clip(folder), (b"stts", 12, (100 * 12800).to_bytes(4, "big"))),
        (*run("--source", "clip.mp4", "--output", "out.mp4", frames=99), *MASKS),
        0,
        None,
        all_of(shows(*[(48, 64)] * 5), plays("out.mp4", 5, (48, 64))),
    ),
    Case(
        "an odd size, 641x363",
        lambda folder: files.video(folder / "odd.mp4", 2, (363, 641), codec="mpeg4"),
        (*run("--source", "odd.mp4", "--output", "out.mp4"), *MASKS),
        0,
        None,
        all_of(shows((363, 641), (363, 641)), plays("out.mp4", 2, (364, 642))),
    ),
    *[
        Case(
            f"a phone's video, turned by {degrees} degrees",
            in_file("phone.mp4", partial(files.video, count=2, rotation=degrees)),
            (*run("--source", "phone.mp4"), *MASKS),
            0,
            None,
            shows(*[(64, 48) if degrees % 180 else (48, 64)] * 2, quarters=turned(degrees)),
        )
        for degrees in (90, 180, 270)
    ],
    Case(
        "a size that changes in mid-stream",
        in_file("joined.ts", lambda path: files.joined(path, (48, 64), (96, 128), (64, 48))),
        (*run("--source", "joined.ts", "--output", "out.mp4", frames=99), *MASKS),
        0,
        r"out\.mp4: a picture of \d+x\d+ follows on 64x48",
        all_of(shows(*[(48, 64)] * 5, *[(96, 128)] * 5, *[(64, 48)] * 5), plays("out.mp4", 15, (48, 64))),
    ),
    Case(
        "a rate that varies",
        in_file("vfr.mkv", partial(files.video, count=4, stamps=(0.0, 0.033, 1.5, 1.51))),
        (*run("--source", "vfr.mkv", "--output", "out.mp4"), *MASKS),
        0,
        None,
        all_of(shows(*[(48, 64)] * 4), plays("out.mp4", 4, (48, 64))),
    ),
    Case(
        "time stamps that do not rise",
        in_file("back.mkv", files.backward),
        (*run("--source", "back.mkv", "--output", "out.mp4", frames=99), *MASKS),
        0,
        r"back\.mkv: a time stamp is (missing|not rising); such stamps are put in order",
        plays("out.mp4", 8, (48, 64)),
    ),
    Case(
        "a codec that is not known",
        lambda folder: files.patched(clip(folder), (b"avc1\0\0\0\0", 0, b"zz99")),
        run("--source", "clip.mp4"),
        3,
        r"clip\.mp4: FFmpeg \S+ has no decoder for its video: convert it",
    ),
    Case(
        "a name with spaces, umlauts and per cent signs",
        in_file("Straße 100%20 [früh] #1?.mp4", files.video),
        (*run("--source", "Straße 100%20 [früh] #1?.mp4", "--output", "ein Ausgang %d.mp4"), *MASKS),
        0,
        None,
        all_of(shows(*[(48, 64)] * 5), plays("ein Ausgang %d.mp4", 5, (48, 64))),
    ),
    Case(
        "a name with a line break",
        nothing,
        run("--source", "a\nb.mp4"),
        3,
        r"^rtpsp: no file 'a\\nb\.mp4': check the path",
    ),
    Case(
        "a name that is not UTF-8",
        in_file(os.fsdecode(b"caf\xe9.mp4"), written_video),
        (*run("--source", os.fsdecode(b"caf\xe9.mp4")), *MASKS),
        0,
        None,
        shows(*[(48, 64)] * 5),
        why_not_linux,
    ),
    Case("a very long name", nothing, run("--source", LONG), 3, r"^rtpsp: '?x+…x+'?: File name too long"),
    Case("an empty name", nothing, run("--source", ""), 3, r"the source's name is empty"),
    Case("a folder named .mp4", lambda folder: (folder / "a.mp4").mkdir(), run("--source", "a.mp4"), 3, r"the folder"),
    Case(
        "a named pipe",
        lambda folder: os.mkfifo(folder / "pipe.mp4"),
        run("--source", "pipe.mp4"),
        3,
        r"pipe\.mp4 is a named pipe",
        why_not=why_no_fifo,
    ),
    Case("/dev/null", nothing, run("--source", "/dev/null"), 3, r"/dev/null is not a camera", why_not=why_not_linux),
    Case(
        "a file without the right to read it",
        in_file("locked.mp4", write_only),
        run("--source", "locked.mp4"),
        3,
        r"locked\.mp4.*Permission denied",
        why_not=why_root_reads_all,
    ),
    Case(
        "a begin beyond the end",
        clip,
        run("--source", "clip.mp4", "--start", "90"),
        3,
        r"no frame from 90 s on: it lasts 0\.20 s",
    ),
    Case(
        "an end before the begin",
        clip,
        run("--source", "clip.mp4", "--start", "2", "--end", "1"),
        2,
        r"the end is at 1 s and the start at 2 s",
    ),
    Case(
        "a begin that is not a number",
        clip,
        run("--source", "clip.mp4", "--start", "nan"),
        2,
        r"start is nan, expected seconds from 0 on",
    ),
    Case("a begin without bound", clip, run("--source", "clip.mp4", "--start", "1e300"), 3, r"no frame from 1e\+300 s"),
]

PICTURES = [
    Case("an empty folder", lambda folder: (folder / "none").mkdir(), run("--source", "none"), 3, r"'none' is empty"),
    Case(
        "a folder without images",
        several(lambda folder: (folder / "none").mkdir(), written("none/a.txt", b"a")),
        run("--source", "none"),
        3,
        r"'none' holds 1 file and no image",
    ),
    Case("a pattern that nothing matches", nothing, run("--source", "*.png"), 3, r"the pattern '\*\.png' matches no"),
    Case(
        "a misspelt image",
        in_file("frame.png", files.image),
        run("--source", "frmae.png"),
        3,
        r"no file 'frmae\.png': did you mean frame\.png\?",
    ),
    Case(
        "an image of 0 bytes among good ones",
        partial(images, x_png=b""),
        (*run("--source", "frames"), *MASKS),
        0,
        r"frames.x\.png cannot be decoded as an image: passed over",
        shows(*[(48, 64)] * 3),
    ),
    Case(
        "half a PNG among good ones",
        lambda folder: images(folder, x_png=files.image(folder / "whole.png").read_bytes()[:90]),
        (*run("--source", "frames"), *MASKS),
        0,
        r"frames.x\.png cannot be decoded as an image: passed over",
        shows(*[(48, 64)] * 3),
    ),
    Case(
        "half a JPEG among good ones",
        lambda folder: images(folder, x_jpg=files.image(folder / "whole.jpg").read_bytes()[:700]),
        (*run("--source", "frames"), *MASKS),
        0,
        r"frames.x\.jpg cannot be decoded as an image: passed over",
        shows(*[(48, 64)] * 3),
    ),
    Case(
        "nothing but an image that is none",
        written("a.png", b"not an image"),
        run("--source", "a.png"),
        3,
        r"a\.png cannot be decoded as an image",
    ),
    Case(
        "an image whose header says 60000x60000",
        in_file("huge.png", files.huge_png),
        run("--source", "huge.png"),
        3,
        r"huge\.png cannot be decoded as an image",
    ),
    Case("a folder of images of many sizes", mixed, (*run("--source", "frames"), *MASKS), 0, None,
         shows((48, 64), (64, 48), (30, 90), (47, 63))),
    Case("images of many sizes, recorded", mixed, run("--source", "frames", "--output", "out.mp4"), 0,
         r"out\.mp4: a picture of 48x64 follows on 64x48", plays("out.mp4", 4, (48, 64))),
    Case("a grey PNG", lambda f: files.image(f / "a.png", files.grey(8)), (*run("--source", "a.png"), *MASKS), 0,
         None, has_masks(1)),
    Case("a grey PNG of 16 bits", lambda f: files.image(f / "a.png", files.grey(16)),
         (*run("--source", "a.png"), *MASKS), 0, None, has_masks(1)),
    Case("a colour PNG of 16 bits", lambda f: files.image(f / "a.png", files.picture().astype(np.uint16) * 257),
         (*run("--source", "a.png"), *MASKS), 0, None, shows((48, 64))),
    Case("a PNG with transparency", lambda f: files.image(f / "a.png", files.transparent()),
         (*run("--source", "a.png"), *MASKS), 0, None, shows((48, 64))),
    Case("a JPEG in CMYK", in_file("a.jpg", files.cmyk_jpeg), (*run("--source", "a.jpg"), *MASKS), 0, None,
         shows((48, 64))),
    Case("a JPEG turned by EXIF", in_file("a.jpg", partial(files.with_exif_orientation, orientation=6)),
         (*run("--source", "a.jpg"), *MASKS), 0, None, shows((64, 48), quarters=turned(270))),
    Case("every second image, where every second is damaged", mended_by_skipping,
         (*run("--source", "frames", "--every", "2"), *MASKS), 0, None, shows(*[(48, 64)] * 2)),
]  # fmt: skip

URIS = [
    Case("no camera", nothing, run("--camera", "7"), 4, r"/dev/video7", why_not=why_not_linux),
    Case("a width that is no number", nothing, run("--source", "sim://street?w=abc"), 3, r"w=abc is not a number of p"),
    Case("a width below nothing", nothing, run("--source", "sim://street?w=-1"), 3, r"w=-1 is not a number of pixels"),
    Case("a huge size", nothing, run("--source", "sim://street?w=99999&h=99999"), 3, r"w=99999 is not .* 8192"),
    Case("a size too small for a street", nothing, run("--source", "sim://street?w=1&h=1"), 3, r"at least 120x160"),
    Case("a rate of 0", nothing, run("--source", "sim://street?fps=0"), 3, r"fps=0 is not a rate from"),
    Case("a rate that is not a number", nothing, run("--source", "sim://street?fps=nan"), 3, r"fps=nan is not a rate"),
    Case("a misspelt parameter", nothing, run("--source", "sim://street?sed=2"), 3, r"did you mean seed\?"),
    Case("a parameter twice", nothing, run("--source", "sim://street?w=640&w=320"), 3, r"w is given twice"),
    Case("a scene that is not there", nothing, run("--source", "sim://beach"), 3, r"no scene 'beach'.*sim://street"),
    Case("brackets for a scene", nothing, run("--source", "sim://[street"), 3, r"sim://\[street is not a URI: expected sim://street"),
    Case("a path in a simulator's URI", nothing, run("--source", "sim://street/a?w=640"), 3, r"'a' has no meaning"),
    Case("a misspelt scheme", nothing, run("--source", "htp://host/a.mp4"), 3, r"htp:// sources are not supported"),
    Case("a misspelt simulator", nothing, run("--source", "sin://street"), 3, r"sin:// .*did you mean sim://"),
    Case("a file by URI", clip, run("--source", "file:///clip.mp4"), 3, r"file:// .*give the path alone"),
    Case("a begin in a live source", nothing, run("--source", "sim://street?live=1", "--start", "2"), 2,
         r"--start has no meaning for a live simulator"),
    Case("a begin in a camera", nothing, run("--camera", "7", "--end", "2"), 2, r"--end has no meaning for a camera"),
    Case("a loop of a camera", nothing, run("--camera", "7", "--loop"), 2, r"--loop has no meaning for a camera"),
    Case("a camera's size for a file", clip, run("--source", "clip.mp4", "--camera-size", "720x1280"), 2,
         r"--camera-size has no meaning for a video file"),
    Case("a camera's rate for images", partial(images), run("--source", "frames", "--camera-fps", "30"), 2,
         r"--camera-fps has no meaning for images"),
    Case("neither camera nor source", nothing, ("run",), 2, r"neither --camera nor --source"),
]  # fmt: skip

OUTPUTS = [
    Case("a recording onto its source", clip, run("--source", "clip.mp4", "--output", "clip.mp4"), 2,
         r"clip\.mp4 is the source itself", leaves("clip.mp4")),
    Case("an ending that is no video's", clip, run("--source", "clip.mp4", "--output", "out.avi"), 2,
         r"'out\.avi': the name must end in \.mp4, \.mkv, \.mov", leaves("clip.mp4")),
    Case("no ending", clip, run("--source", "clip.mp4", "--output", "out"), 2, r"'out': the name must end in"),
    Case("a place that cannot be written", clip, run("--source", "clip.mp4", "--output", "/proc/out.mp4"), 7,
         r"/proc/out\.mp4: .*; give another place with --output", why_not=why_not_linux),
    Case("a file where the folder should be", several(clip, written("file", b"")),
         run("--source", "clip.mp4", "--output", "file/out.mp4"), 7, r"file.out\.mp4: .*; give another place"),
    Case("a folder that is not there yet", clip, run("--source", "clip.mp4", "--output", "new/er/out.mp4"), 0, None,
         plays("new/er/out.mp4", 5, (48, 64))),
    Case("a folder of that name", several(clip, lambda f: (f / "out.mp4").mkdir()),
         run("--source", "clip.mp4", "--output", "out.mp4"), 2, r"'out\.mp4' is a directory"),
    Case("a very long name for a recording", clip, run("--source", "clip.mp4", "--output", f"{LONG}.mp4"), 7,
         r"File name too long; give another place with --output", leaves("clip.mp4")),
    Case("a very long name for masks", clip, run("--source", "clip.mp4", "--save-masks", LONG), 7,
         r"File name too long; give another folder", leaves("clip.mp4")),
    Case("masks into a file", clip, run("--source", "clip.mp4", "--save-masks", "clip.mp4"), 2, r"is a file",
         leaves("clip.mp4")),
    Case("masks among the images", partial(images), run("--source", "frames", "--save-masks", "frames"), 2,
         r"frames (holds the images themselves|is the source itself)", leaves("frames", "0.png", "1.png", "2.png")),
    Case("a device that is always full", several(clip, lambda f: (f / "out.mp4").symlink_to("/dev/full")),
         run("--source", "clip.mp4", "--output", "out.mp4"), 7, r"out\.mp4: No space left .*; nothing was recorded",
         leaves("clip.mp4", "out.mp4"), why_not_linux),
    Case("a disk that fills up under a recording", partial(small_disk, size="400k"),
         run("--source", "clip.mp4", "--output", "disk/out.mp4", frames=99), 7,
         r"disk/out\.mp4: No space left on device; what was recorded up to here is kept; free the disk or",
         first_plays, why_no_mount, unmount),
    Case("a disk that fills up under masks", partial(small_disk, size="48k"),
         run("--source", "clip.mp4", "--save-masks", "disk/masks", frames=99), 7,
         r"disk/masks/0000\d\d\.png: No space left on device; masks up to here are kept; free the disk or",
         masks_are_whole, why_no_mount, unmount),
    Case("a full disk under a recording", full_disk,
         run("--source", "clip.mp4", "--output", "disk/out.mp4", frames=99), 7,
         r"disk/out\.mp4: No space left on device; nothing was recorded; free the disk or",
         leaves("clip.mp4", "disk", "filler"), why_no_mount, unmount),
    Case("a full disk under a list of classes", full_disk,
         run("--source", "clip.mp4", "--save-masks", "disk", frames=99), 7,
         r"disk/classes.txt: .*No space left on device.*: give another folder",
         leaves("clip.mp4", "disk", "filler"), why_no_mount, unmount),
]  # fmt: skip


CASES = [*VIDEO_FILES, *PICTURES, *URIS, *OUTPUTS]
