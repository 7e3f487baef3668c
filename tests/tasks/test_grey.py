import numpy as np

from lvmlite.tasks.grey import draw, measure


def test_every_grey_from_32_is_known_and_reads_back():
    nearness = np.arange(224)[None] / 223
    picture = draw(nearness, np.ones((1, 224), bool))
    assert picture[0, :, 0].tolist() == list(range(32, 256))
    read, known = measure(picture)
    assert known.all()
    assert np.abs(read - nearness).max() < 1e-12


def test_unknown_is_black_whatever_it_holds():
    assert not draw(np.full((2, 3), 0.7), np.zeros((2, 3), bool)).any()
    assert not measure(np.full((2, 3, 3), 15, np.uint8))[1].any()
    assert measure(np.full((2, 3, 3), 16, np.uint8))[1].all()
