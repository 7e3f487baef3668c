"""The same frame is predicted from growing context, by source, with floors and a ceiling for drawn frames."""

import numpy as np
import pytest

from lvmlite.evaluate.protocols.next_frame import NextFrame, NextFrameConfig


def run(bench, n_sampled=3, **settings):
    config = NextFrameConfig(n_clips=4, n_sampled=n_sampled, **settings)
    return NextFrame(config).run(bench, lambda done, total: None)


def rows(result, name):
    (table,) = [table for table in result.tables if table.name == name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


class Counting:
    """-log p of every token falls with the number of pictures before it: 3, 2.5, 2, ..."""

    def __init__(self, bench):
        self.size, self.context, self.strings = bench.size, bench.engine.context, []

    def logprobs(self, prompt, rest, batch=None):
        self.strings.append(rest)
        return np.tile(np.repeat(np.arange(rest.shape[1] // self.size) * 0.5 - 3, self.size), (len(rest), 1))


def test_the_curve_is_that_of_the_last_frame(make_bench):
    bench = make_bench()
    bench.engine = Counting(bench)
    result = run(bench, n_sampled=0)
    (curve,) = result.curves
    assert curve.lines == {"clips": [(float(n), 3 - 0.5 * n) for n in range(8)]}
    assert result.values["clips/gain 0 to 1"] == pytest.approx(0.5)
    assert result.values["clips/gain 1 to 7"] == pytest.approx(3.0)
    assert result.values["clips/gain 0 to 7"] == pytest.approx(3.5)
    last = bench.engine.strings[0]
    assert all(np.array_equal(string[:, -64:], last) for string in bench.engine.strings), "the target stays"
    assert [string.shape[1] // 64 for string in bench.engine.strings] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {row["videos"] for row in rows(result, "next-frame")} == {4}


def test_frames_drawn_beside_floors_and_ceiling(make_bench):
    result = run(make_bench(None))
    psnr = {row["next frame"]: row["PSNR in dB"] for row in rows(result, "next-frame-psnr")}
    assert set(psnr) == {
        "sampled after 1 frame",
        "sampled after 7 frames",
        "floor: repeat the last frame",
        "floor: repeat it, through the tokenizer",
        "ceiling: ground truth rec.",
    }
    assert psnr["floor: repeat the last frame"] > psnr["sampled after 7 frames"], "a random model draws noise"
    assert psnr["ceiling: ground truth rec."] > psnr["floor: repeat it, through the tokenizer"]


def test_a_model_without_bos_has_no_first_token_without_context(make_bench):
    bench = make_bench(None)
    bench.engine.bos = None
    result = run(bench)
    first = [row["first token"] for row in rows(result, "next-frame")]
    assert first[0] is None
    assert None not in first[1:]
    assert np.isfinite([row["rest"] for row in rows(result, "next-frame")]).all()


def test_more_context_than_trained_is_not_asked_for(make_bench):
    bench = make_bench(None)
    bench.max_pictures = 4
    assert [row["context frames"] for row in rows(run(bench), "next-frame")] == [0, 1, 2, 3]


def test_a_stride_is_kept(make_bench):
    bench = make_bench()
    clips = bench.pool("test", "clips", min_frames=7).clips(4, bench.rng("x"), 4, 2)
    assert all(np.diff([frame.t for frame in clip]).tolist() == [2, 2, 2] for clip in clips)
    assert all(np.diff([frame.row for frame in clip]).tolist() == [2, 2, 2] for clip in clips)


def test_no_clips_are_a_row_unless_asked_for(make_bench):
    result = run(make_bench(), stride=2)
    assert rows(result, "next-frame")[0]["source"] == "no source has test clips of 15 frames"
    with pytest.raises(ValueError, match="source 'world' has no test samples of 8 frames"):
        run(make_bench(), sources=["world"])
