"""The source `bsds500`: files of the published layout, written by scipy, whole and damaged."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.data.sources.bsds500 import Bsds500, Bsds500Config, read_truth
from lvmlite.images import Unreadable

from .layouts import bsds500
from .layouts.bsds500 import SIZE, drawing, mat


@pytest.fixture
def root(tmp_path):
    return bsds500.write(tmp_path / "BSR")


def source(path, **options) -> Bsds500:
    return Bsds500(Bsds500Config(str(path), **options))


def test_boundaries_are_the_share_of_annotators(root, read, same):
    bsds = source(root)
    samples, rejects = read(bsds)
    assert rejects == []
    assert [(s.key, s.split) for s in samples] == [("test/102", "test"), ("train/100", "train"), ("val/101", "val")]
    assert bsds.annotations == ("boundaries", "instances")
    frame = samples[0].frames[0]
    assert {name: (x.dtype, x.shape) for name, x in frame.items()} == {
        "image": (np.uint8, (*SIZE, 3)),
        "boundaries": (np.float32, SIZE),
        "instances": (np.uint16, SIZE),
    }
    shares = np.zeros(30)
    shares[[5, 9, 11]] = 0.5, 0.25, 0.25
    np.testing.assert_array_equal(frame["boundaries"], np.tile(shares.astype(np.float32), (20, 1)))
    np.testing.assert_array_equal(frame["instances"], drawing(5)[0])
    for sample in samples:
        assert same(sample, source(root / "BSDS500" / "data").sample(sample.key))


def test_a_missing_partner_and_another_size(root, read):
    (root / "BSDS500/data/groundTruth/val/101.mat").rename(root / "BSDS500/data/groundTruth/val/999.mat")
    truth = root / "BSDS500/data/groundTruth/train/100.mat"
    truth.write_bytes(mat(drawing(5, size=(20, 29))))
    bsds = source(root)
    samples, rejects = read(bsds)
    assert [(r.key, r.reason) for r in rejects] == [
        ("val/101", "partner is missing: boundaries"),
        (".", "partners without a photo: 1 boundaries"),
    ]
    assert [s.key for s in samples] == ["test/102", "train/100"]
    with pytest.raises(Unreadable, match="boundaries and photo differ in size"):
        samples[1].frames[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (mat(drawing(5), drawing(5, size=(20, 29))), "annotators differ in size"),
        (mat(other=np.zeros(3)), "not a groundTruth of BSDS500"),
        (mat(groundTruth=np.zeros(3)), "not a groundTruth of BSDS500"),
        (mat((np.zeros(SIZE, np.float64), drawing(5)[1])), "not a groundTruth of BSDS500"),
        (mat(drawing(5))[:150], "damaged .mat file"),
        (b"", "not a MATLAB 5 file"),
        (b"not a mat file " * 40, "not a MATLAB 5 file"),
    ],
)
def test_files_that_are_something_else(data, reason):
    with pytest.raises(Unreadable) as error:
        read_truth(data)
    assert error.value.reason == reason


@pytest.mark.parametrize("compress", [True, False])
def test_flipped_and_cut_bytes_never_crash(compress):
    """scipy's reader ends the process on some of these."""
    data, rng = mat(drawing(5), drawing(9), compress=compress), np.random.default_rng(0)
    reasons = set()
    for i in range(400):
        broken = bytearray(data)
        for at in rng.integers(128, 700 if i % 2 else len(data), rng.integers(1, 4)) % len(data):
            broken[at] = rng.integers(256)
        try:
            boundaries, regions = read_truth(bytes(broken[: rng.integers(len(data) // 2, 4 * len(data))]))
            assert boundaries.shape == regions.shape
        except Unreadable as error:
            reasons.add(error.reason)
    assert "damaged .mat file" in reasons


def test_another_layout_is_one_clear_line(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"")
    with pytest.raises(ValueError, match="not laid out as the data set is published"):
        source(tmp_path)
