"""The engine against the plain forward pass: likelihoods, greedy and sampled codes, windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lvmlite.generate.engine import Engine, Sampling, Window
from lvmlite.model.architecture import ModelConfig
from lvmlite.model.kernels import LOSS_CHUNK
from lvmlite.model.transformer import Transformer

K, S = 64, 8  # codes, tokens a picture
GREEDY = Sampling(temperature=0)


def tiny(max_seq_len: int = 64, n_kv_heads: int = 2, codebook_size: int = K) -> Transformer:
    """Random, with a spread of logits that makes some codes likely and others not."""
    config = ModelConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, n_kv_heads=n_kv_heads, max_seq_len=max_seq_len)
    model = Transformer(config.resolve(codebook_size)).init_weights(seed=3, std=0.3)
    return model.requires_grad_(False)


def codes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, K, shape)


def forward(model: Transformer, bos: int | None, string: np.ndarray) -> torch.Tensor:
    """log p (len(string), V) of each code by one plain forward pass; row 0 is nan without BOS."""
    ids = torch.tensor([*([] if bos is None else [bos]), *string])
    out = model(ids[None])[0].log_softmax(-1)
    if bos is None:
        return torch.cat((torch.full_like(out[:1], torch.nan), out[:-1]))
    return out[:-1]


def greedy_by_forward(model: Transformer, bos: int | None, given: np.ndarray, n_new: int) -> list[int]:
    string = list(given)
    for _ in range(n_new):
        ids = torch.tensor([*([] if bos is None else [bos]), *string])
        string.append(int(model(ids[None])[0, -1, :K].argmax()))
    return string[len(given) :]


@pytest.mark.parametrize("with_bos", [True, False])
@pytest.mark.parametrize("n_prompt", [0, 1, 16])
@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_logprobs_equal_the_full_forward(with_bos: bool, n_prompt: int, n_kv_heads: int) -> None:
    model = tiny(n_kv_heads=n_kv_heads)
    bos = K if with_bos else None
    prompt, rest = codes(n_prompt), codes(5, 16, seed=1)
    got = Engine(model, bos).logprobs(prompt, rest, batch=2)
    assert got.shape == (5, 16)
    assert got.dtype == np.float32
    for row, string in zip(got, rest):
        whole = forward(model, bos, np.concatenate([prompt, string]))[n_prompt:]
        expected = whole.gather(1, torch.from_numpy(string)[:, None])[:, 0].numpy()
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert np.isnan(got).sum() == (5 if bos is None and n_prompt == 0 else 0)


def test_logprobs_share_a_prompt_without_changing_it() -> None:
    engine = Engine(tiny(), K)
    prompt, rest = codes(24), codes(9, 16, seed=1)
    shared = engine.logprobs(prompt, rest)
    alone = engine.logprobs([], np.concatenate([np.tile(prompt, (9, 1)), rest], axis=1))[:, 24:]
    np.testing.assert_allclose(shared, alone, atol=1e-5)


def test_logprobs_of_more_positions_than_a_chunk_of_the_loss() -> None:
    engine = Engine(tiny(max_seq_len=128), K)
    rest = codes(LOSS_CHUNK // 96 + 9, 96)
    whole = engine.logprobs(codes(8), rest, batch=len(rest))
    np.testing.assert_allclose(whole, engine.logprobs(codes(8), rest, batch=7), atol=1e-5)


@pytest.mark.parametrize("with_bos", [True, False])
@pytest.mark.parametrize(("n_prompt", "n_query"), [(24, 8), (0, 8), (16, 0), (1, 1)])
@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_cached_greedy_decoding_equals_full_forward(
    with_bos: bool, n_prompt: int, n_query: int, n_kv_heads: int
) -> None:
    model = tiny(n_kv_heads=n_kv_heads)
    bos = K if with_bos else None
    prompt, queries = codes(n_prompt), codes(3, n_query, seed=1)
    out = Engine(model, bos).generate(prompt, queries, 20, GREEDY, n_candidates=2)
    for i in range(3):
        expected = greedy_by_forward(model, bos, np.concatenate([prompt, queries[i]]), 20)
        assert out.tokens[i, 0].tolist() == expected
        assert out.tokens[i, 1].tolist() == expected


def test_top_k_1_is_greedy_and_unconditional_generation_starts_from_bos() -> None:
    engine = Engine(tiny(), K)
    a = engine.generate([], np.empty((1, 0), np.int64), S, Sampling(top_k=1))
    assert a.tokens[0, 0].tolist() == greedy_by_forward(engine.model, K, codes(0), S)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, 20, 0.9, 7)])
def test_the_same_pictures_at_any_batch_size(sampling: Sampling) -> None:
    engine = Engine(tiny(), K)
    prompt, queries = codes(16), codes(64, S, seed=1)
    whole = engine.generate(prompt, queries, S, sampling, batch=64)
    for batch in (1, 7):
        some = engine.generate(prompt, queries, S, sampling, batch=batch)
        assert np.array_equal(some.tokens, whole.tokens)
        np.testing.assert_allclose(some.logprob, whole.logprob, atol=1e-4)
    assert len(np.unique(whole.tokens[:, 0], axis=0)) == 64


def test_candidates_do_not_depend_on_how_many_there_are() -> None:
    engine = Engine(tiny(), K)
    prompt, queries = codes(16), codes(5, S, seed=1)
    one = engine.generate(prompt, queries, S, n_candidates=1)
    six = engine.generate(prompt, queries, S, n_candidates=6)
    split = engine.generate(prompt, queries, S, n_candidates=6, batch=4)
    assert np.array_equal(one.tokens[:, 0], six.tokens[:, 0])
    assert np.array_equal(six.tokens, split.tokens)
    assert len(np.unique(six.tokens.reshape(30, S), axis=0)) == 30


def test_another_seed_gives_other_pictures_and_the_same_seed_the_same() -> None:
    engine = Engine(tiny(), K)
    prompt, queries = codes(16), codes(4, S, seed=1)
    a, b, c = (engine.generate(prompt, queries, S, Sampling(seed=s)).tokens for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_query_gets_its_picture_whatever_stands_beside_it() -> None:
    engine = Engine(tiny(), K)
    queries = codes(6, S, seed=1)
    other = queries.copy()
    other[3:] = codes(3, S, seed=9)
    a, b = (engine.generate(codes(16), q, S).tokens for q in (queries, other))
    assert np.array_equal(a[:3], b[:3])


def test_logprob_of_generated_is_that_of_logprobs() -> None:
    engine = Engine(tiny(), K)
    prompt, queries = codes(16), codes(3, S, seed=1)
    out = engine.generate(prompt, queries, 2 * S, Sampling(temperature=0.5, top_k=10), n_candidates=2)
    rest = np.concatenate([np.repeat(queries, 2, 0), out.tokens.reshape(6, -1)], axis=1)
    expected = engine.logprobs(prompt, rest)[:, S:].sum(1)
    np.testing.assert_allclose(out.logprob.ravel(), expected, atol=1e-3)


def test_no_id_beyond_the_codes_is_drawn() -> None:
    model = tiny()
    model.lm_head.weight[K:] *= 100  # BOS, EOS and padding are now by far the likeliest or unlikeliest
    out = Engine(model, K).generate(codes(16), codes(32, S), 2 * S, Sampling(top_k=0, temperature=5.0))
    assert out.tokens.min() >= 0
    assert out.tokens.max() < K


def test_samples_follow_the_distribution() -> None:
    engine = Engine(tiny(), K)
    n = 20_000
    prompt = codes(8)
    p = forward(engine.model, K, np.append(prompt, 0))[-1, :K].double().softmax(-1).numpy()
    for sampling in (Sampling(top_k=0), Sampling(top_k=5), Sampling(top_k=0, top_p=0.7)):
        out = engine.generate(prompt, np.empty((n, 0), np.int64), 1, sampling, batch=4096)
        share = np.bincount(out.tokens.ravel(), minlength=K) / n
        order = np.argsort(-p, kind="stable")
        kept = order[: 5 if sampling.top_k else K]
        if sampling.top_p < 1:
            kept = order[: int(np.searchsorted(np.cumsum(p[order]), 0.7)) + 1]
        expected = np.zeros(K)
        expected[kept] = p[kept] / p[kept].sum()
        assert share[expected == 0].sum() == 0
        error = np.sqrt(expected * (1 - expected) / n)
        assert np.all(np.abs(share - expected) < 5 * error + 1e-9)


# --- windows: S = 8, context 4 pictures = 32 codes


def test_windows_drop_the_oldest_pictures() -> None:
    engine = Engine(tiny(), K, tokens_per_picture=S, context=32)
    assert engine.windows(16, 32) == [Window(0, 16, 32)]
    assert engine.windows(16, 48) == [Window(0, 16, 32), Window(8, 32, 40), Window(16, 40, 48)]
    assert engine.windows(40, 48) == [Window(16, 40, 48)]
    assert engine.windows(28, 36) == [Window(0, 28, 32), Window(8, 32, 36)]
    assert engine.windows(8, 8) == []


@pytest.mark.parametrize("context", [32, 35, 64])
@pytest.mark.parametrize("with_bos", [True, False])
def test_greedy_decoding_through_windows(context: int, with_bos: bool) -> None:
    """Picture by picture, from at most the last 3 pictures: 4 fit the context, one of them is new."""
    model, bos = tiny(), K if with_bos else None
    engine = Engine(model, bos, tokens_per_picture=S, context=context)
    prompt, queries = codes(3 * S), codes(2, S, seed=1)
    out = engine.generate(prompt, queries, 3 * S, GREEDY, n_candidates=2)
    for i in range(2):
        string = [*prompt, *queries[i]]
        for _ in range(3):
            view = string if context == 64 else string[-3 * S :]
            string += greedy_by_forward(model, bos, np.array(view), S)
        assert out.tokens[i, 0].tolist() == string[4 * S :]
        assert out.tokens[i, 1].tolist() == string[4 * S :]


def test_long_generation_scores_itself_as_logprobs_does() -> None:
    engine = Engine(tiny(), K, tokens_per_picture=S, context=32)
    prompt, queries = codes(2 * S), codes(3, S, seed=1)
    out = engine.generate(prompt, queries, 5 * S, batch=2)
    scores = engine.logprobs(prompt, np.concatenate([queries, out.tokens[:, 0]], axis=1))
    np.testing.assert_allclose(out.logprob[:, 0], scores[:, S:].sum(1), atol=1e-3)


def test_the_whole_context_is_used_to_the_last_position() -> None:
    model = tiny(max_seq_len=32)
    out = Engine(model, K).generate(codes(8), codes(2, 16), 8, GREEDY)  # BOS + 31 codes are fed
    assert out.tokens.shape == (2, 1, 8)
    assert Engine(model, K).logprobs(codes(8), codes(2, 24)).shape == (2, 24)


# --- mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.logprobs(codes(8), codes(2, 100)), "108 codes exceed the context of 64"),
        (lambda e: e.generate([K], codes(2, 8), 8), r"prompt must hold codes in \[0, 64\), got 64 to 64"),
        (lambda e: e.generate([], codes(8), 8), r"queries must be \(N, length\) integers, got \(8,\)"),
        (lambda e: e.logprobs([0.5], codes(2, 8)), "prompt must be"),
        (lambda e: e.logprobs([], codes(2, 8) - 70), "rest must hold codes"),
        (lambda e: e.generate([], codes(2, 8), 0), "n_new and n_candidates must be >= 1"),
    ],
)
def test_mistakes_are_one_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call(Engine(tiny(), K))
    assert "\n" not in str(error.value)


def test_without_bos_there_must_be_something_to_go_on_from() -> None:
    with pytest.raises(ValueError, match="has no BOS"):
        Engine(tiny(), None).generate([], np.empty((1, 0), np.int64), S)
    with pytest.raises(ValueError, match="cannot slide"):
        Engine(tiny(), K, tokens_per_picture=100).generate([], codes(1, 8), 99)


def test_nothing_to_score_gives_nothing() -> None:
    engine = Engine(tiny(), K)
    assert engine.logprobs(codes(8), np.empty((3, 0), np.int64)).shape == (3, 0)
    assert engine.logprobs(codes(8), np.empty((0, 8), np.int64)).shape == (0, 8)
    assert engine.generate(codes(8), np.empty((0, 8), np.int64), 4).tokens.shape == (0, 1, 4)


# --- beside training


def test_progress_counts_every_code() -> None:
    seen: list[tuple[int, int]] = []
    Engine(tiny(), K).generate(codes(8), codes(5, S), S, n_candidates=2, batch=4, progress=lambda *at: seen.append(at))
    assert seen[-1] == (80, 80)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_model_can_be_trained_after_it_has_generated() -> None:
    model = tiny().requires_grad_(True)
    Engine(model, K).generate(codes(8), codes(2, S), S)
    tokens = torch.from_numpy(codes(2, 16))
    model(tokens, targets=tokens).sum().backward()
    assert model.model.embed_tokens.weight.grad is not None


def test_bf16_stays_near_fp32() -> None:
    model = tiny()
    exact = Engine(model, K).logprobs(codes(16), codes(4, 16, seed=1))
    near = Engine(model, K, dtype=torch.bfloat16).logprobs(codes(16), codes(4, 16, seed=1))
    assert np.abs(exact - near).mean() < 0.1
    assert not np.array_equal(exact, near)
