"""Batch i is a function of (recipe, seed, i): at any start, on any ranks; each item once per epoch; shares exact."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lvmlite.data.mix import CYCLE, largest_remainder
from lvmlite.data.sentences import PairsConfig, RandomConfig, SingleConfig, VideoConfig
from lvmlite.data.store import ShardWriter, Store, StoreInfo, write_json
from lvmlite.data.stream import IGNORE, Batch, PixelStream, Stream, StreamConfig

from .toys import GEOMETRY, SIZE, K, Made, S, make_store, number_of

BOS, EOS = K, K + 1
WORLD = {"image": 1, "seg": 3, "depth": 1}
SHARDS = [
    ("world", "train", [1] * 13, WORLD),
    ("clips", "train", [5, 9, 12], {"image": 1}),
    ("world", "train", [1] * 8, WORLD),
    ("world", "val", [1] * 3, WORLD),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_store(tmp_path_factory.mktemp("stream") / "store", SHARDS)


def mixed(**other: Any) -> StreamConfig:
    """All types at once, in slots of 8 pictures."""
    entries = [
        SingleConfig(share=0.3),
        PairsConfig(share=0.4, pairs=2, variants="per-sentence"),
        VideoConfig(share=0.2, pictures=4, strides=[1, 2]),
        RandomConfig(share=0.1, pictures=5),
    ]
    return StreamConfig(**{"sentences": entries, "pictures": 8} | other)


def stream(made: Made, config: StreamConfig, seed: int = 0, batch_size: int = 12, split: str = "train") -> Stream:
    return Stream([made.store], split, config, seed, batch_size)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def join(batches: list[Batch]) -> Batch:
    arrays = [np.concatenate([getattr(b, name) for b in batches]) for name in ("inputs", "targets", "document", "type")]
    return Batch(*arrays, packed=batches[0].packed)


def pictures(s: Stream, batch: Batch) -> list[list[list[int]]]:
    """The numbers of the pictures of every sentence of every slot, from targets with BOS and without EOS."""
    found = []
    for targets, document in zip(batch.targets, batch.document):
        sentences = [targets[document == d] for d in range(document.max() + 1)]
        found.append([number_of(tokens).tolist() for tokens in sentences])
    return found


# --- a pure function


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_a_batch_is_the_same_at_any_start_and_on_any_ranks(made: Made, world_size: int) -> None:
    """Up to beyond a cycle's end; forwards, backwards and from a new object."""
    whole = stream(made, mixed())
    indices = [0, 1, 82, 83, 84, 1000]
    expected = {i: whole.batch(i) for i in indices}
    for i in reversed(indices):
        fresh = stream(made, mixed())
        assert same(join([fresh.batch(i, rank, world_size) for rank in range(world_size)]), expected[i])
        assert same(join([whole.batch(i, rank, world_size) for rank in reversed(range(world_size))][::-1]), expected[i])


def test_batches_of_another_size_cut_the_same_slots(made: Made) -> None:
    twelve, four = stream(made, mixed()), stream(made, mixed(), batch_size=4)
    for i in (0, 83):
        assert same(twelve.batch(i), join([four.batch(3 * i + k) for k in range(3)]))


def test_seeds_and_splits_differ(made: Made) -> None:
    config = StreamConfig([SingleConfig(sources=["world"])])
    first = stream(made, config)
    assert not same(first.batch(0), stream(made, config, seed=1).batch(0))
    val = stream(made, config, split="val", batch_size=3)
    numbers = {n for slot in pictures(val, val.batch(0)) for sentence in slot for n in sentence}
    assert numbers == made.numbers(shard="world.3", kind="image")


def test_shapes_and_types(made: Made) -> None:
    s = stream(made, mixed())
    batch = s.batch(3)
    assert [x.shape for x in (batch.inputs, batch.targets, batch.document)] == 3 * [(12, 8 * S)]
    assert (batch.inputs.dtype, batch.targets.dtype) == (np.int64, np.int64)
    assert (batch.document.dtype, batch.type.dtype) == (np.int32, np.int32)
    assert batch.packed
    assert batch.inputs.min() >= 0
    assert batch.inputs.max() <= BOS


