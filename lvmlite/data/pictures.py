"""The pictures of a sample: every kind of every frame, drawn in the geometry of a store.

In: a `Sample`, the tasks of its kinds, a geometry and a seed. Out: (kind, variant) -> (T, size, size, 3) uint8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lvmlite.data.store import IMAGE
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task

MAPS = ("classes", "instances", "panoptic", "boundaries", "depth", "disparity", "normals")  # of the photo's (H, W)


def stable_rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names only."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class Undrawable(Unreadable):
    """A kind that cannot be drawn of a sample whose frames are readable."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def draw_sample(
    sample: Sample, kinds: Mapping[str, Task], geometry: Geometry, seed: int
) -> dict[tuple[str, int], np.ndarray]:
    """Every kind of every frame as pictures.

    Args:
        kinds: those this sample can have; the photo itself comes always.

    Returns:
        (kind, variant) -> (T, size, size, 3) uint8.

    Raises:
        Unreadable: a frame cannot be decoded. Undrawable: all can; a kind, the first by name, cannot be drawn.
    """
    columns: dict[tuple[str, int], list[np.ndarray]] = {(IMAGE, 0): []}
    columns.update({(kind, v): [] for kind, task in kinds.items() for v in range(task.variants)})
    names: set[str] | None = None
    wrong: Undrawable | None = None
    for t in range(len(sample.frames)):
        frame = sample.frames[t]
        names = names or set(frame)
        if set(frame) != names:
            raise Unreadable("frames with different annotations")
        if IMAGE not in frame:
            raise Unreadable("no photo")
        image = geometry.image(frame[IMAGE])
        columns[IMAGE, 0].append(image)
        for kind, task in kinds.items():
            if wrong is not None and kind >= wrong.kind:
                continue
            try:
                for v, picture in enumerate(draw_kind(kind, task, sample, t, frame, image, geometry, seed)):
                    columns[kind, v].append(picture)
            except Unreadable as error:
                wrong = Undrawable(kind, error.reason)
    if wrong is not None:
        raise wrong
    return {name: np.stack(pictures) for name, pictures in columns.items()}


def draw_kind(
    kind: str,
    task: Task,
    sample: Sample,
    t: int,
    frame: Mapping[str, Any],
    image: np.ndarray,
    geometry: Geometry,
    seed: int,
) -> Iterator[np.ndarray]:
    """The variants of one kind of frame t, uint8 (size, size, 3). `image` is the fitted photo. Raises Unreadable."""
    fitted: Any = None
    if task.annotation is not None:
        native, shape = frame[task.annotation], frame[IMAGE].shape[:2]
        if task.annotation in MAPS:
            (height, width), (h, w) = shape, native.shape[:2]
            if min(h, w) == 0 or abs(h * width - w * height) > max(h, w, height, width):  # more than rounding
                raise Unreadable("map and photo differ in shape")
        fitted = task.fit(native, geometry, shape)
    for v in range(task.variants):
        if task.annotation is None:
            fitted = task.derive(image, stable_rng(seed, sample.key, kind, t, v))
        yield task.render(fitted, v, sample.split, image)


def available_kinds(annotations: Iterable[str], kinds: Mapping[str, Task]) -> dict[str, Task]:
    """The kinds that can be drawn where these native annotations are: theirs, and those derived from the photo."""
    present = set(annotations)
    return {kind: task for kind, task in kinds.items() if task.annotation is None or task.annotation in present}
