"""Weights on disk: parity with transformers, round trips, broken folders."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lvmlite.model.architecture import ModelConfig, RopeScaling
from lvmlite.model.files import INDEX, WEIGHTS, Weights, load_weights, read_architecture, save_weights, shapes
from lvmlite.model.transformer import Transformer

K = 62
SHAPES: list[dict[str, Any]] = [
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=2),
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=4, n_kv_heads=2),
    dict(dim=200, hidden_dim=64, n_layers=1, n_heads=2),  # head_dim 100, that of the 3b
    dict(dim=24, hidden_dim=40, n_layers=3, n_heads=4, n_kv_heads=1, rope_theta=5e5, norm_eps=1e-5),
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=2, rope_scaling=RopeScaling("linear", 4)),
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=2, rope_scaling=RopeScaling("ntk", 4)),
]


def build(**shape: Any) -> Transformer:
    config = ModelConfig(**{**SHAPES[0], **shape}, max_seq_len=64)
    return Transformer(config.resolve(K)).init_weights(seed=1, std=0.2).requires_grad_(False)


def save(folder: Path, model: Transformer, *args: Any, **kwargs: Any) -> None:
    save_weights(folder, model.arch, model.state_dict(), *args, **kwargs)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, K, shape, generator=torch.Generator().manual_seed(0))


def edit(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_our_logits(shape: dict[str, Any], tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = build(**shape)
    save(tmp_path, model)
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    x = tokens(3, 40)
    with torch.no_grad():
        expected = theirs(x).logits
    assert float((model(x) - expected).abs().max()) < 1e-4
    assert float(expected.abs().max()) > 0.1


@pytest.mark.parametrize("max_shard_bytes", [5 * 10**9, 20_000])
def test_any_block_of_a_tensor_is_read_alone(max_shard_bytes: int, tmp_path: Path) -> None:
    model = build()
    save(tmp_path, model, max_shard_bytes=max_shard_bytes)
    weights = Weights(tmp_path)
    assert list(weights) == list(model.state_dict())
    whole = model.model.layers[1].mlp.up_proj.weight
    name = "model.layers.1.mlp.up_proj.weight"
    assert weights.shape(name) == whole.shape
    assert torch.equal(weights[name], whole)
    assert torch.equal(weights.read(name, (3, 8), (5, 20)), whole[3:8, 8:28])
    assert weights.read(name, (48, 0), (0, 32)).shape == (0, 32)
    assert torch.equal(weights.read("model.norm.weight", (30,), (2,)), model.model.norm.weight[30:])
    block = weights.read(name, (0, 0), (1, 1))
    block += 1  # a copy, not the file
    assert torch.equal(weights[name], whole)


class Counted(dict[str, tuple[int, ...]]):
    """Tensors that are made when asked for; `most` were alive at one time."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        super().__init__(shapes)
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.asked: list[str] = []
        self.most = 0

    def __getitem__(self, name: str) -> Any:
        tensor = torch.full(super().__getitem__(name), float(len(self.asked)))
        self.alive.add(tensor)
        self.asked.append(name)
        self.most = max(self.most, sum(t.numel() for t in self.alive))
        return tensor


def test_no_more_than_one_file_is_held_while_writing(tmp_path: Path) -> None:
    arch = build(n_layers=6).arch
    source: Any = Counted(shapes(arch))
    save_weights(tmp_path, arch, source, max_shard_bytes=40_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 4
    assert source.asked == list(shapes(arch))  # each once
    assert source.most <= 10_000 < arch.n_parameters / 4
    again = load_weights(tmp_path).state_dict()
    assert [float(again[name].min()) for name in source.asked] == list(range(len(source.asked)))


def test_a_fingerprint_tells_models_of_one_shape_apart(tmp_path: Path) -> None:
    model, other = build(), build()
    other.model.layers[1].self_attn.q_proj.weight[3, 4] += 1e-3

    def fingerprint(of: Transformer, **how: Any) -> str:
        save(tmp_path, of, **how)
        return Weights(tmp_path).fingerprint

    found = [fingerprint(model), fingerprint(other), fingerprint(model, eos=True)]
    found.append(fingerprint(model, max_shard_bytes=20_000))
    assert len(set(found)) == 4
    assert fingerprint(build()) == found[0]


@pytest.mark.parametrize("eos", [True, False])
def test_generate_of_transformers_draws_codes_only_and_stops_at_none(tmp_path: Path, eos: bool) -> None:
    from transformers import LlamaForCausalLM

    model = build()
    model.lm_head.weight[K:] += 3 * model.lm_head.weight[:K].mean(0)
    model.lm_head.weight[K:] *= 30  # ids that are no codes win wherever they are allowed
    save(tmp_path, model, eos=eos)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path)
    assert theirs.config.eos_token_id == (K + 1 if eos else None)
    torch.manual_seed(0)
    for sampled in (True, False):
        x = torch.cat((torch.full((16, 1), K), tokens(16, 4)), 1)
        ones = torch.ones_like(x)
        out = theirs.generate(x, attention_mask=ones, max_new_tokens=40, do_sample=sampled, top_k=0)
        assert out.shape == (16, 45)
        assert int(out[:, 1:].max()) < K
        assert {1, 2} & set(out[:, 5:].flatten().tolist()) or not sampled  # LLaMA's own bos and eos are codes


