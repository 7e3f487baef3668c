"""Draws depend on seed and names, keep groups and splits apart, and show what the stores hold."""

import types
from dataclasses import replace

import numpy as np
import pytest

from lvmlite.data.store import Store
from lvmlite.evaluate.bench import Bench, Pool, check_apart
from lvmlite.images import decode


class ThreeGroups:
    """A shard of four samples, 2, 3, 4 and 5 frames, of three groups."""

    def samples(self):
        return np.array([[0, 2, -1], [2, 3, -1], [5, 4, -1], [9, 5, -1]])

    def keys(self):
        return iter([("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")])


def test_a_draw_takes_every_group_once():
    pool = Pool([(7, ThreeGroups())], "s", "test")
    rng = np.random.default_rng(0)
    for n, expected in [(2, 2), (3, 3), (9, 3)]:
        frames = pool.draw(n, rng)
        assert len({frame.group for frame in frames}) == len(frames) == expected
    starts = {"a1": 0, "a2": 2, "b1": 5, "c1": 9}
    seen = {(f.key, f.t) for _ in range(200) for f in pool.draw(3, rng)}
    assert seen == {(key, t) for key, n in [("a1", 2), ("a2", 3), ("b1", 4), ("c1", 5)] for t in range(n)}
    assert all(f.row == starts[f.key] + f.t and f.shard == 7 for f in pool.draw(3, rng))


def test_clips_use_every_group_before_any_twice():
    pool = Pool([(0, ThreeGroups())], "s", "test", min_frames=3)
    assert [key for groups in pool.groups.values() for *_, key in groups] == ["a2", "b1", "c1"]
    clips = pool.clips(5, np.random.default_rng(0), 3)
    assert [len({clip[0].group for clip in clips[i:j]}) for i, j in ((0, 3), (3, 5))] == [3, 2]
    for clip in clips:
        assert [frame.t - clip[0].t for frame in clip] == [0, 1, 2]
        assert len({frame.key for frame in clip}) == 1


def test_no_clip_is_drawn_twice():
    """Of clips of 3 frames at stride 1, samples of 3, 4 and 5 frames hold 1, 2 and 3."""
    pool = Pool([(0, ThreeGroups())], "s", "test", min_frames=3)
    for seed in range(5):
        clips = pool.clips(50, np.random.default_rng(seed), 3)
        starts = [(clip[0].key, clip[0].t, clip[0].row) for clip in clips]
        assert sorted(starts) == [("a2", 0, 2), ("b1", 0, 5), ("b1", 1, 6), ("c1", 0, 9), ("c1", 1, 10), ("c1", 2, 11)]
    assert {
        clip[-1].t for clip in Pool([(0, ThreeGroups())], "s", "test", 5).clips(9, np.random.default_rng(0), 3, 2)
    } == {4}


def test_draws_depend_on_seed_and_names_only(make_bench):
    def drawn(seed, name):
        bench = make_bench(seed=seed)
        bench.pool("train", "world").draw(3, bench.rng("something else"))
        return bench.pool("test", "world").draw(4, bench.rng(name))

    assert drawn(0, "a") == drawn(0, "a")
    assert drawn(0, "a") != drawn(0, "b")
    assert drawn(0, "a") != drawn(1, "a")


def test_codes_pictures_and_truth_are_of_one_frame(make_bench):
    bench = make_bench()
    for frame in bench.pool("test", "world").draw(3, bench.rng("x")):
        native = bench.sources["world"].sample(frame.key).frames[0]
        assert frame.key.startswith("test/")
        np.testing.assert_array_equal(bench.pictures([frame])[0], native["image"])
        np.testing.assert_array_equal(bench.truth(frame, "seg"), native["classes"])
        np.testing.assert_array_equal(bench.truth(frame, "depth"), native["depth"])
        edges = bench.tasks["edges"].derive(native["image"], np.random.default_rng(0))
        np.testing.assert_array_equal(bench.truth(frame, "edges"), edges)
        for kind in ("image", *bench.tasks):
            np.testing.assert_array_equal(bench.codes([frame], kind), bench.encode(bench.pictures([frame], kind)))
        np.testing.assert_array_equal(
            bench.pictures([frame], "seg", 2)[0], bench.tasks["seg"].render(native["classes"], 2, "test")
        )


