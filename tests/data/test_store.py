"""Columns come back as written; whatever is wrong with a store is one line or a name in `verify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data.column import ColumnWriter
from lvmlite.data.store import Shard, ShardWriter, Store, read_shard_info, write_json

from .toys import Made, digits, make_store, tree

SHARDS = [
    ("a", "train", [1, 1, 1, 1], {"image": 1, "seg": 2}),
    ("a", "val", [2, 3], {"image": 1}),
    ("b", "train", [4, 4], {"image": 1, "depth": 1}),
]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_store(tmp_path / "store", SHARDS)


# --- reading


def test_columns_are_what_was_written(made: Made) -> None:
    tokens = {}
    for number, (shard, kind, variant, row) in enumerate(made.pictures):
        tokens[shard, kind, variant, row] = digits(np.array(number))
    for shard in made.store.shards:
        for kind, variants in shard.info.columns.items():
            for v in range(variants):
                column = shard.column(kind, v)
                assert isinstance(column, np.memmap)
                assert column.dtype == np.uint16
                assert column.tolist() == [tokens[shard.info.name, kind, v, r].tolist() for r in range(len(column))]
    assert made.store.n_tokens == 3


def test_samples_and_keys(made: Made) -> None:
    one, several, fours = made.store.shards
    assert one.samples().tolist() == [[0, 1, -1], [1, 1, -1], [2, 1, -1], [3, 1, -1]]
    assert several.samples().tolist() == [[0, 2, -1], [2, 3, -1]]
    assert fours.samples().tolist() == [[0, 4, -1], [4, 4, -1]]
    assert [shard.info.frames_per_sample for shard in made.store.shards] == [1, None, 4]
    assert [(shard.folder / "samples.npy").exists() for shard in made.store.shards] == [False, True, False]
    assert list(several.keys()) == [("1/0", "1/0"), ("1/1", "1/1")]


def test_categories_are_counted_in_order_of_appearance(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", "a", "train", {"image": 1}) as writer:
        for i, category in enumerate(["boat", None, "ant", "boat"]):
            writer.add_sample(f"k\u2028{i}", "\N{HEAVY BLACK HEART}\n", category, 1)
            writer.append("image", 0, np.zeros((1, 2), np.uint8))
        info = writer.finish()
    shard = Shard(tmp_path / "s", info)
    assert info.categories == ["boat", "ant"]
    assert shard.samples().tolist() == [[0, 1, 0], [1, 1, -1], [2, 1, 1], [3, 1, 0]]
    assert list(shard.keys()) == [(f"k\u2028{i}", "\N{HEAVY BLACK HEART}\n") for i in range(4)]


def test_select(made: Made) -> None:
    names = [[s.info.name for s in made.store.select(*wanted)] for wanted in (("train",), ("train", ["b"]), ("test",))]
    assert names == [["a.0", "b.2"], ["b.2"], []]


def test_no_such_column(made: Made) -> None:
    for kind, variant in (("depth", 0), ("seg", 2), ("seg", -1)):
        with pytest.raises(KeyError):
            made.store.shards[0].column(kind, variant)


# --- writing


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.sampled_from(["u1", "u2", "u4"]),
    st.lists(st.integers(1, 3), max_size=3),
)
def test_a_column_written_in_pieces_is_the_array(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[int], dtype: str, shape: list[int]
) -> None:
    path = tmp_path_factory.mktemp("column") / "x.npy"
    size = sum(pieces) * int(np.prod(shape, dtype=int))
    rows = np.arange(size).astype(dtype).reshape(sum(pieces), *shape)
    writer, at = ColumnWriter(path), 0
    for n in pieces:
        writer.append(rows[at : at + n])
        at += n
    writer.close()
    found = np.load(path)
    assert found.dtype == rows.dtype
    assert np.array_equal(found, rows)


def test_a_column_of_a_billion_rows_has_the_same_header(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "x.npy")
    writer.append(np.zeros((1, 3), np.uint16))
    header = writer.header
    writer.rows = 10**15
    writer._write_header()
    assert writer.file is not None
    assert writer.file.tell() == header
    writer.abandon()


def write_shard(folder: Path, rows: dict[str, int], width: int = 2) -> None:
    """A shard of two samples of one frame, and of so many rows of each kind."""
    with ShardWriter(folder, "a", "train", dict.fromkeys(rows, 1)) as writer:
        for i in range(2):
            writer.add_sample(f"k{i}", "", None, 1)
        for kind, n in rows.items():
            for _ in range(n):
                writer.append(kind, 0, np.zeros((1, width), np.uint8))
        writer.finish()


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", "a", "train", {"image": 1}) as writer:
        writer.append("image", 0, np.zeros((1, 2), np.uint8))
    assert not list(tmp_path.iterdir())
    with pytest.raises(AssertionError, match="column"):
        write_shard(tmp_path / "s", {"image": 2, "seg": 1})
    assert not list(tmp_path.iterdir())
    write_shard(tmp_path / "s", {"image": 2, "seg": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_shard_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    for rows in ({"image": 2, "seg": 2}, {"image": 2}):
        write_shard(tmp_path / "s", rows)
    assert sorted(tree(tmp_path)) == ["s/image.npy", "s/keys.jsonl", "s/shard.json"]


@pytest.mark.parametrize("limit", [0, 100, 5000])
def test_a_full_disk_publishes_nothing(
    tmp_path: Path, limit: int, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    """It fails in the header, in a buffered write that is flushed late, or in a large one."""
    with files_up_to(limit), pytest.raises(OSError, match="large"):
        write_shard(tmp_path / "s", {"image": 2, "seg": 2}, 4000)
    assert not list(tmp_path.iterdir())


def test_json_is_whole_or_as_before(tmp_path: Path, files_up_to: Callable[[int], AbstractContextManager[None]]) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with files_up_to(10), pytest.raises(OSError, match="large"):
        write_json(tmp_path / "x.json", {"a": "long enough to be refused"})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


# --- damage


def test_a_sound_store_verifies(made: Made) -> None:
    assert made.store.verify() == []
    for shard in made.store.shards:
        on_disk = {p.name for p in shard.folder.iterdir()} - {"shard.json"}
        assert on_disk == set(shard.info.checksums)
        assert read_shard_info(shard.folder) == shard.info


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "file", "said"),
    [
        (flip, "a.0/seg.1.npy", "a.0/seg.1.npy: checksum differs"),
        (cut, "b.2/depth.npy", "b.2/depth.npy: checksum differs"),
        (Path.unlink, "a.1/samples.npy", "a.1/samples.npy: missing"),
        (flip, "a.0/keys.jsonl", "a.0/keys.jsonl: checksum differs"),
        (Path.unlink, "a.0/shard.json", "a.0/shard.json: not what store.json says"),
    ],
)
def test_verify_names_what_is_wrong(made: Made, harm: Callable[[Path], None], file: str, said: str) -> None:
    harm(made.store.path / file)
    assert Store.open(made.store.path).verify() == [said]


def test_verify_compares_what_shards_say(made: Made) -> None:
    path = made.store.path / "b.2" / "shard.json"
    write_json(path, json.loads(path.read_text()) | {"split": "test"})
    assert made.store.verify() == ["b.2/shard.json: not what store.json says"]


@pytest.mark.parametrize(
    "harm", [cut, Path.unlink, lambda p: p.write_bytes(b""), lambda p: p.write_text("no numpy file")]
)
@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("a.0/image.npy", lambda store: store.shards[0].column("image")),
        ("a.1/samples.npy", lambda store: store.shards[1].samples()),
        ("a.1/keys.jsonl", lambda store: list(store.shards[1].keys())),
    ],
)
def test_a_broken_file_is_one_line(
    made: Made, harm: Callable[[Path], None], file: str, use: Callable[[Store], object]
) -> None:
    path = made.store.path / file
    if path.suffix == ".jsonl" and harm is not Path.unlink:
        path.write_text('{"key": "1/0", "group": "1/0"}\n{"key": "1/')
    else:
        harm(path)
    with pytest.raises(ValueError, match="cannot be read") as error:
        use(made.store)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_that_the_shard_does_not_have(made: Made) -> None:
    np.save(made.store.path / "a.0" / "image.npy", np.zeros((5, 3), np.uint16))
    with pytest.raises(ValueError, match=r"5 rows, shard\.json says 4\); build the store again"):
        made.store.shards[0].column("image")


def test_objects_are_never_unpickled(made: Made) -> None:
    np.save(made.store.path / "a.0" / "image.npy", np.array([None] * 4, object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        made.store.shards[0].column("image")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not a finished store (no store.json); build it first"),
        ("", "cannot be read"),
        ('{"format": 1', "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "store format 2, this version reads 1"),
        ("{}", "store format None"),
        ('{"format": 1}', "cannot be read ('shards')"),
        ('{"format": 1, "shards": [{}]}', "cannot be read"),
        ('{"format": 1, "shards": [], "colour": "blue"}', "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
    ],
)
def test_what_is_no_store_is_one_line(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    if text is not None:
        (tmp_path / "store.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="store") as error:
        Store.open(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    for path in (tmp_path / "x", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="not a finished store"):
            Store.open(path)


def test_another_tokenizer_is_one_line(made: Made) -> None:
    made.store.check_tokenizer("code")
    with pytest.raises(ValueError, match=r"another tokenizer \(code, this one is other\); build the store again"):
        made.store.check_tokenizer("other")


def test_pixels_have_no_tokens(made: Made) -> None:
    write_json(made.store.path / "store.json", asdict(made.store.info) | {"content": "pixels", "grid": None})
    with pytest.raises(ValueError, match="holds pixels, not tokens"):
        _ = Store.open(made.store.path).n_tokens
