import numpy as np

from lvmlite.tasks.people import assemble

LIMBS = ((0, 1), (1, 2))  # three kinds of joint in a chain
SIZE = 100


def people(found, drawn=()):
    """Assembled (N, 3, 3), where `drawn` lists limbs as (number, row, first column, last column)."""
    seen = [np.zeros((SIZE, SIZE), bool) for _ in LIMBS]
    for number, row, first, last in drawn:
        seen[number][row, first : last + 1] = True
    places = [np.array(xy, dtype=np.float64).reshape(-1, 2) for xy in found]
    return assemble(places, LIMBS, seen, np.logical_or.reduce(seen), 2.0)


def test_limbs_decide_before_nearness():
    found = [(10.5, 10.5), (10.5, 50.5)], [(60.5, 10.5), (60.5, 50.5), (14.5, 30.5)], []
    drawn = [(0, 10, 10, 60), (0, 50, 10, 60)]
    one, two, rest = people(found, drawn)
    assert one[:2, :2].tolist() == [[10.5, 10.5], [60.5, 10.5]]
    assert two[:2, :2].tolist() == [[10.5, 50.5], [60.5, 50.5]]
    assert rest[:, 2].tolist() == [0, 2, 0]


def test_without_limbs_the_nearest_that_lacks_the_joint():
    found = [(10.5, 10.5), (80.5, 10.5)], [(70.5, 20.5)], []
    two, one = people(found)
    assert two[:2, :2].tolist() == [[80.5, 10.5], [70.5, 20.5]]
    assert one.tolist() == [[10.5, 10.5, 2], [0, 0, 0], [0, 0, 0]]


def test_more_than_half_a_picture_away_is_another_person():
    assert len(people(([(10.5, 10.5)], [], [(10.5, 59.5)]))) == 1
    assert len(people(([(10.5, 10.5)], [], [(10.5, 61.5)]))) == 2


def test_a_limb_hidden_in_part_counts_by_what_is_left():
    found = [(10.5, 10.5)], [(90.5, 10.5)], []
    across = [(1, 10, 30, 70)]  # another limb lies over its middle
    assert len(people(found, [(0, 10, 10, 29), (0, 10, 71, 90), *across])) == 1
    assert len(people(found, across)) == 2
    assert len(people(found, [(0, 10, 10, 40)])) == 2  # less than half is seen, and nothing hides the rest


def test_no_joint_is_no_person():
    assert people(([], [], [])).shape == (0, 3, 3)
