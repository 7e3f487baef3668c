import numpy as np
import pytest

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks.paired import Paired, PairedConfig

TASK = Paired(PairedConfig())


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_partner_is_fitted_as_the_photo_is(fit):
    partner = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    geometry = Geometry(size=16, fit=fit)
    fitted = TASK.fit(partner, geometry, (30, 50))
    assert np.array_equal(fitted, geometry.image(partner))
    picture = TASK.render(fitted)
    assert np.array_equal(picture, fitted)
    assert np.array_equal(TASK.read(picture), fitted)
    assert TASK.unfit(fitted, geometry, (30, 50)).shape == (30, 50, 3)


@pytest.mark.parametrize(
    ("partner", "reason"),
    [
        (np.zeros((30, 51, 3), np.uint8), "partner of another size"),
        (np.zeros((60, 100, 3), np.uint8), "partner of another size"),
        (np.zeros((30, 50), np.uint8), "partner is no picture"),
        (np.zeros((30, 50, 4), np.uint8), "partner is no picture"),
        (np.zeros((30, 50, 3), np.float32), "partner is no picture"),
    ],
)
def test_other_partners_are_unreadable(partner, reason):
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        TASK.fit(partner, Geometry(size=16), (30, 50))


def test_the_annotation_can_be_named():
    assert Paired(PairedConfig(annotation="normals_rgb")).annotation == "normals_rgb"
