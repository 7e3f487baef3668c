"""A tiny world in both stores, a tokenizer of block colours, and engines of known behaviour."""

import types

import numpy as np
import pytest
import torch

from lvmlite.data.build import build_pixels, build_tokens
from lvmlite.data.sources.world import World, WorldConfig
from lvmlite.evaluate.bench import Bench, TokenizerBench
from lvmlite.generate.engine import Engine, Generated
from lvmlite.images import Geometry
from lvmlite.model.architecture import Architecture
from lvmlite.model.transformer import Transformer
from lvmlite.recipe import to_dict
from lvmlite.tasks import TASK_CONFIGS, build_task
from lvmlite.tokenizers.base import Tokenizer

SIZE, BLOCK, CODES = 32, 4, 64
KINDS = {
    "edges": TASK_CONFIGS["edges"](),
    "grey": TASK_CONFIGS["colourisation"](),
    "seg": TASK_CONFIGS["segmentation"](palette="distinct", n_classes=5, variants=9),
    "depth": TASK_CONFIGS["depth"](),
    "normals": TASK_CONFIGS["normals"](),
}
GOOD, BAD = -0.1, -3.0  # log p of a token


class BlockColours(Tokenizer):
    """The mean colour of 4 x 4 pixels, 4 levels a channel: 8 x 8 of 64 codes."""

    kind, codebook_size, grid, image_size = "blocks", CODES, (SIZE // BLOCK, SIZE // BLOCK), SIZE

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        level = (torch.nn.functional.avg_pool2d(images, BLOCK) * 3.999).long()
        return (level[:, 0] * 16 + level[:, 1] * 4 + level[:, 2]).flatten(1)

    def decode(self, tokens):
        level = torch.stack((tokens // 16, tokens // 4 % 4, tokens % 4), 1).view(-1, 3, *self.grid)
        return (level / 3).repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)

    def settings(self):
        return {}

    def code_state(self):
        return {}


class EveryPixel(Tokenizer):
    """A code for every colour and one for every pixel: nothing is lost."""

    kind, codebook_size, grid, image_size = "pixels", 1 << 24, (SIZE, SIZE), SIZE

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        level = (images * 255).round().long()
        return (level[:, 0] << 16 | level[:, 1] << 8 | level[:, 2]).flatten(1)

    def decode(self, tokens):
        level = torch.stack((tokens >> 16, tokens >> 8 & 255, tokens & 255), 1).view(-1, 3, *self.grid)
        return level / 255

    def settings(self):
        return {}

    def code_state(self):
        return {}


class Nothing(EveryPixel):
    """Every picture becomes black."""

    def encode(self, images):
        return torch.zeros_like(super().encode(images))


class FakeEngine:
    """Gives a token `GOOD` or `BAD` log p by a rule on what stands before its picture.

    It knows what every picture of the stores shows: (source, key, t, kind, variant), and finds an unknown one to show
    nothing. rule(before, this, engine) gets what the pictures before and this one may show.
    """

    device, dtype, context = torch.device("cpu"), torch.float32, 8 * 64

    def __init__(self, bench, rule):
        self.rule, self.size, self.calls, self.asked = rule, bench.size, [], []
        self.shows, self.codes = {}, {}
        for shard in bench.tokens.shards:
            keys = [key for key, _ in list(shard.keys())]
            times = shard.info.frames_per_sample
            for kind, n in shard.info.columns.items():
                for v in range(n):
                    for row, codes in enumerate(shard.column(kind, v)):
                        meaning = (shard.info.source, keys[row // times], row % times, kind, v)
                        self.shows.setdefault(codes.astype(np.int64).tobytes(), set()).add(meaning)
                        self.codes[meaning] = codes.astype(np.int64)

    def seen(self, string):
        return [self.shows.get(picture.tobytes(), set()) for picture in string.reshape(-1, self.size)]

    def logprobs(self, prompt, rest, batch=None):
        assert len(prompt) + rest.shape[1] <= self.context
        assert prompt.dtype == rest.dtype == np.int64
        out = np.empty(rest.shape, np.float32)
        for i, row in enumerate(rest):
            string = self.seen(np.concatenate((prompt, row)))
            self.asked.append(string)
            known = len(prompt) // self.size
            values = [self.rule(string[:n], string[n]) for n in range(known, len(string))]
            out[i] = np.repeat(np.array(values, np.float32), self.size)
        return out

    def generate(self, prompt, queries, n_new, sampling=None, n_candidates=1, progress=None, batch=None):
        """The true next picture where the rule finds one GOOD, else the query again."""
        self.calls.append((len(prompt), queries.shape, n_new, sampling))
        tokens = np.empty((len(queries), n_candidates, n_new), np.int64)
        for i, query in enumerate(queries):
            string = self.seen(np.concatenate((prompt, query)))
            self.asked.append(string)
            frames = {meaning[:3] for meaning in string[-1]}
            good = [
                codes
                for meaning, codes in self.codes.items()
                if meaning[:3] in frames and meaning[3:] != ("image", 0) and self.rule(string, {meaning}) == GOOD
            ]
            picture = good[0] if good else query[-self.size :]
            tokens[i] = np.tile(picture, n_new // self.size)
        return Generated(tokens, np.zeros((len(queries), n_candidates), np.float32))


def kinds_of(shown):
    return {kind for *_, kind, v in shown}


def frames_of(shown):
    return {meaning[:3] for meaning in shown}


def same_task(before, this):
    """The annotation is of a kind that the last pair's may be; an unknown picture may be anything."""
    return len(before) > 2 and bool(not before[-2] or kinds_of(before[-2]) & kinds_of(this))


def same_frame(before, this):
    return bool(before and frames_of(before[-1]) & frames_of(this))


def matched_pairs(before, this):
    """Every annotation in the prompt belongs to its photo."""
    pairs = zip(before[:-1:2], before[1:-1:2])
    return all(not b or frames_of(a) & frames_of(b) for a, b in pairs)


RULES = {
    "oracle": lambda before, this: GOOD if same_task(before, this) and same_frame(before, this) else BAD,
    "task only": lambda before, this: GOOD if same_task(before, this) else BAD,
    "query only": lambda before, this: GOOD if same_frame(before, this) else BAD,
    "uniform": lambda before, this: BAD,
    "mapping": lambda before, this: (
        GOOD if same_task(before, this) and same_frame(before, this) and matched_pairs(before, this) else BAD
    ),
}


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """Nets that this machine happens to have are not used."""
    monkeypatch.setenv("LVMLITE_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """(tokens, pixels, sources, tokenizer): 24 train and 16 test scenes, 3 train and 4 test clips of 8 frames."""
    root = tmp_path_factory.mktemp("stores")
    scenes = WorldConfig(name="world", train=24, val=0, test=16, size=SIZE, min_objects=2, max_objects=3)
    clips = WorldConfig(name="clips", train=3, val=0, test=4, size=SIZE, frames=8, max_objects=2)
    sources = [World(scenes, 1), World(clips, 2)]
    kinds = {kind: build_task(config) for kind, config in KINDS.items()}
    settings = {kind: to_dict(config) for kind, config in KINDS.items()}
    only = {"clips": []}
    pixels = build_pixels(sources, kinds, settings, Geometry(SIZE), root / "pixels", only=only)
    tokenizer = BlockColours()
    tokens = build_tokens(pixels, tokenizer, root / "tokens")
    return tokens, pixels, {source.name: source for source in sources}, tokenizer


@pytest.fixture
def make_bench(stores, tmp_path):
    """make_bench("oracle"): a bench whose engine follows a rule; None: a real engine on a random model."""

    def make(rule="uniform", seed=0, run=tmp_path / "run"):
        tokens, pixels, sources, tokenizer = stores
        arch = Architecture(32, 64, 2, 2, 2, vocab_size=128, codebook_size=CODES, max_seq_len=512)
        model = Transformer(arch).init_weights(0).eval()
        lvm = types.SimpleNamespace(
            engine=Engine(model, arch.bos, tokens_per_picture=64, context=512),
            tokenizer=tokenizer,
            tasks={kind: build_task(config) for kind, config in KINDS.items()},
            geometry=Geometry(SIZE),
            info={"pictures": 8},
        )
        bench = Bench(lvm, tokens, pixels, sources, run, seed)
        if rule is not None:
            bench.engine = FakeEngine(bench, RULES[rule])
        return bench

    return make


@pytest.fixture
def tokenizer_bench(stores, tmp_path):
    """tokenizer_bench(tokenizer): a bench without a model or codes; tokens=True gives it the codes of BlockColours."""

    def make(tokenizer, seed=0, tokens=False, split="test"):
        codes, pixels, sources, _ = stores
        tasks = {kind: build_task(config) for kind, config in KINDS.items()}
        return TokenizerBench(
            tokenizer, tasks, Geometry(SIZE), pixels, sources, tmp_path / "run", seed, codes if tokens else None, split
        )

    return make
