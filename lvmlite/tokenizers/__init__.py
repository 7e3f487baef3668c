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
    image_size, name = settings.pop("image_size", None), settings.get("tokenizer")
    if name not in TOKENIZERS or not isinstance(image_size, int):
        raise ValueError(
            f"{folder}/config.json: needs an image_size and a tokenizer out of {', '.join(TOKENIZERS)}, "
            f"got {image_size!r} and {name!r}"
        )
    config_class, tokenizer_class = TOKENIZERS[name]
    config = recipe.build(config_class, settings, file=f"{folder}/config.json")
    with torch.device("meta"):  # the shapes only: no time is spent on weights that are replaced
        expected = tokenizer_class(config, image_size).state_dict()
    for key in expected.keys() | tensors.keys():
        if key not in tensors or key not in expected or tensors[key].shape != expected[key].shape:
            found, wanted = (tuple(x[key].shape) if key in x else "none" for x in (tensors, expected))
            raise ValueError(f"{folder}: the weights do not fit config.json: {key} is {found}, expected {wanted}")
    tokenizer = tokenizer_class(config, image_size)
    tokenizer.load_state_dict(tensors)
    return tokenizer.to(device).eval()
