"""The object that `lvmlite.load` gives, with a tiny random model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lvmlite
from lvmlite.generate.folder import export_model
from lvmlite.generate.lvm import LVM

from .conftest import SIZE, K, S, parts, picture

A, B, C = picture(20, 20, 1), picture(16, 30, 2) // 3, picture(40, 24, 3) // 2


def test_load_opens_the_folder(model_folder: Path) -> None:
    loaded = lvmlite.load(str(model_folder), device="cpu")
    assert loaded.info["name"] == "tiny"
    assert set(loaded.tasks) == {"edges", "depth", "normals", "holes", "seg_world"}
    logits = loaded.model(torch.zeros(2, 5, dtype=torch.int64))
    assert logits.shape == (2, 5, 128)
    tokens = loaded.tokenizer.encode(torch.rand(2, 3, SIZE, SIZE))
    assert loaded.tokenizer.decode(tokens).shape == (2, 3, SIZE, SIZE)
    assert loaded.codes["edges"].sum() == 3
    assert len(loaded.prompts["edges"]) == 2


def test_encode_sees_pictures_through_the_geometry(lvm: LVM) -> None:
    codes = lvm.encode([A, Image.fromarray(B)])
    assert codes.shape == (2, S)
    assert codes.dtype == np.int64
    x = torch.from_numpy(np.stack([lvm.geometry.image(A), lvm.geometry.image(B)])).permute(0, 3, 1, 2) / 255
    assert np.array_equal(codes, lvm.tokenizer.encode(x).numpy())
    assert len(np.unique(codes)) > 1


def test_complete_gives_the_pictures_of_its_tokens(lvm: LVM) -> None:
    out = lvm.complete([A, B, C], n_images=2, seed=5)
    assert len(out) == 2
    assert all(isinstance(p, Image.Image) and p.size == (SIZE, SIZE) for p in out)
    assert out.tokens.shape == (2, S)
    assert np.array_equal(np.stack([np.asarray(p) for p in out]), lvm.decode(out.tokens))
    scores = lvm.engine.logprobs(lvm.encode([A, B, C]).ravel()[S:], out.tokens[1:].reshape(1, -1))
    assert np.isfinite(scores).all()
    assert out.logprob < 0


def test_complete_is_a_function_of_its_arguments(lvm: LVM) -> None:
    a, b = (lvm.complete([A, B], seed=1, n_images=2).tokens for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, lvm.complete([A, B], seed=2, n_images=2).tokens)
    greedy = [lvm.complete([A, B], temperature=0, seed=s).tokens for s in (1, 2)]
    assert np.array_equal(*greedy)


def test_candidates_stand_in_the_order_of_sampling(lvm: LVM) -> None:
    out = lvm.complete([A, B, C], n_candidates=5)
    assert out.candidates[0] is out
    assert np.array_equal(out.tokens, lvm.complete([A, B, C]).tokens)
    assert len({c.tokens.tobytes() for c in out.candidates}) == 5
    given = lvm.encode([A, B, C]).ravel()
    expected = lvm.engine.logprobs(given, np.stack([c.tokens.ravel() for c in out.candidates])).sum(1)
    np.testing.assert_allclose([c.logprob for c in out.candidates], expected, atol=1e-3)


def test_complete_starts_from_nothing(lvm: LVM) -> None:
    out = lvm.complete([], n_images=3)
    assert out.tokens.shape == (3, S)
    assert out.read("depth").shape == (SIZE, SIZE)


def test_more_pictures_than_the_context(lvm: LVM) -> None:
    """Context 4: the last 3 pictures decide the next."""
    long = lvm.complete([C, C, A, B, A, B, C], n_images=1, seed=3)
    assert np.array_equal(long.tokens, lvm.complete([A, B, C], seed=3).tokens)
    assert lvm.complete([A, B], n_images=7).tokens.shape == (7, S)
    assert math.isclose(lvm.perplexity([C, C, A, B, A, B, C], [A]), lvm.perplexity([A, B, C], [A]), rel_tol=1e-4)


def test_perplexity_is_that_of_the_full_forward(lvm: LVM) -> None:
    given, wanted = lvm.encode([A, B]).ravel(), lvm.encode([C, A]).ravel()
    ids = torch.tensor([[K, *given, *wanted]])
    with torch.no_grad():
        log_p = lvm.model(ids)[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[len(given) :, 0]
    expected = math.exp(-float(log_p.double().mean()))
    assert math.isclose(lvm.perplexity([A, B], [C, A]), expected, rel_tol=1e-4)
    assert math.isclose(lvm.perplexity(prompt=[(A, B)], target=C), lvm.perplexity([A, B], [C]))


@pytest.mark.parametrize(
    ("kind", "tail", "dtype"),
    [
        ("edges", (), bool),
        ("depth", (), np.float32),
        ("normals", (3,), np.float32),
        ("holes", (3,), np.uint8),
        ("seg_world", (), np.uint8),
    ],
)
def test_read_maps_back_to_the_query(lvm: LVM, kind: str, tail: tuple[int, ...], dtype: type) -> None:
    out = lvm.complete([A, B, C], n_images=2)  # the query C is 40 x 24, cut to 24 x 24
    got = out.read(kind, 1)
    assert got.shape == (40, 24, *tail)
    assert got.dtype == dtype
    assert not got[:8].any()
    assert not got[-8:].any()
    square = lvm.task(kind).read(np.asarray(out[1]))
    back = lvm.geometry.image(got) if kind == "holes" else lvm.geometry.map(got)
    if kind != "holes":
        assert np.array_equal(back, square)


def test_mistakes(lvm: LVM) -> None:
    out = lvm.complete([A])
    with pytest.raises(ValueError, match=r"no kind 'edgs'; this model knows edges, depth.* mean 'edges'"):
        out.read("edgs")
    for call, message in [
        (lambda: lvm.complete([A, B[:, :, 0]]), r"prompt picture 1: shape \(16, 30\)"),
        (lambda: lvm.perplexity([A], ["gone.png"]), r"target picture 0 \(gone.png\): cannot read"),
        (lambda: lvm.perplexity([A], []), "target is empty"),
        (lambda: lvm.complete([A], n_images=0), "n_images and n_candidates must be >= 1"),
        (lambda: lvm.complete([A], temperature=-1), "temperature must be"),
        (lambda: lvm.complete([A], top_p=2), "top_p must be"),
        (lambda: lvm.complete([A], seed=-1), "seed must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_model_without_bos(tmp_path: Path) -> None:
    export_model(tmp_path / "model", **parts(bos="none"))
    plain = LVM.load(tmp_path / "model", "cpu")
    assert plain.engine.bos is None
    assert plain.complete([A, B]).tokens.shape == (1, S)
    assert plain.perplexity([A], [B]) > 1
    with pytest.raises(ValueError, match="has no BOS"):
        plain.complete([])
    with pytest.raises(ValueError, match="has no BOS"):
        plain.perplexity([], [A])