@pytest.mark.parametrize(
    "how",
    [{}, {"bos": "none"}, {"eos": True, "pictures": 6}, {"bos": "none", "eos": True, "pictures": 6}, {"mode": "lvm"}],
)
@pytest.mark.parametrize("padded", [False, True])
def test_targets_and_sentences_are_counted_without_reading(made: Made, how: dict[str, Any], padded: bool) -> None:
    config = mixed(**how)
    config.pictures += 1 if padded else 0
    s = stream(made, config, batch_size=1000)  # a cycle, so that averages hold exactly
    batch = s.batch(0)
    assert [s.n_targets(i) for i in range(2)] == [(s.batch(i).targets != IGNORE).sum() for i in range(2)]
    counted: dict[int, int] = {}
    for row in batch.document:
        for number in set(row[row >= 0].tolist()):
            n = int((row == number).sum())
            counted[n] = counted.get(n, 0) + 1
    assert s.lengths == counted


def test_ranks_must_share_a_batch_equally(made: Made) -> None:
    with pytest.raises(ValueError, match="a global batch of 12 does not split over 5 ranks"):
        stream(made, mixed()).batch(0, 0, 5)


# --- epochs


def uses(s: Stream, n_batches: int) -> dict[str, list[list[int]]]:
    """Sentence type -> the pictures of its sentences, in the order of use."""
    found: dict[str, list[list[int]]] = {t.name: [] for t in s.types}
    for i in range(n_batches):
        batch = s.batch(i)
        for t, slot in zip(batch.type, pictures(s, batch)):
            found[s.types[t].name] += slot
    return found


def assert_epochs(sequence: list[int], expected: set[int], epochs: int) -> None:
    """Each successive run of len(expected) items is all of them; the order is not always the same."""
    n = len(expected)
    assert len(sequence) >= n * epochs
    orders = [sequence[e * n : (e + 1) * n] for e in range(epochs)]
    assert all(sorted(order) == sorted(expected) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=9), min_size=1, max_size=4),
    n_stores=st.integers(1, 2),
    batch_size=st.integers(1, 17),
    context=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
@example(lengths=[[1]], n_stores=1, batch_size=3, context=2, seed=0)
def test_every_image_of_a_single_stage_once_per_epoch(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[list[int]],
    n_stores: int,
    batch_size: int,
    context: int,
    seed: int,
) -> None:
    root = tmp_path_factory.mktemp("epochs")
    shards = [(f"s{i}", "train", some, {"image": 1, "seg": 1}) for i, some in enumerate(lengths)]
    stores = [make_store(root / str(i), shards, first=1000 * i) for i in range(n_stores)]
    images = {1000 * i + n for i, made in enumerate(stores) for n in made.numbers(kind="image")}
    s = Stream([made.store for made in stores], "train", StreamConfig([SingleConfig()], context), seed, batch_size)
    n_batches = -(-3 * len(images) // (batch_size * context))
    sequence = [n for sentence in uses(s, n_batches)["single"] for n in sentence]
    for e in range(3):
        assert sorted(sequence[e * len(images) : (e + 1) * len(images)]) == sorted(images)


def test_every_type_of_a_mix_reads_its_items_once_per_epoch(made: Made) -> None:
    s = stream(made, mixed(), batch_size=7)
    found = uses(s, 300)
    images = made.numbers(kind="image") - made.numbers(shard="world.3")
    for name in ("single", "random"):
        assert_epochs([n for sentence in found[name] for n in sentence], images, 4)
    photos = made.numbers(kind="image", shard="world") - made.numbers(shard="world.3")
    for kind in ("seg", "depth"):
        for order, at in (("discriminative", 0), ("generative", 1)):
            sentences = found[f"{order}/world/{kind}"]
            assert_epochs([n for sentence in sentences for n in sentence[at::2]], photos, 3)
    clips = [min(n for n in sentence) for sentence in found["video"]]
    starts = np.array(sorted(made.numbers(shard="clips")))[[0, 5, 14]]
    assert_epochs((np.searchsorted(starts, clips, side="right") - 1).tolist(), {0, 1, 2}, 4)


def test_sentences_pin_one_variant_and_all_variants_come(made: Made) -> None:
    found = uses(stream(made, mixed()), 60)
    seen = set()
    for sentence in found["discriminative/world/seg"]:
        variants = {made.pictures[n][2] for n in sentence[1::2]}
        assert len(variants) == 1
        seen |= variants
    assert seen == {1, 2}


# --- shares


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=40).filter(lambda x: sum(x) > 0))
@example([1, 1, 1])
def test_largest_remainder(shares: list[float]) -> None:
    """Sums exactly; each count is the exact share rounded up or down; those rounded up have the larger remainders."""
    counts = largest_remainder(shares, CYCLE)
    exact = np.array(shares) / np.sum(shares) * CYCLE
    assert sum(counts) == CYCLE
    up = np.array(counts) - np.floor(exact)
    assert set(up.tolist()) <= {0, 1}
    remainder = exact - np.floor(exact)
    if up.any() and not up.all():
        assert remainder[up == 1].min() >= remainder[up == 0].max()


