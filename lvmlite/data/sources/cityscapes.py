"""Source `cityscapes`: street photos with classes, instances and, where it is there, disparity.

In: leftImg8bit/{train,val}/<city>/<city>_<sequence>_<frame>_leftImg8bit.png, with gtFine/.../..._gtFine_labelIds.png
and ..._gtFine_instanceIds.png, and disparity/.../..._disparity.png. Out: one sample a photo: 2,975 for training, 500
for validation. Paper: Cordts et al., CVPR 2016; encodings: its cityscapesScripts.

The 19 classes of the benchmark are 1..19 here, its "trainId" + 1; all others are 0. An instance id of 1000 and more is
label id * 1000 + a number from 0. Groups of objects with one outline keep their class; in "panoptic" they are
unlabelled, and no instance. A disparity p > 0 is (p - 1) / 256 pixels. The official splits are used as the head of
`published` says; the labels of the test photos are secret, and their dummies in the archive are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size, read_depth, read_ids
from lvmlite.data.sources.published import PublishedConfig, find_root
from lvmlite.images import Unreadable, decode

LICENCE = "Cityscapes terms: non-commercial use only, no redistribution; cite the data set"
CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of CLASSES
MAX_LABEL, PLATE = 33, 255  # label ids run to 33; -1, a number plate, is 255 where it is written at all
FIRST_THING = 12  # class id of "person": it and those after it come as instances
MAX_NUMBER = 998  # of an instance, from 0; ours count from 1 to 999
PHOTO, LABELS, INSTANCES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


@dataclass(frozen=True)
class CityscapesConfig(PublishedConfig):
    """Settings of `Cityscapes`, beside those of `PublishedConfig`.

    disparity: give "disparity"; default: if its folder is there.
    """

    source: Literal["cityscapes"] = "cityscapes"
    name: str = "cityscapes"
    disparity: bool | None = None


class Cityscapes(Listed):
    """Samples of `CityscapesConfig`. Nothing is drawn: `seed` is there because every source takes one.

    Attributes:
        class_names: of class ids 1..19.
    """

    class_names = CLASSES

    def __init__(self, config: CityscapesConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if `config.path` is not laid out as published."""
        self.config, self.seed = config, seed
        self.files = files = find_files(config.path, (".png",), "Cityscapes photos and maps")
        insides = [f"leftImg8bit/{split}/" for split in ("train", "val")]
        root = find_root(files, insides, f"leftImg8bit/train/<city>/*{PHOTO} and gtFine/train/<city>/*{LABELS}")
        disparity = config.disparity
        if disparity is None:
            disparity = any(name.startswith(f"{root}disparity/") for name in files.names)
        self.annotations = ("classes", "instances", "panoptic", *(["disparity"] if disparity else []))
        entries, rejects = [], [*files.rejects]
        for split in ("train", "val"):
            folder = f"{root}leftImg8bit/{split}/"
            for name in files.names:
                if not name.startswith(folder) or not name.endswith(PHOTO):
                    continue
                stem = name.removeprefix(folder).removesuffix(PHOTO)  # "aachen/aachen_000000_000019"
                truth = f"{root}gtFine/{split}/{stem}"
                partners = {"labels": f"{truth}{LABELS}", "instances": f"{truth}{INSTANCES}"}
                if disparity:
                    partners["disparity"] = f"{root}disparity/{split}/{stem}_disparity.png"
                key, group = f"{split}/{stem}", stem.rpartition("/")[2].rpartition("_")[0]
                missing = [what for what, partner in partners.items() if partner not in files]
                if missing:
                    rejects.append(Reject(key, f"{missing[0]}: file is missing"))
                    continue
                entries.append(Entry(key, group, config.split(split, group), None, (name, *partners.values())))
            rejects += self._lonely(root, split)
        super().__init__(config.name, LICENCE, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def _lonely(self, root: str, split: str) -> list[Reject]:
        """Maps of labels without a photo."""
        folder, photos = f"{root}gtFine/{split}/", f"{root}leftImg8bit/{split}/"
        stems = [
            name.removeprefix(folder).removesuffix(LABELS)
            for name in self.files.names
            if name.startswith(folder) and name.endswith(LABELS)
        ]
        return [Reject(f"{split}/{s}", "photo is missing") for s in stems if f"{photos}{s}{PHOTO}" not in self.files]

    def read(self, entry: Entry, t: int) -> dict[str, Any]:
        photo, labels, instances, *disparity = entry.payload
        frame: dict[str, Any] = {"image": decode(self.files.open(photo))}
        frame["classes"] = _classes(read_ids(self.files.read(labels)))
        frame["instances"], frame["panoptic"] = _objects(read_ids(self.files.read(instances)))
        for name in disparity:
            stored = read_depth(self.files.read(name), 1)
            frame["disparity"] = np.where(stored > 0, (stored - 1) / 256, 0).astype(np.float32)
        for name, annotation in frame.items():
            check_size(annotation, frame["image"], name)
        return frame


def _classes(labels: np.ndarray) -> np.ndarray:
    """Label ids (H, W) -> class ids, uint8. Raises Unreadable."""
    if ((labels > MAX_LABEL) & (labels != PLATE)).any():
        raise Unreadable("map with unknown ids")
    table = np.zeros(256, np.uint8)
    table[list(LABEL_IDS)] = np.arange(1, len(LABEL_IDS) + 1)
    return table[labels]


def _objects(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Instance ids (H, W) -> instances 1, 2, ... by id, uint16; panoptic ids, int32. Raises Unreadable."""
    found, where = np.unique(ids, return_inverse=True)
    found = found.astype(np.int64)
    single, number = found >= 1000, found % 1000
    classes = _classes(np.where(single, found // 1000, found)).astype(np.int64)
    thing = classes >= FIRST_THING
    if (single & thing & (number > MAX_NUMBER)).any():
        raise Unreadable("more objects of a class than can be numbered")
    objects = single & thing
    panoptic = np.where(objects, classes * 1000 + number + 1, np.where(thing, 0, classes * 1000))
    instances = np.where(objects, np.cumsum(objects), 0)
    where = where.reshape(ids.shape)
    return instances.astype(np.uint16)[where], panoptic.astype(np.int32)[where]
