import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.tasks.strokes import centred, disc, find_discs, limb, widen

RED = np.array([255, 0, 0], np.uint8)


def black(height=40, width=60):
    return np.zeros((height, width, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(0, 59.99),
    y=st.floats(0, 39.99),
    radius=st.sampled_from([2.0, 2.5, 4.0]),
    cut=st.sampled_from([0, 1, 2]),
)
def test_a_disc_is_found_in_its_pixel_even_cut_by_the_edge_or_crossed_by_a_line(x, y, radius, cut):
    picture = black()
    centre = centred(np.array([x, y]))
    disc(picture, centre, radius, RED)
    mask, free = picture.any(-1), np.ones((40, 60), bool)
    inside = (np.hypot(np.arange(60) + 0.5 - centre[0], (np.arange(40) + 0.5 - centre[1])[:, None])) <= radius
    assert np.array_equal(mask, inside)
    column = int(centre[0])
    if cut:  # something else hides a column of the disc
        hidden = np.zeros_like(mask)
        hidden[:, column : column + cut] = True
        mask, free = mask & ~hidden, ~hidden
    found = find_discs(mask, free, radius, 5)
    if mask.sum() < (np.hypot(*np.mgrid[-4:5, -4:5]) <= radius).sum() / 6:
        assert len(found) == 0
        return
    assert found.shape == (1, 2)
    tolerance = 0 if not cut else radius
    assert np.abs(found[0] - centre).max() <= tolerance


def test_touching_discs_are_two_and_crumbs_are_none():
    picture = black()
    for x in (20.5, 24.5):
        disc(picture, np.array([x, 10.5]), 2.0, RED)
    picture[30, 30] = RED  # one pixel of 13
    found = find_discs(picture.any(-1), np.ones((40, 60), bool), 2.0, 5)
    assert sorted(found.tolist()) == [[20.5, 10.5], [24.5, 10.5]]
    assert len(find_discs(picture.any(-1), np.ones((40, 60), bool), 2.0, 1)) == 1
    assert find_discs(picture.any(-1), np.ones((40, 60), bool), 2.0, 0).shape == (0, 2)
    assert len(find_discs(np.ones((40, 60), bool), np.zeros((40, 60), bool), 2.0, 7)) == 7


def test_a_disc_half_hidden_is_found_in_its_place():
    picture = black()
    disc(picture, np.array([20.5, 10.5]), 4.0, RED)
    other = black()
    disc(other, np.array([23.5, 10.5]), 4.0, RED)
    hidden = other.any(-1)
    found = find_discs(picture.any(-1) & ~hidden, ~hidden, 4.0, 5)
    assert np.abs(found - [20.5, 10.5]).max() <= 1


@settings(max_examples=40, deadline=None)
@given(ends=st.lists(st.floats(-5, 45), min_size=4, max_size=4), half_width=st.sampled_from([1.0, 2.0, 4.0]))
def test_a_limb_covers_its_line_and_stays_within_its_width(ends, half_width):
    start, end = np.array(ends[:2]), np.array(ends[2:])
    picture = black(40, 40)
    limb(picture, start, end, half_width, RED)
    drawn = picture.any(-1)
    length = np.hypot(*(end - start))
    if length < 1:
        return
    y, x = np.mgrid[:40, :40] + 0.5
    t = np.clip(((x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1]) / length**2, 0, 1)
    away = np.hypot(x - start[0] - t * (end - start)[0], y - start[1] - t * (end - start)[1])
    assert not drawn[away > half_width].any()
    on_line = np.floor(start + np.linspace(0.1, 0.9, 50)[:, None] * (end - start)).astype(int)
    near = widen(drawn)
    assert all(near[row, column] for column, row in on_line if 0 <= column < 40 and 0 <= row < 40)


def test_a_limb_of_no_length_is_not_drawn():
    picture = black()
    limb(picture, np.array([5.5, 5.5]), np.array([5.5, 5.5]), 2.0, RED)
    assert not picture.any()


def test_an_ellipse_is_widest_in_its_middle():
    picture = black()
    limb(picture, np.array([10.0, 20.0]), np.array([50.0, 20.0]), 4.0, RED)
    widths = picture[..., 0].astype(bool).sum(0)
    assert widths[30] == pytest.approx(8)
    assert widths[12] < 6
    assert widths[:9].sum() == widths[51:].sum() == 0