def test_largest_remainder_by_hand() -> None:
    assert largest_remainder([1, 1, 1], 1000) == [334, 333, 333]
    assert largest_remainder([0.5, 0.3, 0.2], 1000) == [500, 300, 200]
    assert largest_remainder([2, 1], 10) == [7, 3]
    assert largest_remainder([0, 1], 10) == [0, 10]


def test_every_cycle_has_the_shares_of_tokens(made: Made) -> None:
    """Slots hold 8, 8, 8 and 5 pictures: 0.3, 0.4, 0.2 and 0.1 of the tokens are so many slots."""
    s = stream(made, mixed(), batch_size=CYCLE)
    exact = np.array([0.3 / 8, *4 * [0.1 / 8], 0.2 / 8, 0.1 / 5])
    counts = largest_remainder(exact, CYCLE)
    assert [t.name for t in s.types][::5] == ["single", "video"]
    orders = []
    for cycle in range(3):
        types = s.batch(cycle).type
        assert np.bincount(types, minlength=7).tolist() == counts
        orders.append(tuple(types))
    assert len(set(orders)) == 3
    tokens = np.array([8, 8, 8, 8, 8, 8, 5]) * counts
    assert tokens / tokens.sum() == pytest.approx([0.3, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1], abs=0.002)
    assert s.padding == pytest.approx(counts[6] * 3 / 8 / CYCLE)
    assert s.n_pictures == round(tokens.sum())


def test_uses_in_closed_form_are_those_counted(made: Made) -> None:
    s = stream(made, mixed())
    kind, use = s.slots(0, 3500)
    counted: Counter[int] = Counter()
    for t, j in zip(kind.tolist(), use.tolist()):
        assert j == counted[t]
        counted[t] += 1
    for first, last in ((0, 1), (999, 1001), (1500, 3500), (2000, 3000)):
        part = stream(made, mixed()).slots(first, last)
        assert np.array_equal(part[0], kind[first:last])
        assert np.array_equal(part[1], use[first:last])


def test_a_share_of_nothing_is_left_out(made: Made) -> None:
    entries = [SingleConfig(), VideoConfig(share=0, pictures=500)]
    assert [t.name for t in stream(made, StreamConfig(entries)).types] == ["single"]
    with pytest.raises(ValueError, match="'video' gets none of 1,000 slots: raise its share, or leave it out"):
        stream(made, StreamConfig([SingleConfig(), VideoConfig(share=1e-4, pictures=2)], 2))


def test_two_entries_of_a_type_have_two_names_and_orders(made: Made) -> None:
    s = stream(made, StreamConfig([SingleConfig(), SingleConfig()]), batch_size=90)
    found = uses(s, 1)
    assert list(found) == ["single", "single (1)"]
    assert found["single"][:20] != found["single (1)"][:20]


# --- layout


def one(made: Made, entry: Any, n_pictures: int, **other: Any) -> tuple[Stream, Batch]:
    s = stream(made, StreamConfig([entry], n_pictures, **other), batch_size=2)
    return s, s.batch(0)


def test_one_image_fills_its_positions(made: Made) -> None:
    s, batch = one(made, SingleConfig(), 1)
    assert s.context == S
    assert (batch.inputs[:, 0] == BOS).all()
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert (batch.targets < K).all()
    assert (batch.targets >= 0).all()
    assert (batch.document == 0).all()
    assert not batch.packed


def test_sixteen_images_fill_sixteen_times_as_many(made: Made) -> None:
    s, batch = one(made, RandomConfig(pictures=16), 16)
    assert batch.inputs.shape == (2, 16 * S)
    assert (batch.inputs[:, 0] == BOS).all()
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert (batch.targets >= 0).all()
    assert (batch.document == 0).all()
    assert s.padding == 0
    assert not batch.packed


def test_sentences_are_packed_and_the_rest_is_padding(made: Made) -> None:
    """Two sentences of 2 pairs in 9 pictures: 2 * 12 positions and 3 of padding."""
    s, batch = one(made, PairsConfig(pairs=2, kinds=["depth"], orders=["generative"]), 9)
    assert batch.packed
    assert s.padding == pytest.approx(1 / 9)
    for inputs, targets, document in zip(batch.inputs, batch.targets, batch.document):
        assert document.tolist() == [0] * 12 + [1] * 12 + [-1] * 3
        assert targets[24:].tolist() == [IGNORE] * 3
        for d in (0, 1):
            given, wanted = inputs[document == d], targets[document == d]
            assert given.tolist() == [BOS, *wanted[:-1]]
            numbers = number_of(wanted)
            assert [made.pictures[n][1] for n in numbers] == ["depth", "image"] * 2
            assert [made.pictures[n][3] for n in numbers[::2]] == [made.pictures[n][3] for n in numbers[1::2]]


