"""The source `webdataset`: shards as the convention has them, and shards that are damaged in every way it names."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from lvmlite.data.sources.webdataset import DAMAGED, WebDataset, WebDatasetConfig
from lvmlite.sample import split_of

from .layouts.webdataset import mask, picture, shard, simple


def webdataset(path, **options) -> WebDataset:
    return WebDataset(WebDatasetConfig(path=str(path), **options))


def reasons(rejects) -> list[tuple[str, str]]:
    return [(r.key, r.reason) for r in rejects]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_of_every_kind_of_tar(tmp_path, read, same, format):
    long = "deep/" * 20 + "name/" + "n" * 90  # beyond the 100 letters of the oldest format
    shard(tmp_path / "0.tar", [*simple(3), (f"{long}.png", picture(9))], format)
    source = webdataset(tmp_path, name="mine")
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples] == ["0.tar/00000", "0.tar/00001", "0.tar/00002", f"0.tar/{long}"]
    assert [s.category for s in samples] == ["0", "1", "2", None]
    for s, number in zip(samples, (0, 1, 2, 9), strict=True):
        assert (s.group, s.source, s.split, len(s.frames)) == (s.key, "mine", split_of(s.key), 1)
        assert np.array_equal(s.frames[0]["image"], np.asarray(Image.open(io.BytesIO(picture(number)))))
    copy = pickle.loads(pickle.dumps(source))
    assert all(same(copy.sample(s.key), s) for s in samples)


def test_a_compressed_shard_is_read_too(tmp_path, read):
    shard(tmp_path / "0.tar.gz", simple(3), mode="w:gz")
    samples, rejects = read(webdataset(tmp_path / "0.tar.gz"))
    assert ([s.key for s in samples], rejects) == ([f"0.tar.gz/0000{i}" for i in range(3)], [])


def test_names_are_cut_at_the_first_dot_of_their_last_part(tmp_path, read):
    members = [("./a.b/c.d.PNG", b""), ("./a.b/x.PNG", picture(0)), ("./a.b/x.mask.png", mask(3)), ("a.b/y.cls", b"1")]
    samples, rejects = read(webdataset(shard(tmp_path / "0.tar", members), columns={"mask.png": "classes"}))
    assert [s.key for s in samples] == ["0.tar/a.b/x"]
    assert samples[0].frames[0]["classes"].tolist() == [[3] * 30] * 20
    assert reasons(rejects) == [("0.tar/a.b/c", "no picture"), ("0.tar/a.b/y", "no picture")]


def test_columns_become_annotations(tmp_path, read):
    members = [("a.jpg", picture(0, "JPEG")), ("a.mask.png", mask(7)), ("a.after.jpg", picture(1, "JPEG"))]
    source = webdataset(shard(tmp_path / "0.tar", members), columns={"mask.png": "instances", "after.jpg": "target"})
    assert source.annotations == ("instances", "target")
    frame = read(source)[0][0].frames[0]
    assert list(frame) == ["image", "instances", "target"]
    assert frame["instances"].dtype == np.uint16
    assert frame["target"].shape == (20, 30, 3)
    assert not np.array_equal(frame["target"], frame["image"])


def test_the_case_of_columns_is_of_no_account(tmp_path, read):
    members = [("a.JPG", picture(0, "JPEG")), ("a.Mask.png", mask(7)), ("a.CLS", b"cat")]
    path = shard(tmp_path / "0.tar", members)
    for column, label in (("mask.png", "cls"), ("Mask.PNG", "Cls")):
        samples, rejects = read(webdataset(path, columns={column: "instances"}, category=label))
        assert rejects == []
        assert samples[0].category == "cat"
        assert list(samples[0].frames[0]) == ["image", "instances"]


def test_which_picture_is_the_photo(tmp_path, read):
    path = shard(tmp_path / "0.tar", [("a.png", picture(0)), ("a.jpg", picture(1, "JPEG")), ("a.0.webp", b"")])
    first = read(webdataset(path))[0][0].frames[0]["image"]
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(picture(1, "JPEG")))))
    chosen = read(webdataset(path, image="png"))[0][0].frames[0]["image"]
    assert np.array_equal(chosen, np.asarray(Image.open(io.BytesIO(picture(0)))))
    assert reasons(read(webdataset(path, image="bmp"))[1]) == [("0.tar/a", "no picture")]


def test_a_category_out_of_json(tmp_path, read):
    texts = [json.dumps({"label": "cat"}), json.dumps({"label": 3}), json.dumps({"label": None}), "{}", "[", "9" * 5]
    members = [m for i, t in enumerate(texts) for m in ((f"{i}.png", picture(i)), (f"{i}.json", t.encode()))]
    members += [("6.png", picture(6)), ("7.png", picture(7)), ("7.json", b'{"label": ["cat"]}')]
    samples, rejects = read(webdataset(shard(tmp_path / "0.tar", members), category="json.label"))
    assert [s.category for s in samples] == ["cat", "3", None, None]
    assert [r.reason for r in rejects] == [
        "json lacks the field of the category",
        "malformed json",
        "json lacks the field of the category",
        "malformed json",
    ]


def test_samples_that_are_not_whole_are_one_reject_each(tmp_path, read):
    members = [
        *[("a.png", picture(0)), ("a.mask.png", mask(0)), ("b.png", picture(1)), ("c.mask.png", mask(0))],
        *[("README", b"text"), (".DS_Store", b""), ("._a.png", b""), ("d.png", picture(2)), ("d.mask.png", mask(1))],
        *[("d.cls", b"\xff\xfe"), ("e.png", picture(3)), ("e.mask.png", mask(0))],
    ]
    samples, rejects = read(webdataset(shard(tmp_path / "0.tar", members), columns={"mask.png": "classes"}))
    assert [s.key for s in samples] == ["0.tar/a", "0.tar/e"]
    assert reasons(rejects) == [
        ("0.tar/b", "partner is missing: classes"),
        ("0.tar/README", "name without a column"),
        ("0.tar/c", "no picture"),
        ("0.tar/d", "malformed cls"),
    ]


def test_a_corrupt_member_costs_its_sample_alone(tmp_path, read):
    members = simple(3)
    members[2] = ("00001.png", picture(1)[:200])
    members += [("00003.png", picture(3)), ("00003.mask.png", b"no picture at all")]
    samples, rejects = read(webdataset(shard(tmp_path / "0.tar", members)))
    assert rejects == []
    with pytest.raises(ValueError, match=r"^truncated file$"):
        samples[1].frames[0]
    assert [s.frames[0]["image"].shape for s in (samples[0], *samples[2:])] == [(20, 30, 3)] * 3
    masked = webdataset(tmp_path / "0.tar", columns={"mask.png": "classes"}).sample("0.tar/00003")
    with pytest.raises(ValueError, match=r"^not an image$"):
        masked.frames[0]


def test_keys_that_come_twice_keep_their_first_sample(tmp_path, read):
    members = [*simple(2), *simple(1), ("00005.png", picture(5)), ("00005.png", picture(6))]
    samples, rejects = read(webdataset(shard(tmp_path / "0.tar", members)))
    assert [s.key for s in samples] == ["0.tar/00000", "0.tar/00001", "0.tar/00005"]
    assert reasons(rejects) == [("0.tar/00000", "duplicate key"), ("0.tar/00005", "duplicate key")]
    assert np.array_equal(samples[2].frames[0]["image"], np.asarray(Image.open(io.BytesIO(picture(5)))))
    again = [*simple(2), ("x.png", picture(0))]
    shard(tmp_path / "1.tar", again)
    assert len(read(webdataset(tmp_path))[0]) == 6  # keys are of a shard


def test_members_that_are_no_files(tmp_path, read):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE), ("p.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = len(picture(0))
        tar.addfile(info, io.BytesIO(picture(0)))
    samples, rejects = read(webdataset(path))
    assert [s.key for s in samples] == ["0.tar/a"]
    not_a_file = "not a regular file in the archive"
    assert reasons(rejects) == [("0.tar/l.png", not_a_file), ("0.tar/p.png", not_a_file)]


def test_a_shard_cut_anywhere_keeps_the_whole_samples_before(tmp_path, read):
    whole = shard(tmp_path / "whole/0.tar", simple(4)).read_bytes()
    with tarfile.open(tmp_path / "whole/0.tar") as tar:
        starts = [m.offset for m in tar.getmembers()]
    ends = {600: 0, starts[2]: 0, starts[2] + 100: 0}  # nothing tells that the first was to have no third file
    ends |= {starts[4]: 2, starts[4] + 100: 2, starts[4] + 512: 2, starts[5]: 2, starts[5] + 512: 2, starts[6]: 3}
    ends |= {starts[7] + 511: 3, starts[7] + 512: 3, starts[7] + 1024: 4}
    for cut, n in ends.items():
        path = tmp_path / f"{cut}.tar"
        path.write_bytes(whole[:cut])
        samples, rejects = read(webdataset(path))
        assert [s.key for s in samples] == [f"{cut}.tar/{i:05d}" for i in range(n)], cut
        assert reasons(rejects) == [(f"{cut}.tar", DAMAGED)], cut
        assert all(s.frames[0]["image"].shape == (20, 30, 3) for s in samples)
        if n < 4:
            with pytest.raises(KeyError):
                webdataset(path).sample(f"{cut}.tar/00003")


def test_a_header_that_is_garbage_and_files_that_are_no_tar(tmp_path, read):
    path = shard(tmp_path / "0.tar", simple(3))
    with tarfile.open(path) as tar:
        at = tar.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[at : at + 512] = b"?" * 512
    path.write_bytes(data)
    (tmp_path / "1.tar").write_bytes(b"")
    (tmp_path / "2.tar").write_text("text " * 500)
    shard(tmp_path / "3.tar", simple(1))
    shard(tmp_path / "4.tar", [])
    samples, rejects = read(webdataset(tmp_path))
    assert [s.key for s in samples] == ["0.tar/00000", "0.tar/00001", "3.tar/00000"]
    assert reasons(rejects) == [("0.tar", DAMAGED), ("1.tar", DAMAGED), ("2.tar", DAMAGED)]


def test_bytes_flipped_anywhere_raise_nothing(tmp_path, read):
    data = shard(tmp_path / "0.tar", simple(3)).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 8):
            broken[at // 512 * 512 + at % 160] = rng.integers(256)  # mostly headers
        (tmp_path / "0.tar").write_bytes(broken[: rng.integers(len(data))])
        samples, rejects = read(webdataset(tmp_path))
        assert len(samples) <= 3
        assert samples or rejects


def test_parts_are_shards_and_change_with_their_size(tmp_path):
    for split in ("train", "val"):
        shard(tmp_path / f"{split}/0.tar", simple(2))
    (tmp_path / "notes.txt").touch()
    parts = webdataset(tmp_path).parts()
    assert [(p.name, p.items) for p in parts[1:]] == [
        ("train%2F0.tar", ("train/0.tar",)),
        ("val%2F0.tar", ("val/0.tar",)),
    ]
    assert parts[0].name == "rejects"
    shard(tmp_path / "train/0.tar", simple(20))
    again = webdataset(tmp_path).parts()
    assert [a == b for a, b in zip(parts, again, strict=True)] == [True, False, True]


def test_official_splits_of_folders_and_of_names(tmp_path, read):
    for name in ("a/train/0.tar", "a/val/0.tar", "b/x-train-0.tar", "b/x-test-0.tar"):
        shard(tmp_path / name, simple(2))
    for root in "ab":
        for s in read(webdataset(tmp_path / root))[0]:
            assert s.split in s.key
    assert {s.split for s in read(webdataset(tmp_path / "a/train", val=1.0, test=0.0))[0]} == {"val"}


def test_a_pattern_of_shards(tmp_path, read):
    for i in range(3):
        shard(tmp_path / f"data/{i:03d}.tar", simple(1, i))
    samples, rejects = read(webdataset(f"{tmp_path}/data/{{001..003}}.tar"))
    assert [s.key for s in samples] == ["001.tar/00001", "002.tar/00002"]
    assert reasons(rejects) == [("003.tar", "no such file")]


def test_a_cap_takes_the_first_of_each_shard(tmp_path, read):
    for i in range(3):
        shard(tmp_path / f"{i}.tar", simple(4))
    source = webdataset(tmp_path, max_samples=6)
    assert [s.key for s in read(source)[0]] == [f"{i}.tar/0000{j}" for i in range(3) for j in range(2)]
    with pytest.raises(KeyError):
        source.sample("0.tar/00002")
    one = webdataset(tmp_path, max_samples=1)
    assert len(read(one)[0]) == 1


@pytest.mark.parametrize("key", ["0.tar", "0.tar/", "0.tar/x", "1.tar/00000", "00000", "0.tar/b", ""])
def test_keys_of_no_sample(tmp_path, key):
    shard(tmp_path / "0.tar", [*simple(1), ("b.cls", b"1")])
    with pytest.raises(KeyError):
        webdataset(tmp_path).sample(key)


def test_a_shard_that_vanished_after_listing(tmp_path, read):
    source = webdataset(shard(tmp_path / "0.tar", simple(1)))
    (tmp_path / "0.tar").unlink()
    assert reasons(read(source)[1]) == [("0.tar", DAMAGED)]
