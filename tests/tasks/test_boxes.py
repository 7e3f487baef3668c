import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks.boxes import Boxes, BoxesConfig


def apart(rng, n):
    """n boxes in a picture of 64 x 64 that do not touch."""
    boxes = []
    for cell in rng.permutation(16)[:n]:
        y, x = divmod(int(cell), 4)
        x0, y0 = 16 * x + rng.integers(0, 6), 16 * y + rng.integers(0, 6)
        boxes.append((x0, y0, x0 + rng.integers(3, 10), y0 + rng.integers(3, 10), rng.integers(1, 7), 0))
    return np.array(boxes, np.float32).reshape(-1, 6)


def photo(rng, low=0, high=256):
    return np.kron(rng.integers(low, high, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def same(a, b):
    return sorted(a[:, :5].tolist()) == sorted(b[:, :5].tolist())


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 9),
    background=st.sampled_from(["photo", "black"]),
    variant=st.integers(0, 2),
    given_photo=st.booleans(),
    seed=st.integers(0, 999),
)
def test_boxes_that_do_not_touch_are_exact(n, background, variant, given_photo, seed):
    rng = np.random.default_rng(seed)
    known = background == "black" or given_photo or variant > 0
    image = photo(rng) if known else photo(rng, 100, 156)  # without the photo: one unlike the colours
    boxes = apart(rng, n)
    task = Boxes(BoxesConfig(background=background, n_classes=6, variants=3))
    picture = task.render(boxes, variant, "test", image)
    read = task.read(picture, variant, "test", image if known else None)
    assert read.dtype == np.float32
    assert same(read, boxes)
    assert read[:, 5].tolist() == list(range(1, len(read) + 1))


@pytest.mark.parametrize(
    "boxes",
    [
        [(5, 5, 30, 30, 1, 0), (20, 20, 50, 50, 1, 0)],  # outlines of one class that cross
        [(5, 5, 30, 30, 1, 0), (20, 20, 50, 50, 2, 0)],
        [(5, 20, 60, 40, 1, 0), (20, 5, 40, 60, 2, 0)],  # a cross
        [(5, 5, 60, 60, 1, 0), (10, 10, 50, 50, 1, 0), (12, 30, 20, 40, 2, 0)],  # nested
    ],
)
def test_outlines_that_cross_or_nest_are_told_apart(boxes):
    boxes = np.array(boxes, np.float32)
    image = photo(np.random.default_rng(0), 100, 156)
    task = Boxes(BoxesConfig(n_classes=6))
    for known in (image, None):
        assert same(task.read(task.render(boxes, image=image), image=known), boxes)


def test_smaller_boxes_stay_visible_on_black():
    boxes = np.array([(10, 10, 20, 20, 1, 0), (0, 0, 60, 60, 2, 0)], np.float32)
    task = Boxes(BoxesConfig(background="black", n_classes=2))
    image = np.zeros((64, 64, 3), np.uint8)
    for order in (boxes, boxes[::-1]):
        picture = task.render(order, image=image)
        assert picture[15, 15].tolist() == [255, 0, 0]
        assert same(task.read(picture), boxes)


def test_black_is_no_box_in_a_palette_where_it_is_a_class():
    task, image = Boxes(BoxesConfig(background="black", palette="voc")), np.zeros((32, 32, 3), np.uint8)
    boxes = np.array([(4, 4, 12, 20, 16, 1)], np.float32)
    assert same(task.read(task.render(boxes, image=image)), boxes)
    assert len(task.read(image)) == 0
    boxes[0, 4] = 1
    with pytest.raises(Unreadable, match="black on black"):
        task.render(boxes, image=image)


def test_one_class_is_white_whatever_the_id():
    task = Boxes(BoxesConfig(background="black", n_classes=1))
    fitted = task.fit(np.array([(4, 4, 8, 8, 17, 3)], np.float32), Geometry(size=16), (16, 16))
    picture = task.render(fitted, image=np.zeros((16, 16, 3), np.uint8))
    assert np.array_equal(np.unique(picture), [0, 255])
    assert task.read(picture).tolist() == [[4, 4, 8, 8, 1, 1]]


def test_fit_moves_cuts_and_drops_and_unfit_goes_back():
    boxes = np.array([(0, 0, 20, 20, 1, 1), (30, 5, 80, 30, 2, 2), (95, 0, 120, 60, 3, 3)], np.float32)
    task = Boxes(BoxesConfig(n_classes=6))
    crop = task.fit(boxes, Geometry(size=20, fit="crop"), (40, 100))  # the middle: x from 30 to 70
    assert crop.tolist() == [[0, 2.5, 20, 15, 2, 2]]
    for fit in ("squash", "pad"):
        geometry = Geometry(size=20, fit=fit)
        back = task.unfit(task.fit(boxes, geometry, (40, 100)), geometry, (40, 100))
        inside = boxes.copy()
        inside[2] = (95, 0, 100, 40, 3, 3)
        assert np.allclose(back, inside, atol=1e-4)
    assert task.fit(np.zeros((0, 6), np.float32), Geometry(size=20), (40, 100)).shape == (0, 6)


def test_what_cannot_be_drawn():
    task, image = Boxes(BoxesConfig(n_classes=2)), np.zeros((16, 16, 3), np.uint8)
    box = np.array([(1, 1, 5, 5, 3, 0)], np.float32)
    with pytest.raises(Unreadable) as error:
        task.render(box, image=image)
    assert error.value.reason == "boxes: an id without a colour"
    with pytest.raises(Unreadable) as error:
        task.fit(np.full((1, 6), np.nan, np.float32), Geometry(size=16), (16, 16))
    assert error.value.reason == "boxes: a number that is not finite"
    with pytest.raises(ValueError, match="give `image`"):
        task.render(box)


@pytest.mark.parametrize("background", ["photo", "black"])
def test_any_picture_can_be_read(background):
    rng = np.random.default_rng(0)
    task = Boxes(BoxesConfig(background=background))
    for shape in ((1, 1), (2, 3), (64, 48)):
        picture = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        for image in (None, rng.integers(0, 256, (*shape, 3)).astype(np.uint8)):
            assert task.read(picture, image=image).shape[1] == 6
