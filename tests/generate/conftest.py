"""A tiny random model with everything around it: 16 px, 2 x 2 codes a picture, 64 codes, 4 pictures of context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmlite.generate.folder import export_model
from lvmlite.generate.lvm import LVM
from lvmlite.model.architecture import ModelConfig
from lvmlite.model.transformer import Transformer
from lvmlite.tokenizers import build_tokenizer
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGANConfig

K, SIZE, S = 64, 16, 4

KINDS = {
    "edges": {"task": "edges"},
    "depth": {"task": "depth"},
    "normals": {"task": "normals"},
    "holes": {"task": "inpainting"},
    "seg_world": {"task": "segmentation", "palette": "distinct", "n_classes": 5},
}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def parts(**info: Any) -> dict[str, Any]:
    """Arguments of export_model."""
    config = VQGANConfig(
        channels=8,
        multipliers=(1, 1, 1, 2),
        n_res_blocks=1,
        n_decoder_res_blocks=1,
        z_channels=8,
        quantizer=NearestCodeConfig(codebook_size=K, codebook_dim=4),
    )
    tokenizer = build_tokenizer(config, SIZE, seed=0)
    codebook = tokenizer.quantize.embedding.weight
    pixels = np.stack([picture(SIZE, SIZE, i) // (1 + i % 5) for i in range(K)])
    latents = tokenizer.latents(_float(pixels)).detach()
    codebook.data.copy_(latents[:: len(latents) // K][:K])  # codes that pictures do use
    arch = ModelConfig(dim=32, hidden_dim=48, n_layers=2, n_heads=2, max_seq_len=32).resolve(K)
    used = np.zeros(K, bool)
    used[:3] = True
    return {
        "arch": arch,
        "tensors": Transformer(arch).init_weights(seed=1, std=0.3).state_dict(),
        "tokenizer": tokenizer.eval(),
        "info": {
            "name": "tiny",
            "geometry": {"size": SIZE, "fit": "crop", "filter": "bilinear", "antialias": True},
            "bos": "sentence",
            "eos": False,
            "pictures": 4,
            "kinds": KINDS,
            "recipe": {"seed": 0},
            "history": [{"stage": "single", "steps": 3, "tokens": 12, "loss": 4.0}],
            "sources": {"noise": {"licence": "CC0"}},
            **info,
        },
        "codes": {"edges": used, "depth": ~used},
        "prompts": {"edges": [(picture(SIZE, SIZE, i), picture(SIZE, SIZE, i + 9)) for i in range(2)]},
        "licences": {"edges": "CC0, made of noise"},
    }


def _float(pixels: np.ndarray) -> Any:
    from lvmlite.tokenizers.base import to_float

    return to_float(pixels)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only; copy it to break it."""
    folder = tmp_path_factory.mktemp("export") / "model"
    export_model(folder, **parts())
    return folder


@pytest.fixture(scope="session")
def lvm(model_folder: Path) -> LVM:
    return LVM.load(model_folder, device="cpu")