def test_with_eos_a_sentence_takes_one_more(made: Made) -> None:
    _, batch = one(made, RandomConfig(pictures=2), 5, eos=True)
    n = 2 * S
    for inputs, targets, document in zip(batch.inputs, batch.targets, batch.document):
        assert document.tolist() == [0] * (n + 1) + [1] * (n + 1) + [-1]
        for d in (0, 1):
            given, wanted = inputs[document == d], targets[document == d]
            assert given.tolist() == [BOS, *wanted[:-1]]
            assert wanted[-1] == EOS
            assert (wanted[:-1] < K).all()


@pytest.mark.parametrize("eos", [False, True])
def test_without_bos_the_first_code_is_not_predicted(made: Made, eos: bool) -> None:
    """The papers' formula: inputs z1 .. zn, targets z2 .. zn. The codes are those that BOS gives."""
    _, batch = one(made, RandomConfig(pictures=2), 5, eos=eos, bos="none")
    _, usual = one(made, RandomConfig(pictures=2), 5, eos=eos)
    assert np.array_equal(batch.document, usual.document)
    for inputs, targets, document, wanted in zip(batch.inputs, batch.targets, batch.document, usual.targets):
        for d in (0, 1):
            string = wanted[document == d]
            assert inputs[document == d].tolist() == string.tolist()
            assert targets[document == d].tolist() == [*string[1:], IGNORE]


def test_mode_lvm_is_one_string(made: Made) -> None:
    """No BOS, one document, each code predicted from the one before, also across sentences; padding is not."""
    entry = RandomConfig(pictures=2)
    _, batch = one(made, entry, 5, mode="lvm")
    _, usual = one(made, entry, 5)
    for inputs, targets, document, wanted in zip(batch.inputs, batch.targets, batch.document, usual.targets):
        string = wanted[: 4 * S].tolist()
        assert inputs[: 4 * S].tolist() == string
        assert targets.tolist() == [*string[1:], *[IGNORE] * (S + 1)]
        assert document.tolist() == [0] * (4 * S) + [-1] * S
    assert not batch.packed
    _, full = one(made, entry, 4, mode="lvm")
    assert np.array_equal(full.inputs[:, 1:], full.targets[:, :-1])
    assert (full.targets[:, -1] == IGNORE).all()
    assert (full.document == 0).all()


def test_a_slot_holds_sentences_of_one_type(made: Made) -> None:
    s = stream(made, mixed())
    for i in range(20):
        batch = s.batch(i)
        for t, slot in zip(batch.type, pictures(s, batch)):
            kind = s.types[t]
            assert len(slot) == s.per_slot[t]
            for sentence in slot:
                assert len(sentence) == kind.n_pictures
                for number, expected in zip(sentence, kind.kinds):
                    assert made.pictures[number][1] == expected


# --- pixels


def pixel_store(path: Path, n: int = 30, size: int = SIZE) -> Store:
    infos = []
    for shard in range(2):
        with ShardWriter(path / f"a.{shard}", "a", "train", {"image": 1, "seg": 1}) as writer:
            for i in range(n):
                writer.add_sample(f"{shard}/{i}", "", None, 1)
            for k, kind in enumerate(("image", "seg")):
                values = (np.arange(n) + shard * n + 100 * k).astype(np.uint8)
                writer.append(kind, 0, np.broadcast_to(values[:, None, None, None], (n, size, size, 3)))
            infos.append(writer.finish())
    info = StoreInfo("pixels", asdict(GEOMETRY) | {"size": size}, {"seg": {}}, {"a": {}}, shards=infos)
    write_json(path / "store.json", asdict(info))
    return Store.open(path)


