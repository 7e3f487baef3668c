"""The records of COCO's annotation files, gathered by photo: objects, persons, panoptic segments.

In: JSON files in COCO's format, which nobody has checked. Out: a `Draft` for each photo that a file lists; a `Reject`
for each record that belongs to no photo; a `ValueError` of one line for a file of another schema. A record that cannot
be used is a fault of its photo. Used by source `coco`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import Files
from lvmlite.data.sources.outlines import Outline, pack_outline
from lvmlite.data.sources.published import clip_box, numbers, of_type, read_json, rows
from lvmlite.images import Unreadable

N_JOINTS = 17
MAX_OBJECTS = 999  # of one class in one photo: class id * 1000 + number
CROWD = -1  # the number of a crowd region
NO_OUTLINE: Outline = ()  # not asked for


@dataclass(frozen=True)
class Arrangement:
    """Where the files of one official split lie; `official` is None where there is none."""

    official: str | None
    files: Mapping[str, str]  # "instances", "keypoints", "panoptic" -> name of the JSON; those that are there
    images: str
    masks: str


@dataclass
class Draft:
    """A photo while annotation files are read. None: no file has listed it; `fault`: why it is rejected."""

    file_name: str
    shape: tuple[int, int]
    objects: list[tuple[float, int, bytes, Outline]] | None = None  # area, class id, box, outline
    persons: list[tuple[float, np.ndarray]] | None = None  # area, (17, 3)
    mask: str | None = None
    segments: bytes | None = None
    fault: str | None = None


class Reader:
    """Reads annotation files into drafts; collects rejects of records that belong to no photo.

    Args:
        annotations: what is asked for: records are checked for no more.
        sources: "instances", "keypoints", "panoptic": the files to read.
        outlines: whether objects' outlines are needed.
    """

    def __init__(self, files: Files, annotations: Sequence[str], sources: set[str], outlines: bool) -> None:
        self.files, self.annotations, self.sources, self.outlines = files, annotations, sources, outlines
        self.rejects: list[Reject] = []
        self.categories: dict[str, list[tuple[int, str, bool]]] = {}  # id, name, is a thing; by id

    def class_names(self, kind: str) -> tuple[str, ...]:
        return tuple(name for _, name, _ in self.categories.get(kind, ()))

    def read(self, arrangement: Arrangement) -> dict[int, Draft]:
        """Photo id -> draft. Raises ValueError: a file is not of COCO's format."""
        drafts: dict[int, Draft] = {}
        for kind, name in arrangement.files.items():
            if kind in self.sources:
                self._read_file(kind, name, drafts)
        return drafts

    def _read_file(self, kind: str, name: str, drafts: dict[int, Draft]) -> None:
        document, where = read_json(self.files, name), f"{self.files.path}: {name}"
        listed = {}
        for row in rows(document, "images", {"id": int, "file_name": str, "height": int, "width": int}, where):
            draft = drafts.setdefault(row["id"], Draft(row["file_name"], (row["height"], row["width"])))
            if draft.file_name != row["file_name"]:
                two = f"{draft.file_name!r:.60}, {row['file_name']!r:.60}"
                raise ValueError(f"{where}: photo id {row['id']} is two files, {two}")
            listed[row["id"]] = draft
            if kind == "instances":
                draft.objects = draft.objects or []
            elif kind == "keypoints":
                draft.persons = draft.persons or []
        categories = [
            (row["id"], row["name"], bool(row.get("isthing", 1)))
            for row in rows(document, "categories", {"id": int, "name": str}, where)
        ]
        categories.sort()
        if self.categories.setdefault(kind, categories) != categories:
            raise ValueError(f"{where}: categories differ from those of the other split")
        add = {"instances": self._object, "keypoints": self._person, "panoptic": self._segments}[kind]
        classes = {number: (i + 1, thing) for i, (number, _, thing) in enumerate(categories)}
        if len(classes) < len(categories):
            raise ValueError(f"{where}: categories: an id is there twice; give each its own")
        for i, row in enumerate(of_type(document.get("annotations"), list, f"{where}: annotations")):
            number = row.get("image_id") if isinstance(row, dict) else None
            if type(number) is not int or number not in listed:
                reason = "an annotation without image_id" if type(number) is not int else "an annotation of no photo"
                self.rejects.append(Reject(f"{name}#annotations[{i}]", reason))
                continue
            try:
                add(listed[number], row, classes)
            except Unreadable as error:
                listed[number].fault = listed[number].fault or error.reason

    def _object(self, draft: Draft, row: dict[str, Any], classes: Mapping[Any, tuple[int, bool]]) -> None:
        """An object of "instances". Raises Unreadable."""
        if row.get("iscrowd", 0):
            return
        class_id, _ = class_of(row, classes)
        box, outline = b"", NO_OUTLINE
        if "boxes" in self.annotations:
            bbox = numbers(row.get("bbox"))
            if bbox is None or len(bbox) != 4:
                raise Unreadable("an annotation without a bbox of 4 numbers")
            x, y, width, height = bbox.tolist()
            box = clip_box((x, y, x + width, y + height), draft.shape).tobytes()
        if self.outlines:
            outline = pack_outline(row.get("segmentation"), draft.shape)
        assert draft.objects is not None
        draft.objects.append((area_of(row), class_id, box, outline))

    def _person(self, draft: Draft, row: dict[str, Any], classes: Mapping[Any, tuple[int, bool]]) -> None:
        """A person of "keypoints", unless none of its joints is labelled. Raises Unreadable."""
        if row.get("iscrowd", 0):
            return
        joints = numbers(row.get("keypoints"))
        if joints is None or len(joints) != 3 * N_JOINTS:
            raise Unreadable("an annotation without keypoints of 17 x 3 numbers")
        joints = joints.reshape(N_JOINTS, 3)
        if not np.isin(joints[:, 2], (0, 1, 2)).all():
            raise Unreadable("a keypoint's visibility is not 0, 1 or 2")
        joints[joints[:, 2] == 0] = 0
        size = np.array(draft.shape[::-1])
        if (joints[:, :2] < -size).any() or (joints[:, :2] > 2 * size).any():  # a little outside may be truth
            raise Unreadable("a keypoint outside its image")
        if joints[:, 2].any():
            assert draft.persons is not None
            draft.persons.append((area_of(row), joints.astype(np.float32)))

    def _segments(self, draft: Draft, row: dict[str, Any], classes: Mapping[Any, tuple[int, bool]]) -> None:
        """The panoptic map of a photo; objects of a class are numbered as listed. Raises Unreadable."""
        mask, segments = row.get("file_name"), row.get("segments_info")
        if not isinstance(mask, str) or not isinstance(segments, list):
            raise Unreadable("a panoptic annotation without file_name or segments_info")
        packed: list[tuple[int, int, int]] = []
        count: Counter[int] = Counter()
        for segment in segments:
            number = segment.get("id") if isinstance(segment, dict) else None
            if type(number) is not int or not 0 < number < 2**24:
                raise Unreadable("a segment without an id that a colour can write")
            class_id, thing = class_of(segment, classes)
            if thing and segment.get("iscrowd", 0):
                packed.append((number, class_id, CROWD))
            else:
                count[class_id] += thing
                packed.append((number, class_id, count[class_id]))
        if max(count.values(), default=0) > MAX_OBJECTS:
            raise Unreadable("more objects of a class than can be numbered")
        draft.mask, draft.segments = mask, np.array(packed, np.int32).tobytes()


def class_of(row: Mapping[str, Any], classes: Mapping[Any, tuple[int, bool]]) -> tuple[int, bool]:
    """Class id of a record, and whether it is a thing. Raises Unreadable."""
    category = row.get("category_id")
    if type(category) is not int or category not in classes:
        raise Unreadable("an unknown category_id")
    return classes[category]


def area_of(row: Mapping[str, Any]) -> float:
    """The area a record states, else that of its box: only decides the order."""
    area, bbox = numbers([row.get("area")]), numbers(row.get("bbox"))
    if area is not None:
        return float(area[0])
    return float(bbox[2]) * float(bbox[3]) if bbox is not None and len(bbox) == 4 else 0.0
