"""Weights on disk: a Hugging Face folder of `LlamaForCausalLM`, and back.

In: a Transformer. Out: `config.json`, `generation_config.json` and `model.safetensors` (in pieces with an index above
5 GB), each written under a temporary name and renamed. `transformers.LlamaForCausalLM.from_pretrained` reads it.

Every id of the vocabulary below codebook_size is a picture code, so transformers' default bos 1 and eos 2 would stop
at a valid code: special ids are null or >= codebook_size, and `generation_config.json` suppresses all that are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lvmlite.model.architecture import Architecture
from lvmlite.model.transformer import Transformer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ARCHITECTURE = "LlamaForCausalLM"
FP32_PARAMETERS = 150_000_000  # models up to the 100m preset stay in fp32
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

# config.json -> Architecture; all must be there
FIELDS = {
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "vocab_size": "vocab_size",
    "codebook_size": "codebook_size",
    "max_position_embeddings": "max_seq_len",
}
# what our block has and is not free to choose; a config may leave these out
FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False}


def save_weights(
    folder: str | Path,
    model: Transformer,
    dtype: torch.dtype | None = None,
    *,
    bos: bool = True,
    eos: bool = False,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a model as a Hugging Face folder; other files in it are left alone.

    Args:
        dtype: of the file; None is float32 up to the 100m preset and bfloat16 above.
        bos, eos: whether the model was trained with them; else they are null in the config.
        max_shard_bytes: bigger models are split.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is None:
        dtype = torch.float32 if model.arch.n_parameters <= FP32_PARAMETERS else torch.bfloat16
    shards = _split(model.state_dict(), dtype, max_shard_bytes)
    total = sum(t.numel() for t in model.state_dict().values()) * dtype.itemsize
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards):
        tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in shard.items()}
        temporary = folder / f".{name}.tmp"
        save_file(tensors, temporary, metadata={"format": "pt"})
        os.replace(temporary, folder / name)
    if len(shards) > 1:
        where = {key: name for name, shard in zip(names, shards) for key in shard}
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
    _write_json(folder / "config.json", hf_config(model.arch, dtype, bos, eos))
    _write_json(folder / "generation_config.json", _generation_config(model.arch, bos, eos))
    keep = {*names, INDEX} if len(shards) > 1 else {*names}
    for stale in (*folder.glob("model*.safetensors"), folder / INDEX):
        if stale.name not in keep:
            stale.unlink(missing_ok=True)


def load_weights(folder: str | Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a folder, on the CPU, its parameters in `dtype` whatever the file's.

    Raises:
        ValueError: a file is missing or broken, an architecture we do not have, weights that do not fit the config;
            one line that names the file and the remedy.
    """
    folder = Path(folder)
    arch = read_architecture(folder / "config.json")
    with torch.device("meta"):
        model = Transformer(arch)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors: dict[str, Tensor] = {}
    for name, keys in _files(folder).items():
        tensors |= _read_shard(folder / name, keys, wanted, dtype)
    if missing := [name for name in wanted if name not in tensors]:
        tied = "; the head is tied to the embedding, store it as its own tensor"
        raise ValueError(
            f"{folder / WEIGHTS}: {len(missing)} tensors are missing, the first is {missing[0]}"
            f"{tied if missing == ['lm_head.weight'] else '; export or download the model again'}"
        )
    model.load_state_dict(tensors, assign=True)
    return model


