import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.tasks.normals import Normals, NormalsConfig

TASK = Normals(NormalsConfig())


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(st.integers(1, 33), st.integers(1, 33)), seed=st.integers(0, 999))
def test_read_inverts_render_within_the_stated_angle(shape, seed):
    rng = np.random.default_rng(seed)
    unknown = rng.random((*shape, 1)) < 0.2
    n = np.where(unknown, 0, unit(rng.normal(size=(*shape, 3)))).astype(np.float32)
    read = TASK.read(TASK.render(n))
    assert read.dtype == np.float32
    assert np.array_equal(read.any(-1), ~unknown[..., 0])
    length = np.linalg.norm(read, axis=-1)[~unknown[..., 0]]
    assert length == pytest.approx(1, abs=1e-5)
    chord = np.linalg.norm(read - n, axis=-1)
    assert np.degrees(2 * np.arcsin(chord / 2)).max() <= 0.4


def test_colours_are_the_usual_ones():
    n = np.array([[[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [np.nan, 0, 0], [0, 0, 5]]], dtype=np.float32)
    assert TASK.render(n)[0].tolist() == [
        [128, 128, 255],
        [255, 128, 128],
        [128, 255, 128],
        [0, 0, 0],
        [0, 0, 0],
        [128, 128, 255],
    ]


def test_even_the_darkest_normal_and_a_noisy_black_are_told_apart():
    darkest = unit(np.array([[[-1.0, -1.0, -1.0]]]))
    assert TASK.read(TASK.render(darkest)) == pytest.approx(darkest, abs=0.01)
    assert not TASK.read(np.full((1, 1, 3), 36, np.uint8)).any()
