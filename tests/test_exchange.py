"""Stores from and for other systems: imported and exported again, the bytes are the same; Parquet reads back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from data.toys import K, S, make_store, number_of, tree

from lvmlite import exchange
from lvmlite.cli import main
from lvmlite.data.sentences import PairsConfig, SingleConfig, WholeConfig
from lvmlite.data.store import Store
from lvmlite.data.stream import Stream, StreamConfig
from lvmlite.interop.delvm import meta_path

SHAPE = {"grid": (1, 4), "codebook_size": 100, "size": 32}


def sentences(n: int = 50) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 100, 4 * rng.integers(1, 6)).tolist() for _ in range(n)]


def write_jsonl(path: Path, tokens: list[list[int]]) -> Path:
    coded = [base64.b64encode(np.array(t, "<i4").tobytes()).decode() for t in tokens]
    path.write_text("".join(json.dumps({"tokens": text}) + "\n" for text in coded))
    return path


@pytest.mark.parametrize("rows", [10, 2**20])
def test_lvm_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """To the byte, whatever the size of shards; and to DeLVM and back again."""
    monkeypatch.setattr(exchange, "SHARD_ROWS", rows)
    path = write_jsonl(tmp_path / "a.jsonl", sentences())
    store = exchange.import_tokens(path, tmp_path / "store", "lvm", **SHAPE)
    assert (len(store.shards) > 5) == (rows == 10)
    assert store.verify() == []
    exchange.export_sentences(tmp_path / "b.jsonl", "lvm", exchange.stored_sentences(store, "train"))
    assert (tmp_path / "b.jsonl").read_bytes() == path.read_bytes()
    exchange.export_sentences(tmp_path / "c.bin", "delvm", exchange.stored_sentences(store, "train"))
    again = exchange.import_tokens(tmp_path / "c.bin", tmp_path / "again", "delvm", **SHAPE)
    exchange.export_sentences(tmp_path / "d.bin", "delvm", exchange.stored_sentences(again, "train"))
    assert (tmp_path / "d.bin").read_bytes() == (tmp_path / "c.bin").read_bytes()
    assert meta_path(tmp_path / "d.bin").read_bytes() == meta_path(tmp_path / "c.bin").read_bytes()


def test_imported_sentences_are_read_as_they_came(tmp_path: Path) -> None:
    tokens = sentences()
    store = exchange.import_tokens(write_jsonl(tmp_path / "a.jsonl", tokens), tmp_path / "store", "lvm", **SHAPE)
    stream = Stream([store], "train", StreamConfig([WholeConfig(pictures=5)], pictures=5, mode="lvm"), 0, 10)
    drawn = {tuple(codes[codes >= 0]) for i in range(200) for codes in [stream.batch(i).inputs[0][:4]]}
    assert drawn <= {tuple(t[i : i + 4]) for t in tokens for i in range(0, len(t), 4)}
    assert sorted(t.n_items for t in stream.types) == sorted(np.unique([len(t) for t in tokens], return_counts=True)[1])


def test_malformed_lines_are_rejected_with_their_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [[1, 2, 3, 4]] * 12)
    lines = path.read_text().splitlines()
    lines[2], lines[6] = "{", lines[6].replace("=", "*")
    path.write_text("\n".join(lines) + "\n")
    out = tmp_path / "store"
    arguments = ["--grid", "1", "4", "--codebook-size", "100", "--size", "32"]
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(path), "--out", str(out), *arguments])
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert 'rejected: line 3: not JSON\nrejected: line 7: "tokens" is not base64 text\n' in printed.err
    assert "10 samples" in printed.out
    listed = (out / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in listed] == ["line 3", "line 7"]


def test_nothing_to_import_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r'a\.jsonl: no sentence of whole pictures of 4 tokens; line 1: no "tokens"'):
        exchange.import_tokens(path, tmp_path / "store", "lvm", **SHAPE)
    assert not (tmp_path / "store" / "store.json").exists()


def test_drawn_sentences_are_those_of_the_stream(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", [("a", "train", [1] * 9, {"image": 1, "seg": 1})])
    config = StreamConfig([SingleConfig(share=0.5), PairsConfig(share=0.5, pairs=2)], pictures=4)
    stream = Stream([made.store], "train", config, 0, 5)
    drawn = list(exchange.drawn_sentences(stream, 23))
    assert len(drawn) == 23
    batch = [stream.batch(i) for i in range(5)]
    expected = [t[d == k] for b in batch for t, d in zip(b.targets, b.document) for k in range(d.max() + 1)]
    for codes, targets in zip(drawn, expected):
        assert np.array_equal(codes.ravel(), targets)


def test_parquet_holds_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ROWS_AT_ONCE", 4)
    shards = [
        ("a", "train", [1] * 9, {"image": 1, "seg": 2}),
        ("clips", "train", [3, 2, 5], {"image": 1}),
        ("a", "val", [1], {"image": 1, "seg": 2}),
    ]
    made = make_store(tmp_path / "s", shards, categories=[["cat", None, "dog"] * 3, [None] * 3, [None]])
    assert exchange.export_parquet(made.store, tmp_path / "all.parquet") == 20
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    for row, (image, kinds) in zip(table, [(i, True) for i in range(9)] + [(i, False) for i in range(10)]):
        assert (row["seg"] is not None) == kinds == (row["seg.1"] is not None)
        if kinds:
            assert number_of(np.array([row[kind] for kind in ("image", "seg", "seg.1")])).ravel().tolist() == [
                image,
                image + 9,
                image + 18,
            ]
    assert [row["category"] for row in table[:4]] == ["cat", None, "dog", "cat"]
    assert [row["frame"] for row in table[9:19]] == [0, 1, 2, 0, 1, 0, 1, 2, 3, 4]
    assert (table[12]["key"], table[19]["split"], len(table[0]["image"])) == ("1/1", "val", S)
    assert exchange.export_parquet(made.store, tmp_path / "val.parquet", "val") == 1
    with pytest.raises(ValueError, match="no test split"):
        exchange.export_parquet(made.store, tmp_path / "test.parquet", "test")


def test_export_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_store(tmp_path / "s", [("a", "train", [1] * 9, {"image": 1, "seg": 1})])
    with pytest.raises(SystemExit) as stop:
        main(["data", "export", str(made.store.path), "-o", str(tmp_path / "a.jsonl")])
    assert stop.value.code == 0
    assert "only the photos: seg need sentences, drawn with -n N" in capsys.readouterr().err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 9
    for arguments, error in (
        (["-o", str(tmp_path / "a.txt")], "cannot tell its format"),
        (["-o", str(tmp_path / "a.bin"), "-n", "3"], "no recipe.yaml beside it to draw by"),
        (["-o", str(tmp_path / "a.bin"), "--split", "val"], "no val split; there is train"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["data", "export", str(made.store.path), *arguments])
        assert stop.value.code == 2
        assert error in capsys.readouterr().err


def test_a_store_says_how_many_codes(tmp_path: Path) -> None:
    store = exchange.import_tokens(write_jsonl(tmp_path / "a.jsonl", sentences(3)), tmp_path / "s", "lvm", **SHAPE)
    assert (store.info.codebook_size, store.n_tokens, store.info.code_fingerprint) == (100, 4, "imported")
    assert Store.open(tmp_path / "s").info.geometry["size"] == 32
    assert K == 64


def test_an_import_never_takes_the_place_of_another_store(tmp_path: Path) -> None:
    """The same file may be imported again; a built store, an unfinished one and another import are left alone."""
    path, other = (write_jsonl(tmp_path / name, sentences(3)) for name in ("a.jsonl", "b.jsonl"))
    exchange.import_tokens(path, tmp_path / "s", "lvm", **SHAPE)
    before = tree(tmp_path / "s")
    assert exchange.import_tokens(path, tmp_path / "s", "lvm", **SHAPE).verify() == []
    built = make_store(tmp_path / "built", [("a", "train", [1] * 9, {"image": 1})]).store.path
    (tmp_path / "half" / "parts").mkdir(parents=True)
    (tmp_path / "half" / "parts" / "a.json").write_text("{}")
    kept = tree(built)
    for out in (tmp_path / "s", built, tmp_path / "half"):
        with pytest.raises(ValueError, match="holds another store, which would be lost; name another folder with --ou"):
            exchange.import_tokens(other, out, "lvm", **SHAPE)
    assert (tree(tmp_path / "s"), tree(built)) == (before, kept)
    with pytest.raises(ValueError, match=r"b\.jsonl: a file, but a store is a folder"):
        exchange.import_tokens(path, other, "lvm", **SHAPE)
    with pytest.raises(FileNotFoundError):
        exchange.import_tokens(tmp_path / "none.jsonl", tmp_path / "new", "lvm", **SHAPE)
    assert not (tmp_path / "new").exists()


def test_a_source_may_be_named_anything(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", sentences(3))
    store = exchange.import_tokens(path, tmp_path / "s", "lvm", name="../my/photos", **SHAPE)
    assert [shard.folder.parent for shard in store.shards] == [tmp_path / "s"]
    assert (store.shards[0].info.source, store.verify()) == ("../my/photos", [])


def test_an_export_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder, but a file is to be written"):
        exchange.export_sentences(tmp_path, "lvm", [])