def test_special_ids_are_null_or_no_code(tmp_path: Path) -> None:
    save(tmp_path, build(), bos=False)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / name).read_text())
        assert [config[f"{what}_token_id"] for what in ("bos", "eos", "pad")] == [None] * 3
    save(tmp_path, build(), bos=True, eos=True)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / name).read_text())
        assert [config[f"{what}_token_id"] for what in ("bos", "eos", "pad")] == [K, K + 1, None]
    assert config["suppress_tokens"] == list(range(K, 128))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("max_shard_bytes", [5 * 10**9, 20_000])
def test_round_trip(shape: dict[str, Any], max_shard_bytes: int, tmp_path: Path) -> None:
    model = build(**shape)
    save(tmp_path, model, max_shard_bytes=max_shard_bytes)
    again = load_weights(tmp_path)
    assert again.arch == model.arch
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert all(p.requires_grad for p in again.parameters())
    x = tokens(2, 8)
    assert torch.equal(again.requires_grad_(False)(x), model(x))


def test_pieces_have_an_index_that_transformers_reads(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = build()
    save(tmp_path, model, max_shard_bytes=20_000)
    pieces = sorted(tmp_path.glob("*.safetensors"))
    assert len(pieces) > 2
    assert all(p.stat().st_size < 22_000 for p in pieces)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 4 * model.arch.n_parameters
    assert set(index["weight_map"]) == set(model.state_dict())
    x = tokens(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(LlamaForCausalLM.from_pretrained(tmp_path)(x).logits, model(x))


def test_writing_again_leaves_no_pieces_of_before(tmp_path: Path) -> None:
    model = build()
    for size, count in ((20_000, None), (5 * 10**9, 1), (30_000, None)):
        save(tmp_path, model, max_shard_bytes=size)
        files = list(tmp_path.glob("*.safetensors"))
        assert (tmp_path / INDEX).exists() == (count is None)
        if count is None:
            where = json.loads((tmp_path / INDEX).read_text())["weight_map"]
            assert {p.name for p in files} == set(where.values())
        else:
            assert [p.name for p in files] == [WEIGHTS]
    assert not list(tmp_path.glob(".*"))


def test_bf16_halves_the_file_and_loads_as_fp32(tmp_path: Path) -> None:
    model = build()
    save(tmp_path, model, torch.bfloat16)
    stored = load_file(tmp_path / WEIGHTS)
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    again = load_weights(tmp_path)
    assert again.lm_head.weight.dtype == torch.float32
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16().float())


def test_the_100m_preset_stays_in_fp32_and_the_300m_does_not() -> None:
    from lvmlite.model.files import FP32_PARAMETERS

    sizes = {p: ModelConfig(preset=p).resolve(16384).n_parameters for p in ("100m", "300m")}
    assert sizes["100m"] < FP32_PARAMETERS < sizes["300m"]


@pytest.mark.parametrize("kind", ["linear", "ntk"])
def test_longer_contexts_agree_with_transformers(kind: Any, tmp_path: Path) -> None:
    """A model of 64 positions, stretched to 256: positions, not only the first few, are those of transformers."""
    from transformers import LlamaForCausalLM

    short = build()
    config = ModelConfig(**SHAPES[0], max_seq_len=256, rope_scaling=RopeScaling(kind, 4))
    model = Transformer(config.resolve(K)).requires_grad_(False)
    model.load_state_dict(short.state_dict())
    save(tmp_path, model)
    x = tokens(2, 200)
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(tmp_path)(x).logits
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-4)
    assert load_weights(tmp_path).arch == model.arch
    assert float((model(x[:, :60]) - short(x[:, :60])).abs().max()) > 1e-3


