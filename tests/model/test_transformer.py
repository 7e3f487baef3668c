"""The decoder: shapes, initialisation, packed documents, the cache, the loss in chunks, what the backward keeps."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lvmlite.model import kernels, transformer
from lvmlite.model.architecture import PRESETS, Architecture, ModelConfig, padded_vocab
from lvmlite.model.cache import KVCache
from lvmlite.model.kernels import IGNORE
from lvmlite.model.transformer import Activations, Transformer

SHAPES = [
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=2),
    dict(dim=32, hidden_dim=48, n_layers=2, n_heads=4, n_kv_heads=2),
    dict(dim=24, hidden_dim=40, n_layers=3, n_heads=4, n_kv_heads=1),
    dict(dim=200, hidden_dim=64, n_layers=1, n_heads=2),  # head_dim 100, that of the 3b
]


def build(max_seq_len: int = 48, **shape: int) -> Transformer:
    arch = ModelConfig(**{**SHAPES[0], **shape}, max_seq_len=max_seq_len).resolve(62)
    return Transformer(arch).init_weights(seed=1, std=0.2)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 62, shape, generator=torch.Generator().manual_seed(seed))


def test_vocabulary() -> None:
    assert [padded_vocab(k) for k in (62, 126, 127, 1024, 8192)] == [128, 128, 256, 1152, 8320]
    arch = ModelConfig().resolve(1024)
    assert (arch.bos, arch.eos, arch.vocab_size) == (1024, 1025, 1152)


PUBLISHED = {"300m": 291e6, "600m": 648e6, "1b": 1.15e9, "3b": 3.27e9, "7b": 6.54e9}  # of 8,292 ids


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_published_sizes(preset: str) -> None:
    arch = dataclasses.replace(ModelConfig(preset=preset).resolve(8192), vocab_size=8292)
    with torch.device("meta"):
        model = Transformer(arch)
    assert sum(p.numel() for p in model.parameters()) == arch.n_parameters
    assert arch.n_parameters == pytest.approx(PUBLISHED.get(preset, arch.n_parameters), rel=0.005)
    assert 64 <= arch.head_dim <= 128 or preset in ("pico", "micro")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_does_not_see_those_after_it(shape: dict[str, int]) -> None:
    model = build(**shape)
    a = tokens(2, 20)
    b = a.clone()
    b[:, 11:] = tokens(2, 9, seed=5)
    x, y = model(a), model(b)
    torch.testing.assert_close(x[:, :11], y[:, :11])
    assert not torch.allclose(x[:, 11], y[:, 11])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [[1] * 20, [12, 8], [7, 1, 1, 11]])
def test_the_cache_equals_the_full_forward(shape: dict[str, int], pieces: list[int]) -> None:
    model = build(**shape)
    x = tokens(3, 20)
    cache = KVCache(model.arch, 3, 20, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        got = torch.cat([model(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(got, model(x), atol=1e-4, rtol=1e-4)
    assert cache.length == 20


def test_a_full_cache_is_an_error() -> None:
    model = build()
    with torch.no_grad(), pytest.raises(ValueError, match="9 positions do not fit a cache of 8"):
        model(tokens(1, 9), cache=KVCache(model.arch, 1, 8, torch.float32, torch.device("cpu")))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_sentence_is_the_sentence_alone(shape: dict[str, int]) -> None:
    """In values and, summed over sentences, in gradients: rotary positions are relative, so none is reset."""
    model = build(**shape)
    x, y = tokens(2, 24), tokens(2, 24, seed=1)
    document = torch.tensor([[0] * 7 + [1] * 9 + [-1] * 8, [0] * 12 + [1] * 12], dtype=torch.int32)
    packed = model(x, y, document)
    packed[document >= 0].sum().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row, begin, end in [(0, 0, 7), (0, 7, 16), (1, 0, 12), (1, 12, 24)]:
        alone = model(x[row : row + 1, begin:end], y[row : row + 1, begin:end])
        torch.testing.assert_close(packed[row : row + 1, begin:end], alone, atol=1e-4, rtol=1e-4)
        alone.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert (ours[name] - parameter.grad).abs().max() <= 1e-4 * parameter.grad.abs().max(), name


def test_without_documents_sentences_of_a_row_are_one_string() -> None:
    """The released LVM's packing."""
    model = build()
    x, document = tokens(1, 20), torch.tensor([[0] * 8 + [1] * 12])
    unbroken, packed = model(x), model(x, document=document)
    torch.testing.assert_close(unbroken[:, :8], packed[:, :8], atol=1e-5, rtol=1e-5)
    assert (unbroken[:, 8] - packed[:, 8]).abs().max() > 0.1
    assert torch.equal(unbroken, model(x, document=torch.zeros(1, 20, dtype=torch.int32)))


def test_a_row_of_padding_alone_is_harmless() -> None:
    model = build()
    x, y = tokens(2, 12), tokens(2, 12, seed=1)
    y[1] = IGNORE
    document = torch.tensor([[0] * 6 + [1] * 6, [-1] * 12])
    loss = model(x, y, document, mean=True)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(loss, model(x[:1], y[:1], document[:1], mean=True))


