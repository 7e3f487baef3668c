"""Image tokenizers. A new one is a file and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lvmlite import recipe
from lvmlite.tokenizers.base import Tokenizer, read_tokenizer_files
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

TOKENIZERS: dict[str, tuple[type[Any], type[Any]]] = {
    "vqgan": (VQGANConfig, VQGAN),
}


def tokenizer_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in TOKENIZERS.items()}


def build_tokenizer(config: Any, image_size: int, seed: int = 0) -> Tokenizer:
    """A fresh tokenizer of the config's class, weights drawn from `seed`."""
    _, tokenizer = TOKENIZERS[config.tokenizer]
    return tokenizer(config, image_size).init_weights(seed)


def load_tokenizer(folder: str | Path, device: torch.device | str = "cpu") -> Tokenizer:
    """Open a tokenizer folder, ready for encoding and decoding.

    Raises:
        ValueError: a file is missing or broken, or the weights do not fit the config; in one line.
    """
    settings, tensors = read_tokenizer_files(Path(folder))
    image_size = settings.pop("image_size")
    config_class, tokenizer_class = TOKENIZERS[settings["tokenizer"]]
    config = recipe.build(config_class, settings, file=str(folder))
    tokenizer = tokenizer_class(config, image_size)
    try:
        tokenizer.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"{folder}: the weights do not fit config.json: {first}") from None
    return tokenizer.to(device).eval()
