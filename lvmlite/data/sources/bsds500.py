"""Source `bsds500`: photos whose boundaries several people drew, as 1 x {image, boundaries, instances}.

In: the Berkeley Segmentation Data Set (https://doi.org/10.1109/TPAMI.2010.161) as published, "BSR" or its part
``data/images/<split>/<id>.jpg`` and ``data/groundTruth/<split>/<id>.mat``: 200 photos to train, 100 to validate, 200 to
test. Out: "boundaries" is the share of annotators (four to nine) who marked a pixel; "instances" are the regions of
the first annotator, numbered from 1; they have no classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size
from lvmlite.data.sources.mat import read_mat
from lvmlite.images import Unreadable, decode
from lvmlite.recipe import Range

PHOTO = re.compile(r"(.*/)?images/(train|val|test)/([^/]+)\.jpg")
OTHER = "not a groundTruth of BSDS500"


@dataclass(frozen=True)
class Bsds500Config:
    """Settings of `Bsds500`. All three official splits are public: each is ours of the same name.

    path: the unpacked data set: a folder, tar or zip. A folder around it is passed over.
    max_samples: at most so many, chosen by a hash of the key.
    part_size: photos a part.
    """

    path: str
    source: Literal["bsds500"] = "bsds500"
    name: str = "bsds500"
    max_samples: Annotated[int, Range(1)] | None = None
    part_size: Annotated[int, Range(1)] = 128


class Bsds500(Listed):
    """Samples of `Bsds500Config`."""

    annotations = ("boundaries", "instances")

    def __init__(self, config: Bsds500Config, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if there is no photo where it should be."""
        self.config = config
        self._files = find_files(config.path, (".jpg", ".mat"), "photos and .mat files of BSDS500")
        entries, rejects, used = [], list(self._files.rejects), set()
        for name in self._files.names:
            if (found := PHOTO.fullmatch(name)) is None:
                continue
            root, split, number = found[1] or "", found[2], found[3]
            key, truth = f"{split}/{number}", f"{root}groundTruth/{split}/{number}.mat"
            used.add(truth)
            if truth in self._files:
                entries.append(Entry(key, number, split, None, (name, truth)))
            else:
                rejects.append(Reject(key, "partner is missing: boundaries"))
        if not used:
            raise ValueError(f"{config.path}: not laid out as the data set is published; no images/train/<id>.jpg")
        if left := sum(name.endswith(".mat") and name not in used for name in self._files.names):
            rejects.append(Reject(".", f"partners without a photo: {left} boundaries"))
        super().__init__(config.name, "BSDS500: non-commercial research", entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        photo, truth = entry.payload
        image = decode(self._files.open(photo))
        boundaries, instances = read_truth(self._files.read(truth))
        check_size(boundaries, image, "boundaries")
        return {"image": image, "boundaries": boundaries, "instances": instances}


def read_truth(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A file of groundTruth: the mean of the boundaries (H, W) float32 in [0, 1], and the first annotator's regions
    (H, W) uint16.

    ``groundTruth`` is a cell array of annotators, each a struct of ``Segmentation`` uint16 and ``Boundaries``.

    Raises:
        Unreadable: "not a groundTruth of BSDS500", "annotators differ in size", or as `mat.read_mat`.
    """
    people = read_mat(data, "groundTruth")
    if not isinstance(people, list) or not people:
        raise Unreadable(OTHER)
    drawn = [_annotator(person) for person in people]
    if len({x.shape for pair in drawn for x in pair}) != 1:
        raise Unreadable("annotators differ in size")
    regions = drawn[0][1]
    if regions.min(initial=0) < 0 or regions.max(initial=0) > 65535:
        raise Unreadable(OTHER)
    marked = np.stack([boundaries > 0 for boundaries, _ in drawn])
    return np.asarray(marked.mean(axis=0), np.float32), regions.astype(np.uint16)


def _annotator(cell: Any) -> tuple[np.ndarray, np.ndarray]:
    """Boundaries and regions (H, W) of one cell, a struct array of one. Raises Unreadable."""
    person = cell[0] if isinstance(cell, list) and len(cell) == 1 else None
    if not isinstance(person, dict):
        raise Unreadable(OTHER)
    boundaries, regions = person.get("Boundaries"), person.get("Segmentation")
    for x in (boundaries, regions):
        if not isinstance(x, np.ndarray) or x.ndim != 2 or not x.size or x.dtype.kind not in "iu":
            raise Unreadable(OTHER)
    return boundaries, regions  # type: ignore[return-value]
