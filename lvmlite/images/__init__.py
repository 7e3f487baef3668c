"""Pictures and video: safe reading, PNG writing, the geometry of a store, and contact sheets.

In: files and bytes nobody has checked. Out: uint8 RGB arrays (H, W, 3), maps of numbers, or `Unreadable` with a reason:
this is the one place where decoder errors are caught. Pillow and PyAV are imported where they are used.
"""

from lvmlite.images.geometry import Geometry, resize, shrink
from lvmlite.images.sheet import grid
from lvmlite.images.still import MAX_PIXELS, Unreadable, decode, decode_map, encode_png
from lvmlite.images.video import VideoReader

__all__ = [
    "MAX_PIXELS",
    "Geometry",
    "Unreadable",
    "VideoReader",
    "decode",
    "decode_map",
    "encode_png",
    "grid",
    "resize",
    "shrink",
]
