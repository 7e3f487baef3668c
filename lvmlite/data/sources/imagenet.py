"""Source `imagenet`: ImageNet-1K and Tiny-ImageNet in the layouts they are given out in, as samples of 1 x {image}.

In: a folder, a tar or a zip. Out: one sample a photo, its category the WordNet id of its class. Layouts, around which
any folders may stand (ILSVRC/Data/CLS-LOC/ of Kaggle, tiny-imagenet-200/):

- train/<wnid>/*.JPEG; Tiny-ImageNet has train/<wnid>/images/*.JPEG and <wnid>_boxes.txt beside "images".
- val/<wnid>/*.JPEG; or flat, val/ILSVRC2012_val_*.JPEG with LOC_val_solution.csv (columns ImageId, PredictionString =
  wnid and boxes) or val/images/*.JPEG with val/val_annotations.txt (file, wnid, x0, y0, x1, y1; tabs between them).
- test/*.JPEG or test/images/*.JPEG: no labels are given out, so the category is None.
- boxes.csv (file, x0, y0, x1, y1) at the root holds boxes of all files, by path, in a repacked Tiny-ImageNet.

The devkit's ILSVRC2012_validation_ground_truth.txt is not read: its numbers mean nothing without a MATLAB file.
Boxes are pixels with both ends inclusive, as Tiny-ImageNet states them; those of ImageNet-1K are not read.
Data sets: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015; Tiny ImageNet Visual
Recognition Challenge, Stanford CS 231N, 2015 (200 classes of 500 train and 50 val photos, 64 x 64).
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject, chosen_of
from lvmlite.data.sources.files import SPLIT_FOLDERS, Files, find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.published import PublishedConfig
from lvmlite.images import Unreadable, decode, shrink
from lvmlite.recipe import Range

SUFFIXES = (".jpeg", ".jpg", ".png")
LISTS = (".txt", ".csv")
VAL_LABELS = ("LOC_val_solution.csv", "val_annotations.txt")
WNID = re.compile(r"n\d{8}")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ImageNetConfig(PublishedConfig):
    """Settings of `ImageNet`: those of every published data set, and

    boxes: read the boxes of Tiny-ImageNet, too. Class ids are 1, 2, ... for the wnids in sorted order.
    max_per_class: at most so many photos of each class in train, in val and in test, by a hash of the name.
    max_side: a photo whose short side is longer is reduced to it when read.
    """

    source: Literal["imagenet"] = "imagenet"
    name: str = "imagenet"
    boxes: bool = False
    max_per_class: Annotated[int, Range(1)] | None = None
    max_side: Annotated[int, Range(1)] = 1024


class ImageNet(Listed):
    """Samples of `ImageNetConfig`. With boxes, a photo for which none is stated has no "boxes".

    Attributes:
        classes: the wnids found, sorted; class id i of "boxes" is `classes[i - 1]`.

    Raises:
        ValueError: nothing there in a layout known, or boxes asked for where there are none.
    """

    def __init__(self, config: ImageNetConfig, seed: int = 0) -> None:
        self.config = config
        self._files = find_files(config.path, (*SUFFIXES, *LISTS), "ImageNet photos")
        photos = [name for name in self._files.names if name.lower().endswith(SUFFIXES)]
        lists = [name for name in self._files.names if name.lower().endswith(LISTS)]
        rejects = list(self._files.rejects)
        labels = Labels(self._files, lists, rejects)
        placed: dict[str, tuple[str, str | None]] = {}
        for name in photos:
            place = place_of(name, labels)
            if isinstance(place, Reject):
                rejects.append(place)
            else:
                placed[name] = place
        if not placed:
            first = f"{rejects[-1].key}: {rejects[-1].reason}"
            raise ValueError(f"{config.path}: no ImageNet photos ({first}); give the folder around train, val and test")
        self.classes = tuple(sorted({wnid for _, wnid in placed.values() if wnid is not None}))
        boxes = read_boxes(self._files, lists, labels, rejects) if config.boxes else {}
        if config.boxes and not boxes:
            raise ValueError(f"{config.path}: no boxes of Tiny-ImageNet here; set boxes: false")
        kept = _capped(placed, config.max_per_class)
        super().__init__(
            config.name,
            "ImageNet terms of access: non-commercial research and education",
            (Entry(name, name, config.split(part, name), wnid, boxes.get(name)) for name, (part, wnid) in kept.items()),
            rejects,
            config.part_size,
        )
        self.shorten(config.max_samples)
        self.annotations = ("boxes",) if config.boxes else ()

    def read(self, entry: Entry, t: int) -> dict[str, Any]:
        side = self.config.max_side
        data = self._files.open(entry.key)
        if entry.payload is None:
            return {"image": shrink(decode(data, min_size=(side, side)), side)}
        photo = decode(data)
        (height, width), (x0, y0, x1, y1) = photo.shape[:2], entry.payload
        if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
            raise Unreadable("box outside of the photo")
        image = shrink(photo, side)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        assert entry.category is not None
        row = [*(np.array([x0, y0, x1 + 1, y1 + 1]) * scale), self.classes.index(entry.category) + 1, 1]
        return {"image": image, "boxes": np.array([row], np.float32)}


class Labels:
    """What the lists say of val photos that lie in no class folder.

    Attributes:
        found: there was a list.
        wnids: stem of the file -> wnid.
        boxes: file -> its box, where the list is Tiny-ImageNet's.
    """

    def __init__(self, files: Files, lists: Sequence[str], rejects: list[Reject]) -> None:
        self.found = False
        self.wnids: dict[str, str] = {}
        self.boxes: dict[str, Box] = {}
        for name in lists:
            if posixpath.basename(name) not in VAL_LABELS:
                continue
            self.found = True
            for file, *rest in _rows(files, name, rejects, header="ImageId"):
                if not rest or not WNID.fullmatch(rest[0].split(" ")[0]):
                    rejects.append(Reject(name, "malformed line"))
                    continue
                self.wnids[posixpath.splitext(file)[0]] = rest[0].split(" ")[0]
                if (box := _box(rest[1:])) is not None:
                    self.boxes[file] = box


def place_of(name: str, labels: Labels) -> tuple[str, str | None] | Reject:
    """The official split and the wnid that a photo's path and the lists give."""
    *folders, file = name.split("/")
    at = next((i for i, folder in enumerate(folders) if folder in SPLIT_FOLDERS), None)
    named = re.match(r"ILSVRC2012_(val|test)_\d+\.", file)
    if at is not None:
        part, inner = SPLIT_FOLDERS[folders[at]], [folder for folder in folders[at + 1 :] if folder != "images"]
    elif named:
        part, inner = named[1], []
    else:
        return Reject(name, "outside of train, val and test")
    if inner:
        return (part, inner[-1]) if WNID.fullmatch(inner[-1]) else Reject(name, "folder is not a WordNet id")
    if part == "train":
        return Reject(name, "a train photo in no class folder")
    if part == "test":
        return part, None
    wnid = labels.wnids.get(posixpath.splitext(file)[0])
    return (part, wnid) if wnid else Reject(name, "no label in the list" if labels.found else "no list of val labels")


