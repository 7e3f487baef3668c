"""The contract of every registered quantiser, alone and in a VQGAN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmlite import recipe
from lvmlite.tokenizers import load_tokenizer
from lvmlite.tokenizers.base import save_tokenizer
from lvmlite.tokenizers.quantizers import QUANTIZERS, Quantizer, build_quantizer
from lvmlite.tokenizers.quantizers.fsq import FSQ, FSQConfig
from lvmlite.tokenizers.quantizers.lfq import BSQConfig, LFQConfig
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

CONFIGS: dict[str, Any] = {
    "nearest": NearestCodeConfig(codebook_size=24, codebook_dim=4),
    "fsq": FSQConfig(levels=(8, 5, 5, 5)),
    "lfq": LFQConfig(codebook_size=32),
    "bsq": BSQConfig(codebook_size=32, group_bits=3),
}
CHANGES: dict[str, list[dict[str, Any]]] = {  # of what decides codes
    "nearest": [{"normalize": True}, {"codebook_size": 25}],
    "fsq": [{"levels": (5, 8, 5, 5)}, {"levels": (8, 5, 5, 4)}, {"levels": (8, 5, 5)}],
    "lfq": [{"codebook_size": 64}],
    "bsq": [{"codebook_size": 64}],
}
HARMLESS: dict[str, dict[str, Any]] = {
    "nearest": {"commitment_weight": 0.5},
    "fsq": {},
    "lfq": {"temperature": 0.5, "entropy_weight": 0.3, "group_bits": 2},
    "bsq": {"temperature": 0.5, "diversity_weight": 2.0, "commitment_weight": 0.0},
}
every = pytest.mark.parametrize("name", QUANTIZERS)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(name: str) -> Quantizer:
    """Its codes, if learned, on latents that lie apart."""
    made = build_quantizer(CONFIGS[name])
    made.init_weights(torch.Generator().manual_seed(0))
    made.place(draw(200, made.dim, seed=3), torch.Generator().manual_seed(0))
    return made


def vqgan(quantizer: Any, variant: Any = "taming") -> VQGAN:
    width = 8 if variant == "taming" else quantizer.codebook_dim
    config = VQGANConfig(
        channels=8, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=width, patch=2,
        variant=variant, quantizer=quantizer,
    )  # fmt: skip
    return VQGAN(config, 16).init_weights(0)


def images(n: int) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_every_quantiser_has_a_tiny_config_here() -> None:
    assert CONFIGS.keys() == CHANGES.keys() == HARMLESS.keys() == QUANTIZERS.keys()


@every
def test_the_config(name: str) -> None:
    config, made = CONFIGS[name], quantizer(name)
    assert config.quantizer == name
    assert isinstance(made, QUANTIZERS[name][1])
    assert (made.codebook_size, made.dim) == (config.codebook_size, config.codebook_dim)
    assert {"quantizer"} <= {*made.deciding} <= recipe.to_dict(config).keys()
    assert recipe.build(QUANTIZERS[name][0], recipe.to_dict(config)) == config
    assert QUANTIZERS[name][0]().quantizer == name


@every
def test_latents_to_codes_and_back(name: str) -> None:
    made, x = quantizer(name), draw(700, quantizer(name).dim)
    codes = made.encode(x)
    assert (codes.shape, codes.dtype) == ((700,), torch.int64)
    assert codes.min() >= 0
    assert codes.max() < made.codebook_size
    assert len(codes.unique()) > made.codebook_size / 8
    out = made(x)
    assert out.codes.equal(codes)
    assert out.latents.shape == x.shape
    assert torch.allclose(out.latents, made.decode(codes), atol=1e-6)
    assert out.loss.shape == ()
    assert out.loss.isfinite()
    assert all(part.shape == () and part.isfinite() for part in out.parts.values())


@every
def test_a_latent_has_the_same_code_in_any_company(name: str) -> None:
    made, x = quantizer(name), draw(40, quantizer(name).dim)
    assert torch.cat([made.encode(row[None]) for row in x]).equal(made.encode(x))


@every
def test_codes_to_latents_and_back(name: str) -> None:
    """What a code stands for has that code. FSQ's levels stand behind its tanh, where `codes` reads them."""
    made = quantizer(name)
    codes = torch.randint(made.codebook_size, (300,), generator=torch.Generator().manual_seed(2))
    latents = made.decode(codes)
    assert (latents.shape, latents.dtype) == ((300, made.dim), torch.float32)
    read = made.codes if isinstance(made, FSQ) else made.encode
    assert read(latents).equal(codes)


