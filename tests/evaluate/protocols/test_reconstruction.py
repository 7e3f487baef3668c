"""PSNR against the pixels, and the use of the codebook counted over every test picture."""

import numpy as np
import pytest

from lvmlite.evaluate.protocols.reconstruction import Reconstruction, ReconstructionConfig
from lvmlite.metrics import METRICS


def run(bench, **settings):
    return Reconstruction(ReconstructionConfig(**settings)).run(bench, lambda done, total: None)


def test_psnr_by_source_and_kind(make_bench):
    bench = make_bench()
    result = run(bench, n_pictures=16)
    frames = bench.pool("test", "world").draw(16, bench.rng("all of them"))
    for kind, name in [("image", "photo"), ("depth", "depth")]:
        metric = METRICS["psnr"]()
        for picture, true in zip(bench.decode(bench.codes(frames, kind)), bench.pictures(frames, kind), strict=True):
            metric.update(picture, true)
        assert result.values[f"psnr/world/{name}"] == pytest.approx(metric.compute())
    table = result.tables[0]
    assert [row[:2] for row in table.rows if row[0] == "clips"] == [["clips", "photo"]]
    assert all(low < psnr < high for _, _, psnr, low, high, *_ in table.rows)
    photos = [row for row in table.rows if row[1] == "photo"]
    assert [row[-2:] for row in photos] == [[16, 16], [16, 4]]
    assert result.values["psnr"] == pytest.approx(np.mean([row[2] for row in photos]))


def test_use_of_the_codebook(make_bench):
    bench = make_bench()
    result = run(bench, sources=["clips"], n_pictures=1)
    codes = np.concatenate([s.column("image").ravel() for s in bench.tokens.select("test", ["clips"])])
    _, counts = np.unique(codes, return_counts=True)
    p = counts / counts.sum()
    rows = {row[0]: row[1:] for row in result.tables[1].rows}
    assert rows["photo"] == rows["all"] == [len(counts) / 64, pytest.approx(np.exp(-(p * np.log(p)).sum())), codes.size]


def test_the_figure_pairs_photos_with_reconstructions(make_bench):
    (figure,) = run(make_bench(), n_shown=3).figures
    assert figure.columns == ["photo", "reconstruction"] * 3
    assert len(figure.rows) == 2
    assert not any(cell.generated for row in figure.rows for cell in row), "the tokenizer is not the model"


def test_a_source_without_test_pictures_is_named(make_bench):
    with pytest.raises(ValueError, match="source 'elsewhere' has no test samples"):
        run(make_bench(), sources=["elsewhere"])
