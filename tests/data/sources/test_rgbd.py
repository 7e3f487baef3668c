"""The source `rgbd`: three layouts, frames that cannot be used, and normals of surfaces that are known."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from lvmlite.data.sources.rgbd import Rgbd, RgbdConfig, normals_of_depth, read_intrinsics
from lvmlite.images import Unreadable
from lvmlite.sample import split_of

from .layouts.pictures import save
from .layouts.rgbd import CAMERA, MATRIX, save_pair, write_7scenes, write_tum


@pytest.fixture
def scenes(tmp_path):
    return write_7scenes(tmp_path / "scenes")


def rgbd(path, **options) -> Rgbd:
    return Rgbd(RgbdConfig(str(path), **options))


def numbers(sample) -> list[int]:
    return [round(int(frame["image"][0, 0, 0]) / 3) for frame in sample.frames]


# --- layouts


def test_seven_scenes(scenes, read, same):
    source = rgbd(scenes, clip_frames=2, splits={"run0": "test"})
    samples, rejects = read(source)
    assert rejects == []
    assert [(s.key, s.group, numbers(s)) for s in samples] == [
        ("run0#000000", "run0", [0, 1]),
        ("run0#000002", "run0", [2, 3]),
        ("run0#000004", "run0", [4]),
        ("run1#000000", "run1", [0, 1]),
    ]
    assert [s.split for s in samples] == ["test"] * 3 + [split_of("run1")]
    assert (source.annotations, source.frame_step) == (("depth",), 1)
    frame = samples[1].frames[1]
    assert set(frame) == {"image", "depth"}
    assert (frame["depth"][0] == 0).all()
    np.testing.assert_allclose(frame["depth"][1:], 2.003)
    assert frame["depth"].dtype == np.float32
    for sample in samples:
        assert same(sample, source.sample(sample.key))


def test_every_second_frame_and_single_frames(scenes, read):
    source = rgbd(scenes, clip_frames=1, frame_step=2)
    samples, _ = read(source)
    assert [(s.key, s.group, numbers(s)) for s in samples] == [
        ("run0#000000", "run0", [0]),
        ("run0#000002", "run0", [2]),
        ("run0#000004", "run0", [4]),
        ("run1#000000", "run1", [0]),
    ]
    assert source.frame_step == 2


def test_tum_takes_the_nearest_depth_once(tmp_path, read):
    photos = (1.000, 1.033, 1.066, 1.200, 1.300)
    depths = (0.995, 1.040, 1.045, 1.219, 1.325)
    root = write_tum(tmp_path / "rgbd_dataset_freiburg1_xyz", photos, depths)
    (sample,), rejects = read(rgbd(root))
    assert sample.key == "rgbd_dataset_freiburg1_xyz#000000"
    assert numbers(sample) == [0, 1, 3]
    # 1.066 is 0.021 from 1.045, and 1.300 is 0.025 from 1.325; 5000 a metre
    np.testing.assert_allclose([f["depth"][5, 5] for f in sample.frames], [2.0, 2.0002, 2.0006])
    assert {r.key: r.reason for r in rejects} == {
        "rgb/1.066.png": "partner is missing: depth",
        "rgb/1.300.png": "partner is missing: depth",
        "rgb/gone.png": "listed, but not there",
        "depth/gone.png": "listed, but not there",
    }


def test_tum_gives_a_contested_depth_to_the_nearest(tmp_path, read):
    (tmp_path / "rgb.txt").write_text("1.000 rgb/a.png\n1.010 rgb/b.png\n")
    (tmp_path / "depth.txt").write_text("1.009 depth/x.png\n0.985 depth/y.png\n")
    save_pair(tmp_path / "rgb/a.png", tmp_path / "depth/x.png", 1, 5000)
    save_pair(tmp_path / "rgb/b.png", tmp_path / "depth/y.png", 2, 10000)
    (sample,), rejects = read(rgbd(tmp_path))
    assert rejects == []
    assert numbers(sample) == [1, 2]
    np.testing.assert_allclose([f["depth"][5, 5] for f in sample.frames], [2.0004, 1.0002])


def test_scannet_scans_of_one_room_are_one_group(tmp_path, read):
    for scene in ("scene0000_00", "scene0000_01"):
        for t in (0, 20, 100):
            save_pair(tmp_path / scene / f"color/{t}.jpg", tmp_path / scene / f"depth/{t}.png", t // 10)
        (tmp_path / scene / "intrinsic").mkdir()
        (tmp_path / scene / "intrinsic/intrinsic_depth.txt").write_text("30 0 15.5 0\n0 30 11.5 0\n0 0 1 0\n0 0 0 1\n")
    source = rgbd(tmp_path)
    samples, _ = read(source)
    assert [(s.key, s.group, numbers(s)) for s in samples] == [
        ("scene0000_00#000000", "scene0000", [0, 2, 10]),
        ("scene0000_01#000000", "scene0000", [0, 2, 10]),
    ]
    assert source.annotations == ("depth", "normals")


def test_scannet_photos_are_reduced_to_their_depth_maps(tmp_path, read):
    """1296 x 968 and 640 x 480 as exported, here a tenth of it; one of another aspect is no partner."""
    for number, (height, width) in enumerate([(97, 130), (60, 130)]):
        stripes = np.zeros((height, width, 3), np.uint8)
        stripes[:, width // 2 :] = 255
        save(tmp_path / f"scene0000_00/color/{number}.png", stripes)
        save(tmp_path / f"scene0000_00/depth/{number}.png", np.full((48, 64), 1500, np.uint16), np.uint16)
    samples, rejects = read(rgbd(tmp_path))
    (frame,) = samples[0].frames
    assert frame["image"].shape == (48, 64, 3)
    assert frame["image"][:, [30, 33], 0].tolist() == [[0, 255]] * 48
    assert [r.reason for r in rejects] == ["depth and photo differ in size"]


def test_seven_scenes_lists_decide_the_split(tmp_path, read):
    for run in ("seq-01", "seq-02", "seq-10"):
        folder = tmp_path / "chess" / run
        save_pair(folder / "frame-000000.color.png", folder / "frame-000000.depth.png", 0)
    (tmp_path / "chess/TrainSplit.txt").write_text("sequence1\r\nsequence10\r\n")
    (tmp_path / "chess/TestSplit.txt").write_text("sequence2\n")
    splits = {s.group: s.split for s in read(rgbd(tmp_path / "chess", val=0, test=1))[0]}
    assert splits == {"seq-01": "train", "seq-02": "test", "seq-10": "train"}
    splits = {s.group: s.split for s in read(rgbd(tmp_path, val=1, splits={"chess/seq-10": "test"}))[0]}
    assert splits == {"chess/seq-01": "val", "chess/seq-02": "test", "chess/seq-10": "test"}


def test_a_tar_is_read_in_place(scenes, tmp_path, read, same):
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(scenes, ".")
    samples, rejects = read(rgbd(tmp_path / "all.tar"))
    assert rejects == []
    for sample, other in zip(samples, read(rgbd(scenes))[0], strict=True):
        assert same(sample, other)


# --- frames that cannot be used


def test_bad_frames_are_left_out_and_listed(scenes, read, same):
    (scenes / "run0/frame-000001.depth.png").unlink()
    save_pair(scenes / "run0/frame-000002.color.png", scenes / "run0/frame-000002.depth.png", 2, size=(24, 31))
    (scenes / "run0/frame-000003.color.png").write_bytes(b"not a picture")
    for t in range(2):
        (scenes / f"run1/frame-{t:06d}.depth.png").write_bytes(b"")
    source = rgbd(scenes)
    samples, rejects = read(source)
    assert [(s.key, numbers(s)) for s in samples] == [("run0#000000", [0, 4])]
    assert [(r.key, r.reason) for r in rejects] == [
        ("run0/frame-000001.color.png", "partner is missing: depth"),
        ("run0/frame-000002.color.png", "depth and photo differ in size"),
        ("run0/frame-000003.color.png", "not an image"),
        ("run1/frame-000000.color.png", "empty file"),
        ("run1/frame-000001.color.png", "empty file"),
    ]
    assert same(samples[0], source.sample("run0#000000"))
    with pytest.raises(KeyError):
        source.sample("run1#000000")


def test_broken_intrinsics_are_listed_once(scenes, read):
    (scenes / "intrinsics.txt").write_text("30 0 15.5 0 30 11.5")
    source = rgbd(scenes)
    samples, rejects = read(source)
    assert source.annotations == ("depth",)
    assert [(r.key, r.reason) for r in rejects] == [("intrinsics.txt", "intrinsics are no 3 x 3 matrix")]
    assert "normals" not in samples[0].frames[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "tum"}, "no frame-000000.color.png, color/0.jpg or rgb.txt as of tum"),
        ({"splits": {"run9": "test"}}, "splits: there is no sequence 'run9'; there is 'run0', 'run1'"),
        ({"splits": {"run0": "dev"}}, "splits.run0: 'dev' is none of train, val, test"),
        ({"fx": 30.0, "fy": 30.0}, "intrinsics: give all of fx, fy, cx and cy, or none"),
    ],
)
def test_a_mistake_is_one_clear_line(scenes, options, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        rgbd(scenes, **options)


# --- normals


def plane(normal, distance: float) -> np.ndarray:
    """Depth (24, 32) of the plane normal . p = -distance in camera axes (x right, y up, z towards the camera)."""
    fx, fy, cx, cy = CAMERA
    x, y = (np.arange(32) - cx) / fx, (cy - np.arange(24)[:, None]) / fy
    return -distance / (normal[0] * x + normal[1] * y - normal[2])


@pytest.mark.parametrize("towards", [(0, 0, 1), (0, 0.8, 0.6), (0.6, 0, 0.8), (-0.6, 0, 0.8), (0.3, -0.5, 0.81)])
def test_normals_of_a_plane(towards):
    normal = np.array(towards) / np.linalg.norm(towards)
    found = normals_of_depth(plane(normal, 2.0).astype(np.float32), CAMERA)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=2e-3)


def test_normals_do_not_cross_a_jump_and_need_depth():
    wall, floor = np.array([0, 0, 1.0]), np.array([0, 0.8, 0.6])
    depth = plane(wall, 4.0)
    depth[:, 16:] = plane(floor, 1.5)[:, 16:]
    depth[10, 5] = 0
    depth[:9, :9] = 0
    depth[2:4, 2:4] = 3.0  # too few neighbours to tell
    found = normals_of_depth(depth.astype(np.float32), CAMERA)
    unknown = (found == 0).all(axis=2)
    assert unknown[10, 5]
    assert unknown[:9, :9].all()
    assert not unknown[12:].any()
    np.testing.assert_allclose(found[12:, :16], np.broadcast_to(wall, (12, 16, 3)), atol=2e-3)
    np.testing.assert_allclose(found[12:, 16:], np.broadcast_to(floor, (12, 16, 3)), atol=2e-3)


def test_normals_come_with_intrinsics(scenes, read):
    (scenes / "intrinsics.txt").write_text(MATRIX)
    by_file = rgbd(scenes)
    (scenes / "run1/intrinsics.txt").write_text("90 0 15.5\n0 90 11.5\n0 0 1\n")  # the nearer file wins
    nearer = rgbd(scenes)
    given = rgbd(scenes, fx=90.0, fy=90.0, cx=15.5, cy=11.5)
    assert by_file.annotations == given.annotations == ("depth", "normals")
    frames = [source.sample("run1#000000").frames[0] for source in (by_file, nearer, given)]
    assert all(set(frame) == {"image", "depth", "normals"} for frame in frames)
    np.testing.assert_array_equal(frames[1]["normals"], frames[2]["normals"])
    np.testing.assert_allclose(frames[0]["normals"][1:, 5], np.tile([0, 0, 1], (23, 1)), atol=1e-6)
    assert (frames[0]["normals"][0] == 0).all()


def test_intrinsics():
    assert read_intrinsics(MATRIX.encode()) == CAMERA
    for text in (b"", b"1 2 3", b"x" * 9, b"nan " * 9, b"0 " * 9, "\u00e9".encode()):
        with pytest.raises(Unreadable, match="intrinsics are no 3 x 3 matrix"):
            read_intrinsics(text)
