"""What nets see is counted by picture and by set; without their weights it is left out and said."""

import numpy as np
import pytest
import torch

from lvmlite.evaluate import perceptual
from lvmlite.evaluate.perceptual import Likeness, Nets
from lvmlite.evaluate.protocols.reconstruction import COLUMNS, Reconstruction, ReconstructionConfig
from lvmlite.metrics.frechet import Moments, frechet_distance
from tests.evaluate.conftest import BlockColours, EveryPixel

CPU = torch.device("cpu")


def far(x, y):
    return (x - y).abs().mean((1, 2, 3))


def colours(x):
    return torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)


def pictures(n, seed=0, side=32):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def test_sets_add_up_in_any_pieces():
    made, true, groups = pictures(9, 1), pictures(9), list("aabbbcccc")
    whole, parts = Likeness(Nets(CPU, far, colours)), Likeness(Nets(CPU, far, colours))
    whole.update(made, true, groups)
    for at in (0, 4):
        parts.update(made[at : at + 4], true[at : at + 4], groups[at : at + 4])
    last = Likeness(Nets(CPU, far, colours))
    last.update(made[8:], true[8:], groups[8:])
    parts.merge(last, "other")
    expected = np.abs(made.astype(float) - true).mean() / 255
    assert whole.of("lpips") == pytest.approx(expected, abs=1e-6)
    assert parts.of("lpips") == pytest.approx(whole.of("lpips"))
    assert parts.of("ssim") == pytest.approx(whole.of("ssim"))
    assert parts.fid() == pytest.approx(whole.fid(), rel=1e-6)
    assert parts.n == whole.n == 9
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255 for p in (made, true))
    a, b = Moments(6), Moments(6)
    a.update(colours(x).numpy())
    b.update(colours(y).numpy())
    assert whole.fid() == pytest.approx(frechet_distance(a, b))


def test_the_same_pictures_are_at_no_distance():
    likeness = Likeness(Nets(CPU, far, colours))
    likeness.update(pictures(6), pictures(6), list("abcdef"))
    assert likeness.of("lpips") == 0
    assert likeness.of("psnr") == 100
    assert likeness.of("ssim") == pytest.approx(1)
    assert likeness.fid() == pytest.approx(0, abs=1e-6)
    assert likeness.kid(np.random.default_rng(0)) < 0.01


def test_what_is_too_small_or_too_few_is_left_out():
    likeness = Likeness(Nets(CPU, far, colours))
    likeness.update(pictures(1, 1, 8), pictures(1, 0, 8), ["a"])
    assert likeness.of("psnr") > 0
    assert (likeness.of("ssim"), likeness.of("lpips"), likeness.fid()) == (None, None, None)
    assert likeness.kid(np.random.default_rng(0)) is None


def test_without_weights_the_table_leaves_them_out_and_says_what_to_get(tokenizer_bench):
    bench = tokenizer_bench(BlockColours())
    result = Reconstruction(ReconstructionConfig(n_pictures=3)).run(bench, lambda done, total: None)
    table = result.tables[0]
    assert table.columns == [name for name in COLUMNS if name not in ("LPIPS", "rFID", "KID")]
    assert all(0 < dict(zip(table.columns, row, strict=True))["SSIM"] < 1 for row in table.rows)
    note = result.tables[0].note
    assert note.count("lvmlite weights add") >= 2
    assert "lpips" not in result.values
    assert "rfid" not in result.values


def test_with_weights_it_is_measured_and_a_small_rfid_is_put_in_its_place(tokenizer_bench, monkeypatch):
    monkeypatch.setattr(perceptual, "open_nets", lambda device: Nets(device, far, colours))
    lossless, lossy = (
        Reconstruction(ReconstructionConfig(n_pictures=6)).run(tokenizer_bench(net), lambda done, total: None)
        for net in (EveryPixel(), BlockColours())
    )
    assert lossless.values["lpips"] == 0 < lossy.values["lpips"]
    assert lossless.values["rfid"] == pytest.approx(0, abs=1e-6)
    assert lossy.values["rfid/world/seg"] > 1e-4
    assert "below 10,000 compare it at equal numbers only" in lossy.tables[0].note
    assert "weights add" not in lossy.tables[0].note
    (codebook,) = (table for table in lossy.tables if table.name == "codebook")
    assert "the pictures measured above" in codebook.note
    assert next(row for row in codebook.rows if row[0] == "depth")[-1] == 6 * 64
