"""A built-in simulator: a drawn street with exact ground truth, and a time code to check a pipeline's clocks."""

from rtpsp.sim.street import Street
from rtpsp.sim.timecode import draw_timecode, read_timecode

__all__ = ["Street", "draw_timecode", "read_timecode"]
