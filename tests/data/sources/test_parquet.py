"""The source `parquet`: columns as `datasets` writes them and plain ones, and files that are damaged."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lvmlite.data.sources.parquet import DAMAGED, Parquet, ParquetConfig
from lvmlite.sample import split_of

from .layouts.parquet import hugging_face, mask, picture


def plain(path: Path, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def parquet(path, **options) -> Parquet:
    return Parquet(ParquetConfig(path=str(path), **options))


def reasons(rejects) -> list[tuple[str, str]]:
    return [(r.key, r.reason) for r in rejects]


def test_what_datasets_writes(tmp_path, read, same):
    hugging_face(tmp_path / "data/train-00000-of-00001.parquet", [picture(i) for i in range(10)])
    hugging_face(tmp_path / "data/validation-00000-of-00001.parquet", [picture(20)], [-1])
    source = parquet(tmp_path, category="label", name="mine")
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples[:2]] == [f"data/train-00000-of-00001.parquet/0000000{i}" for i in range(2)]
    assert [s.split for s in samples] == ["train"] * 10 + ["val"]
    assert [s.category for s in samples] == ["cat", "dog"] * 5 + [None]
    for s, number in zip(samples, [*range(10), 20], strict=True):
        assert (s.group, s.source, len(s.frames)) == (s.key, "mine", 1)
        assert np.array_equal(s.frames[0]["image"], np.asarray(Image.open(io.BytesIO(picture(number)))))
    copy = pickle.loads(pickle.dumps(source))
    assert all(same(copy.sample(s.key), s) for s in samples)


def test_row_groups_are_parts(tmp_path):
    path = hugging_face(tmp_path / "a.parquet", [picture(i) for i in range(10)])
    parts = parquet(path).parts()
    assert [(p.name, p.items) for p in parts] == [(f"a.parquet-0000{i}", (("a.parquet", i),)) for i in range(3)]
    assert {p.stamp for p in parts} == {str(path.stat().st_size)}
    keys = [s.key for s in parquet(path).samples(parts[1])]
    assert keys == [f"a.parquet/0000000{i}" for i in range(4, 8)]


def test_plain_columns_and_annotations(tmp_path, read):
    photos = [picture(i) for i in range(3)]
    plain(tmp_path / "a.parquet", photo=photos, seg=[mask(i) for i in range(3)], kind=["x", "", None], n=[4, 5, -1])
    samples, rejects = read(parquet(tmp_path, image="photo", columns={"seg": "classes"}, category="kind"))
    assert rejects == []
    assert [s.category for s in samples] == ["x", None, None]
    assert [s.split for s in samples] == [split_of(s.key) for s in samples]
    assert [s.frames[0]["classes"].max() for s in samples] == [0, 1, 2]
    assert [s.category for s in read(parquet(tmp_path, image="photo", category="n"))[0]] == ["4", "5", "-1"]


def test_rows_that_are_not_whole_are_rejects(tmp_path, read):
    photos = [picture(0), None, b"", picture(3), b"no picture"]
    plain(tmp_path / "a.parquet", image=photos, seg=[mask(1), mask(1), mask(1), None, mask(1)])
    samples, rejects = read(parquet(tmp_path, columns={"seg": "classes"}))
    assert [s.key for s in samples] == ["a.parquet/00000000", "a.parquet/00000004"]
    assert reasons(rejects) == [
        ("a.parquet/00000001", "no picture"),
        ("a.parquet/00000002", "no picture"),
        ("a.parquet/00000003", "partner is missing: classes"),
    ]
    with pytest.raises(ValueError, match=r"^not an image$"):
        samples[1].frames[0]


def test_pictures_that_are_only_paths_and_labels_without_a_name(tmp_path, read):
    path = hugging_face(tmp_path / "a.parquet", [picture(0), None, picture(2)], [1, 0, 2])
    samples, rejects = read(parquet(path, category="label"))
    assert [s.category for s in samples] == ["dog"]
    assert reasons(rejects) == [
        ("a.parquet/00000001", "no picture"),
        ("a.parquet/00000002", "category without a name"),
    ]


def test_broken_files_are_rejects_among_others_and_one_clear_line_alone(tmp_path, read):
    whole = hugging_face(tmp_path / "c.parquet", [picture(i) for i in range(3)]).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.parquet").write_bytes(b"")
    (tmp_path / "d.parquet").write_text("text " * 100)
    plain(tmp_path / "e.parquet", photo=[picture(0)])
    samples, rejects = read(parquet(tmp_path))
    assert len(samples) == 3
    assert reasons(rejects) == [
        *((f"{name}.parquet", DAMAGED) for name in "abd"),
        ("e.parquet", "columns differ from those of the first file"),
    ]
    for name in "ce":
        (tmp_path / f"{name}.parquet").unlink()
    with pytest.raises(ValueError, match="none of 3 Parquet files can be read; fetch") as info:
        parquet(tmp_path)
    assert "\n" not in str(info.value)


def test_damage_inside_a_row_group_keeps_the_other_groups(tmp_path, read):
    path = hugging_face(tmp_path / "a.parquet", [picture(i) for i in range(12)])
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(1)
    start = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    data[start : start + 300] = b"\xff" * 300
    path.write_bytes(data)
    samples, rejects = read(parquet(path))
    assert [int(s.key[-8:]) for s in samples] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert reasons(rejects) == [("a.parquet#00001", DAMAGED)]


def test_bytes_flipped_anywhere_raise_nothing(tmp_path, read):
    path = hugging_face(tmp_path / "b.parquet", [picture(i) for i in range(6)])
    hugging_face(tmp_path / "a.parquet", [picture(9)])
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for at in rng.integers(rng.choice([0, len(data) - 800]), len(data), 30):  # often the footer
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        samples, _ = read(parquet(tmp_path, category="label"))
        assert 1 <= len(samples) <= 7


def test_a_file_that_vanished_after_listing(tmp_path, read):
    source = parquet(hugging_face(tmp_path / "a.parquet", [picture(0)]))
    (tmp_path / "a.parquet").unlink()
    assert reasons(read(source)[1]) == [("a.parquet#00000", DAMAGED)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "img"}, "no column 'img'; there is image, label"),
        ({"category": "class"}, "no column 'class'; there is image, label"),
        ({"columns": {"seg": "classes"}}, "no column 'seg'; there is image, label"),
        ({"image": "label"}, "column 'label' holds int64, not pictures"),
        ({"category": "image"}, "column 'image' holds struct<bytes: binary, path: string>, not classes"),
    ],
)
def test_wrong_columns_are_one_clear_line(tmp_path, options, message):
    path = hugging_face(tmp_path / "a.parquet", [picture(0)])
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as info:
        parquet(path, **options)
    assert "\n" not in str(info.value)


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    path = hugging_face(tmp_path / "a.parquet", [picture(0)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'^source parquet needs pyarrow; run: pip install "lvmlite\[parquet\]"$'):
        parquet(path)


def test_a_cap_is_shared_among_row_groups(tmp_path, read):
    path = hugging_face(tmp_path / "a.parquet", [picture(i) for i in range(10)])
    source = parquet(path, max_samples=5)
    assert [int(s.key[-8:]) for s in read(source)[0]] == [0, 1, 4, 5, 8]
    with pytest.raises(KeyError):
        source.sample("a.parquet/00000002")


@pytest.mark.parametrize("key", ["a.parquet", "a.parquet/0", "a.parquet/00000010", "a.parquet/x", "b.parquet/00000000"])
def test_keys_of_no_sample(tmp_path, key):
    hugging_face(tmp_path / "a.parquet", [picture(i) for i in range(10)])
    with pytest.raises(KeyError):
        parquet(tmp_path).sample(key)
