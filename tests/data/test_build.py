"""A build ends with the same bytes however it was interrupted, and says of every input what became of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvmlite.data import draw, encode, parts
from lvmlite.data.build import build_pixels, build_tokens, encode_sources, read_rejects, stable_rng
from lvmlite.data.sources.photos import Photos, PhotosConfig
from lvmlite.data.sources.world import World, WorldConfig
from lvmlite.data.store import Store
from lvmlite.images import Geometry

from . import builder
from .toys import GEOMETRY, KINDS, SETTINGS, Item, Noise, Toy, ToyConfig, ToyTokenizer, toy, tree

TESTS = Path(__file__).resolve().parents[1]
FullDisk = Callable[[int], AbstractContextManager[None]]


def pixels_of(source: Toy, out: Path) -> Store:
    return build_pixels([source], KINDS, SETTINGS, GEOMETRY, out)


def one_part(*items: Item) -> Toy:
    return Toy(ToyConfig(parts=(("000", items),)))


def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "data.builder", *arguments]
    return subprocess.Popen(command, cwd=TESTS, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


# --- what is in a store


def test_row_r_of_all_columns_is_the_same_frame(tmp_path: Path) -> None:
    store = pixels_of(builder.source(), tmp_path)
    seen = set()
    for shard in store.shards:
        for (start, n, _), (key, group) in zip(shard.samples(), shard.keys(), strict=True):
            assert group == f"group {key}"
            for t in range(n):
                row, number = start + t, int(key)
                image = shard.column("image")[row]
                assert (image == (number, t, 7)).all()
                for kind, variants in shard.info.columns.items():
                    assert shard.column(kind).shape == (shard.info.n_frames, 8, 8, 3)
                    for v in range(variants):
                        picture = shard.column(kind, v)[row]
                        if kind == "label":
                            assert (picture == (number, v, 9)).all()
                        elif kind == "noise":
                            drawn = Noise().derive(image, stable_rng(0, key, "noise", t, v))
                            assert np.array_equal(picture, drawn)
                seen.add((number, t))
    assert seen == {
        (10 * p + n, t) for p in range(2) for n, length in ((0, 1), (1, 2), (2, 1), (3, 3)) for t in range(length)
    }


def test_splits_and_sets_of_kinds_get_shards_of_their_own(tmp_path: Path) -> None:
    found = [
        (s.info.split, s.info.columns, s.info.n_samples, s.info.n_frames)
        for s in pixels_of(builder.source(), tmp_path).shards
    ]
    all_kinds = {"image": 1, "label": 3, "noise": 2}
    assert found == 2 * [
        ("train", all_kinds, 2, 4),
        ("val", all_kinds, 1, 2),
        ("train", {"image": 1, "noise": 2}, 1, 1),
    ]


def test_samples_are_listed_where_they_are_not_alike(tmp_path: Path) -> None:
    shards = pixels_of(builder.source(), tmp_path).shards[:3]
    assert [(s.folder / "samples.npy").exists() for s in shards] == [True, False, False]
    assert shards[0].info.categories == ["boat", "ant"]
    assert shards[0].samples().tolist() == [[0, 1, 0], [1, 3, 1]]
    assert shards[1].samples().tolist() == [[0, 2, -1]]


def test_store_json_describes_every_file(tmp_path: Path) -> None:
    pixels = pixels_of(builder.source(), tmp_path / "pixels")
    tokens = build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens", batch=4)
    for store in (pixels, tokens):
        assert store.verify() == []
        told = {f"{s.info.name}/{name}" for s in store.shards for name in (*s.info.checksums, "shard.json")}
        rest = {name for name in tree(store.path) if not name.startswith("parts/")}
        assert rest == told | {"store.json", "rejects.jsonl"}
        assert store.info.kinds == SETTINGS
        assert store.info.geometry == asdict(GEOMETRY)
        assert store.info.sources == {"toy": {"licence": "CC0-1.0", "frame_step": 1, "views": False}}
    assert [asdict(s.info) | {"checksums": {}} for s in tokens.shards] == [
        asdict(s.info) | {"checksums": {}} for s in pixels.shards
    ]
    assert (tokens.info.grid, tokens.info.codebook_size) == ([1, 3], 256)
    assert tokens.info.encoding == {"device": "cpu", "precision": "fp32", "batch": 4}
    tokens.check_tokenizer(ToyTokenizer().code_fingerprint)


def test_tokens_are_those_of_the_pixels(tmp_path: Path) -> None:
    pixels = pixels_of(builder.source(), tmp_path / "pixels")
    tokens = build_tokens(pixels, ToyTokenizer(3), tmp_path / "tokens", batch=4)
    for old, new in zip(pixels.shards, tokens.shards, strict=True):
        assert list(old.keys()) == list(new.keys())
        assert old.samples().tolist() == new.samples().tolist()
        for kind, variants in old.info.columns.items():
            for v in range(variants):
                expected = (old.column(kind, v)[:, 4, 4].astype(int) + 3) % 256
                assert new.column(kind, v).dtype == np.uint16
                assert new.column(kind, v).tolist() == expected.tolist()
    assert read_rejects(tokens.path) == read_rejects(pixels.path) != []


def test_only_some_kinds_for_a_source(tmp_path: Path) -> None:
    store = build_pixels(
        [toy(1), toy(1, name="b")], KINDS, SETTINGS, GEOMETRY, tmp_path, only={"b": ["noise"], "toy": []}
    )
    assert [(s.info.source, list(s.info.columns)) for s in store.shards] == [
        ("toy", ["image"]),
        ("b", ["image", "noise"]),
    ]


# --- interrupted


@pytest.mark.parametrize(
    ("how", "number", "files", "kills"),
    [
        ("crash", "29", 50, 8),
        ("direct", "31", 30, 5),
        ("grow", "23", 50, 8),
        ("growdirect", "23", 30, 5),
        ("random", "0", 50, 1),
    ],
)
def test_killed_builds_end_with_the_same_bytes(tmp_path: Path, how: str, number: str, files: int, kills: int) -> None:
    """SIGKILL before every n-th operation on a file, and again soon after the restart; and at random times."""
    found = json.loads(finish(run(how, str(tmp_path), number)))
    assert found["wrong"] == []
    assert found["files"] > files
    assert found["kills"] >= kills


def test_workers_write_the_same_bytes_and_die_with_their_parent(tmp_path: Path) -> None:
    builder.build(tmp_path / "alone")
    log = tmp_path / "log"
    log.touch()
    process = run("build", str(tmp_path / "two"), "2", TOY_LOG=str(log), TOY_SLEEP="0.3")
    while process.poll() is None and not log.read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)
    lines = log.read_text()
    time.sleep(1)  # orphans would draw three samples a second each
    assert log.read_text() == lines
    assert not (tmp_path / "two" / "pixels" / "store.json").exists()
    finish(run("build", str(tmp_path / "two"), "2", TOY_LOG=str(log)))
    assert len(set(log.read_text().split()) - {str(process.pid)}) >= 2  # drawn in workers, of both runs
    assert tree(tmp_path / "two") == tree(tmp_path / "alone")


def test_the_world_in_workers(tmp_path: Path) -> None:
    world = World(WorldConfig(train=4, val=2, test=0, size=16, part_size=2), 3)
    for workers in (0, 2):
        build_pixels([world], {}, {}, Geometry(16), tmp_path / str(workers), workers=workers)
    assert tree(tmp_path / "0") == tree(tmp_path / "2")


def test_a_second_builder_waits_for_the_first(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        build_pixels(
            [toy()], KINDS, SETTINGS, GEOMETRY, tmp_path / "a", progress=lambda done, total, what: said.append(what)
        )

    thread = threading.Thread(target=second)
    with parts.building(tmp_path / "a"):
        thread.start()
        while not said:
            time.sleep(0.01)
        assert said == ["waiting for another process that builds it"]
        assert not (tmp_path / "a" / "store.json").exists()
    thread.join(60)
    pixels_of(toy(), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    builder.build(tmp_path / "out")
    before, drawn = tree(tmp_path / "out"), log.read_text()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.npy")}
    builder.build(tmp_path / "out")
    assert tree(tmp_path / "out") == before
    assert log.read_text() == drawn
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_half_written_files_are_removed(tmp_path: Path) -> None:
    for name in (".toy.000.train.0.partial", ".other.partial"):
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "a" / name / "image.npy").write_text("half")
    (tmp_path / "a" / "parts").mkdir()
    for name in (".store.json.partial", "parts/.another.json.partial"):
        (tmp_path / "a" / name).write_text("{")
    pixels_of(toy(), tmp_path / "a")
    pixels_of(toy(), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(
    "lost", ["pixels/toy.000.train.0", "tokens/toy.001.val.1", "pixels/toy.001.train.2/noise.1.npy"]
)
def test_what_was_deleted_is_built_again(tmp_path: Path, lost: str) -> None:
    builder.build(tmp_path)
    before = tree(tmp_path)
    path = tmp_path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    builder.build(tmp_path)
    assert tree(tmp_path) == before


def test_a_broken_record_is_built_again(tmp_path: Path) -> None:
    builder.build(tmp_path)
    before = tree(tmp_path)
    (tmp_path / "pixels" / "parts" / "toy.000.json").write_text('{"finger')
    builder.build(tmp_path)
    assert tree(tmp_path) == before


def test_a_build_that_begins_anew_is_no_finished_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels_of(toy(), tmp_path)
    shutil.rmtree(tmp_path / "toy.001.train.0")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(draw, "draw_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pixels_of(toy(), tmp_path)
    with pytest.raises(ValueError, match="not a finished store"):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"geometry": Geometry(8, "crop")},
        {"only": {"toy": ["label"]}},
        {"kind_settings": {"label": {"variants": 3}}},
        {"sources": [toy(2)]},
        {"sources": [toy(3, per_part=5)]},
        {"sources": [toy(3, frames=2)]},
    ],
)
def test_a_store_drawn_otherwise_is_not_reused(tmp_path: Path, other: dict) -> None:
    """Whatever it was made of before, the folder ends as if it had been empty."""
    first = {"sources": [toy()], "kinds": KINDS, "kind_settings": SETTINGS, "geometry": GEOMETRY}
    for out, settings in (("a", first), ("a", first | other), ("b", first | other)):
        build_pixels(out=tmp_path / out, **settings)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_tokens_of_another_tokenizer_are_not_reused(tmp_path: Path) -> None:
    pixels = pixels_of(toy(), tmp_path / "pixels")
    build_tokens(pixels, ToyTokenizer(0), tmp_path / "a", batch=4)
    (tmp_path / "a" / "store.json").unlink()  # as if killed before the end
    again = build_tokens(pixels, ToyTokenizer(5), tmp_path / "a", batch=4)
    build_tokens(pixels, ToyTokenizer(5), tmp_path / "b", batch=4)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert again.shards[0].column("image")[:, 2].tolist() == [7 + 5] * 4


def test_tokens_of_another_encoding_or_other_pixels_are_not_reused(tmp_path: Path) -> None:
    pixels = pixels_of(toy(), tmp_path / "pixels")
    build_tokens(pixels, ToyTokenizer(), tmp_path / "a", batch=4)
    build_tokens(pixels, ToyTokenizer(), tmp_path / "a", batch=2, bf16=True)
    build_tokens(pixels, ToyTokenizer(), tmp_path / "b", batch=2, bf16=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    pixels = build_pixels([toy(2)], KINDS, SETTINGS, GEOMETRY, tmp_path / "pixels", seed=1)
    for out in ("a", "c"):
        build_tokens(pixels, ToyTokenizer(), tmp_path / out, batch=2, bf16=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "c")


# --- a full disk


@pytest.mark.parametrize("limit", [50, 250, 800, 1000])
def test_a_full_disk_publishes_no_half_shard(tmp_path: Path, files_up_to: FullDisk, limit: int) -> None:
    """Refused in a header, in keys, in a record, in a column; afterwards it continues to the same bytes."""
    with files_up_to(limit), pytest.raises(OSError, match="large"):
        pixels_of(toy(), tmp_path / "a")
    for path in (tmp_path / "a").iterdir():
        assert path.is_file() or path.name == "parts" or (path / "shard.json").exists()
    assert not (tmp_path / "a" / "store.json").exists()
    pixels_of(toy(), tmp_path / "a")
    pixels_of(toy(), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_full_disk_while_encoding(tmp_path: Path, files_up_to: FullDisk) -> None:
    pixels = pixels_of(toy(), tmp_path / "pixels")
    with files_up_to(140), pytest.raises(OSError, match="large"):
        build_tokens(pixels, ToyTokenizer(), tmp_path / "a", batch=4)
    assert [p.name for p in (tmp_path / "a").iterdir() if p.name != ".lock"] == ["parts"]
    build_tokens(pixels, ToyTokenizer(), tmp_path / "a", batch=4)
    build_tokens(pixels, ToyTokenizer(), tmp_path / "b", batch=4)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


# --- what could not be used


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"good{i}.jpg")
    whole = (folder / "good0.jpg").read_bytes()
    (folder / "cut\u2028\x85é.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.jpg").write_text("Dear photographer")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a photo")
    return folder


def test_every_input_is_a_sample_or_a_reject(tmp_path: Path, photos: Path) -> None:
    store = build_pixels([Photos(PhotosConfig(str(photos)))], {}, {}, GEOMETRY, tmp_path / "out")
    keys = {key for shard in store.shards for key, _ in shard.keys()}  # noqa: SIM118
    rejects = {(r["source"], r["key"], r["reason"]) for r in read_rejects(store.path)}
    assert keys == {"good0.jpg", "good1.jpg", "good2.jpg"}
    assert rejects == {
        ("photos", "cut\u2028\x85é.jpg", "truncated file"),
        ("photos", "letter.jpg", "not an image"),
        ("photos", "empty.png", "empty file"),
        ("photos", ".", "not listed, by suffix: 1 .txt"),
    }


def test_nothing_readable_is_one_line_and_mended_files_are_read_again(tmp_path: Path, photos: Path) -> None:
    good = (photos / "good0.jpg").read_bytes()
    for i in range(3):
        (photos / f"good{i}.jpg").write_bytes(good[:100])
    source, out = Photos(PhotosConfig(str(photos))), tmp_path / "out"
    with pytest.raises(ValueError, match="no readable picture: all 7 inputs were rejected") as error:
        build_pixels([source], {}, {}, GEOMETRY, out)
    assert "\n" not in str(error.value)
    assert str(out / "rejects.jsonl") in str(error.value)
    assert len(read_rejects(out)) == 7
    assert not (out / "store.json").exists()
    (photos / "good1.jpg").write_bytes(good)
    assert [s.info.n_samples for s in build_pixels([source], {}, {}, GEOMETRY, out).shards] == [1]


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="no photos found"):
        build_pixels([Photos(PhotosConfig(str(tmp_path / "photos")))], {}, {}, GEOMETRY, tmp_path / "out")
    with pytest.raises(ValueError, match="the sources gave no sample"):
        pixels_of(one_part(), tmp_path / "out")


def test_samples_without_frames_and_second_keys_are_rejected(tmp_path: Path) -> None:
    source = one_part(
        Item(1, key="a"), Item(2, frames=0), Item(3, key="a"), Item(4, "val", key="a"), Item(5, frames=2, fault="torn")
    )
    store = pixels_of(source, tmp_path)
    assert [list(s.keys()) for s in store.shards] == [[("a", "group a")]]
    assert [(r["key"], r["reason"]) for r in read_rejects(tmp_path)] == [
        ("2", "no frames"),
        ("a", "duplicate key"),
        ("a", "duplicate key"),
        ("5", "torn"),
    ]


def test_a_key_in_two_parts_is_one_line(tmp_path: Path) -> None:
    source = Toy(ToyConfig(parts=(("x", (Item(1), Item(2))), ("y", (Item(3), Item(2))))))
    with pytest.raises(ValueError, match=r"source 'toy': two samples have the key '2', in toy\.x\.train\.0 and toy\.y"):
        pixels_of(source, tmp_path)
    assert not (tmp_path / "store.json").exists()


def test_the_same_key_in_two_sources_is_fine(tmp_path: Path) -> None:
    store = build_pixels([toy(1), toy(1, name="other")], {}, {}, GEOMETRY, tmp_path)
    assert [s.info.source for s in store.shards] == ["toy", "other"]


# --- names


def test_names_of_parts_and_sources_become_file_names(tmp_path: Path) -> None:
    odd = ["../up", "a/b", ".hidden", "é ü", "a.b", "x" * 300, "x" * 301, "", "%2F", "a-b", "con:\n*?"]
    source = Toy(ToyConfig("../my photos", tuple((name, (Item(i),)) for i, name in enumerate(odd))))
    store = pixels_of(source, tmp_path / "out")
    assert [int(s.column("image")[0, 0, 0, 0]) for s in store.shards] == list(range(len(odd)))
    assert all(re.fullmatch(r"[\w%.~-]{1,250}", s.info.name) and s.folder.parent == store.path for s in store.shards)
    assert not any(s.info.name.startswith(".") for s in store.shards)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_names_that_join_alike_stay_apart(tmp_path: Path) -> None:
    a, b = (Toy(ToyConfig(name, ((part, (Item(i),)),))) for i, (name, part) in enumerate([("a", "b-c"), ("a-b", "c")]))
    store = build_pixels([a, b], {}, {}, GEOMETRY, tmp_path)
    assert [int(s.column("image")[0, 0, 0, 0]) for s in store.shards] == [0, 1]


def test_a_part_named_twice_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source 'toy' has two parts named 'p'"):
        pixels_of(Toy(ToyConfig(parts=(("p", (Item(1),)), ("q", (Item(2),)), ("p", (Item(3),))))), tmp_path)
    with pytest.raises(ValueError, match="source 'toy' has two parts named '000'"):
        build_pixels([toy(), toy()], {}, {}, GEOMETRY, tmp_path)


@pytest.mark.parametrize("kind", ["image", "samples", "seg.1", "a/b", "..", "", "a b"])
def test_a_kind_that_cannot_name_a_file_is_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=f"kinds: '{kind}' cannot name files"):
        build_pixels([toy()], {kind: Noise()}, {}, GEOMETRY, tmp_path)


def test_tokens_need_pixels_of_the_tokenizers_size(tmp_path: Path) -> None:
    pixels = build_pixels([toy(1)], {}, {}, replace(GEOMETRY, size=16), tmp_path / "pixels")
    with pytest.raises(ValueError, match="pictures of 16 px, the tokenizer takes 8"):
        build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens")
    pixels = build_pixels([toy(1)], {}, {}, GEOMETRY, tmp_path / "pixels")
    tokens = build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens")
    with pytest.raises(ValueError, match="holds tokens, a tokenizer encodes pixels"):
        build_tokens(tokens, ToyTokenizer(), tmp_path / "more")


def test_a_broken_pixel_store_is_one_line(tmp_path: Path) -> None:
    pixels = pixels_of(toy(), tmp_path / "pixels")
    for lost in ("keys.jsonl", "noise.npy"):
        (pixels.shards[1].folder / lost).unlink()
        with pytest.raises(ValueError, match=rf"{lost}: cannot be read .*; build the store again"):
            build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens")


# --- numbers


def test_a_generator_depends_on_all_names() -> None:
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", "0"), (0,), (0, "a", 0, 1), (0, "a", 1, 0)]
    first = [stable_rng(*some).integers(2**60) for some in names]
    assert len(set(first)) == len(names)
    assert first == [stable_rng(*some).integers(2**60) for some in names]


def test_progress_counts_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are drawn, with a total judged from the samples gone through; encoding knows its total."""
    monkeypatch.setattr(encode, "SHOWN", -1)
    said: list[tuple[int, int, str]] = []
    pixels = build_pixels([toy(2)], KINDS, SETTINGS, GEOMETRY, tmp_path / "pixels", progress=lambda *x: said.append(x))
    each = 6  # a photo, 3 labels and 2 noises
    drawn = [(n * each, 8 * each) for n in range(1, 9)]
    assert [x[:2] for x in said] == [(0, 0), *drawn[:4], drawn[3], *drawn[4:], drawn[7]]
    assert [what for *_, what in said] == ["0 of 2 parts"] * 5 + ["1 of 2 parts"] * 5 + ["2 of 2 parts"]
    said.clear()
    build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens", progress=lambda *x: said.append(x))
    assert {total for _, total, _ in said} == {48}
    assert [done for done, *_ in said] == [*range(4, 25, 4), 24, *range(28, 49, 4), 48]
    said.clear()
    shutil.rmtree(pixels.shards[0].folder)
    build_pixels([toy(2)], KINDS, SETTINGS, GEOMETRY, tmp_path / "pixels", progress=lambda *x: said.append(x))
    assert [x[:2] for x in said] == [(24, 0), *drawn[4:], drawn[7]]
    said.clear()
    shutil.rmtree(tmp_path / "tokens")
    sources = [toy(2)]
    encode_sources(
        sources, KINDS, SETTINGS, GEOMETRY, ToyTokenizer(), tmp_path / "tokens", progress=lambda *x: said.append(x)
    )
    assert said[-1] == (48, 48, "2 of 2 parts")


def test_progress_moves_while_workers_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "TICK", 0.02)
    monkeypatch.setattr(encode, "SHOWN", -1)
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    said: list[int] = []
    build_pixels([toy(2, 6)], {}, {}, GEOMETRY, tmp_path, workers=2, progress=lambda done, *_: said.append(done))
    assert said == sorted(said)
    assert said[-1] == 12
    assert set(said) - {0, 6, 12}  # within a part


def test_memory_does_not_grow_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 MB of pictures are drawn, and encoded in chunks of a quarter."""
    monkeypatch.setattr(encode, "CHUNK_BYTES", 2**18)
    source = toy(1, per_part=200, frames=200, label=False)
    tracemalloc.start()
    try:
        pixels = build_pixels([source], {}, {}, GEOMETRY, tmp_path / "pixels")
        drawing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        build_tokens(pixels, ToyTokenizer(), tmp_path / "tokens", batch=512)
        encoding = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (pixels.shards[0].folder / "image.npy").stat().st_size > 7.5e6
    assert drawing < 2e6
    assert encoding < 2e6
