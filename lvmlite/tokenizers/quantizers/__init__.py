"""Quantisers of the VQGAN. A new one is a file and a line here."""

from __future__ import annotations

from typing import Any

from lvmlite.tokenizers.quantizers.base import Quantized, Quantizer
from lvmlite.tokenizers.quantizers.fsq import FSQ, FSQConfig
from lvmlite.tokenizers.quantizers.lfq import BSQ, LFQ, BSQConfig, LFQConfig
from lvmlite.tokenizers.quantizers.nearest import NearestCode, NearestCodeConfig

QUANTIZERS: dict[str, tuple[type[Any], type[Any]]] = {
    "nearest": (NearestCodeConfig, NearestCode),
    "fsq": (FSQConfig, FSQ),
    "lfq": (LFQConfig, LFQ),
    "bsq": (BSQConfig, BSQ),
}


def quantizer_configs() -> dict[str, type[Any]]:
    """The table that configs are read with."""
    return {name: config for name, (config, _) in QUANTIZERS.items()}


def build_quantizer(config: Any) -> Quantizer:
    """The quantiser of a config of QUANTIZERS."""
    _, quantizer = QUANTIZERS[config.quantizer]
    made: Quantizer = quantizer(config)
    return made


__all__ = ["QUANTIZERS", "Quantized", "Quantizer", "build_quantizer", "quantizer_configs"]