def test_pairs_are_photo_then_annotation(make_bench):
    bench = make_bench()
    frames = bench.pool("train", "world", ["depth"]).draw(2, bench.rng("x"))
    pairs = bench.pair_codes(frames, "depth")
    assert pairs.shape == (2, 2, 64)
    assert pairs.dtype == np.int64
    np.testing.assert_array_equal(pairs[:, 0], bench.codes(frames))
    np.testing.assert_array_equal(pairs[:, 1], bench.codes(frames, "depth"))


def test_what_the_store_has(make_bench):
    bench = make_bench()
    assert bench.source_names() == ["world", "clips"]
    assert bench.kinds("world") == ["edges", "grey", "seg", "depth", "normals"]
    assert bench.kinds("clips") == []
    assert [bench.variants(kind, "world") for kind in ("seg", "depth", "pose")] == [9, 1, 0]
    assert bench.has("test", "clips", min_frames=8)
    assert not bench.has("test", "clips", min_frames=9)
    assert len(bench.pool("test", "world")) == 16
    with pytest.raises(ValueError, match="source 'clips' has no test samples with depth"):
        bench.pool("test", "clips", ["depth"])
    frame = bench.pool("test", "world").draw(1, bench.rng("x"))[0]
    with pytest.raises(ValueError, match="no source 'elsewhere' to ask for the truth; there are world, clips"):
        bench.truth(replace(frame, source="elsewhere"), "depth")


def test_decode_keeps_leading_shape_and_saved_pictures_are_lossless(make_bench, tmp_path):
    bench = make_bench()
    clip = bench.pool("test", "clips", min_frames=3).clips(1, bench.rng("x"), 3)[0]
    codes = bench.codes(clip)
    film = bench.decode(codes[None])
    assert film.shape == (1, 3, 32, 32, 3)
    cell = bench.cell("film", film[0], "label", generated=True)
    assert (cell.pictures, cell.label, cell.generated) == (["film-0.png", "film-1.png", "film-2.png"], "label", True)
    for name, picture in zip(cell.pictures, film[0], strict=True):
        np.testing.assert_array_equal(decode(tmp_path / "run" / "evaluation" / name), picture)
    assert bench.cell("still", film[0, 0]).pictures == ["still.png"]


def test_stores_of_another_tokenizer_or_of_other_pixels_are_refused(make_bench, stores, tmp_path):
    tokens, pixels, sources, _ = stores
    lvm = make_bench().lvm
    other = types.SimpleNamespace(**{**vars(lvm), "tokenizer": types.SimpleNamespace(code_fingerprint="0" * 16)})
    with pytest.raises(ValueError, match="written by another tokenizer"):
        Bench(other, tokens, pixels, sources, tmp_path)
    fewer = Store(pixels.path, replace(pixels.info, shards=pixels.info.shards[:-1]))
    with pytest.raises(ValueError, match="not encoded from"):
        Bench(lvm, tokens, fewer, sources, tmp_path)


def test_a_group_in_two_splits_is_refused(make_bench):
    bench = make_bench()
    (train,) = bench.pool("train", "world").draw(1, bench.rng("x"))
    (test,) = bench.pool("test", "world").draw(1, bench.rng("x"))
    check_apart([train], [test])
    with pytest.raises(ValueError, match=f"group '{test.group}' of source 'world' is both in train and in test"):
        check_apart([replace(train, group=test.group)], [test])
    with pytest.raises(AssertionError):
        check_apart([test], [test])
    with pytest.raises(AssertionError):
        check_apart([train], [train])
