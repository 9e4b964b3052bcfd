"""What a user would run instead: other libraries on the same frames and weights, each as its own guide has it.

``bench/peers/NAME/`` of a checkout holds, for each, its requirements, what it is (``peer.json``) and the few lines that
its user writes. Each runs in its own environment and process, at each precision that it offers by itself, with its own
default number of threads. It is held against our engine in turn, A B A B, on the same frames: from a BGR frame to its
class map, with resizing, normalisation and argmax inside. Our engine runs in such a process too. Nobody is timed whose
class map is not that of the model in FP32 (`rtpsp.bench.truth`).

Two ratios are taken pair by pair, above 1 where ours is faster: like against like (the engine of ours that computes in
the number format which the peer's convolutions really run in), and, for a peer's default, default against default.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rtpsp.arrays import Image
from rtpsp.bench.peers_row import OURS
from rtpsp.bench.peers_row import PeerRow as PeerRow
from rtpsp.bench.peers_row import PeersReport as PeersReport
from rtpsp.bench.peers_row import Skipped as Skipped
from rtpsp.errors import UsageError

Tell = Callable[[str, float], None]
Stopped = Callable[[], bool]

CALIBRATION_FRAMES = 64
LOOP_FRAMES = 20
SLICES = 20
"""Plays of the video in each loop, in turn: short ones, so that both loops see the same noise."""
QUICK_CALIBRATION_FRAMES, QUICK_LOOP_FRAMES, QUICK_SLICES = 8, 15, 3
"""Where it shall only be seen that all comes about."""


@dataclass(frozen=True)
class PeersOptions:
    """What to race, and how long.

    Attributes:
        model: A model file with a spec; None takes the shipped one.
        only: Names of folders in ``bench/peers``; none takes all.
        seconds: That count, of each peer's precision.
        warmup: Seconds of each before.
        frames: uint8 [height, width, 3] BGR of one size; None draws a street of 480x640.
        calibration: Others for the peers' quantisers, and for ours if the model brings no ranges, likewise of one size;
            None draws another street.
        video: For the loops; None draws a street of the model's size.
        threads: Of our engine; 0 takes all. Peers keep their own default.
        trained: False for random weights, of which less agreement can be expected.
        engines: Engine files of the model for CPUs by precision, the default first; none builds one of each precision.
        folder: The ``bench/peers`` of a checkout; None finds it.
        environments: Where the peers' environments are kept; None takes the user's cache.
        quick: Few frames for quantisers and short loops.
    """

    model: Path | None = None
    only: tuple[str, ...] = ()
    seconds: float = 10.0
    warmup: float = 2.0
    frames: Sequence[Image] | None = None
    calibration: Sequence[Image] | None = None
    video: Path | None = None
    threads: int = 0
    trained: bool = True
    engines: Mapping[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    environments: Path | None = None
    quick: bool = False


@dataclass(frozen=True)
class Peer:
    """One folder of ``bench/peers``.

    Attributes:
        folder: Where it lies.
        title: For people.
        guide: The page of its own documentation that its code follows.
        precisions: By its own names, its default first.
        loops: Whether its loop is raced; its frames otherwise.
    """

    folder: Path
    title: str
    guide: str
    precisions: tuple[str, ...]
    loops: bool

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    @property
    def file(self) -> Path:
        """The Python file with its ``load``."""
        return self.folder / f"{self.name.replace('-', '_')}_peer.py"


def peers_folder() -> Path:
    """The ``bench/peers`` of the checkout that this package lies in.

    Raises:
        UsageError: The package is installed without one.
    """
    folder = Path(__file__).parents[2] / "bench" / "peers"
    if not (folder / "protocol" / "serve.py").is_file():
        raise UsageError(
            f"{folder} is not there: the peers come with a checkout of rtpsp, not with its wheel; clone the repository "
            "and install it with pip install -e ."
        )
    return folder


def read_peers(folder: Path, only: Sequence[str] = ()) -> list[Peer]:
    """The peers of a folder in the order of their names; without ourselves.

    Raises:
        UsageError: `only` names one that is not there.
    """
    found = []
    for file in sorted(folder.glob("*/peer.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        if file.parent.name != OURS:
            found.append(
                Peer(file.parent, told["title"], told["guide"], tuple(told["precisions"]), told.get("race") == "loop")
            )
    names = [peer.name for peer in found]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(f"no peer {unknown[0]!r}: use {', '.join(names) or 'another folder, this one has none'}")
    return [peer for peer in found if not only or peer.name in only]


def run_peers(
    options: PeersOptions | None = None, tell: Tell | None = None, stopped: Stopped | None = None
) -> PeersReport:
    """Race the peers of a checkout against our engines.

    A peer that is not here, dies, hangs or answers wrongly is left out with its reason.

    Args:
        options: What to race.
        tell: Told what is being done, and how much of all is, 0..1.
        stopped: Whether a person wants an end: what was measured so far is handed back.

    Raises:
        UsageError: There is no checkout or no such peer, or the model is none for them.
        BoundNotMet: The engine that ours takes by default does not answer as the model does.
        RtpspError: As reading the model, and building and opening that engine.
    """
    from rtpsp import zoo
    from rtpsp.bench.frames import FRAME_SIZE, street_pictures
    from rtpsp.bench.peers_material import make_material
    from rtpsp.bench.peers_race import Race
    from rtpsp.sim.street import Street

    options = options or PeersOptions()
    folder = options.folder or peers_folder()
    peers = read_peers(folder, options.only)
    model = options.model or zoo.model_path()
    frames = street_pictures() if options.frames is None else options.frames
    calibration = options.calibration
    if calibration is None:
        street = Street(*FRAME_SIZE, seed=7)
        count = QUICK_CALIBRATION_FRAMES if options.quick else CALIBRATION_FRAMES
        calibration = [street.draw(45 * number) for number in range(count)]
    loop_frames, slices = (QUICK_LOOP_FRAMES, QUICK_SLICES) if options.quick else (LOOP_FRAMES, SLICES)
    told = tell or (lambda what, share: None)
    rows: list[PeerRow] = []
    skipped: list[Skipped] = []
    with tempfile.TemporaryDirectory(prefix="rtpsp-peers-") as work, ExitStack() as stack:
        told("draw frames and ask the model in FP32", 0.0)
        material = make_material(model, Path(work), frames, calibration, options.video, loop_frames, options.threads)
        race = stack.enter_context(Race(options, material, folder, model, slices, skipped, told, stopped))
        works = [(peer, precision) for peer in peers for precision in peer.precisions]
        for number, (peer, precision) in enumerate(works):
            if race.stopped:
                break
            row = race.against(peer, precision, (number / len(works), (number + 1) / len(works)))
            if row is not None:
                rows.append(row)
    return PeersReport(tuple(rows), tuple(skipped))
