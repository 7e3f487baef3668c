"""VOCdevkit/VOC2012."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .pictures import picture, save

SHAPE = (12, 24)
LISTS = {"train": ["2007_000032", "2007_000033"], "val": ["2007_000042"], "test": ["2007_000099"]}


def thing(name: str, box: tuple, difficult: int = 0) -> str:
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmax", "xmin", "ymin", "ymax"), box))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox>{part}</object>"


def xml(*things: str, shape: tuple[int, int] = SHAPE) -> str:
    size = f"<size><width>{shape[1]}</width><height>{shape[0]}</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC2012</folder>{size}{''.join(things)}</annotation>"


THINGS = (thing("dog", (24, 1, 1, 12)), thing("aeroplane", (3.5, 2.5, 4, 6), 1), thing("tvmonitor", (30, 20, 2, 3)))


def classes() -> np.ndarray:
    ids = np.arange(288).reshape(SHAPE) % 21
    ids[0] = 255
    return ids


def objects() -> np.ndarray:
    ids = np.arange(288).reshape(SHAPE) % 4
    ids[0] = 255
    return ids


def write(root: Path) -> Path:
    """Photos of all lists, each with three objects and maps with a palette."""
    for split, keys in LISTS.items():
        for lists in ("Segmentation", "Main"):
            path = root / f"ImageSets/{lists}/{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{key}\n" for key in keys))
        for key in keys:
            save(root / f"JPEGImages/{key}.jpg", picture(int(key[-2:]), SHAPE))
            save(root / f"SegmentationClass/{key}.png", classes(), palette=True)
            save(root / f"SegmentationObject/{key}.png", objects(), palette=True)
            (root / "Annotations").mkdir(exist_ok=True)
            (root / f"Annotations/{key}.xml").write_text(xml(*THINGS))
    return root