def read_boxes(files: Files, lists: Sequence[str], labels: Labels, rejects: list[Reject]) -> dict[str, Box]:
    """The boxes of all photos, by name."""
    boxes: dict[str, Box] = {}
    for name in lists:
        folder, file = posixpath.split(name)
        if file == "val_annotations.txt":
            found = {posixpath.join(folder, "images", photo): box for photo, box in labels.boxes.items()}
            boxes.update(found)
            continue
        if file == "boxes.csv":
            root = folder
        elif file.endswith("_boxes.txt") and WNID.fullmatch(file.removesuffix("_boxes.txt")):
            root = posixpath.join(folder, "images")
        else:
            continue
        for photo, *numbers in _rows(files, name, rejects, header="file"):
            box = _box(numbers)
            if box is None:
                rejects.append(Reject(name, "malformed line"))
            else:
                boxes[posixpath.join(root, photo)] = box
    return boxes


def _rows(files: Files, name: str, rejects: list[Reject], header: str) -> Iterator[list[str]]:
    """The fields of each line, but for empty ones and one that opens with `header`; commas or tabs between them."""
    try:
        text = files.read(name).decode("utf-8", "replace")
    except Unreadable as error:
        rejects.append(Reject(name, error.reason))
        return
    for line in text.splitlines():
        fields = [field.strip() for field in re.split(r"[,\t]", line)]
        if line.strip() and fields[0] != header:
            yield fields


def _box(numbers: Sequence[str]) -> Box | None:
    """("0", "10", "63", "58") -> (0, 10, 63, 58), or None if they are not four numbers."""
    if len(numbers) != 4 or not all(re.fullmatch(r"\d{1,6}", number) for number in numbers):
        return None
    x0, y0, x1, y1 = map(int, numbers)
    return x0, y0, x1, y1


def _capped(placed: dict[str, tuple[str, str | None]], most: int | None) -> dict[str, tuple[str, str | None]]:
    """At most so many photos of each split and class, in the order they had."""
    if most is None:
        return placed
    classes = defaultdict(list)
    for name, place in placed.items():
        classes[place].append(name)
    kept = {name for names in classes.values() for name in chosen_of(names, most)}
    return {name: place for name, place in placed.items() if name in kept}
