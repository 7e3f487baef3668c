"""Source `vos`: videos whose objects are marked in every frame, as T x {image, instances}.

In: DAVIS 2016 or 2017, or YouTube-VOS, as published. Out: clips; the same number is the same object in all frames.

DAVIS (https://arxiv.org/abs/1704.00675): ``JPEGImages/480p/<video>/00000.jpg``, ``Annotations/480p/<video>/00000.png``
whose palette indices are the objects, and ``ImageSets/2017/{train,val}.txt``. In 2016 a video has one object; its own
release stores 255, that of 2017 has several numbers: all of them are 1 here.
YouTube-VOS (https://arxiv.org/abs/1809.03327): ``{train,valid}/JPEGImages/<video>/00000.jpg`` and ``Annotations``, of
every fifth frame of the video; ``valid`` has masks only where an object is seen first. 255 is unlabelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.clips import Video, cut_clips, frames_of, listed_videos, numbering, only_masked
from lvmlite.data.sources.files import SPLIT_FOLDERS, find_files
from lvmlite.data.sources.listed import Listed
from lvmlite.data.sources.maps import check_size, read_ids
from lvmlite.data.sources.published import PublishedConfig, find_root
from lvmlite.images import Unreadable, decode
from lvmlite.recipe import Range

IMAGES, MASKS = "JPEGImages/", "Annotations/"
LAYOUT = "JPEGImages/480p/<video>/00000.jpg of DAVIS or train/JPEGImages/<video>/00000.jpg of YouTube-VOS"
IGNORE = 255


@dataclass(frozen=True)
class VosConfig(PublishedConfig):
    """Settings of `Vos`: those of every published data set, and

    year: of DAVIS, whose lists and whose meaning of masks to take; YouTube-VOS has no years.
    resolution: the folder of DAVIS to read.
    frame_step: of so many frames that are there one is kept.
    clip_frames: at most so many kept frames a clip; a longer video gives several.
    unmasked: what becomes of frames without a mask: "drop" leaves them out; with "keep" a video that has any gives
        photos alone.
    """

    source: Literal["vos"] = "vos"
    name: str = "vos"
    year: Literal["2016", "2017"] = "2017"
    resolution: str = "480p"
    frame_step: Annotated[int, Range(1)] = 1
    clip_frames: Annotated[int, Range(1)] = 256
    unmasked: Literal["drop", "keep"] = "drop"


class Vos(Listed):
    """Samples of `VosConfig`. A frame is (photo, mask or "")."""

    annotations = ("instances",)

    def __init__(self, config: VosConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if the files are laid out otherwise or the lists are missing."""
        self.config = config
        self._files = find_files(config.path, (".jpg", ".png", ".txt"), "frames and masks of videos")
        folder = f"{IMAGES}{config.resolution}/"
        root = find_root(self._files, (folder, f"train/{IMAGES}", f"valid/{IMAGES}"), LAYOUT)
        self._davis = any(name.startswith(root + folder) for name in self._files.names)
        rejects = list(self._files.rejects)
        found = self._davis_videos(root, rejects) if self._davis else self._youtube_videos(root)
        masked = (self._masked(video, rejects) for video in found)
        videos = [video for video in masked if video is not None]
        photos = [[photo for photo, _ in video.frames] for video in videos]
        self.frame_step = config.frame_step * numbering(photos)
        licence = f"{'DAVIS' if self._davis else 'YouTube-VOS'}: research, see the data set's terms"
        entries = cut_clips(videos, config.frame_step, config.clip_frames)
        super().__init__(config.name, licence, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def _davis_videos(self, root: str, rejects: list[Reject]) -> Iterator[Video]:
        """Raises: ValueError: there is no list."""
        years: list[str] = [self.config.year]
        if self.config.year == "2016":
            years.append(self.config.resolution)  # so 2016's own release names the folder of its lists
        lists = {name: [f"{root}ImageSets/{year}/{name}.txt" for year in years] for name in ("train", "val")}
        folders = (f"{root}{IMAGES}{self.config.resolution}/", f"{root}{MASKS}{self.config.resolution}/")
        return listed_videos(self._files, self.config, lists, folders, rejects)

    def _youtube_videos(self, root: str) -> Iterator[Video]:
        for official in ("train", "valid", "test"):
            there = frames_of(self._files, f"{root}{official}/{IMAGES}", f"{root}{official}/{MASKS}")
            for video, frames in there.items():
                split = self.config.split(SPLIT_FOLDERS[official], video)
                yield Video(f"{official}/{video}", video, split, frames)

    def _masked(self, video: Video, rejects: list[Reject]) -> Video | None:
        """The video with a mask in every frame or in none, as `unmasked` says; None if nothing is left."""
        if self.config.unmasked == "drop":
            return only_masked(video, rejects)
        bare = any(not mask for _, mask in video.frames)
        return replace(video, frames=tuple((photo, "") for photo, _ in video.frames)) if bare else video

    def read(self, entry: Any, t: int) -> Mapping[str, Any]:
        photo, mask = entry.payload[t]
        frame = {"image": decode(self._files.open(photo))}
        if mask:
            ids = read_ids(self._files.read(mask))
            check_size(ids, frame["image"], "mask")
            if ids.max(initial=0) > 65535:
                raise Unreadable("mask with unknown ids")
            one = self._davis and self.config.year == "2016"
            frame["instances"] = (ids > 0 if one else np.where(ids == IGNORE, 0, ids)).astype(np.uint16)
        return frame
