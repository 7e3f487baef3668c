"""What every image tokenizer offers: pictures to codes and back, and fingerprints of what decides them.

In: images (B, 3, H, W) float in [0, 1]. Out: tokens (B, S) int64 in [0, codebook_size), raster order; and back.

A tokenizer folder holds `config.json` (the registry name and every number of the net) and `model.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Tokenizer(nn.Module):
    """Base class. A subclass is built from its config and a picture size.

    Attributes:
        kind: its name in TOKENIZERS.
        codebook_size: number of codes K.
        grid: (rows, columns) of codes in a picture; S = rows * columns.
        image_size: H = W of the pictures.
    """

    kind: ClassVar[str]
    codebook_size: int
    grid: tuple[int, int]
    image_size: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [0, 1] -> (B, S) int64."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """(B, S) int64 -> (B, 3, H, W) float32 in [0, 1]. Raises ValueError for a code outside the codebook."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Every number the net is built from, as JSON."""

    @abstractmethod
    def code_state(self) -> dict[str, Tensor]:
        """The tensors that decide codes: encoder and quantiser."""

    def code_settings(self) -> dict[str, Any]:
        """The settings that decide codes and cannot be seen in names and shapes of tensors."""
        return self.settings()

    @property
    def n_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def code_fingerprint(self) -> str:
        """Hash of what decides codes. A store belongs to one such hash; tuning the decoder keeps it."""
        return _fingerprint(self.code_settings(), self.code_state())

    @property
    def decoder_fingerprint(self) -> str:
        """Hash of the rest: what turns codes into pixels."""
        deciding = self.code_state()
        return _fingerprint(self.code_settings(), {k: v for k, v in self.state_dict().items() if k not in deciding})

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError for a wrong shape or dtype, NaN, or pixels outside [0, 1]."""
        if not isinstance(images, Tensor):
            raise ValueError(f"images must be a torch tensor, got {type(images).__name__}")
        expected = (3, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images must be (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [0, 1], got {images.dtype}; divide by 255")
        low, high = (float(v) for v in torch.aminmax(images)) if images.numel() else (0.0, 0.0)
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            hint = "; divide by 255" if low >= 0 and 1 < high <= 255 else ""
            raise ValueError(f"pixels must be finite and in [0, 1], got a range of {low:.3g} to {high:.3g}{hint}")

    def check_tokens(self, tokens: Tensor) -> None:
        """Raises ValueError for a wrong shape or dtype, or a code outside [0, codebook_size)."""
        if tokens.dim() != 2 or tokens.shape[1] != self.n_tokens:
            raise ValueError(f"tokens must be (B, {self.n_tokens}), got {tuple(tokens.shape)}")
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"tokens must be int64, got {tokens.dtype}")
        if tokens.numel():
            low, high = (int(v) for v in torch.aminmax(tokens))
            if low < 0 or high >= self.codebook_size:
                raise ValueError(f"codes must be in [0, {self.codebook_size}), got {low} to {high}")


@torch.no_grad()
def encode_pictures(tokenizer: Tokenizer, pictures: np.ndarray, batch: int = 64, bf16: bool = False) -> np.ndarray:
    """Tokens of many pictures, in batches of a fixed size so that the same pictures give the same codes.

    Args:
        pictures: (N, H, W, 3) uint8.
        bf16: autocast; faster where the device has bf16 products, a few codes in a thousand change.

    Returns:
        (N, S) uint16, or uint32 for more than 65536 codes.
    """
    out = np.empty((len(pictures), tokenizer.n_tokens), token_dtype(tokenizer.codebook_size))
    device = tokenizer.device
    for at in range(0, len(pictures), batch):
        x = to_float(pictures[at : at + batch], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out[at : at + batch] = tokenizer.encode(x).cpu().numpy()
    return out


@torch.no_grad()
def decode_tokens(tokenizer: Tokenizer, tokens: np.ndarray, batch: int = 64) -> np.ndarray:
    """(N, S) integer codes -> (N, H, W, 3) uint8 pictures, in fp32."""
    size = tokenizer.image_size
    out = np.empty((len(tokens), size, size, 3), np.uint8)
    for at in range(0, len(tokens), batch):
        chunk = torch.from_numpy(tokens[at : at + batch].astype(np.int64)).to(tokenizer.device)
        out[at : at + batch] = to_uint8(tokenizer.decode(chunk))
    return out


def to_float(pictures: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], channels last in memory.

    Raises:
        ValueError: not uint8, or not pictures of three channels.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(f"pictures must be (B, H, W, 3) uint8, got {pictures.shape} {pictures.dtype}")
    x = torch.from_numpy(np.require(pictures, requirements=["C", "W"])).to(device)
    return x.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) float -> (B, H, W, 3) uint8; values are clipped to [0, 1]."""
    x = images.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return x.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def token_dtype(codebook_size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if codebook_size <= 65536 else np.uint32


def _fingerprint(settings: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `model.safetensors` and, last, `config.json`.

    Raises:
        OSError: disk full; a tokenizer that was here before stays as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"tokenizer": tokenizer.kind, "image_size": tokenizer.image_size, **tokenizer.settings()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tokenizer.state_dict().items()}
    partial = {name: folder / f".{name}.partial" for name in ("model.safetensors", "config.json")}
    try:
        save_file(tensors, partial["model.safetensors"])
        partial["config.json"].write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        for path in partial.values():
            path.unlink(missing_ok=True)
        raise OSError(f"{folder}: cannot write the tokenizer ({error})") from None
    for name, path in partial.items():
        os.replace(path, folder / name)


def read_tokenizer_files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and tensors of a tokenizer folder.

    Raises:
        ValueError: a file is missing or broken, in one line that names it.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: not a whole tokenizer folder, {name} is missing")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'}: broken ({error}); copy or train the tokenizer again") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: not a JSON object; copy or train the tokenizer again")
    try:
        return config, load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"{folder / 'model.safetensors'}: broken ({error}); copy or train the tokenizer again"
        ) from None