def hf_config(arch: Architecture, dtype: torch.dtype, bos: bool, eos: bool) -> dict[str, Any]:
    """What transformers 4 and 5 read; rope_theta and dtype stand under the old and the new name."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        **{theirs: getattr(arch, ours) for theirs, ours in FIELDS.items()},
        "head_dim": arch.head_dim,
        "rms_norm_eps": arch.norm_eps,
        "rope_theta": arch.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": arch.rope_theta},
        **FIXED,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": arch.bos if bos else None,
        "eos_token_id": arch.eos if eos else None,
        "pad_token_id": None,
        "dtype": DTYPES[dtype],
        "torch_dtype": DTYPES[dtype],
        "use_cache": True,
    }


def _generation_config(arch: Architecture, bos: bool, eos: bool) -> dict[str, Any]:
    return {
        "bos_token_id": arch.bos if bos else None,
        "eos_token_id": arch.eos if eos else None,
        "pad_token_id": None,
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 100,
        "suppress_tokens": list(range(arch.codebook_size, arch.vocab_size)),
    }


def read_architecture(path: Path) -> Architecture:
    """The shape that a config.json describes.

    Raises:
        ValueError: missing, broken, or a net that is not this decoder, in one line.
    """
    config = read_json(path)
    names = config.get("architectures")
    if names != [ARCHITECTURE]:
        said = ", ".join(map(str, names)) if isinstance(names, list) else names
        raise ValueError(f"{path}: architecture {said}; only {ARCHITECTURE} can be read")
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{path}: {key} is {config[key]}; this decoder has {json.dumps(value)}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        raise ValueError(f"{path}: rotary embedding of type {kind!r}; only 'default' can be read")
    theta = rope.get("rope_theta", config.get("rope_theta"))
    numbers: dict[str, Any] = {}
    for theirs, ours in FIELDS.items():
        value = config.get(theirs, config.get("num_attention_heads") if ours == "n_kv_heads" else None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            hint = "; add the number of picture codes (8192 for LVM)" if ours == "codebook_size" else ""
            raise ValueError(f"{path}: {theirs} must be a whole number >= 1, got {value}{hint}")
        numbers[ours] = value
    for key, ours, value in (
        ("rms_norm_eps", "norm_eps", config.get("rms_norm_eps")),
        ("rope_theta", "rope_theta", theta),
    ):
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{path}: {key} must be a number above 0, got {value}")
        numbers[ours] = float(value)
    try:
        arch = Architecture(**numbers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if config.get("head_dim") not in (None, arch.head_dim):
        raise ValueError(
            f"{path}: head_dim {config['head_dim']} is not hidden_size / num_attention_heads = {arch.head_dim}"
        )
    return arch


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError if it is missing, broken or something else, in one line."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent}: no such folder; give the folder of a model") from None
        raise ValueError(f"{path.parent}: not a whole model folder, {path.name} is missing") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON: {error}; export or download the model again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object was expected; export or download the model again")
    return value


def _split(tensors: dict[str, Tensor], dtype: torch.dtype, max_bytes: int) -> list[dict[str, Tensor]]:
    """Consecutive tensors of at most max_bytes together; a bigger tensor stands alone."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        n = tensor.numel() * dtype.itemsize
        if shards[-1] and size + n > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += n
    return shards


def _files(folder: Path) -> dict[str, list[str] | None]:
    """File names of the weights, each with the tensors an index promises, or None without index."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return {WEIGHTS: None}
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise ValueError(f"{folder / INDEX}: has no weight_map; export or download the model again")
    files: dict[str, list[str] | None] = {}
    for key, name in where.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{folder / INDEX}: {name!r} is not a file name in this folder")
        promised = files.setdefault(name, [])
        assert promised is not None
        promised.append(key)
    return files


def _read_shard(
    path: Path, promised: list[str] | None, wanted: dict[str, tuple[int, ...]], dtype: torch.dtype
) -> dict[str, Tensor]:
    """The tensors of one file, their names and shapes checked before any is read."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: not a whole model folder, {path.name} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            for key in keys:
                shape = tuple(file.get_slice(key).get_shape())
                if key not in wanted:
                    raise ValueError(f"{path}: {key} has no place in this decoder; check config.json")
                if shape != wanted[key]:
                    raise ValueError(
                        f"{path}: {key} has shape {shape}, config.json asks for {wanted[key]}; they are of two models"
                    )
            if promised is not None and set(keys) != set(promised):
                raise ValueError(f"{path}: does not hold the tensors that {INDEX} names; download the model again")
            return {key: file.get_tensor(key).to(dtype, copy=True) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: broken or cut off: {error}; export or download the model again") from None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
