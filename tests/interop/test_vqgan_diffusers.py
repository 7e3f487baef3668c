"""diffusers' VQModel opened as ours, against its own forward pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lvmlite.interop.vqgan import import_vqgan
from tests.interop.public_nets import pictures

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def vq_model(attention: bool, middle: bool, **other: Any) -> Any:
    """Random weights, codes on its own latents."""
    from diffusers import VQModel

    torch.manual_seed(0)
    kinds = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D" if attention else "DownEncoderBlock2D")
    ups = ("AttnUpDecoderBlock2D" if attention else "UpDecoderBlock2D", "UpDecoderBlock2D")
    settings: dict[str, Any] = {
        "block_out_channels": (128, 256), "down_block_types": kinds, "up_block_types": ups, "latent_channels": 12,
        "num_vq_embeddings": 160, "vq_embed_dim": 8, "mid_block_add_attention": middle,
    }  # fmt: skip
    model = VQModel(**settings | other).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        latents = rows(model, pictures(8, seed=7))
        codes = latents[torch.randperm(len(latents))[:160]]
        model.quantize.embedding.weight.copy_(codes + 0.1 * codes.std() * torch.randn_like(codes))
    return model


def rows(model: Any, images: Tensor) -> Tensor:
    return model.encode(images).latents.permute(0, 2, 3, 1).flatten(0, 2)


@pytest.mark.parametrize(
    ("attention", "middle", "safe"),
    [(False, False, True), (True, True, True), (False, True, False), (True, False, False)],
)
def test_codes_and_pictures_are_those_of_diffusers(attention: bool, middle: bool, safe: bool, tmp_path: Path) -> None:
    model = vq_model(attention, middle)
    model.save_pretrained(tmp_path, safe_serialization=safe)
    tokenizer, format, assumed = import_vqgan(tmp_path, image_size=16)
    assert format == "diffusers"
    assert (tokenizer.config.attention, tokenizer.config.middle_attention) == ((8,) if attention else (), middle)
    assert sum(p.numel() for p in tokenizer.parameters()) == sum(p.numel() for p in model.parameters())
    expected_range = "symmetric" if middle else "unit"  # of these programs only aMUSEd has no attention in the middle
    assert tokenizer.config.pixel_range == expected_range
    assert len(assumed) == 1

    images = pictures(4, seed=1)
    seen = images * 2 - 1 if middle else images
    with torch.no_grad():
        distances = torch.cdist(rows(model, seen), model.quantize.embedding.weight).topk(2, largest=False)
        clear = distances.values[:, 1] - distances.values[:, 0] > 1e-5
        expected = model.quantize(model.encode(seen).latents)[2][2]
        theirs = model(seen).sample
        ours = tokenizer.pixels(tokenizer.quantize.decode(expected))
    assert int((~clear).sum()) <= 1
    assert len(expected.unique()) > 40
    assert torch.equal(tokenizer.encode(images).flatten()[clear], expected[clear])
    torch.testing.assert_close(ours, theirs / 2 + 0.5 if middle else theirs, atol=1e-4, rtol=0)


def test_names_of_attention_before_0_17(tmp_path: Path) -> None:
    model = vq_model(True, True)
    model.save_pretrained(tmp_path / "new", safe_serialization=False)
    weights = torch.load(tmp_path / "new" / "diffusion_pytorch_model.bin", weights_only=True)
    renamed = {}
    for name, tensor in weights.items():
        for new, old in OLD.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = tensor
    assert sum("proj_attn" in name for name in renamed) == 2 * (1 + 2 + 2)  # weight and bias: down, up, both middles
    (tmp_path / "old").mkdir()
    torch.save(renamed, tmp_path / "old" / "diffusion_pytorch_model.bin")
    new, old = (import_vqgan(tmp_path / name, image_size=16).tokenizer.state_dict() for name in ("new", "old"))
    assert all(torch.equal(new[name], old[name]) for name in new)
    assert new["encoder.mid.attn_1.q.weight"].shape == (256, 256, 1, 1)


@pytest.mark.parametrize(("sample_size", "size"), [(64, 64), (32, 256)])
def test_picture_size_of_the_config(sample_size: int, size: int, tmp_path: Path) -> None:
    """32 is diffusers' default, left in the configs of nets of other sizes: it says nothing."""
    vq_model(False, False, sample_size=sample_size).save_pretrained(tmp_path)
    tokenizer, _, assumed = import_vqgan(tmp_path)
    assert tokenizer.image_size == size
    assert ("pictures of 256 x 256 pixels" in assumed) == (sample_size == 32)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"norm_num_groups": 16}, "norms of 16 groups at 128 channels; only 32 are built there"),
        ({"act_fn": "gelu"}, "activation gelu; only silu is built"),
        ({"sample_size": [16, 24]}, "the config's picture size is [16, 24]"),
    ],
)
def test_a_config_that_is_not_built_here(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    vq_model(False, False).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=re.escape(said)):
        import_vqgan(tmp_path)


def test_a_vae_is_no_tokenizer(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    AutoencoderKL(block_out_channels=(32,), layers_per_block=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no codebook, quantize\.embedding\.weight; a VAE"):
        import_vqgan(tmp_path)
