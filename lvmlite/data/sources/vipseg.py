"""Source `vipseg`: videos in the wild with a class and an object for every pixel, T x {image, panoptic, ...}.

In: VIPSeg (https://doi.org/10.1109/CVPR52688.2022.02036) as published: ``imgs/<video>/<frame>.jpg``,
``panomasks/<video>/<frame>.png`` and ``{train,val,test}.txt``, which name videos; or its reduced form ``VIPSeg_720P``
with ``images`` for ``imgs``, the lists in it or beside it. Out: clips.

A mask stores 0 for what is unlabelled, 1 .. 124 for stuff, and 100 times the class plus a number from 0 for things: the
first two persons are 6100 and 6101. Classes are those of ``panoVIPSeg_categories.json`` counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.clips import Video, cut_clips, listed_videos, numbering, only_masked
from lvmlite.data.sources.files import find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import check_size, read_ids
from lvmlite.data.sources.published import PublishedConfig, find_root, roots
from lvmlite.images import Unreadable, decode
from lvmlite.recipe import Range

CLASSES = 124
LAYOUT = "imgs/<video>/<frame>.jpg and panomasks/<video>/<frame>.png"


@dataclass(frozen=True)
class VipsegConfig(PublishedConfig):
    """Settings of `Vipseg`: those of every published data set, and

    frame_step: of so many frames that are there one is kept.
    clip_frames: at most so many kept frames a clip; a longer video gives several.
    """

    source: Literal["vipseg"] = "vipseg"
    name: str = "vipseg"
    frame_step: Annotated[int, Range(1)] = 1
    clip_frames: Annotated[int, Range(1)] = 256


class Vipseg(Listed):
    """Samples of `VipsegConfig`. A frame is (photo, mask)."""

    annotations = ("panoptic", "classes", "instances")

    def __init__(self, config: VipsegConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if the files are laid out otherwise or the lists are missing."""
        self.config = config
        self._files = find_files(config.path, (".jpg", ".png", ".txt"), "frames and masks of videos")
        root = find_root(self._files, ("imgs/", "images/"), LAYOUT)
        rejects = list(self._files.rejects)
        masked = (only_masked(video, rejects) for video in self._videos(root, rejects))
        videos = [video for video in masked if video is not None]
        photos = [[photo for photo, _ in video.frames] for video in videos]
        self.frame_step = config.frame_step * numbering(photos)
        entries = cut_clips(videos, config.frame_step, config.clip_frames)
        super().__init__(
            config.name, "VIPSeg: non-commercial research, see the data set's terms", entries, rejects, config.part_size
        )
        self.shorten(config.max_samples)

    def _videos(self, root: str, rejects: list[Reject]) -> Iterator[Video]:
        """Raises: ValueError: there is no list."""
        above = root.rstrip("/").rpartition("/")[0]
        places = (root, f"{above}/" if above else "")
        lists = {name: [f"{place}{name}.txt" for place in places] for name in ("train", "val", "test")}
        images = f"{root}imgs/" if roots(self._files.names, f"{root}imgs/") else f"{root}images/"
        return listed_videos(self._files, self.config, lists, (images, f"{root}panomasks/"), rejects)

    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        photo, mask = entry.payload[t]
        image, stored = decode(self._files.open(photo)), read_ids(self._files.read(mask))
        check_size(stored, image, "mask")
        return {"image": image, **unpack(stored)}


def unpack(stored: np.ndarray) -> dict[str, np.ndarray]:
    """A mask as VIPSeg stores it (H, W) -> panoptic (H, W) int32, classes (H, W) uint8, instances (H, W) uint16.

    Raises:
        Unreadable: "mask with unknown ids".
    """
    stored = stored.astype(np.int32)
    thing = stored > CLASSES
    classes = np.where(thing, stored // 100, stored)
    if classes.max(initial=0) > CLASSES:
        raise Unreadable("mask with unknown ids")
    number = np.where(thing, stored % 100 + 1, 0)
    instances = np.where(thing, stored, 0)
    return {
        "panoptic": classes * 1000 + number,
        "classes": classes.astype(np.uint8),
        "instances": instances.astype(np.uint16),
    }
