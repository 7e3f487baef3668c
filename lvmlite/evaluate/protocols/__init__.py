"""Protocols: what is measured of a model or a tokenizer, and how. A new one is a file and a line here."""

from __future__ import annotations

from typing import Any

from lvmlite.evaluate.protocols.base import Protocol
from lvmlite.evaluate.protocols.ceiling import Ceiling, CeilingConfig
from lvmlite.evaluate.protocols.cost import Cost, CostConfig
from lvmlite.evaluate.protocols.gallery import Gallery, GalleryConfig
from lvmlite.evaluate.protocols.ladder import Ladder, LadderConfig
from lvmlite.evaluate.protocols.next_frame import NextFrame, NextFrameConfig
from lvmlite.evaluate.protocols.reconstruction import Reconstruction, ReconstructionConfig
from lvmlite.evaluate.protocols.segmentation import Segmentation, SegmentationConfig

PROTOCOLS: dict[str, tuple[type[Any], type[Any]]] = {
    "ladder": (LadderConfig, Ladder),
    "next_frame": (NextFrameConfig, NextFrame),
    "reconstruction": (ReconstructionConfig, Reconstruction),
    "ceiling": (CeilingConfig, Ceiling),
    "segmentation": (SegmentationConfig, Segmentation),
    "gallery": (GalleryConfig, Gallery),
    "cost": (CostConfig, Cost),
}


def protocol_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with: `recipe.one_of("protocol", protocol_configs)`."""
    return {name: config for name, (config, _) in PROTOCOLS.items()}


def build_protocol(config: Any) -> Protocol:
    """The protocol of a config of PROTOCOLS, chosen by its field `protocol`."""
    protocol: Protocol = PROTOCOLS[config.protocol][1](config)
    return protocol


def without_model() -> list[str]:
    """The protocols that a tokenizer alone is measured by."""
    return [name for name, (_, protocol) in PROTOCOLS.items() if not protocol.needs_model]
