"""Source `voc`: photos with classes, instances and boxes, as PASCAL VOC publishes them.

In: VOCdevkit/VOC2012 or VOC2007: JPEGImages/*.jpg, lists in ImageSets/{Segmentation,Main}/{train,val}.txt, index PNGs
in SegmentationClass/ and SegmentationObject/, boxes in Annotations/*.xml. Out: one sample a photo of the lists. Papers:
Everingham et al., IJCV 2010; the augmented list and maps: Hariharan et al., ICCV 2011 (SBD), as SegmentationClassAug/.

Class ids are the stored index + 1: background is 1, "aeroplane" 2, ..., "tvmonitor" 21; the border that is left open,
255, is 0. Boxes have the same ids, and as number their place among the objects of their file. VOC counts pixels from
1, and its boxes hold their last pixel: x0 = xmin - 1, x1 = xmax. The official splits are used as the head of
`published` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import Files, find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size, read_ids
from lvmlite.data.sources.published import PublishedConfig, clip_box, read_lines, read_xml, roots
from lvmlite.images import Unreadable, decode

LICENCE = "PASCAL VOC: photos under the Flickr terms of use; for research"
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BORDER = 255


@dataclass(frozen=True)
class VocConfig(PublishedConfig):
    """Settings of `Voc`, beside those of `PublishedConfig`.

    year: of two releases in one folder, which.
    lists: "segmentation": photos with "classes", "instances" and "boxes". "main": the larger lists, "boxes" only.
    augmented: ImageSets/Segmentation/trainaug.txt and SegmentationClassAug/ (SBD): 10,582 photos for training instead
        of 1,464, without "instances".
    test_list: read the official test too, whose labels are public for VOC2007; the validation set then stays "val".
    difficult: keep boxes marked so.
    """

    source: Literal["voc"] = "voc"
    name: str = "voc"
    year: Literal[2012, 2007] = 2012
    lists: Literal["segmentation", "main"] = "segmentation"
    augmented: bool = False
    test_list: bool = False
    difficult: bool = True

    def __post_init__(self) -> None:
        if self.augmented and self.lists == "main":
            raise ValueError("augmented: the maps of SBD go with lists: segmentation")


class Voc(Listed):
    """Samples of `VocConfig`. Nothing is drawn: `seed` is there because every source takes one.

    Attributes:
        class_names: of class ids 1..21.
    """

    class_names = CLASSES

    def __init__(self, config: VocConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if `config.path` is not laid out as published."""
        self.config, self.seed = config, seed
        self.files = find_files(config.path, (".jpg", ".png", ".xml", ".txt"), "VOC photos and annotations")
        self.lists = f"ImageSets/{config.lists.capitalize()}/"
        self.root = _root(self.files, self.lists, config.year)
        self.annotations = ("boxes",)
        if config.lists == "segmentation":
            self.annotations = ("classes", "boxes") if config.augmented else ("classes", "instances", "boxes")
        rejects = [*self.files.rejects]
        splits = ("train", "val", "test") if config.test_list else ("train", "val")
        entries = [entry for split in splits for entry in self._entries(split, rejects)]
        super().__init__(config.name, LICENCE, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def _entries(self, official: str, rejects: list[Reject]) -> Iterator[Entry]:
        """Entries of an official split, in the order of its list."""
        config, augmented = self.config, self.config.augmented and official == "train"
        name = f"{self.root}{self.lists}{official}{'aug' if augmented else ''}.txt"
        if name not in self.files:
            raise ValueError(f"{self.files.path}: no file '{name}', the list of the official {official} split")
        for line in read_lines(self.files, name):
            key = line.split()[0]
            partners = self._partners(key, augmented)
            missing = [what for what, partner in partners.items() if partner not in self.files]
            if missing:
                rejects.append(Reject(key, f"{missing[0]}: file is missing"))
                continue
            split = "val" if official == "val" and config.test_list else config.split(official, key)
            yield Entry(key, key, split, None, tuple(partners.items()))

    def _partners(self, key: str, augmented: bool) -> dict[str, str]:
        """What a photo has -> name of its file."""
        partners = {"image": f"{self.root}JPEGImages/{key}.jpg"}
        if "classes" in self.annotations:
            partners["classes"] = f"{self.root}SegmentationClass{'Aug' if augmented else ''}/{key}.png"
        if "instances" in self.annotations:
            partners["instances"] = f"{self.root}SegmentationObject/{key}.png"
        return {**partners, "boxes": f"{self.root}Annotations/{key}.xml"}

    def read(self, entry: Entry, t: int) -> dict[str, Any]:
        partners = dict(entry.payload)
        frame: dict[str, Any] = {"image": decode(self.files.open(partners["image"]))}
        image = frame["image"]
        if "classes" in partners:
            stored = read_ids(self.files.read(partners["classes"]))
            check_size(stored, image, "classes")
            if ((stored >= len(CLASSES)) & (stored != BORDER)).any():
                raise Unreadable("map with unknown ids")
            frame["classes"] = np.where(stored == BORDER, 0, stored + 1).astype(np.uint8)
        if "instances" in partners:
            stored = read_ids(self.files.read(partners["instances"]))
            check_size(stored, image, "instances")
            frame["instances"] = np.where(stored == BORDER, 0, stored).astype(np.uint16)
        root = read_xml(self.files, partners["boxes"])
        return {**frame, "boxes": boxes_of(root, image.shape[:2], self.config.difficult)}


def boxes_of(root: Element, shape: tuple[int, int], difficult: bool) -> np.ndarray:
    """The boxes of an annotation, (N, 6) float32, in an image (H, W). Raises Unreadable."""
    size = root.find("size")
    if size is not None and [_number(size, "height"), _number(size, "width")] != list(shape):
        raise Unreadable("photo of another size than listed")
    boxes = []
    for i, found in enumerate(root.findall("object")):
        box, name = found.find("bndbox"), (found.findtext("name") or "").strip()
        if name not in CLASSES[1:]:
            raise Unreadable("an unknown class")
        if box is None:
            raise Unreadable("an object without a box")
        if not difficult and (found.findtext("difficult") or "").strip() == "1":
            continue
        x0, y0, x1, y1 = (_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        corners = clip_box((x0 - 1, y0 - 1, x1, y1), shape)
        boxes.append([*corners, CLASSES.index(name) + 1, i + 1])
    return np.array(boxes, np.float32).reshape(-1, 6)


def _number(element: Element, name: str) -> float:
    """The number a child holds. Raises Unreadable."""
    try:
        return float(element.findtext(name) or "")
    except ValueError as error:
        raise Unreadable("an annotation without its numbers") from error


def _root(files: Files, lists: str, year: int) -> str:
    """Where the release begins, "" or "a/VOC2012/". Raises ValueError: nowhere, or in several places."""
    found = roots(files.names, lists)
    of_year = [root for root in found if root.endswith(f"VOC{year}/")]
    if len(found) > 1 and len(of_year) != 1:
        raise ValueError(f"{files.path}: {len(found)} folders hold {lists}; give the path of one, {found[-1]} say")
    if not found:
        raise ValueError(
            f"{files.path}: not laid out as the data set is published; expected {lists}train.txt and JPEGImages/"
        )
    return (of_year or found)[0]
