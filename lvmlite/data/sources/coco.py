"""Source `coco`: photos with boxes, outlines, panoptic maps and joints, as COCO publishes them.

In: annotations/{instances,person_keypoints,panoptic}_{train,val}2017.json, {train,val}2017/*.jpg and
annotations/panoptic_{train,val}2017/*.png, or files of these formats by other names. Each annotation file is optional.
Out: one sample a photo, with the annotations of the files that list it: a photo that a file lists without objects has
boxes of shape (0, 6), and pose of shape (0, 17, 3). Papers: Lin et al., ECCV 2014 (objects, joints); Kirillov et al.,
CVPR 2019 (panoptic maps). Formats: cocodataset.org/#format-data.

Class ids count the category ids of a file from 1, in their order: 1..80 for objects, 1..133 for panoptic maps, whose
first 80 are those of the objects. Crowd regions, where many objects have one outline, are left out; in "panoptic" they
are unlabelled, in "classes" they have their class if it is made of the panoptic map. Where objects overlap, the smaller
is in front. The official splits are used as the head of `published` says; files by other names are split by a hash of
the photo's id. A bad record of one photo rejects that photo; a file of another schema is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.coco_records import N_JOINTS, Arrangement, Draft, Reader
from lvmlite.data.sources.files import Files, find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size, read_rgb_ids
from lvmlite.data.sources.outlines import Outline, coco_masks, fill_outline
from lvmlite.data.sources.published import PublishedConfig, find_root
from lvmlite.images import Unreadable, decode
from lvmlite.recipe import Range
from lvmlite.sample import split_of

LICENCE = "annotations CC BY 4.0 (COCO Consortium); photos under their authors' Flickr licences, listed in the JSON"
SUFFIXES = (".jpg", ".jpeg", ".png", ".json")
NEEDS = {
    **{"boxes": ("instances",), "instances": ("instances",), "classes": ("panoptic", "instances")},
    **{"panoptic": ("panoptic",), "pose": ("keypoints",)},
}
Annotation = Literal["boxes", "instances", "classes", "panoptic", "pose"]


@dataclass(frozen=True)
class CocoConfig(PublishedConfig):
    """Settings of `Coco`, beside those of `PublishedConfig`.

    year: of the official release; panoptic maps came with 2017.
    annotations: which to give; default: all whose files are there. Files that none of them needs are not read.
    min_keypoints: leave out photos no person of which shows so many labelled joints.
    instances, keypoints, panoptic: annotation files by other names, from the root. One of them turns the official
        names off; there are no official splits then.
    images, panoptic_masks: the folders of the photos and the panoptic PNGs that go with them; "" is the root.
    test: share of photos held out as "test", beside `val`, where files have other names.
    """

    source: Literal["coco"] = "coco"
    name: str = "coco"
    year: Literal[2017, 2014] = 2017
    annotations: list[Annotation] | None = None
    min_keypoints: Annotated[int, Range(0, N_JOINTS)] = 0
    instances: str | None = None
    keypoints: str | None = None
    panoptic: str | None = None
    images: str = "images"
    panoptic_masks: str = "panoptic"
    test: Annotated[float, Range(0, 1)] = 0.05

    def __post_init__(self) -> None:
        if self.annotations == []:
            raise ValueError("annotations is empty: name at least one, or leave it out for all")


@dataclass(frozen=True)
class Photo:
    """What `Coco.read` needs of one photo. Arrays are kept as bytes: COCO has 118,000 photos.

    Attributes:
        shape: (H, W) as the annotation file says.
        classes: (N,) uint16 of the objects, largest first; boxes (N, 4) float32; `outlines` as `pack_outline` gives.
        pose: (M, 17, 3) float32.
        segments: (S, 3) int32 id in the PNG, class id, number; `mask` names the PNG.
    """

    image: str
    shape: tuple[int, int]
    classes: bytes | None
    boxes: bytes | None
    outlines: tuple[Outline, ...] | None
    pose: bytes | None
    mask: str | None
    segments: bytes | None


class Coco(Listed):
    """Samples of `CocoConfig`. Nothing is drawn: `seed` is there because every source takes one.

    Attributes:
        class_names: of class ids 1, 2, ...
    """

    def __init__(self, config: CocoConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if files are missing or are not of COCO's format."""
        self.config, self.seed = config, seed
        self.files = find_files(config.path, SUFFIXES, "COCO photos and annotations")
        self.root, arrangements = arrange(self.files, config)
        there = {kind for arrangement in arrangements for kind in arrangement.files}
        self.annotations = choose(config, there)
        sources = {next(kind for kind in NEEDS[name] if kind in there) for name in self.annotations}
        if config.min_keypoints and "keypoints" not in sources:
            raise ValueError(f"{config.path}: min_keypoints needs 'pose' among the annotations, and its file")
        self.paints = "classes" in self.annotations and "panoptic" not in sources
        self.outlines = self.paints or "instances" in self.annotations
        if self.outlines:
            coco_masks()
        reader = Reader(self.files, self.annotations, sources, self.outlines)
        entries = [entry for arrangement in arrangements for entry in self._entries(reader, arrangement)]
        rejects = [*self.files.rejects, *reader.rejects]
        super().__init__(config.name, LICENCE, entries, rejects, config.part_size)
        self.shorten(config.max_samples)
        self.class_names = reader.class_names("panoptic" if "panoptic" in sources else "instances")

    def _entries(self, reader: Reader, arrangement: Arrangement) -> Iterator[Entry]:
        """Entries of one split, by photo id."""
        config = self.config
        drafts = reader.read(arrangement)
        listed = {f"{arrangement.images}{draft.file_name}" for draft in drafts.values()}
        images = [name for name in self.files.names if name.startswith(arrangement.images)]
        others = sum(not name.endswith((".json", ".png")) and name not in listed for name in images)
        if others:
            folder = arrangement.images.removeprefix(self.root) or "."
            reader.rejects.append(Reject(folder, f"photos that no annotation file lists: {others}"))
        for number, draft in sorted(drafts.items()):
            image = f"{arrangement.images}{draft.file_name}"
            mask = None if draft.mask is None else f"{arrangement.masks}{draft.mask}"
            key, group = image.removeprefix(self.root), f"{number:012d}"
            fault = draft.fault
            if image not in self.files:
                fault = "photo is missing"
            elif mask is not None and mask not in self.files:
                fault = fault or "mask is missing"
            if fault:
                reader.rejects.append(Reject(key, fault))
                continue
            photo = finish(draft, image, mask, self.annotations, self.outlines)
            shown = [int((joints[:, 2] > 0).sum()) for _, joints in draft.persons or ()]
            if max(shown, default=0) < config.min_keypoints:
                continue
            if arrangement.official is None:
                split = split_of(group, config.val, config.test)
            else:
                split = config.split(arrangement.official, group)
            yield Entry(key, group, split, None, photo)

    def read(self, entry: Entry, t: int) -> dict[str, Any]:
        photo: Photo = entry.payload
        image = decode(self.files.open(photo.image))
        if image.shape[:2] != photo.shape:
            raise Unreadable("photo of another size than listed")
        frame: dict[str, Any] = {"image": image}
        if photo.classes is not None:
            classes = np.frombuffer(photo.classes, np.uint16)
            if photo.boxes is not None:
                corners = np.frombuffer(photo.boxes, np.float32).reshape(-1, 4)
                frame["boxes"] = np.column_stack([corners, classes, np.arange(1, len(classes) + 1)]).astype(np.float32)
            if photo.outlines is not None:
                frame |= self._paint(photo.outlines, classes, photo.shape)
        if photo.mask is not None:
            frame |= self._panoptic(photo, image)
        if photo.pose is not None:
            frame["pose"] = np.frombuffer(photo.pose, np.float32).reshape(-1, N_JOINTS, 3).copy()
        return {name: frame[name] for name in ("image", *self.annotations) if name in frame}

    def _paint(self, outlines: Sequence[Outline], classes: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
        """Maps of objects, smaller in front."""
        instances = np.zeros(shape, np.uint16)
        for i, outline in enumerate(outlines):
            instances[fill_outline(outline, shape)] = i + 1
        if not self.paints:
            return {"instances": instances}
        painted = np.concatenate([[0], classes])[instances]
        return {"instances": instances, "classes": painted.astype(id_type(len(self.class_names)))}

    def _panoptic(self, photo: Photo, image: np.ndarray) -> dict[str, np.ndarray]:
        """The panoptic map, and its classes."""
        assert photo.mask is not None
        assert photo.segments is not None
        ids = read_rgb_ids(self.files.read(photo.mask))
        check_size(ids, image, "mask")
        segments = np.frombuffer(photo.segments, np.int32).reshape(-1, 3)
        segments = np.concatenate([np.zeros((1, 3), np.int32), segments[np.argsort(segments[:, 0], kind="stable")]])
        found, where = np.unique(ids, return_inverse=True)
        at = np.minimum(np.searchsorted(segments[:, 0], found), len(segments) - 1)
        if (segments[at, 0] != found).any():
            raise Unreadable("mask with unknown ids")
        classes, number = segments[at, 1], segments[at, 2]
        panoptic = np.where(number < 0, 0, classes * 1000 + number).astype(np.int32)
        where = where.reshape(ids.shape)
        return {"panoptic": panoptic[where], "classes": classes.astype(id_type(len(self.class_names)))[where]}


def arrange(files: Files, config: CocoConfig) -> tuple[str, list[Arrangement]]:
    """The root ("" or "a/b/"), and the files of each split. Raises ValueError: nothing there, or a file is missing."""
    given = {"instances": config.instances, "keypoints": config.keypoints, "panoptic": config.panoptic}
    named = {kind: name for kind, name in given.items() if name is not None}
    if named:
        missing = [name for name in named.values() if name not in files]
        if missing:
            raise ValueError(f"{config.path}: no file '{missing[0]}'; name annotation files from the root")
        return "", [Arrangement(None, named, _folder(config.images), _folder(config.panoptic_masks))]
    official = {}
    for split in ("train", "val"):
        stems = {"instances": "instances", "keypoints": "person_keypoints", "panoptic": "panoptic"}
        official[split] = {kind: f"annotations/{stem}_{split}{config.year}.json" for kind, stem in stems.items()}
    insides = [name for names in official.values() for name in names.values()]
    layout = f"{insides[0]} and train{config.year}/*.jpg; name other files with instances, keypoints, panoptic, images"
    root = find_root(files, insides, layout)
    arrangements = []
    for split, names in official.items():
        there = {kind: root + name for kind, name in names.items() if root + name in files}
        if there:
            folder = f"{split}{config.year}/"
            arrangements.append(Arrangement(split, there, root + folder, f"{root}annotations/panoptic_{folder}"))
    return root, arrangements


def choose(config: CocoConfig, there: set[str]) -> tuple[str, ...]:
    """The annotations to give. Raises ValueError: one that is asked for needs a file that is not there."""
    possible = [name for name, kinds in NEEDS.items() if there.intersection(kinds)]
    for name in config.annotations or ():
        if name not in possible:
            raise ValueError(f"{config.path}: '{name}' needs a file of {' or '.join(NEEDS[name])}, and there is none")
    return tuple(name for name in possible if config.annotations is None or name in config.annotations)


def finish(draft: Draft, image: str, mask: str | None, annotations: Sequence[str], outlines: bool) -> Photo:
    """The payload of a photo: largest objects and persons first, of equal ones the first listed."""
    classes = boxes = pose = painted = None
    if draft.objects is not None:
        objects = sorted(draft.objects, key=lambda found: -found[0])
        classes = np.array([class_id for _, class_id, _, _ in objects], np.uint16).tobytes()
        boxes = b"".join(box for _, _, box, _ in objects) if "boxes" in annotations else None
        painted = tuple(outline for _, _, _, outline in objects) if outlines else None
    if draft.persons is not None:
        pose = b"".join(joints.tobytes() for _, joints in sorted(draft.persons, key=lambda found: -found[0]))
    return Photo(image, draft.shape, classes, boxes, painted, pose, mask, draft.segments)


def id_type(n_classes: int) -> type[np.uint8] | type[np.uint16]:
    """The dtype of class ids up to n_classes."""
    return np.uint8 if n_classes <= 255 else np.uint16


def _folder(name: str) -> str:
    """ "a/b", "a/b/" or "" as the start of names."""
    return f"{name.strip('/')}/" if name.strip("./") else ""
