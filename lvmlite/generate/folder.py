"""The model folder: everything needed to prompt a trained model, and nothing else.

    config.json, model.safetensors, generation_config.json    a Hugging Face LlamaForCausalLM
    tokenizer/                                                 codes <-> pictures
    lvmlite.json                                               geometry, vocabulary, kinds, recipe, history
    codes.safetensors                                          the codes each kind uses, (K,) bool
    prompts/<kind>/0-image.png, 0-annotation.png, licence.txt  a few training pairs

In: a model, a tokenizer and what is known of them. Out: the folder, complete or not there at all; and back.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lvmlite import recipe
from lvmlite.images import Geometry, Unreadable, decode, encode_png
from lvmlite.model.architecture import Architecture
from lvmlite.model.files import load_weights, read_json, save_weights
from lvmlite.model.transformer import Transformer
from lvmlite.recipe import Range, one_of
from lvmlite.tasks import TASK_CONFIGS
from lvmlite.tokenizers import load_tokenizer
from lvmlite.tokenizers.base import Tokenizer, save_tokenizer

INFO = "lvmlite.json"
CODES = "codes.safetensors"
LICENCE = "licence.txt"
PARTS = ("config.json", "generation_config.json", "tokenizer/config.json", "tokenizer/model.safetensors", CODES)
KIND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BROKEN = "export or download the model again"

Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass
class ModelInfo:
    """`lvmlite.json`.

    Attributes:
        name: of the model.
        geometry: how pictures are fitted; its size is the tokenizer's.
        codebook_size, tokens_per_picture, code_fingerprint: of the tokenizer.
        bos: "sentence" if trained with BOS before every sentence, else "none"; eos: if trained with EOS after it.
        pictures: trained context, in pictures.
        kinds: name -> config of its task.
        recipe, history, sources: how it came about; sources maps names to {"licence": ...}.
    """

    name: str
    geometry: Geometry
    codebook_size: Annotated[int, Range(2)]
    tokens_per_picture: Annotated[int, Range(1)]
    code_fingerprint: str
    pictures: Annotated[int, Range(1)]
    bos: Literal["sentence", "none"] = "sentence"
    eos: bool = False
    kinds: dict[str, Any] = field(default_factory=dict, metadata=one_of("task", lambda: TASK_CONFIGS))
    recipe: dict[str, Any] = field(default_factory=dict)
    history: list[Any] = field(default_factory=list)
    sources: dict[str, Any] = field(default_factory=dict)
    format: Literal[1] = 1


@dataclass
class ModelFolder:
    """An open model folder; the model in fp32, everything on the CPU.

    Attributes:
        info: lvmlite.json as it stands; `checked`: the same, typed.
        codes: kind -> (K,) bool.
        prompts: kind -> pairs of uint8 pictures (size, size, 3); licences: kind -> text.
    """

    model: Transformer
    tokenizer: Tokenizer
    info: dict[str, Any]
    checked: ModelInfo
    codes: dict[str, np.ndarray]
    prompts: dict[str, Pairs]
    licences: dict[str, str]


def export_model(
    folder: str | Path,
    arch: Architecture,
    tensors: Mapping[str, torch.Tensor],
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    codes: Mapping[str, np.ndarray] | None = None,
    prompts: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]] | None = None,
    licences: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model folder beside its place, then put it there: it is complete or absent, never half written.

    Args:
        folder: replaced if it is a model folder already.
        arch, tensors: of the decoder; dtype: of the weights' file, see `save_weights`.
        info: `ModelInfo` as plain values; codebook_size, tokens_per_picture, code_fingerprint and format are filled in.
        codes: kind -> (K,) bool, the codes it uses.
        prompts: kind -> pairs (photo, annotation) of fitted uint8 pictures from train. None for private data.
        licences: kind -> licence of its prompts.

    Raises:
        ValueError: info that does not fit the tokenizer or the model, prompts without licence, a folder of other files.
    """
    target = Path(folder)
    codes, prompts, licences = codes or {}, prompts or {}, licences or {}
    own = {
        "format": 1,
        "codebook_size": tokenizer.codebook_size,
        "tokens_per_picture": tokenizer.n_tokens,
        "code_fingerprint": tokenizer.code_fingerprint,
    }
    full = {**own, **info}
    checked = _check_info(full, INFO)
    _check_fit(checked, arch, tokenizer, str(target))
    _check_codes(codes, checked.codebook_size, CODES)
    for kind in {*codes, *prompts}:
        if not KIND_NAME.fullmatch(kind):
            raise ValueError(f"kind {kind!r} cannot name a folder; use letters, digits, _, - and .")
        if kind in prompts and not licences.get(kind, "").strip():
            raise ValueError(f"prompts of kind '{kind}' have no licence; give its text, or leave the prompts out")
    if target.exists() and not (target.is_dir() and ((target / INFO).exists() or not any(target.iterdir()))):
        raise ValueError(f"{target}: exists and is not a model folder; choose another place or remove it")
    partial, old = (target.with_name(f".{target.name}.{end}") for end in ("partial", "old"))
    for leftover in (partial, old):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    bos = checked.bos == "sentence"
    save_weights(partial, arch, tensors, dtype, bos=bos, eos=checked.eos)
    save_tokenizer(tokenizer, partial / "tokenizer")
    tables = {kind: torch.from_numpy(np.ascontiguousarray(used)) for kind, used in codes.items()}
    save_file(tables, partial / CODES)
    for kind, pairs in prompts.items():
        _write_prompts(partial / "prompts" / kind, pairs, licences[kind])
    text = json.dumps(full, indent=1, ensure_ascii=False) + "\n"
    (partial / INFO).write_text(text, encoding="utf-8")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def read_model(folder: str | Path) -> ModelFolder:
    """Open a model folder.

    Raises:
        ValueError: a part is missing, broken, or does not fit the others; one line that names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of a model, e.g. runs/quickstart/model")
    info = read_json(folder / INFO)
    checked = _check_info(info, str(folder / INFO))
    for name in PARTS:
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: not a whole model folder, {name} is missing; {BROKEN}")
    read_json(folder / "generation_config.json")  # not ours to use, but transformers stops at codes without it
    model = load_weights(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    _check_fit(checked, model.arch, tokenizer, str(folder))
    prompts, licences = _read_prompts(folder / "prompts")
    codes = _read_codes(folder / CODES, checked.codebook_size)
    return ModelFolder(model, tokenizer, info, checked, codes, prompts, licences)


def _check_info(info: Mapping[str, Any], file: str) -> ModelInfo:
    """Typed; keys of later versions are passed over."""
    known = {f.name for f in fields(ModelInfo)}
    return recipe.build(ModelInfo, {k: v for k, v in info.items() if k in known}, file=file)


def _check_fit(info: ModelInfo, arch: Architecture, tokenizer: Tokenizer, folder: str) -> None:
    pairs = [
        ("codebook_size", info.codebook_size, "the model", arch.codebook_size),
        ("codebook_size", info.codebook_size, "the tokenizer", tokenizer.codebook_size),
        ("tokens_per_picture", info.tokens_per_picture, "the tokenizer", tokenizer.n_tokens),
        ("geometry.size", info.geometry.size, "the tokenizer", tokenizer.image_size),
        ("code_fingerprint", info.code_fingerprint, "the tokenizer", tokenizer.code_fingerprint),
    ]
    for name, ours, whose, theirs in pairs:
        if ours != theirs:
            raise ValueError(f"{folder}: {name} of {INFO} is {ours}, {whose} has {theirs}; they are of two models")
    if info.tokens_per_picture > arch.max_seq_len:
        raise ValueError(
            f"{folder}: a picture of {info.tokens_per_picture} codes exceeds max_seq_len {arch.max_seq_len}"
        )


def _write_prompts(folder: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]], licence: str) -> None:
    folder.mkdir(parents=True)
    for i, (image, annotation) in enumerate(pairs):
        (folder / f"{i}-image.png").write_bytes(encode_png(image))
        (folder / f"{i}-annotation.png").write_bytes(encode_png(annotation))
    (folder / LICENCE).write_text(licence.strip() + "\n", encoding="utf-8")


def _read_prompts(folder: Path) -> tuple[dict[str, Pairs], dict[str, str]]:
    prompts: dict[str, Pairs] = {}
    licences: dict[str, str] = {}
    for place in sorted(p for p in folder.glob("*") if p.is_dir()):
        numbers = {int(m[1]) for p in place.iterdir() if (m := re.fullmatch(r"(\d+)-\w+\.png", p.name))}
        prompts[place.name] = [
            (_read_png(place / f"{i}-image.png"), _read_png(place / f"{i}-annotation.png")) for i in sorted(numbers)
        ]
        licences[place.name] = _read_licence(place / LICENCE)
    return prompts, licences


def _read_png(path: Path) -> np.ndarray:
    try:
        return decode(path)
    except Unreadable as error:
        raise ValueError(f"{path}: {error.reason}; {BROKEN}, or remove the pair") from None


def _read_licence(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}; {BROKEN}") from None
    if not text:
        raise ValueError(f"{path}: missing or empty, so nobody knows what the prompts may be used for; {BROKEN}")
    return text


def _read_codes(path: Path, codebook_size: int) -> dict[str, np.ndarray]:
    try:
        tables = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: broken or cut off: {error}; {BROKEN}") from None
    codes = {kind: used.numpy().copy() for kind, used in tables.items()}
    _check_codes(codes, codebook_size, str(path))
    return codes


def _check_codes(codes: Mapping[str, np.ndarray], codebook_size: int, where: str) -> None:
    for kind, used in codes.items():
        if used.dtype != bool or used.shape != (codebook_size,):
            raise ValueError(f"{where}: {kind} is {used.shape} {used.dtype}, expected ({codebook_size},) bool")
