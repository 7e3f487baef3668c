"""The search climbs, is repeatable, reads as a fresh drawing does, and its file is read by the task."""

from dataclasses import replace

import numpy as np
import pytest

from lvmlite import recipe
from lvmlite.data.sources.world import World, WorldConfig
from lvmlite.evaluate import palettes as search
from lvmlite.evaluate.ceiling import score, through
from lvmlite.evaluate.palettes import Painting, climb, flat, lattice, propose, search_palette, spread
from lvmlite.images import Geometry
from lvmlite.tasks import build_task, palettes
from lvmlite.tasks.segmentation import SegmentationConfig

from .conftest import SIZE, BlockColours


def block_maps(n=12, n_classes=8, seed=0):
    """(N, 32, 32) maps of blocks of 8 x 8 and, over them, thin lines: what falls between 4 x 4 tokens is lost."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, n_classes + 1, (n, 4, 4)).repeat(8, 1).repeat(8, 2)
    maps[:, 14:16, :] = rng.integers(1, n_classes + 1, (n, 1, 1))
    return maps


def dim(pictures):
    """A tokenizer that keeps neither red nor what is dark."""
    out = np.where(pictures < 100, 0, pictures).astype(np.uint8)
    out[..., 0] = 0
    return out


def test_a_lattice_opens_with_black_and_ends_with_white():
    colours = lattice(3)
    assert colours.dtype == np.uint8
    assert colours[[0, 1, 3, -1]].tolist() == [[0, 0, 0], [0, 0, 128], [0, 128, 0], [255, 255, 255]]
    assert len(np.unique(colours, axis=0)) == 27


def test_flat_colours_come_back_in_their_order():
    back = flat(dim, lattice(3), size=4, batch=10)
    assert back.tolist() == dim(lattice(3)).tolist()


def test_spread_leaves_out_what_does_not_come_back():
    table = spread(lattice(3), dim(lattice(3)).astype(float), 8)
    assert table[0].tolist() == [0, 0, 0]
    assert not table[:, 0].any(), "colours that differ in red alone come back alike"
    assert len(np.unique(dim(table), axis=0)) == 9
    assert palettes.least_distance(table) == 127


def test_spread_is_farthest_points_where_all_comes_back():
    colours = lattice(4).astype(int).tolist()
    chosen = [[0, 0, 0]]
    for _ in range(20):
        gaps = [min(sum(abs(x - y) for x, y in zip(c, other, strict=True)) for other in chosen) for c in colours]
        chosen.append(colours[gaps.index(max(gaps))])
    assert spread(lattice(4), lattice(4).astype(float), 20).tolist() == chosen


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_a_move_counts_as_a_fresh_drawing(distance):
    """What `moved` keeps of the last drawing is what all maps, drawn and read anew, give; and a refusal is right."""
    tokenizer, maps = BlockColours(), block_maps(n=40)
    maps[:, :, :16] = maps[:, :1, :1]  # many maps lack a class

    def back(pictures):
        return through(tokenizer, pictures)

    now, rng, kept = Painting.of(back, maps, palettes.painter150(8), distance), np.random.default_rng(0), 0
    for _ in range(60):
        table, changed = propose(now, lattice(5), rng)
        assert sorted(changed) == np.flatnonzero((table != now.table).any(1)).tolist()
        fresh = Painting.of(back, maps, table, distance)
        moved = now.moved(back, table, changed)
        if moved is None:
            continue
        assert moved.score == fresh.score > now.score
        for name in ("pictures", "read", "gaps", "states"):
            np.testing.assert_array_equal(getattr(moved, name), getattr(fresh, name))
        now, kept = moved, kept + 1
    assert kept >= 5


def test_a_move_passes_only_the_maps_that_hold_its_classes():
    maps = np.repeat(np.arange(1, 7), 2)[:, None, None] * np.ones((1, 8, 8), int)
    seen = []

    def back(pictures):
        seen.append(len(pictures))
        return dim(pictures)

    start = Painting.of(back, maps, palettes.distinct(6))
    assert seen == [12]
    table = start.table.copy()
    table[1] = (0, 180, 180)  # from red, which comes back black
    moved = start.moved(back, table, [1])
    assert seen == [12, 2]
    assert moved.score > start.score
    worse = start.table.copy()
    worse[2] = (0, 60, 0)  # comes back black
    assert start.moved(back, worse, [2]) is None
    assert seen == [12, 2, 2]


def test_no_two_classes_take_one_colour():
    maps = block_maps()
    start = Painting.of(dim, maps, palettes.painter150(8))
    best, history = climb(dim, start, lattice(5), np.random.default_rng(0), 150)
    assert len(np.unique(best.table, axis=0)) == 9
    assert not best.table[0].any()
    assert [score for _, score in history] == sorted({score for _, score in history})
    assert history[-1][1] == best.score > start.score


def test_search_finds_a_better_palette_and_finds_it_again(tmp_path):
    tokenizer, maps, told = BlockColours(), block_maps(), []
    found = search_palette(tokenizer, 8, maps, seed=3, steps=40, progress=lambda *x: told.append(x))
    assert set(found.starts) == {"spread", "orders", "distinct", "painter150", "ade20k", "cityscapes"}
    scores = [score for _, score in found.starts.values()]
    assert found.score >= max(scores)
    assert found.kept == "climbed"
    assert told[-1] == (40, found.history[-1][1])
    again = search_palette(tokenizer, 8, maps, seed=3, steps=40)
    np.testing.assert_array_equal(found.table, again.table)
    assert (again.history, again.score) == (found.history, found.score)

    path = tmp_path / "new" / "palette.json"
    search.save_palette(path, found, tokenizer, {"kind": "seg"})
    task = build_task(recipe.build(SegmentationConfig, {"palette": str(path), "n_classes": 8}))
    np.testing.assert_array_equal(task.palette(), found.table)
    held_back = np.random.default_rng(3).permutation(maps)[3::4]
    pictures = through(tokenizer, np.stack([task.render(m) for m in held_back]))
    assert score(task, "miou", held_back, pictures).compute() == pytest.approx(found.score)


def test_what_only_fits_the_maps_climbed_on_is_not_kept(monkeypatch):
    """A climb that would end with a worse table for the maps held back: the best beginning is kept."""
    bad = np.zeros((9, 3), np.uint8)
    monkeypatch.setattr(search, "climb", lambda back, start, *rest: (replace(start, table=bad), [(1, 1.0)]))
    found = search_palette(BlockColours(), 8, block_maps(), seed=3, steps=5)
    assert found.kept in found.starts
    assert found.table.any()
    assert found.score == max(score for _, score in found.starts.values())


@pytest.mark.parametrize("maps", [np.zeros((0, SIZE, SIZE), int), np.zeros((2, SIZE, SIZE), int), block_maps(2)])
def test_maps_without_classes_or_with_too_many_are_refused(maps):
    with pytest.raises(ValueError, match="a palette of 3 classes needs maps with ids of 1 to 3"):
        search_palette(BlockColours(), 3, maps)


def test_more_classes_than_colours_are_refused():
    with pytest.raises(ValueError, match="up to 727 classes, not 728"):
        search_palette(BlockColours(), 728, block_maps(2))


def test_a_single_class_takes_another_colour():
    maps = np.ones((2, 8, 8), int)
    maps[:, :4] = 0
    start = Painting.of(dim, maps, np.array([[0, 0, 0], [255, 0, 0]], np.uint8))  # red comes back black
    best, history = climb(dim, start, lattice(3), np.random.default_rng(0), 20)
    assert (start.score, best.score) == (0, 1)
    assert len(history) == 1


def test_maps_are_of_one_split_and_those_without_colours_are_counted():
    world = World(WorldConfig(train=6, val=1, test=2, size=48), 0)
    task = build_task(SegmentationConfig(palette="distinct", n_classes=5))
    maps, groups, unreadable = search.fitted_maps([world], task, Geometry(size=16), "train")
    assert (maps.shape, len(set(groups)), unreadable) == ((6, 16, 16), 6, 0)
    fewer, some, _ = search.fitted_maps([world], task, Geometry(size=16), "train", 4)
    np.testing.assert_array_equal(fewer, maps[:4])
    assert some == groups[:4]
    assert not set(groups) & set(search.fitted_maps([world], task, Geometry(size=16), "test")[1])
    narrow = build_task(SegmentationConfig(palette="distinct", n_classes=1))
    with pytest.raises(ValueError, match="6 samples, 6 unreadable"):
        search.fitted_maps([world], narrow, Geometry(size=16), "train")
