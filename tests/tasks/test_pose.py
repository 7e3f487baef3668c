import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry, Unreadable
from lvmlite.metrics.pose import PCK
from lvmlite.tasks.pose import LIMBS, Pose, PoseConfig

# A person standing, joints far apart for the size: x, y in a box of 1 x 2
STANDING = (
    np.array(
        [
            *((50, 22), (58, 12), (42, 12), (72, 20), (28, 20)),
            *((78, 52), (22, 52), (94, 80), (6, 80), (98, 110), (2, 110)),
            *((68, 112), (32, 112), (72, 152), (28, 152), (76, 192), (24, 192)),
        ]
    )
    / 100
)


def person(x, y, height, rng, hidden=0.0):
    """A person (17, 3) whose box begins at x, y, joints a little moved, a share of them not labelled."""
    xy = STANDING * height / 2 + (x, y) + rng.uniform(-0.01, 0.01, (17, 2)) * height
    visibility = np.where(rng.random(17) < hidden, 0, rng.integers(1, 3, 17))
    return np.concatenate([xy, visibility[:, None]], axis=1).astype(np.float32)


def black(size):
    return np.zeros((size, size, 3), np.uint8)


def photo(size, seed=0):
    blocks = np.random.default_rng(seed).integers(40, 200, (size // 8, size // 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def check_found(read, truth, tolerance=0.51):
    """Every labelled joint of truth is in the row of read that is nearest, and no other."""
    assert len(read) == len(truth)
    rows = []
    for one in truth:
        there = one[:, 2] > 0
        gaps = [np.abs(row[there, :2] - one[there, :2]).max() for row in read]
        row = int(np.argmin(gaps))
        rows.append(row)
        assert gaps[row] <= tolerance
        assert np.array_equal(read[row, :, 2], np.where(there, 2, 0))
        assert not read[row, ~there].any()
    assert len(set(rows)) == len(truth)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([64, 128, 256, 512]), background=st.sampled_from(["black", "photo"]), seed=st.integers(0, 999)
)
def test_one_person_reads_back(size, background, seed):
    task = Pose(PoseConfig(background=background))
    rng = np.random.default_rng(seed)
    truth = person(size * 0.2, size * 0.1, size * 0.8, rng, hidden=0.15)[None]
    image = photo(size, seed)
    picture = task.render(truth, image=image)
    assert picture.dtype == np.uint8
    assert picture.shape == image.shape
    read = task.read(picture, image=image)
    assert read.dtype == np.float32
    check_found(read, truth)
    assert np.array_equal(task.render(read, image=image), picture)


@settings(max_examples=25, deadline=None)
@given(size=st.sampled_from([128, 192, 256]), seed=st.integers(0, 999))
def test_two_people_apart_read_back(size, seed):
    task = Pose(PoseConfig())
    rng = np.random.default_rng(seed)
    height = size * 0.8
    truth = np.stack([person(size * x, size * 0.1, height, rng) for x in (0.03, 0.55)])
    check_found(task.read(task.render(truth, image=black(size))), truth)


def test_limbs_tell_crossing_people_apart():
    """The left wrist of each is nearer to the other's elbow: only limbs say whose it is."""
    task, rng = Pose(PoseConfig()), np.random.default_rng(0)
    truth = np.stack([person(x, 20, 200, rng) for x in (20, 140)])
    truth[0, [7, 9], :2] = (125, 60), (225, 56)
    truth[1, [8, 10], :2] = (145, 90), (28, 88)
    check_found(task.read(task.render(truth, image=black(256))), truth, tolerance=1)


@pytest.mark.parametrize("background", ["black", "photo"])
def test_noise_of_a_tokenizer_is_borne(background):
    task = Pose(PoseConfig(background=background))
    rng = np.random.default_rng(3)
    truth = person(40, 20, 210, rng)[None]
    image = photo(256)
    picture = task.render(truth, image=image)
    noisy = np.clip(picture + rng.normal(0, 15, picture.shape), 0, 255).astype(np.uint8)
    check_found(task.read(noisy, image=image), truth, tolerance=1.51)


def test_openpose_colours_and_order():
    truth = person(40, 20, 210, np.random.default_rng(0))[None]
    picture = Pose(PoseConfig()).render(truth, image=black(256))

    def colour(x, y):
        return picture[int(y), int(x)].tolist()

    # COCO's joint -> OpenPose's colour of it
    assert colour(*truth[0, 0, :2]) == [255, 0, 0]
    assert colour(*truth[0, [5, 6], :2].mean(0)) == [255, 85, 0]  # neck
    assert colour(*truth[0, 6, :2]) == [255, 170, 0]  # right shoulder
    assert colour(*truth[0, 5, :2]) == [85, 255, 0]
    assert colour(*truth[0, 16, :2]) == [0, 170, 255]  # right ankle
    assert colour(*truth[0, 2, :2]) == [170, 0, 255]  # right eye
    assert colour(*truth[0, 3, :2]) == [255, 0, 85]  # left ear
    # limbs in 60% of the hue of their number: right forearm is the fourth, left shin the twelfth
    assert colour(*truth[0, [8, 10], :2].mean(0)) == [153, 153, 0]
    assert colour(*truth[0, [13, 15], :2].mean(0)) == [0, 51, 153]
    assert len(LIMBS) == 17


def test_what_is_not_labelled_is_not_drawn_wherever_it_is():
    task = Pose(PoseConfig())
    truth = person(40, 20, 210, np.random.default_rng(0))
    truth[9] = np.nan, np.nan, 0  # left wrist
    truth[5] = 100, 100, 0  # left shoulder: no neck either
    picture = task.render(truth[None], image=black(256))
    colours = {tuple(c) for c in picture.reshape(-1, 3)}
    for missing in ((0, 255, 85), (85, 255, 0), (255, 85, 0), (153, 0, 0), (51, 153, 0)):
        assert missing not in colours
    assert (153, 153, 0) in colours  # the right forearm
    truth[9, :2] = truth[5, :2] = 0
    check_found(task.read(picture), truth[None])


def test_nobody():
    task = Pose(PoseConfig())
    nobody = np.zeros((0, 17, 3), np.float32)
    assert not task.render(nobody, image=black(64)).any()
    assert task.read(black(64)).shape == (0, 17, 3)
    assert task.fit(nobody, Geometry(size=64), (10, 10)).shape == (0, 17, 3)


def test_fit_moves_joints_and_drops_those_outside():
    task = Pose(PoseConfig())
    native = np.zeros((2, 17, 3), np.float32)
    native[0, 0] = 100, 50, 2
    native[0, 1] = 10, 50, 1  # cut off by the crop
    native[0, 2] = np.nan, np.inf, 0
    native[1, 3] = 5, 5, 2  # the whole of this person is
    fitted = task.fit(native, Geometry(size=50, fit="crop"), (100, 200))
    assert fitted.shape == (1, 17, 3)
    assert fitted.dtype == np.float32
    assert fitted[0, 0].tolist() == [25, 25, 2]
    assert not fitted[0, 1:].any()
    back = task.unfit(fitted, Geometry(size=50, fit="crop"), (100, 200))
    assert back[0, 0].tolist() == [100, 50, 2]
    assert not back[0, 1:].any()


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (np.zeros((1, 18, 3)), "pose without COCO's 17 joints"),
        (np.zeros((17, 3)), "pose without COCO's 17 joints"),
        (np.full((1, 17, 3), np.nan) * [1, 1, 0] + [0, 0, np.nan], None),
        (np.tile([np.nan, 3.0, 2.0], (1, 17, 1)), "labelled point without a place"),
        (np.tile([3.0, np.inf, 1.0], (1, 17, 1)), "labelled point without a place"),
    ],
)
def test_what_is_no_pose_is_unreadable(annotation, reason):
    task = Pose(PoseConfig())
    if reason is None:  # visibility that is no number is no label
        assert len(task.fit(annotation, Geometry(size=32), (40, 40))) == 0
        return
    with pytest.raises(Unreadable, match=reason):
        task.fit(annotation, Geometry(size=32), (40, 40))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), colours=st.booleans())
def test_any_picture_can_be_read(seed, shape, colours):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if colours:
        picture = rng.choice([0, 85, 153, 170, 255], (*shape, 3)).astype(np.uint8)
    for background in ("black", "photo"):
        read = Pose(PoseConfig(background=background)).read(picture)
        assert read.shape[1:] == (17, 3)
        assert np.isfinite(read).all()
        assert ((read[..., 2] == 2) | ~read.any(axis=2)).all()
        assert (read[..., 0] < shape[1]).all()
        assert (read[..., 1] < shape[0]).all()


def test_judged_perfect_on_its_own_drawing():
    task = Pose(PoseConfig())
    truth = np.stack([person(x, 20, 200, np.random.default_rng(1), 0.1) for x in (10, 140)])
    metric = PCK()
    metric.update(task.read(task.render(truth, image=black(256))), truth)
    assert metric.compute() == 1
