"""Source `rgbd`: sequences of photos with measured depth, as T x {image, depth} or T x {image, depth, normals}.

In: a folder, tar or zip of sequences in one of three layouts; colour and depth must be registered, pixel for pixel.
Out: clips. A frame whose depth is missing, or which cannot be used, is left out of its clip and listed.

- 7-Scenes, and as KinectFusion programs write it: ``<seq>/frame-000000.color.png`` (or .jpg), ``.depth.png``. Where a
  scene has 7-Scenes' TrainSplit.txt and TestSplit.txt, with lines "sequence1", its ``seq-01`` ... are split so
- TUM RGB-D (https://doi.org/10.1109/IROS.2012.6385773): ``<seq>/rgb.txt`` and ``depth.txt``, lines of a time and a
  file; a photo belongs to the depth nearest in time, at most 0.02 s away, as the data set's own tool has it
- ScanNet as exported: ``<scene>/color/0.jpg``, ``<scene>/depth/0.png``; several scans of one room are one group.
  Its photos are larger than its depth maps (1296 x 968, 640 x 480), and are reduced to them

Normals come from depth, where intrinsics are known: from differences of neighbours, averaged over a window because a
sensor's millimetres are noisy; where depth is unknown or jumps, a difference does not count.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Part, Reject
from lvmlite.data.sources.clips import Video, cut_clips, in_order, numbering
from lvmlite.data.sources.files import Files, find_files
from lvmlite.data.sources.listed import Entry, EntryFrames, Listed
from lvmlite.data.sources.maps import check_size, known_depth
from lvmlite.data.sources.published import read_lines
from lvmlite.images import Unreadable, decode, resize
from lvmlite.recipe import Range
from lvmlite.sample import SPLITS, Sample, split_of

COLOUR = {
    "7scenes": re.compile(r"(?:(.*)/)?frame-(\d+)\.color\.(?:png|jpe?g)", re.IGNORECASE),
    "scannet": re.compile(r"(?:(.*)/)?color/(\d+)\.(?:png|jpe?g)", re.IGNORECASE),
    "tum": re.compile(r"(?:(.*)/)?rgb\.txt"),
}
DEPTH_SCALE = {"7scenes": 1000.0, "scannet": 1000.0, "tum": 5000.0}
INTRINSICS = ("intrinsics.txt", "intrinsic/intrinsic_depth.txt")  # the second as ScanNet is exported
SAME_TIME = 0.02  # seconds
SAME_ASPECT = 0.01  # ScanNet's photos and depth maps differ by 0.4%
WINDOW = 3  # pixels to each side over which differences are averaged: 42 of them
ENOUGH = 10  # differences for a mean; a corner of the map has 12
JUMP = 0.05  # of the depth: neighbours that differ by more are on two surfaces


@dataclass(frozen=True)
class RgbdConfig:
    """Settings of `Rgbd`.

    path: a folder, tar or zip of sequences.
    layout: see the head of this file; "auto" takes the first that is there.
    frame_step: of so many frames one is kept.
    clip_frames: at most so many kept frames a clip; a longer sequence gives several. 1 gives single photos.
    depth_scale: stored depth per metre; default: of the layout, 1000, or 5000 of TUM. 0 and 65535 are unknown.
    fx, fy, cx, cy: intrinsics in pixels of the depth map, all four; default: ``intrinsics.txt`` (a 3 x 3 matrix)
        beside the sequence's frames or above them. Without either there are no normals.
    splits: sequence -> train, val or test; others by 7-Scenes' own lists, or by a hash.
    val, test: shares of groups held out by the hash; of a list's train, `val`. A dozen sequences may leave either
        empty.
    max_samples: at most so many, chosen by a hash of the key.
    part_size: clips a part.
    """

    path: str
    source: Literal["rgbd"] = "rgbd"
    name: str = "rgbd"
    layout: Literal["auto", "7scenes", "tum", "scannet"] = "auto"
    frame_step: Annotated[int, Range(1)] = 1
    clip_frames: Annotated[int, Range(1)] = 64
    depth_scale: Annotated[float, Range(1e-6)] | None = None
    fx: Annotated[float, Range(1e-6)] | None = None
    fy: Annotated[float, Range(1e-6)] | None = None
    cx: float | None = None
    cy: float | None = None
    splits: dict[str, str] = field(default_factory=dict)
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05
    max_samples: Annotated[int, Range(1)] | None = None
    part_size: Annotated[int, Range(1)] = 16
    licence: str = "unknown (user's own recordings)"


Intrinsics = tuple[float, float, float, float]  # fx, fy, cx, cy


class Rgbd(Listed):
    """Samples of `RgbdConfig`. A frame is (photo, depth map, intrinsics or None)."""

    def __init__(self, config: RgbdConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line: no frames, a split or a sequence that is not known, half the intrinsics."""
        self.config = config
        self._files = find_files(config.path, (".png", ".jpg", ".jpeg", ".txt"), "RGB-D frames")
        given = (config.fx, config.fy, config.cx, config.cy)
        if None in given and set(given) != {None}:
            raise ValueError("intrinsics: give all of fx, fy, cx and cy, or none")
        rejects = list(self._files.rejects)
        layout = self._layout()
        self._reduces = layout == "scannet"
        self._scale = config.depth_scale or DEPTH_SCALE[layout]
        found = tum_frames(self._files, rejects) if layout == "tum" else numbered_frames(self._files, layout, rejects)
        videos = [self._video(folder, frames, rejects) for folder, frames in found.items() if frames]
        for name, split in config.splits.items():
            if split not in SPLITS:
                raise ValueError(f"splits.{name}: '{split}' is none of {', '.join(SPLITS)}")
            if name not in {video.name for video in videos}:
                some = ", ".join(f"'{video.name}'" for video in videos[:3])
                raise ValueError(f"splits: there is no sequence '{name}'; there is {some or 'none'}")
        self.annotations = ("depth", "normals") if any(v.frames[0][2] for v in videos) else ("depth",)
        gap = 1 if layout == "tum" else numbering([photo for photo, _, _ in video.frames] for video in videos)
        self.frame_step = config.frame_step * gap
        entries = cut_clips(videos, config.frame_step, config.clip_frames)
        super().__init__(config.name, config.licence, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def _layout(self) -> str:
        config = self.config
        names = list(COLOUR) if config.layout == "auto" else [config.layout]
        for name in names:
            if any(COLOUR[name].fullmatch(file) for file in self._files.names):
                return name
        raise ValueError(
            f"{config.path}: no frame-000000.color.png, color/0.jpg or rgb.txt as of {', '.join(names)}; for other"
            " names use source 'paired'"
        )

    def _video(self, folder: str, frames: list[tuple[str, str]], rejects: list[Reject]) -> Video:
        name = folder or self._files.path.name.split(".")[0]
        room = re.sub(r"(scene\d{4})_\d\d$", r"\1", name)
        official = official_split(self._files, folder)
        test = self.config.test if official is None else 0
        split = "test" if official == "test" else split_of(room, self.config.val, test)
        split = self.config.splits.get(name, split)
        camera = self._camera(folder, rejects)
        return Video(name, room, split, tuple((photo, depth, camera) for photo, depth in frames))

    def _camera(self, folder: str, rejects: list[Reject]) -> Intrinsics | None:
        """The intrinsics of a sequence: the config's, or those of the nearest file upwards."""
        config = self.config
        if config.fx and config.fy and config.cx is not None and config.cy is not None:
            return config.fx, config.fy, config.cx, config.cy
        while True:
            for file in INTRINSICS:
                name = f"{folder}/{file}" if folder else file
                if name not in self._files:
                    continue
                try:
                    return read_intrinsics(self._files.read(name))
                except Unreadable as error:
                    if (reject := Reject(name, error.reason)) not in rejects:
                        rejects.append(reject)
                    return None
            if not folder:
                return None
            folder = folder.rpartition("/")[0]

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        """Frames are decoded once before their clip is given, so that those that cannot be used are left out of it."""
        for item in part.items:
            if isinstance(item, Reject):
                yield item
                continue
            sample, bad = self._usable(self.entries[item])
            yield from bad
            if sample is not None:
                yield sample

    def sample(self, key: str) -> Sample:
        sample, _ = self._usable(self.entries[key])
        if sample is None:
            raise KeyError(key)
        return sample

    def _usable(self, entry: Entry) -> tuple[Sample | None, list[Reject]]:
        good, bad = [], []
        for frame in entry.payload:
            try:
                self._pair(frame)
                good.append(frame)
            except Unreadable as error:
                bad.append(Reject(frame[0], error.reason))
        left = replace(entry, payload=tuple(good), n_frames=len(good))
        sample = Sample(left.key, left.group, self.name, left.split, None, EntryFrames(self, left))
        return sample if good else None, bad

    def _pair(self, frame: tuple[str, str, Intrinsics | None]) -> tuple[np.ndarray, np.ndarray]:
        """Photo and depth in metres. Raises Unreadable."""
        image, depth = decode(self._files.open(frame[0])), known_depth(self._files.read(frame[1]), self._scale)
        (height, width), (h, w) = depth.shape, image.shape[:2]
        if self._reduces and h > height and w > width and abs(h * width - w * height) < SAME_ASPECT * h * width:
            image = resize(image, (height, width), "bilinear")
        check_size(depth, image, "depth")
        return image, depth

    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        frame = entry.payload[t]
        image, depth = self._pair(frame)
        found = {"image": image, "depth": depth}
        return found if frame[2] is None else found | {"normals": normals_of_depth(depth, frame[2])}


def official_split(files: Files, folder: str) -> str | None:
    """ "train" or "test" of a sequence "chess/seq-01" that a list beside it names "sequence1"; None if none does."""
    scene, _, name = folder.rpartition("/")
    number = re.fullmatch(r"seq-0*(\d+)", name)
    for split in ("train", "test"):
        listed = read_lines(files, f"{scene}/{split.title()}Split.txt" if scene else f"{split.title()}Split.txt")
        if number and any(re.fullmatch(rf"sequence0*{number[1]}", line) for line in listed):
            return split
    return None


def numbered_frames(files: Files, layout: str, rejects: list[Reject]) -> dict[str, list[tuple[str, str]]]:
    """Folder of a sequence -> (photo, depth map) in order, of the layouts that number their frames."""
    sequences: dict[str, list[tuple[str, str]]] = {}
    for name in in_order(files.names):
        if (found := COLOUR[layout].fullmatch(name)) is None:
            continue
        below = f"{found[1]}/" if found[1] else ""
        depth = f"{below}frame-{found[2]}.depth.png" if layout == "7scenes" else f"{below}depth/{found[2]}.png"
        pairs = sequences.setdefault(found[1] or "", [])
        if depth not in files:
            rejects.append(Reject(name, "partner is missing: depth"))
        elif pairs and pairs[-1][1] == depth:
            rejects.append(Reject(name, "a second photo of the same key"))
        else:
            pairs.append((name, depth))
    return {folder: sequences[folder] for folder in sorted(sequences)}


def tum_frames(files: Files, rejects: list[Reject]) -> dict[str, list[tuple[str, str]]]:
    """Folder of a sequence -> (photo, depth map) in order of time, each depth map used once."""
    sequences: dict[str, list[tuple[str, str]]] = {}
    for name in files.names:
        if (found := COLOUR["tum"].fullmatch(name)) is None:
            continue
        folder = found[1] or ""
        below = f"{folder}/" if folder else ""
        photos, depths = (read_times(files, f"{below}{kind}.txt", below, rejects) for kind in ("rgb", "depth"))
        times = [time for time, _ in depths]
        near = sorted(
            (abs(times[j] - time), i, j)
            for i, (time, _) in enumerate(photos)
            for j in range(bisect_left(times, time - SAME_TIME), bisect_right(times, time + SAME_TIME))
        )
        partner: dict[int, int] = {}
        used: set[int] = set()
        for _, i, j in near:
            if i not in partner and j not in used:
                partner[i] = j
                used.add(j)
        sequences[folder] = [(photos[i][1], depths[partner[i]][1]) for i in sorted(partner)]
        rejects += [Reject(file, "partner is missing: depth") for i, (_, file) in enumerate(photos) if i not in partner]
    return sequences


def read_times(files: Files, name: str, below: str, rejects: list[Reject]) -> list[tuple[float, str]]:
    """(time, file) in order of time, of lines "1305031102.175304 rgb/1305031102.175304.png" of files that are there."""
    if name not in files:
        rejects.append(Reject(name, "list of times is missing"))
        return []
    found = []
    try:
        lines = files.read(name).decode("utf-8").split("\n")
    except (Unreadable, UnicodeDecodeError):
        lines = ["?"]
    for line in lines:
        words = line.split()
        if not words or line.startswith("#"):
            continue
        try:
            time, file = float(words[0]), below + words[1]
        except (ValueError, IndexError):
            rejects.append(Reject(name, "a line that is no time and file"))
            continue
        if file in files and np.isfinite(time):
            found.append((time, file))
        else:
            rejects.append(Reject(file, "listed, but not there"))
    return sorted(found)


def read_intrinsics(data: bytes) -> Intrinsics:
    """fx, fy, cx, cy of a text of 3 x 3 or 4 x 4 numbers. Raises Unreadable."""
    try:
        numbers = np.array([float(word) for word in data.decode("ascii").replace(",", " ").split()])
        side = {9: 3, 16: 4}[len(numbers)]
    except (ValueError, KeyError) as error:
        raise Unreadable("intrinsics are no 3 x 3 matrix") from error
    k = numbers.reshape(side, side)
    if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
        raise Unreadable("intrinsics are no 3 x 3 matrix")
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def normals_of_depth(depth: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """Normals (H, W, 3) float32 in camera axes (x right, y up, z towards the camera), 0 where unknown.

    Of a plane, one over depth is linear in the pixels, so its slopes are all that is needed: means of the differences
    of neighbours in a window, without those where depth is unknown, jumps, or is of another surface than the middle.

    Args:
        depth: (H, W) metres along the optical axis, 0 = unknown.
        camera: fx, fy, cx, cy in pixels; a pixel's centre has whole coordinates.
    """
    fx, fy, cx, cy = camera
    height, width = depth.shape
    known = depth > 0
    near = np.where(known, 1 / np.where(known, depth, 1), 0).astype(np.float32)
    (slope_x, enough_x), (slope_y, enough_y) = _slope(depth, near, 1), _slope(depth, near, 0)
    x, y = np.arange(width) - cx, cy - np.arange(height)[:, None]
    # a point p of a plane n . p = -d, seen along the ray (x / fx, y / fy, -1): d / depth = -n . ray
    normal = np.stack([-fx * slope_x, fy * slope_y, near - slope_x * x + slope_y * y], axis=2)
    length = np.linalg.norm(normal, axis=2)
    known &= enough_x & enough_y & (length > 0)
    return np.where(known[..., None], normal / np.where(known, length, 1)[..., None], 0).astype(np.float32)


def _slope(depth: np.ndarray, near: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean difference of neighbours of `near` along an axis (H, W), and whether it is one of enough of them."""
    height, width = depth.shape
    wide = np.pad(depth, WINDOW + 1)
    ahead = np.roll(wide, -1, axis)
    counts = (wide > 0) & (ahead > 0) & (np.abs(ahead - wide) < JUMP * np.minimum(wide, ahead))
    inverse = np.pad(near, WINDOW + 1)
    step = np.where(counts, np.roll(inverse, -1, axis) - inverse, 0)
    total, number = np.zeros_like(near), np.zeros(depth.shape, np.int32)
    for i in range(-WINDOW, WINDOW + (axis == 1)):
        for j in range(-WINDOW, WINDOW + (axis == 0)):
            at = np.s_[WINDOW + 1 + i :, WINDOW + 1 + j :]
            there = wide[at][:height, :width]
            same = (np.abs(there - depth) < JUMP * depth) & counts[at][:height, :width]
            total += same * step[at][:height, :width]
            number += same
    return total / np.maximum(number, 1), number >= ENOUGH
