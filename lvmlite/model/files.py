"""Weights on disk: a Hugging Face folder of `LlamaForCausalLM`, written and read tensor by tensor.

In: an architecture and its tensors by name. Out: `config.json`, `generation_config.json` and `model.safetensors` (in
pieces with an index above 5 GB), each written under a temporary name and renamed; and back, as `Weights`, of which any
block of any tensor is read when asked for. `transformers.LlamaForCausalLM.from_pretrained` reads the folder.

Every id of the vocabulary below codebook_size is a picture code, so transformers' default bos 1 and eos 2 would stop
at a valid code: special ids are null or >= codebook_size, and `generation_config.json` suppresses all that are.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lvmlite.model.architecture import Architecture
from lvmlite.model.transformer import Transformer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ARCHITECTURE = "LlamaForCausalLM"
BLOCK, BLOCKS = 4096, 1024  # of a file, that its fingerprint is made of
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


class Tensors(Protocol):
    """Tensors by name that are read block by block: a model folder, a checkpoint, adapters merged with their base.

    As a mapping, it gives whole tensors.
    """

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, offset: Sequence[int] | None = None, size: Sequence[int] | None = None) -> Tensor:
        """The block of `size` from `offset` on, by default all of it, on the CPU in the type it is kept in."""
        ...


class Weights(Mapping[str, Tensor]):
    """The tensors of a model folder, see `Tensors`; names, shapes and files are checked before any is read.

    Attributes:
        arch: what config.json describes.

    Raises:
        ValueError: a file is missing or broken, an architecture we do not have, weights that do not fit the config;
            one line that names the file and the remedy.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.arch = read_architecture(self.folder / "config.json")
        self._shapes = shapes(self.arch)
        self._files: dict[str, Any] = {}  # of each tensor: the open file it is in
        self._paths: list[Path] = []
        for name, keys in _files(self.folder).items():
            self._paths.append(self.folder / name)
            file = _open(self.folder / name, keys, self._shapes)
            self._files |= dict.fromkeys(file.keys(), file)
        if missing := [name for name in self._shapes if name not in self._files]:
            tied = "; the head is tied to the embedding, store it as its own tensor"
            raise ValueError(
                f"{self.folder / WEIGHTS}: {len(missing)} tensors are missing, the first is {missing[0]}"
                f"{tied if missing == ['lm_head.weight'] else '; export or download the model again'}"
            )

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def read(self, name: str, offset: Sequence[int] | None = None, size: Sequence[int] | None = None) -> Tensor:
        start = (0,) * len(self._shapes[name]) if offset is None else offset
        size = self._shapes[name] if size is None else size
        found: Tensor = self._files[name].get_slice(name)[tuple(slice(a, a + n) for a, n in zip(start, size))]
        return found.clone()  # not a view of the file

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell apart models of one shape, however big, in seconds.

        The hash of config.json and, of every file, of its size and 1,024 blocks of 4 KB spread over it evenly: all of
        a small file, and a part of every matrix of a large one. Training changes all of a matrix.
        """
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        for path in sorted(self._paths):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with open(path, "rb") as file:
                for at in range(0, size, max(BLOCK, size // BLOCKS)):
                    file.seek(at)
                    digest.update(file.read(BLOCK))
        return digest.hexdigest()[:16]

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a decoder by name, in order."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Transformer(arch).state_dict().items()}


def save_weights(
    folder: str | Path,
    arch: Architecture,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    *,
    bos: bool = True,
    eos: bool = False,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a Hugging Face folder; other files in it are left alone.

    Args:
        tensors: each is asked for once, when its file is written: no more than one file's are held at a time.
        dtype: of the file; None is float32 up to the 100m preset and bfloat16 above.
        bos, eos: whether the model was trained with them; else they are null in the config.
        max_shard_bytes: bigger models are split.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is None:
        dtype = torch.float32 if arch.n_parameters <= FP32_PARAMETERS else torch.bfloat16
    shards = _split(shapes(arch), dtype, max_shard_bytes)
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards):
        temporary = folder / f".{name}.tmp"
        save_file({k: _plain(tensors[k], dtype) for k in shard}, temporary, metadata={"format": "pt"})
        os.replace(temporary, folder / name)
    if len(shards) > 1:
        where = {key: name for name, shard in zip(names, shards) for key in shard}
        total = arch.n_parameters * dtype.itemsize
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
    _write_json(folder / "config.json", hf_config(arch, dtype, bos, eos))
    _write_json(folder / "generation_config.json", _generation_config(arch, bos, eos))
    keep = {*names, INDEX} if len(shards) > 1 else {*names}
    for stale in (*folder.glob("model*.safetensors"), folder / INDEX):
        if stale.name not in keep:
            stale.unlink(missing_ok=True)


def load_weights(folder: str | Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a folder, on the CPU, its parameters in `dtype` whatever the file's. Raises as `Weights` does."""
    weights = Weights(folder)
    with torch.device("meta"):
        model = Transformer(weights.arch)
    model.load_state_dict({name: weights[name].to(dtype) for name in weights}, assign=True)
    return model