@every
def test_the_gradient_reaches_every_latent(name: str) -> None:
    made, x = quantizer(name), draw(50, quantizer(name).dim).requires_grad_()
    (gradient,) = torch.autograd.grad((made(x).latents * draw(50, made.dim, seed=1)).sum(), x)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


@every
def test_zeros_and_nothing(name: str) -> None:
    made = quantizer(name)
    out = made(torch.zeros(3, made.dim))
    assert out.latents.isfinite().all()
    assert out.codes.equal(out.codes[:1].expand(3))
    none = made(torch.zeros(0, made.dim))
    assert none.latents.shape == (0, made.dim)
    assert none.codes.equal(torch.zeros(0, dtype=torch.long))
    assert made.decode(none.codes).shape == (0, made.dim)
    assert made.tally(none.latents, none.codes)[0].tolist() == [0.0] * made.codebook_size


@every
def test_the_tally_counts(name: str) -> None:
    made, x = quantizer(name), draw(90, quantizer(name).dim)
    codes = made.encode(x)
    count, *more = made.tally(x, codes)
    assert count.dtype == torch.float32
    assert count.equal(torch.bincount(codes, minlength=made.codebook_size).float())
    before = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    dead = made.update(count, *more)
    assert dead.dtype == torch.int64
    if not made.has_codebook:
        assert dead.tolist() == more == []
        assert before == made.training_state() == {}


# --- in a VQGAN


@every
@pytest.mark.parametrize("variant", ["taming", "maskgit"])
def test_training(name: str, variant: str) -> None:
    """The gradient reaches every weight of the encoder, and the loss falls."""
    made, x, losses = vqgan(CONFIGS[name], variant), images(4), []
    with torch.no_grad():
        made.quantize.place(made.latents(x), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(3):
        out = made(x)
        loss = F.mse_loss(out.images, x) + out.loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        still = [key for key, p in made.encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not still
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]


@every
def test_a_saved_tokenizer_gives_the_same_codes(name: str, tmp_path: Path) -> None:
    made = vqgan(CONFIGS[name]).eval()
    with torch.no_grad():
        made.quantize.place(made.latents(images(9)), torch.Generator().manual_seed(0))
    save_tokenizer(made, tmp_path)
    again = load_tokenizer(tmp_path)
    codes = made.encode(images(9))
    assert len(codes.unique()) > 3
    assert again.encode(images(9)).equal(codes)
    assert again.decode(codes).equal(made.decode(codes))
    assert again.code_fingerprint == made.code_fingerprint
    assert again.decoder_fingerprint == made.decoder_fingerprint


@every
def test_fingerprints_follow_what_decides_codes(name: str) -> None:
    made = vqgan(CONFIGS[name]).code_fingerprint
    for change in CHANGES[name]:
        assert vqgan(replace(CONFIGS[name], **change)).code_fingerprint != made, change
    assert vqgan(replace(CONFIGS[name], **HARMLESS[name])).code_fingerprint == made


def test_the_quantiser_is_part_of_the_fingerprint() -> None:
    """LFQ and BSQ of the same net give the same codes, of other latents."""
    lfq, bsq = vqgan(CONFIGS["lfq"]), vqgan(CONFIGS["bsq"])
    assert lfq.encode(images(2)).equal(bsq.encode(images(2)))
    assert lfq.code_fingerprint != bsq.code_fingerprint