def test_loss_equals_cross_entropy_of_the_logits() -> None:
    model = build()
    x, y = tokens(3, 16), tokens(3, 16, seed=1)
    y[0, :5] = IGNORE
    loss = model(x, targets=y)
    expected = F.cross_entropy(model(x).transpose(1, 2), y, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(loss, expected)
    assert loss[0, :5].eq(0).all()


def test_loss_in_chunks_has_the_same_values_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    x, y = tokens(3, 16), tokens(3, 16, seed=1)
    results = []
    for chunk in (8192, 10):
        monkeypatch.setattr(kernels, "LOSS_CHUNK", chunk)
        model.zero_grad()
        loss = model(x, targets=y)
        loss.sum().backward()
        results.append((loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    (a, grads_a), (b, grads_b) = results
    torch.testing.assert_close(a, b)
    for name in grads_a:
        torch.testing.assert_close(grads_a[name], grads_b[name], atol=1e-4, rtol=1e-4)


def loss_and_gradients(model: Transformer, activations: Any, document: torch.Tensor | None) -> list[torch.Tensor]:
    for block in model.model.layers:
        block.activations = activations
    model.zero_grad()
    loss = model(tokens(2, 40), tokens(2, 40, seed=1), document, mean=True)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", SHAPES[1:3])
@pytest.mark.parametrize("activations", get_args(Activations))
def test_what_is_kept_changes_no_loss_and_no_gradient(
    activations: str, shape: dict[str, int], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "BPT_CHUNK", 16)  # 40 positions are 2 chunks and a half
    document = torch.tensor([[0] * 20 + [1] * 20, [0] * 13 + [1] * 13 + [-1] * 14]) if packed else None
    model = build(**shape).train()
    expected = loss_and_gradients(model, "keep", document)
    assert len(expected) == 1 + len(list(model.parameters()))
    for ours, theirs in zip(loss_and_gradients(model, activations, document), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


class Shapes(TorchDispatchMode):
    """The shape and type of every tensor that a computation makes, its backward included."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[tuple[tuple[int, ...], torch.dtype]] = set()

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        self.made |= {(tuple(x.shape), x.dtype) for x in tree_leaves(result) if isinstance(x, torch.Tensor)}
        return result

    def most_rows(self, width: int) -> int:
        """Of float tensors of this width, in the last dimension."""
        return max(
            math.prod(shape[:-1]) for shape, dtype in self.made if shape[-1:] == (width,) and dtype.is_floating_point
        )


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_logits_of_a_long_batch_never_exist_at_once(
    mean: bool, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "LOSS_CHUNK", 256)
    monkeypatch.setattr(kernels, "LOSS_CHUNK_CPU", 256)
    arch = dataclasses.replace(build(max_seq_len=700, n_layers=1).arch, vocab_size=97)  # nothing else is 97 wide
    model = Transformer(arch).init_weights(0)
    x, y = tokens(2, 700), tokens(2, 700, seed=1)
    with Shapes() as shapes, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(x, y, mean=mean).sum().backward()
    assert shapes.most_rows(97) == 256
    with Shapes() as shapes:
        model(x)
    assert shapes.most_rows(97) == 1400


@pytest.mark.parametrize(("activations", "rows"), [("keep", 160), ("block", 160), ("bpt", 32)])
def test_the_block_parallel_transformer_never_holds_the_wide_mlp(
    activations: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 x 80 positions in chunks of 16; gate and up are one product of twice the width."""
    monkeypatch.setattr(transformer, "BPT_CHUNK", 16)
    model = build(max_seq_len=80, dim=16, hidden_dim=56).train()
    for block in model.model.layers:
        block.activations = activations
    with Shapes() as shapes:
        model(tokens(2, 80), tokens(2, 80, seed=1), mean=True).backward()
    assert shapes.most_rows(56) == rows
    assert shapes.most_rows(112) == rows


def test_a_fresh_model_knows_nothing() -> None:
    model = Transformer(ModelConfig(preset="pico", max_seq_len=64).resolve(1024)).init_weights(0)
    x = torch.randint(0, 1024, (4, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = float(model(x, targets=x.roll(-1, 1)).mean())
    assert abs(loss - math.log(1152)) < 0.1


def test_initial_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    a = build().state_dict()
    torch.manual_seed(2)
    b = build().state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    c = Transformer(build().arch).init_weights(seed=2).state_dict()
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


def test_too_many_positions() -> None:
    with pytest.raises(ValueError, match="49 positions exceed the model's max_seq_len of 48"):
        build()(tokens(1, 49))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(dim=33), "dim 33 must be n_heads"),
        (dict(dim=6, n_heads=2), "even head dimension"),
        (dict(n_kv_heads=3), "n_heads 2 is not a multiple"),
        (dict(vocab_size=62), "leaves no id for BOS"),
    ],
)
def test_shapes_that_do_not_fit(wrong: dict[str, int], message: str) -> None:
    shape = {**SHAPES[0], "n_kv_heads": 2, "vocab_size": 128, "codebook_size": 62, **wrong}
    with pytest.raises(ValueError, match=message):
        Architecture(**shape)
