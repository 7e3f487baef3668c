"""Where visual data comes from. A new source is a file and a line here."""

from __future__ import annotations

from typing import Any

from lvmlite.data.keyed import key_of
from lvmlite.data.sources.ade20k import Ade20k, Ade20kConfig
from lvmlite.data.sources.base import Source
from lvmlite.data.sources.bsds500 import Bsds500, Bsds500Config
from lvmlite.data.sources.bundled import Bundled, BundledConfig
from lvmlite.data.sources.cityscapes import Cityscapes, CityscapesConfig
from lvmlite.data.sources.coco import Coco, CocoConfig
from lvmlite.data.sources.frames import Frames, FramesConfig
from lvmlite.data.sources.imagenet import ImageNet, ImageNetConfig
from lvmlite.data.sources.paired import Paired, PairedConfig
from lvmlite.data.sources.parquet import Parquet, ParquetConfig
from lvmlite.data.sources.photos import Photos, PhotosConfig
from lvmlite.data.sources.rgbd import Rgbd, RgbdConfig
from lvmlite.data.sources.video_lists import VideoLists, VideoListsConfig
from lvmlite.data.sources.videos import Videos, VideosConfig
from lvmlite.data.sources.vipseg import Vipseg, VipsegConfig
from lvmlite.data.sources.voc import Voc, VocConfig
from lvmlite.data.sources.vos import Vos, VosConfig
from lvmlite.data.sources.webdataset import WebDataset, WebDatasetConfig
from lvmlite.data.sources.world import World, WorldConfig

SOURCES: dict[str, tuple[type[Any], type[Any]]] = {
    "ade20k": (Ade20kConfig, Ade20k),
    "bsds500": (Bsds500Config, Bsds500),
    "bundled": (BundledConfig, Bundled),
    "cityscapes": (CityscapesConfig, Cityscapes),
    "coco": (CocoConfig, Coco),
    "frames": (FramesConfig, Frames),
    "imagenet": (ImageNetConfig, ImageNet),
    "paired": (PairedConfig, Paired),
    "parquet": (ParquetConfig, Parquet),
    "photos": (PhotosConfig, Photos),
    "rgbd": (RgbdConfig, Rgbd),
    "video_lists": (VideoListsConfig, VideoLists),
    "videos": (VideosConfig, Videos),
    "vipseg": (VipsegConfig, Vipseg),
    "voc": (VocConfig, Voc),
    "vos": (VosConfig, Vos),
    "webdataset": (WebDatasetConfig, WebDataset),
    "world": (WorldConfig, World),
}


def source_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in SOURCES.items()}


def build_source(config: Any, seed: int) -> Source:
    """The source of a config. Two sources of one recipe draw from different seeds, by name."""
    source: Source = SOURCES[config.source][1](config, key_of(seed, config.name) % 2**31)
    return source