def test_pixels_by_the_same_contract(tmp_path: Path) -> None:
    """Every picture once per epoch of its entry, shares exact, the same on any ranks."""
    entries = [SingleConfig(share=0.75), SingleConfig(share=0.25, kinds=["seg"])]
    store = pixel_store(tmp_path)

    def make() -> PixelStream:
        return PixelStream([store], "train", entries, 5, 40)

    batches = [make().batch(i) for i in range(25)]
    assert batches[0].shape == (40, SIZE, SIZE, 3)
    assert batches[0].dtype == np.uint8
    ranks = np.concatenate([make().batch(7, rank, 4) for rank in range(4)])
    assert np.array_equal(ranks, batches[7])
    values = np.concatenate(batches)[:, 0, 0, 0].astype(int)
    assert (values < 100).sum() == 750
    for mine, first in ((values[values < 100], 0), (values[values >= 100], 100)):
        for e in range(len(mine) // 60):
            assert sorted(mine[e * 60 : (e + 1) * 60]) == list(range(first, first + 60))


# --- what the user must mend


def other_tokenizer(made: Made, root: Path) -> Stream:
    other = make_store(root / "other", SHARDS[:1], "another code")
    return Stream([made.store, other.store], "train", StreamConfig([SingleConfig()]), 0, 4)


MISTAKES: list[tuple[Callable[[Made, Path], object], str]] = [
    (
        lambda made, root: stream(made, StreamConfig([PairsConfig(pairs=2)], 3)),
        r"a sentence 'discriminative/world/depth' takes 12 positions, the context is 9",
    ),
    (
        lambda made, root: stream(made, StreamConfig([SingleConfig()], eos=True)),
        r"a sentence 'single' takes 4 positions, the context is 3",
    ),
    (
        lambda made, root: stream(made, StreamConfig([SingleConfig()]), split="test"),
        r"sentence 'single' finds nothing to read in the test split of .*store; check",
    ),
    (
        lambda made, root: stream(made, StreamConfig([PairsConfig(sources=["clips"])], 16)),
        r"sentence 'pairs' finds nothing to read in the train split of .* from \['clips'\]; check sources, kinds",
    ),
    (
        lambda made, root: stream(made, StreamConfig([VideoConfig(pictures=13)], 16)),
        r"sentence 'video' finds nothing to read .*; check sources, kinds and clip lengths",
    ),
    (
        lambda made, root: stream(made, StreamConfig([SingleConfig(sources=["wrld"])])),
        r"sentence 'single': no source 'wrld' in the store; there are clips, world",
    ),
    (
        lambda made, root: stream(made, StreamConfig([PairsConfig(kinds=["seg", "dpth"])], 16)),
        r"sentence 'pairs': no kind 'dpth' in the store; there are depth, image, seg",
    ),
    (
        other_tokenizer,
        r"other: its tokens were written by another tokenizer \(another code\) than those of .*store \(code\); build",
    ),
    (
        lambda made, root: Stream([made.store] * 2, "train", StreamConfig([SingleConfig()]), 0, 4),
        r"store: named twice; each store is read once",
    ),
    (lambda made, root: Stream([], "train", StreamConfig([SingleConfig()]), 0, 4), r"no store to read"),
    (
        lambda made, root: Stream([pixel_store(root)], "train", StreamConfig([SingleConfig()]), 0, 4),
        r"holds pixels, tokens are needed",
    ),
    (
        lambda made, root: PixelStream([made.store], "train", [SingleConfig()], 0, 4),
        r"store: holds tokens, pixels are needed",
    ),
    (
        lambda made, root: PixelStream([pixel_store(root)], "train", [RandomConfig(pictures=3)], 0, 4),
        r"sentence 'random' has 3 pictures, here one at a time is read",
    ),
    (lambda made, root: PixelStream([pixel_store(root)], "train", [], 0, 4), r"no sentences to read"),
    (
        lambda made, root: PixelStream(
            [pixel_store(root / "a"), pixel_store(root / "b", size=4)], "train", [SingleConfig()], 0, 4
        ),
        r"stores of one size can be mixed: .*a holds 8 px, .*b holds 4 px",
    ),
    (lambda made, root: StreamConfig([]), r"sentences is empty: name at least one"),
    (lambda made, root: StreamConfig([SingleConfig(share=0)]), r"the shares of the sentences sum to nothing"),
    (lambda made, root: StreamConfig([SingleConfig()], mode="lvm", eos=True), r"eos must be false"),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_a_mistake_is_one_line(made: Made, tmp_path: Path, mistake: Callable[[Made, Path], object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        mistake(made, tmp_path)
    assert "\n" not in str(error.value)


# --- memory


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """An epoch of a 15 MB store is read in less than 1 MB."""
    n = 40_000
    store = pixel_store(tmp_path, n)
    assert (tmp_path / "a.0" / "image.npy").stat().st_size > 7e6
    PixelStream([store], "train", [SingleConfig()], 0, 200).batch(0)  # what is made once a process is not counted
    tracemalloc.start()
    try:
        s = PixelStream([store], "train", [SingleConfig()], 0, 200)
        for i in range(2 * n // 200):
            s.batch(i)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
