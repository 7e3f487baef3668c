"""Source `ade20k`: photos with maps of 150 classes, as the scene parsing benchmark publishes ADE20K.

In: ADEChallengeData2016: images/{training,validation}/*.jpg and annotations/{training,validation}/*.png, whose grey is
the class, 0 = other; sceneCategories.txt and objectInfo150.txt where they are there. Out: one sample a photo, with
"classes" 1..150 as stored; the scene is its category. 20,210 photos for training, 2,000 for validation. Paper: Zhou et
al., CVPR 2017. The official splits are used as the head of `published` says; the test photos have no public labels.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size, read_ids
from lvmlite.data.sources.published import PublishedConfig, find_root, read_lines
from lvmlite.images import Unreadable, decode

LICENCE = "ADE20K terms of use: annotations BSD-3-Clause; photos for research and education only"
N_CLASSES = 150
FOLDERS = {"training": "train", "validation": "val"}


@dataclass(frozen=True)
class Ade20kConfig(PublishedConfig):
    """Settings of `Ade20k`: those of `PublishedConfig`."""

    source: Literal["ade20k"] = "ade20k"
    name: str = "ade20k"


class Ade20k(Listed):
    """Samples of `Ade20kConfig`. Nothing is drawn: `seed` is there because every source takes one.

    Attributes:
        class_names: of class ids 1..150, first synonyms; empty without objectInfo150.txt.
    """

    annotations = ("classes",)

    def __init__(self, config: Ade20kConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if `config.path` is not laid out as published."""
        self.config, self.seed = config, seed
        self.files = files = find_files(config.path, (".jpg", ".png", ".txt"), "ADE20K photos and maps")
        insides = [f"images/{folder}/" for folder in FOLDERS]
        root = find_root(files, insides, "images/training/*.jpg and annotations/training/*.png (ADEChallengeData2016)")
        scenes = dict(_two(line) for line in read_lines(files, f"{root}sceneCategories.txt"))
        table = [line.split("\t") for line in read_lines(files, f"{root}objectInfo150.txt")]
        self.class_names = tuple(row[-1].split(",")[0].strip() for row in table if row[0].strip().isdigit())
        if self.class_names and len(self.class_names) != N_CLASSES:
            raise ValueError(
                f"{files.path}: {root}objectInfo150.txt: expected 150 classes, {len(self.class_names)} found"
            )
        entries, rejects = [], [*files.rejects]
        for folder, official in FOLDERS.items():
            images, maps = f"{root}images/{folder}/", f"{root}annotations/{folder}/"
            for name in files.names:
                stem, suffix = posixpath.splitext(name)
                if name.startswith(images) and suffix == ".jpg":
                    key, partner = name.removeprefix(root), f"{maps}{stem.removeprefix(images)}.png"
                    if partner in files:
                        split, scene = config.split(official, key), scenes.get(posixpath.basename(stem))
                        entries.append(Entry(key, key, split, scene, (name, partner)))
                    else:
                        rejects.append(Reject(key, "map is missing"))
                elif name.startswith(maps) and f"{images}{stem.removeprefix(maps)}.jpg" not in files:
                    rejects.append(Reject(name.removeprefix(root), "photo is missing"))
        super().__init__(config.name, LICENCE, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def read(self, entry: Entry, t: int) -> dict[str, Any]:
        photo, partner = entry.payload
        image, classes = decode(self.files.open(photo)), read_ids(self.files.read(partner))
        check_size(classes, image, "map")
        if classes.max() > N_CLASSES:
            raise Unreadable("map with unknown ids")
        return {"image": image, "classes": classes.astype(np.uint8)}


def _two(line: str) -> tuple[str, str]:
    """The first two words of a line, "" where there is none."""
    first, _, second = line.partition(" ")
    return first, second.strip()
