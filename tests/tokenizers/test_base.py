"""What every tokenizer shares: bad input in one line, fingerprints, folders, many pictures at a time."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lvmlite.tokenizers import TOKENIZERS, base, build_tokenizer, load_tokenizer
from lvmlite.tokenizers.base import (
    Tokenizer,
    decode_tokens,
    encode_pictures,
    save_tokenizer,
    to_float,
    to_uint8,
    token_dtype,
)
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGANConfig

SIZE, K = 16, 20
TINY = VQGANConfig(
    channels=8, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=8, patch=2,
    quantizer=NearestCodeConfig(codebook_size=K, codebook_dim=4),
)  # fmt: skip
CONFIGS: dict[str, Any] = {"vqgan": TINY}


def tokenizer(config: Any = TINY) -> Any:
    made: Any = build_tokenizer(config, SIZE, seed=0)
    with torch.no_grad():
        made.quantize.place(made.latents(to_float(pictures(20))), torch.Generator().manual_seed(0))
    return made.eval()


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tokenizer(tokenizer(), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


# --- the contract of every registered tokenizer


def test_every_tokenizer_has_a_tiny_config_here() -> None:
    assert CONFIGS.keys() == TOKENIZERS.keys()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_contract(name: str, tmp_path: Path) -> None:
    made: Tokenizer = tokenizer(CONFIGS[name])
    assert made.kind == name == CONFIGS[name].tokenizer
    rows, columns = made.grid
    codes = encode_pictures(made, pictures(3))
    assert codes.shape == (3, rows * columns) == (3, made.n_tokens)
    assert codes.max() < made.codebook_size
    assert decode_tokens(made, codes).shape == (3, SIZE, SIZE, 3)
    save_tokenizer(made, tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert isinstance(again, type(made))
    assert not again.training
    assert (again.grid, again.codebook_size, again.image_size) == (made.grid, made.codebook_size, SIZE)
    assert again.settings() == json.loads(json.dumps(made.settings()))
    for key, tensor in made.state_dict().items():
        assert again.state_dict()[key].equal(tensor), key
    assert np.array_equal(encode_pictures(again, pictures(3)), codes)
    assert np.array_equal(decode_tokens(again, codes), decode_tokens(made, codes))
    assert (again.code_fingerprint, again.decoder_fingerprint) == (made.code_fingerprint, made.decoder_fingerprint)


# --- fingerprints


def test_fingerprints_tell_encoder_from_decoder() -> None:
    made = tokenizer()
    codes, decoder = made.code_fingerprint, made.decoder_fingerprint
    assert (len(codes), codes != decoder) == (16, True)
    assert (made.code_fingerprint, made.decoder_fingerprint) == (codes, decoder)
    for name, parameter in made.named_parameters():
        if name.split(".")[-1] != "weight" or parameter.dim() == 1:
            continue
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter[0, 0] += 1e-6
        decides = name.startswith(("encoder.", "quant_conv.", "quantize."))
        assert (made.code_fingerprint != codes) == decides, name
        assert (made.decoder_fingerprint != decoder) != decides, name
        parameter.data.copy_(kept)


def test_fingerprints_and_settings() -> None:
    """What is only for training, or for the decoder, leaves a store valid."""
    made = tokenizer()

    def like(**change: Any) -> Any:
        other: Any = build_tokenizer(replace(TINY, **change), SIZE, seed=0)
        known = {k: v for k, v in made.state_dict().items() if k in other.state_dict()}
        other.load_state_dict(known, strict=False)
        return other

    training = like(quantizer=replace(TINY.quantizer, ema_decay=0.5, commitment_weight=1.0, revive_below=0.1))
    assert training.code_fingerprint == made.code_fingerprint
    assert training.decoder_fingerprint == made.decoder_fingerprint
    deeper = like(n_decoder_res_blocks=2)
    assert deeper.code_fingerprint == made.code_fingerprint
    assert deeper.decoder_fingerprint != made.decoder_fingerprint
    assert like(pixel_range="symmetric").code_fingerprint != made.code_fingerprint
    assert like(n_res_blocks=2).code_fingerprint != made.code_fingerprint


# --- bad input


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            torch.full((1, 3, SIZE, SIZE), float("nan")),
            "finite and in [0, 1], got a range of nan to nan",
        ),
        (torch.full((1, 3, SIZE, SIZE), float("inf")), "pixels must be finite and in [0, 1]"),
        (torch.rand(1, 3, SIZE, SIZE) * 255, "; divide by 255"),
        (torch.rand(1, 3, SIZE, SIZE) * 2 - 1, "pixels must be finite and in [0, 1], got a range of -"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), "images must be float in [0, 1], got torch.uint8"),
        (torch.zeros(1, 1, SIZE, SIZE), "images must be (B, 3, 16, 16), got (1, 1, 16, 16)"),
        (torch.zeros(1, 4, SIZE, SIZE), "got (1, 4, 16, 16)"),
        (torch.zeros(1, SIZE, SIZE, 3), "got (1, 16, 16, 3)"),
        (torch.zeros(3, SIZE, SIZE), "got (3, 16, 16)"),
        (torch.zeros(1, 3, SIZE, 32), "got (1, 3, 16, 32)"),
    ],
)
def test_images_that_are_none(images: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        tokenizer().encode(images)
    assert said in one_line(error)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.full((1, 16), K), "codes must be in [0, 20), got 20 to 20"),
        (torch.full((1, 16), -1), "got -1 to -1"),
        (torch.zeros(1, 15, dtype=torch.long), "tokens must be (B, 16), got (1, 15)"),
        (torch.zeros(16, dtype=torch.long), "got (16,)"),
        (torch.zeros(1, 16), "tokens must be int64, got torch.float32"),
    ],
)
def test_tokens_that_are_none(tokens: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        tokenizer().decode(tokens)
    assert said in one_line(error)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, SIZE, SIZE, 3), np.float32), ((SIZE, SIZE, 3), np.uint8), ((1, SIZE, SIZE, 4), np.uint8)]
)
def test_pictures_that_are_none(shape: tuple[int, ...], dtype: Any) -> None:
    wrong = np.ones(shape, dtype)
    with pytest.raises(ValueError, match=r"pictures must be \(B, H, W, 3\) uint8") as error:
        encode_pictures(tokenizer(), wrong)
    one_line(error)
    assert (wrong == 1).all()


def test_rounding_beyond_the_range_is_let_through() -> None:
    assert tokenizer().encode(torch.full((1, 3, SIZE, SIZE), 1.0005)).shape == (1, 16)


# --- many pictures


def test_pictures_come_back_as_bytes() -> None:
    x = pictures(5)
    assert np.array_equal(to_uint8(to_float(x)), x)
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)).ravel().tolist() == [0, 255, 128]
    assert to_float(x).stride()[1] == 1  # channels last


def test_batches_are_put_together() -> None:
    made, x = tokenizer(), pictures(11)
    whole = made.encode(to_float(x)).numpy()
    codes = encode_pictures(made, x, batch=4)
    assert codes.dtype == np.uint16
    assert (codes == whole).mean() >= 0.999
    assert np.array_equal(codes, encode_pictures(made, x, batch=4))
    shown = decode_tokens(made, codes, batch=3)
    assert shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - to_uint8(made.decode(torch.from_numpy(whole)))).max() <= 1
    assert encode_pictures(made, x[:0]).shape == (0, 16)
    assert decode_tokens(made, codes[:0]).shape == (0, SIZE, SIZE, 3)


def test_encoding_in_bf16_changes_few_codes() -> None:
    made, x = tokenizer(), pictures(64)
    assert (encode_pictures(made, x) == encode_pictures(made, x, bf16=True)).mean() > 0.9


def test_codes_beyond_two_bytes() -> None:
    assert token_dtype(65536) is np.uint16
    assert token_dtype(65537) is np.uint32


# --- folders


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: not a whole tokenizer folder, config.json is missing"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"not a whole tokenizer folder, {name} is missing") as error:
        load_tokenizer(folder)
    assert str(folder) in one_line(error)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_weights_cut_short(keep: int, folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:keep])
    with pytest.raises(ValueError, match=r"model.safetensors: broken") as error:
        load_tokenizer(folder)
    one_line(error)


@pytest.mark.parametrize("text", ["", '{"tokenizer": "vqg', "[1]", "\x00\xff"])
def test_a_broken_config(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json: (broken|not a JSON object)") as error:
        load_tokenizer(folder)
    one_line(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 16}, "the weights do not fit config.json: "),
        ({"n_res_blocks": 2}, "the weights do not fit config.json: "),
        ({"image_size": None}, "needs an image_size"),
        ({"tokenizer": "vqvae"}, "a tokenizer out of vqgan"),
        ({"chanels": 8}, "chanels"),
        ({"channels": "wide"}, "channels"),
        ({"patch": -1}, "patch"),
        ({"image_size": 15}, "not a multiple of f"),
    ],
)
def test_a_config_that_does_not_fit(change: dict[str, Any], said: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=said) as error:
        load_tokenizer(folder)
    assert str(folder) in one_line(error) or "multiple" in said


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_weights_that_do_not_fit(change: str, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    if change == "missing":
        del tensors["quant_conv.bias"]
    else:
        tensors["loss.discriminator.weight"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit config\.json: (quant_conv\.bias is none|loss\.d)") as error:
        load_tokenizer(folder)
    one_line(error)


def test_the_config_holds_every_number(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config == json.loads(json.dumps({"tokenizer": "vqgan", "image_size": SIZE, **asdict(TINY)}))


def test_a_full_disk_keeps_the_tokenizer_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shutil.copytree(folder, folder.with_name("kept"))

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base, "save_file", full)
    with pytest.raises(OSError, match=r"cannot write the tokenizer .*No space left"):
        save_tokenizer(tokenizer(replace(TINY, channels=16)), folder)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    for path in kept.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
