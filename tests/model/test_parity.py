"""The decoder is `transformers.LlamaForCausalLM`: the loss and every gradient, for each preset's widths and heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lvmlite.model.architecture import PRESETS, ModelConfig, RopeScaling
from lvmlite.model.files import hf_config
from lvmlite.model.kernels import IGNORE
from lvmlite.model.transformer import Transformer

LOSS, GRADIENT = 1e-5, 1e-5  # the loss; each gradient's greatest difference, as a share of its greatest value
WIDE = ("3b", "7b")  # 0.1 and 0.2 G parameters a layer: one of them


def build(**config: Any) -> Transformer:
    """Weights of a size at which every part matters: from std 0.02 alone, attention would be nearly uniform.

    They come from one table, read round and round: drawing 0.2 G numbers would take most of the test.
    """
    arch = ModelConfig(max_seq_len=32, **config).resolve(254)
    assert arch.vocab_size == 256
    with torch.device("meta"):
        model = Transformer(arch)
    model.to_empty(device="cpu")
    noise = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))  # a prime: no two rows are the same
    for i, parameter in enumerate(model.parameters()):
        table = noise.roll(1000 * i) * (1.5 / arch.dim**0.5)
        for piece in parameter.data.view(-1).split(len(table)):
            piece.copy_(table[: len(piece)])
        if parameter.dim() == 1:
            parameter.data += 1
    return model


def llama(model: Transformer, attention: str) -> Any:
    """Theirs, on our weights: the memory is shared, the gradients are not."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**hf_config(model.arch, torch.float32, bos=True, eos=False), attn_implementation=attention)
    with torch.device("meta"):
        theirs = LlamaForCausalLM(config)
    theirs.load_state_dict(model.state_dict(), assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
    assert theirs.config._attn_implementation == attention
    return theirs.requires_grad_()


def batch(b: int, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(b + t)
    tokens, targets = torch.randint(0, 256, (2, b, t), generator=generator)
    targets[:, -3] = IGNORE
    return tokens, targets


def compare(model: Transformer, theirs: Any, ours_loss: torch.Tensor, their_loss: torch.Tensor) -> None:
    ours_loss.backward()
    their_loss.backward()
    assert ours_loss.item() == pytest.approx(their_loss.item(), rel=LOSS)
    expected = dict(theirs.named_parameters())
    assert expected.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        grad, wanted = parameter.grad, expected[name].grad
        assert grad is not None
        assert wanted is not None
        scale = wanted.abs().max()
        assert scale > 0, name
        assert grad.sub_(wanted).abs_().max() <= GRADIENT * scale, name
        parameter.grad = expected[name].grad = None


def check(model: Transformer, attention: str, b: int, t: int, mean: bool = True) -> None:
    theirs = llama(model, attention)
    tokens, targets = batch(b, t)
    ours = model(tokens, targets, mean=mean)
    if not mean:
        ours = ours.sum() / (targets != IGNORE).sum()
    logits = theirs(tokens, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    compare(model, theirs, ours, loss)


@pytest.mark.parametrize("preset", PRESETS)
def test_loss_and_gradients_of_every_preset(preset: str) -> None:
    model = build(preset=preset, n_layers=1 if preset in WIDE else 2)
    check(model, "sdpa", b=1, t=12)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("n_kv_heads", [1, 2, None])
@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 4.0), RopeScaling("ntk", 4.0)])
def test_grouped_heads_and_stretched_positions(
    attention: str, n_kv_heads: int | None, scaling: RopeScaling | None
) -> None:
    model = build(preset="nano", n_layers=2, n_kv_heads=n_kv_heads, rope_scaling=scaling)
    check(model, attention, b=2, t=32, mean=False)


def test_the_3b_with_grouped_heads_of_100() -> None:
    check(build(preset="3b", dim=800, n_heads=8, hidden_dim=512, n_layers=2, n_kv_heads=2), "eager", b=2, t=20)


def test_packed_sentences_are_their_sentences_in_rows_of_their_own() -> None:
    """Ours in one row with documents, theirs one by one: positions are relative, so none must be reset."""
    model = build(preset="nano", n_layers=2)
    theirs = llama(model, "sdpa")
    tokens, targets = batch(1, 32)
    document = torch.tensor([[0] * 12 + [1] * 12 + [2] * 5 + [-1] * 3])
    targets[document < 0] = IGNORE
    ours = model(tokens, targets, document, mean=True)
    losses = []
    for x, y in zip(tokens.split([12, 12, 5, 3], 1)[:3], targets.split([12, 12, 5, 3], 1)):
        logits = theirs(x, use_cache=False).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits, y[0], ignore_index=IGNORE, reduction="sum"))
    compare(model, theirs, ours, torch.stack(losses).sum() / (targets != IGNORE).sum())
