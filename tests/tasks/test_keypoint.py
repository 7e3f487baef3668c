import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry, Unreadable
from lvmlite.metrics.pose import PointPCK
from lvmlite.tasks.keypoint import Keypoint, KeypointConfig

MAGENTA = [255, 0, 255]


def photo(size, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def points(rng, size, k=5):
    xy = rng.uniform(0, size - 0.01, (k, 2))
    return np.concatenate([xy, rng.integers(1, 3, (k, 1))], axis=1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([16, 64, 128, 256]),
    background=st.sampled_from(["photo", "black"]),
    variant=st.integers(0, 4),
    seed=st.integers(0, 9999),
)
def test_the_marked_point_reads_back_within_half_a_pixel(size, background, variant, seed):
    task = Keypoint(KeypointConfig(n_points=5, background=background))
    truth, image = points(np.random.default_rng(seed), size), photo(size, seed)
    picture = task.render(truth, variant, image=image)
    read = task.read(picture, variant, image=image)
    assert read.shape == (5, 3)
    assert read.dtype == np.float32
    assert np.abs(read[variant, :2] - truth[variant, :2]).max() <= 0.501
    assert read[variant, 2] == 2
    assert read[np.arange(5) != variant].tolist() == [[0, 0, -1]] * 4
    assert np.array_equal(task.render(read, variant, image=image), picture)


@pytest.mark.parametrize("known", [True, False])
def test_noise_of_a_tokenizer_is_borne(known):
    task, rng = Keypoint(KeypointConfig(n_points=5)), np.random.default_rng(0)
    image = np.clip(photo(128), 30, 200)
    for variant, seed in enumerate(range(5)):
        truth = points(np.random.default_rng(seed), 128)
        picture = task.render(truth, variant, image=image)
        noisy = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
        read = task.read(noisy, variant, image=image if known else None)
        assert np.abs(read[variant, :2] - truth[variant, :2]).max() <= 1.5


def test_variants_mark_their_own_point_and_the_photo_stays():
    task = Keypoint(KeypointConfig(n_points=2))
    image = np.full((64, 64, 3), 90, np.uint8)
    truth = np.array([[10.2, 20.7, 2], [40, 50, 1], [5, 5, 2]], np.float32)
    for variant, (x, y) in enumerate([(10, 20), (40, 50)]):
        for split in ("train", "test"):
            picture = task.render(truth, variant, split, image=image)
            marked = (picture == MAGENTA).all(-1)
            assert marked[y, x]
            assert 9 <= marked.sum() <= 16
            assert np.array_equal(picture[~marked], image[~marked])
    assert (image == 90).all()
    assert task.variants == 2


def test_what_is_not_there_is_not_marked():
    task = Keypoint(KeypointConfig(n_points=2))
    image = photo(64)
    truth = np.array([[10, 20, 0], [40, 50, 2]], np.float32)
    assert np.array_equal(task.render(truth, 0, image=image), image)
    assert task.read(image, 0, image=image).tolist() == [[0, 0, 0], [0, 0, -1]]
    assert not Keypoint(KeypointConfig(n_points=2, background="black")).render(truth, 0, image=image).any()


def test_fit_takes_the_greatest_object_that_is_left():
    task = Keypoint(KeypointConfig(annotation="keypoints", n_points=2))
    native = np.zeros((3, 3, 3), np.float32)
    native[0] = [(90, 10, 2), (95, 20, 2), (np.nan, np.nan, 0)]  # small
    native[1] = [(80, 10, 2), (120, 80, 1), (70, 10, 2)]  # the greatest within the crop
    native[2] = [(5, 5, 2), (195, 95, 2), (100, 50, 2)]  # only its middle is left
    fitted = task.fit(native, Geometry(size=50, fit="crop"), (100, 200))
    assert fitted.tolist() == [[15, 5, 2], [35, 40, 1], [10, 5, 2]]
    assert fitted.dtype == np.float32
    back = task.unfit(fitted, Geometry(size=50, fit="crop"), (100, 200))
    assert np.array_equal(back, native[1])
    assert not task.fit(native[:0], Geometry(size=50), (100, 200)).any()
    assert not task.fit(native * [1, 1, 0], Geometry(size=50), (100, 200)).any()


def test_unfit_leaves_what_was_not_asked():
    read = np.array([[0, 0, -1], [5, 6, 2], [0, 0, 0]], np.float32)
    back = Keypoint(KeypointConfig(n_points=3)).unfit(read, Geometry(size=10), (100, 200))
    assert back.tolist() == [[0, 0, -1], [100, 60, 2], [0, 0, 0]]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (np.zeros((2, 4, 2)), "points that are not x, y, visibility"),
        (np.zeros((4, 3)), "points that are not x, y, visibility"),
        (np.zeros((2, 4, 3)), "fewer points than n_points"),
        (np.tile([np.nan, 3.0, 2.0], (1, 5, 1)), "labelled point without a place"),
    ],
)
def test_what_cannot_be_marked_is_unreadable(annotation, reason):
    with pytest.raises(Unreadable, match=reason):
        Keypoint(KeypointConfig(n_points=5)).fit(annotation, Geometry(size=16), (30, 30))


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 99), flat=st.booleans())
def test_any_picture_can_be_read(shape, seed, flat):
    picture = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if flat:
        picture[:] = MAGENTA
    for image in (None, picture[::-1].copy(), np.zeros((3, 3, 3), np.uint8)):
        read = Keypoint(KeypointConfig(n_points=3)).read(picture, 1, image=image)
        assert read.shape == (3, 3)
        assert np.isfinite(read).all()
        assert read[:, 2].tolist() in ([-1, 0, -1], [-1, 2, -1])


def test_judged_perfect_on_its_own_drawing():
    task, metric = Keypoint(KeypointConfig(n_points=5)), PointPCK()
    truth, image = points(np.random.default_rng(1), 64), photo(64)
    truth[3, 2] = 0
    for variant in range(5):
        metric.update(task.read(task.render(truth, variant, image=image), variant, image=image), truth)
    assert metric.compute() == 1
    assert metric.state.tolist() == [5, 5]
