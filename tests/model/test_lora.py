"""LoRA: nothing changes at first, adapters alone are trained, and merging them changes nothing but the names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lvmlite.model.architecture import ModelConfig
from lvmlite.model.files import Weights, save_weights
from lvmlite.model.lora import Adapted, LoRAConfig, Merged, add_lora
from lvmlite.model.transformer import Transformer

K = 62
ALL: list[Any] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = [LoRAConfig(rank=4, alpha=8), LoRAConfig(rank=3, alpha=20, targets=ALL), LoRAConfig(1, 1, ["down_proj"])]


def build() -> Transformer:
    config = ModelConfig(dim=32, hidden_dim=48, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=64)
    return Transformer(config.resolve(K)).init_weights(seed=1, std=0.2)


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, K, (3, 20), generator=torch.Generator().manual_seed(seed))


def train(model: Transformer, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(steps):
        x = tokens(step)
        model(x, x.roll(-1, 1), mean=True).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def largest_difference(a: Transformer, b: Transformer) -> float:
    """Of logits, as a share of the largest."""
    x, y = a(tokens()), b(tokens())
    return float((x - y).abs().max() / y.abs().max())


class InMemory(dict[str, torch.Tensor]):
    """A state dict as `Tensors`."""

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)

    def read(self, name: str, offset: Any = None, size: Any = None) -> torch.Tensor:
        start, size = offset or (0,) * self[name].dim(), size or self[name].shape
        return self[name][tuple(slice(a, a + n) for a, n in zip(start, size))]


@pytest.mark.parametrize("config", CONFIGS)
def test_fresh_adapters_change_nothing_and_are_all_that_is_trained(config: LoRAConfig) -> None:
    base, model = build(), add_lora(build(), config, seed=3)
    assert largest_difference(model, base) < 1e-6
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * len(config.targets)
    assert {name.split(".")[-2] for name in trained} == set(config.targets)
    train(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == trained
    assert largest_difference(model, base) > 1e-2


def test_an_adapted_layer_is_the_formula() -> None:
    config = LoRAConfig(rank=4, alpha=6)
    model = add_lora(build(), config, seed=3)
    layer: Any = model.model.layers[0].self_attn.k_proj
    generator = torch.Generator().manual_seed(0)
    layer.lora_b.data.normal_(generator=generator)
    x = torch.randn(2, 5, 32, generator=generator)
    expected = x @ (layer.weight + 1.5 * layer.lora_b @ layer.lora_a).T
    torch.testing.assert_close(layer(x), expected)
    bound = 1 / 32**0.5  # Kaiming's uniform with a = sqrt(5)
    assert bound * 0.9 < float(layer.lora_a.detach().abs().max()) < bound


@pytest.mark.parametrize("config", CONFIGS)
def test_merging_changes_nothing_but_names(config: LoRAConfig) -> None:
    model = add_lora(build(), config, seed=3)
    train(model)
    merged = Merged(InMemory(model.state_dict()), config)
    assert list(merged) == list(build().state_dict())
    plain = build()
    plain.load_state_dict(dict(merged))
    assert largest_difference(plain, model) < 3e-6  # rounding
    for name in merged:
        shape = merged.shape(name)
        offset, size = tuple(n // 4 for n in shape), tuple(n // 2 for n in shape)
        block = merged[name][tuple(slice(a, a + n) for a, n in zip(offset, size))]
        torch.testing.assert_close(merged.read(name, offset, size), block, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_read_is_what_is_added(config: LoRAConfig) -> None:
    """Adapters of tensors that are read block by block are those of a model in memory."""
    model = add_lora(build(), config, seed=3)
    read = Adapted(InMemory(build().state_dict()), config, seed=3)
    assert set(read) == set(model.state_dict())
    assert len(read) == len(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(read[name], tensor), name
        assert read.shape(name) == tensor.shape
    name = next(name for name in read if name.endswith("lora_a"))
    assert torch.equal(read.read(name, (0, 5), (1, 7)), model.state_dict()[name][:1, 5:12])
    assert not torch.equal(read[name], Adapted(InMemory(build().state_dict()), config, seed=4)[name])
    with torch.device("meta"):
        empty = add_lora(Transformer(model.arch), config)
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_a_merged_model_opens_in_transformers(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    config = CONFIGS[1]
    model = add_lora(build(), config, seed=3)
    train(model)
    save_weights(tmp_path, model.arch, Merged(InMemory(model.state_dict()), config), max_shard_bytes=20_000)
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens()).logits, model(tokens()), rtol=0, atol=1e-4)
    assert list(Weights(tmp_path)) == list(build().state_dict())


def test_no_target_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^targets is empty: name at least one"):
        LoRAConfig(targets=[])