def hf_config(arch: Architecture, dtype: torch.dtype, bos: bool, eos: bool) -> dict[str, Any]:
    """What transformers 4 and 5 read; what is said of RoPE and dtype stands under the old and the new name."""
    linear = {"rope_type": "linear", "factor": arch.rope_factor}
    rope: dict[str, Any] = linear if arch.rope_factor != 1 else {"rope_type": "default"}
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        **{theirs: getattr(arch, ours) for theirs, ours in FIELDS.items()},
        "head_dim": arch.head_dim,
        "rms_norm_eps": arch.norm_eps,
        "rope_theta": arch.rope_theta,
        "rope_parameters": {**rope, "rope_theta": arch.rope_theta},
        "rope_scaling": rope if arch.rope_factor != 1 else None,
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
    if kind not in ("default", "linear"):
        raise ValueError(f"{path}: rotary embedding of type {kind!r}; only 'default' and 'linear' can be read")
    numbers: dict[str, Any] = {}
    for theirs, ours in FIELDS.items():
        value = config.get(theirs, config.get("num_attention_heads") if ours == "n_kv_heads" else None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            hint = "; add the number of picture codes (8192 for LVM)" if ours == "codebook_size" else ""
            raise ValueError(f"{path}: {theirs} must be a whole number >= 1, got {value}{hint}")
        numbers[ours] = value
    for key, ours, value in (
        ("rms_norm_eps", "norm_eps", config.get("rms_norm_eps")),
        ("rope_theta", "rope_theta", rope.get("rope_theta", config.get("rope_theta"))),
        ("factor of the rotary embedding", "rope_factor", rope.get("factor") if kind == "linear" else 1),
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


def _split(tensors: Mapping[str, Sequence[int]], dtype: torch.dtype, max_bytes: int) -> list[list[str]]:
    """The names of consecutive tensors, by shape, of at most max_bytes together; a bigger tensor stands alone."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in tensors.items():
        n = math.prod(shape) * dtype.itemsize
        if shards[-1] and size + n > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += n
    return shards


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype).contiguous()


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


def _open(path: Path, promised: list[str] | None, wanted: Mapping[str, tuple[int, ...]]) -> Any:
    """One file of the weights, open, the names and shapes in it checked."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: not a whole model folder, {path.name} is missing")
    try:
        file = safe_open(path, framework="pt")
        keys = list(file.keys())
        found = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: broken or cut off: {error}; export or download the model again") from None
    for key, shape in found.items():
        if key not in wanted:
            raise ValueError(f"{path}: {key} has no place in this decoder; check config.json")
        if shape != wanted[key]:
            raise ValueError(
                f"{path}: {key} has shape {shape}, config.json asks for {wanted[key]}; they are of two models"
            )
    if promised is not None and set(found) != set(promised):
        raise ValueError(f"{path}: does not hold the tensors that {INDEX} names; download the model again")
    return file


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
