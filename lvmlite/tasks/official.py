"""Official palettes: the colours data sets publish, and palettes of one's own from a file.

Out: tables (n_classes + 1, 3) uint8 as in palettes.py; row i is the colour of class id i, row 0 that of unlabelled.

ADE20K: the 150 colours published with the scene parsing benchmark (Zhou et al., CVPR 2017). Cityscapes: the labels of
its own scripts (Cordts et al., CVPR 2016). PASCAL VOC: its development kit's bit formula (Everingham et al., 2010).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

_ADE20K = """
787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff06528fff8c
ccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0ffb8060aff47
ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff00
1fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300
ff6600c2ff00008fff33ff000052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8
001fff00ff3d0047ffff00cc00ffc200ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ff
a3ff00ffeb0008b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00
ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc
2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff
"""
_CITYSCAPES = """
804080f423e846464666669cbe9999999999faaa1edcdc006b8e2398fb984682b4dc143cff000000008e000046003c64005064
0000e6770b20
"""
_BLACK = (0, 0, 0)
_VOC_VOID = (224, 224, 192)


def ade20k() -> np.ndarray:
    """ADE20K's 150 classes, unlabelled black. As published, ids 7 (road) and 49 (skyscraper) are both (140, 140, 140):
    both read as 7."""
    return _from_hex(_ADE20K)


def cityscapes() -> np.ndarray:
    """Cityscapes' 19 training classes, id = trainId + 1 (1 = road, 19 = bicycle), void black. Least L1 distance 20."""
    return _from_hex(_CITYSCAPES)


def voc() -> np.ndarray:
    """PASCAL VOC's 21 classes, id = VOC's index + 1: 1 = background, black; 2 = aeroplane; 21 = tvmonitor. Void, id 0,
    is (224, 224, 192), as on the outlines of its maps. Least L1 distance 64."""
    index = np.arange(21)
    colours = np.zeros((21, 3), dtype=np.int64)
    for bit in range(3):  # bits 0, 1, 2 of the index are the top bits of red, green, blue; bits 3, 4, 5 the next ones
        for channel in range(3):
            colours[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return np.concatenate([[_VOC_VOID], colours]).astype(np.uint8)


def from_file(path: Path) -> np.ndarray:
    """A JSON file that holds a list of [red, green, blue], each 0 to 255, for classes 1, 2, ...; unlabelled is black.
    Or an object with such a list as "colours", and what else it has to say.

    Raises:
        ValueError: no such file, not such a list, or a colour twice (black is taken).
    """
    try:
        colours = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"palette {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"palette {path}: broken JSON: {error}") from None
    if isinstance(colours, dict):
        colours = colours.get("colours")
    if not isinstance(colours, list) or not colours:
        raise ValueError(f"palette {path}: expected a list of [red, green, blue], one for each class")
    known = {_BLACK: "unlabelled"}
    for number, colour in enumerate(colours, start=1):
        whole = isinstance(colour, list) and len(colour) == 3 and all(type(x) is int and 0 <= x <= 255 for x in colour)
        if not whole:
            raise ValueError(
                f"palette {path}: colour {number} is {json.dumps(colour)[:40]}; "
                "expected [red, green, blue], whole numbers from 0 to 255"
            )
        if (r_g_b := tuple(colour)) in known:
            raise ValueError(f"palette {path}: colour {number}, {colour}, is that of {known[r_g_b]} already")
        known[r_g_b] = f"class {number}"
    return np.array(list(known), dtype=np.uint8)


def _from_hex(digits: str) -> np.ndarray:
    colours = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(-1, 3)
    return np.concatenate([np.array([_BLACK], dtype=np.uint8), colours])
