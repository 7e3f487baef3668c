"""The decoder: shapes, initialisation, packed documents, the cache, the loss in chunks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lvmlite.model import kernels
from lvmlite.model.architecture import PRESETS, Architecture, ModelConfig, padded_vocab
from lvmlite.model.cache import KVCache
from lvmlite.model.kernels import IGNORE
from lvmlite.model.transformer import Transformer

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


@pytest.mark.parametrize("preset", [p for p in PRESETS if p in ("pico", "nano", "100m", "300m", "1b", "3b", "7b")])
def test_presets_have_the_published_sizes(preset: str) -> None:
    arch = ModelConfig(preset=preset).resolve(8192)
    with torch.device("meta"):
        model = Transformer(arch)
    assert sum(p.numel() for p in model.parameters()) == arch.n_parameters
    published = {"300m": 291e6, "1b": 1.15e9, "3b": 3.27e9, "7b": 6.54e9}.get(preset)
    if published:
        assert abs(arch.n_parameters / published - 1) < 0.03


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


def test_packed_documents_do_not_see_each_other() -> None:
    """Values differ from those alone by the position only, which rotary embedding makes relative."""
    model = build()
    a, b = tokens(1, 7), tokens(1, 9, seed=2)
    document = torch.tensor([[0] * 7 + [1] * 9 + [-1] * 4])
    packed = model(torch.cat((a, b, tokens(1, 4, seed=3)), 1), document=document)
    torch.testing.assert_close(packed[:, :7], model(a), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed[:, 7:16], model(b), atol=1e-4, rtol=1e-3)


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