def test_a_stretched_config_of_transformers_4_is_read(tmp_path: Path) -> None:
    save(tmp_path, build(rope_scaling=RopeScaling("linear", 2)))
    for rope in ("absent", {"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2}):
        changes = {} if rope == "absent" else {"rope_scaling": rope}
        edit(tmp_path / "config.json", rope_parameters="absent", **changes)
        assert read_architecture(tmp_path / "config.json").rope_factor == 2


def test_a_config_of_transformers_4_is_read(tmp_path: Path) -> None:
    save(tmp_path, build(rope_theta=5e5))
    edit(tmp_path / "config.json", rope_parameters="absent", head_dim="absent", num_key_value_heads="absent")
    assert read_architecture(tmp_path / "config.json") == build(rope_theta=5e5).arch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(architectures=["GPT2LMHeadModel"]), "architecture GPT2LMHeadModel; only LlamaForCausalLM"),
        (dict(architectures="absent"), "architecture None; only LlamaForCausalLM"),
        (dict(tie_word_embeddings=True), "tie_word_embeddings is True; this decoder has false"),
        (dict(hidden_act="gelu"), 'hidden_act is gelu; this decoder has "silu"'),
        (dict(attention_bias=True), "attention_bias is True"),
        (dict(rope_parameters={"rope_type": "llama3", "rope_theta": 1e4}), "type 'llama3'"),
        (dict(rope_parameters="absent", rope_scaling={"type": "dynamic", "factor": 2.0}), "type 'dynamic'"),
        (dict(rope_parameters={"rope_type": "linear", "rope_theta": 1e4}), "factor of the rotary .* above 0, got None"),
        (dict(rope_parameters="absent", rope_theta="absent"), "rope_theta must be a number above 0, got None"),
        (dict(codebook_size="absent"), r"codebook_size must be .* got None; add the number of picture codes"),
        (dict(hidden_size="32"), "hidden_size must be a whole number >= 1, got 32"),
        (dict(num_hidden_layers=True), "num_hidden_layers must be a whole number"),
        (dict(num_attention_heads=3), "dim 32 must be n_heads 3"),
        (dict(head_dim=8), "head_dim 8 is not hidden_size / num_attention_heads = 16"),
        (dict(vocab_size=30), "vocab_size 30 leaves no id for BOS"),
        (dict(intermediate_size=50), r"has shape \(32, 48\), config.json asks for \(32, 50\)"),
        (dict(num_hidden_layers=3), r"9 tensors are missing, the first is model.layers.2"),
        (dict(num_hidden_layers=1), r"model.layers.1.* has no place in this decoder"),
    ],
)
def test_configs_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(tmp_path, build())
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tied_head_is_named(tmp_path: Path) -> None:
    model = build()
    save(tmp_path, model)
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"lm_head\.weight; the head is tied"):
        load_weights(tmp_path)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "text"])
def test_broken_files(name: str, damage: str, tmp_path: Path) -> None:
    save(tmp_path, build())
    path = tmp_path / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "text": b"<html>gone</html>"}[damage])
    with pytest.raises(ValueError, match=name) as error:
        load_weights(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "half", "other", "index", "outside"])
def test_broken_pieces(damage: str, tmp_path: Path) -> None:
    save(tmp_path, build(), max_shard_bytes=20_000)
    first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
    if damage == "missing":
        first.unlink()
    elif damage == "half":
        first.write_bytes(first.read_bytes()[:-100])
    elif damage == "other":
        first.write_bytes(second.read_bytes())
    elif damage == "index":
        (tmp_path / INDEX).write_text("{}")
    else:
        edit(tmp_path / INDEX, weight_map={"lm_head.weight": "../secret.safetensors"})
    name = INDEX if damage in ("index", "outside") else first.name
    with pytest.raises(ValueError, match=name) as error:
        load_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load_weights(tmp_path / "nowhere")
