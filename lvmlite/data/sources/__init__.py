"""Where visual data comes from. A new source is a file and a line here."""

from __future__ import annotations

from typing import Any

from lvmlite.data.keyed import key_of
from lvmlite.data.sources.base import Source
from lvmlite.data.sources.bundled import Bundled, BundledConfig
from lvmlite.data.sources.photos import Photos, PhotosConfig
from lvmlite.data.sources.videos import Videos, VideosConfig
from lvmlite.data.sources.world import World, WorldConfig

SOURCES: dict[str, tuple[type[Any], type[Any]]] = {
    "bundled": (BundledConfig, Bundled),
    "photos": (PhotosConfig, Photos),
    "videos": (VideosConfig, Videos),
    "world": (WorldConfig, World),
}


def source_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in SOURCES.items()}


def build_source(config: Any, seed: int) -> Source:
    """The source of a config. Two sources of one recipe draw from different seeds, by name."""
    source: Source = SOURCES[config.source][1](config, key_of(seed, config.name) % 2**31)
    return source
