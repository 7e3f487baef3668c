"""The engine: likelihoods of codes and sampling of new ones, with a key/value cache.

In: codes, int64. Out: log probabilities, or new codes with their log likelihood, as numpy arrays.

What is unusual here:
- a prompt shared by many queries is prefilled once, a query once for all its candidates
- sampling noise is a hash of (seed, query, candidate, position), turned into a code by the inverse of the
  distribution function in order of code index: in fp32 the same pictures come out at any batch size
- a string longer than the context is read through windows that drop whole pictures, oldest first, and keep BOS at
  position 0, as the released LVM does (16 pictures, then 15 for each new one)

Legend: N queries, C candidates, R rows = queries x candidates, P codes of prompt, Q of a query, L to be scored,
K codebook_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lvmlite.generate.sampling import Sampling, exact_dtype, pick, uniforms
from lvmlite.model.cache import KVCache
from lvmlite.model.transformer import Transformer

MEMORY = 1 << 30  # bytes for the rows of one batch on a CPU or another device whose memory is shared
MOST_ROWS = 256

Codes = np.ndarray | Tensor
Progress = Callable[[int, int], None]


class Generated(NamedTuple):
    """What `Engine.generate` gives. `logprob` sums log p of the tokens under the model itself: temperature 1, all
    ids, nothing cut off; it is what `Engine.logprobs` gives for the same tokens."""

    tokens: np.ndarray  # (N, C, n_new) int64 in [0, K)
    logprob: np.ndarray  # (N, C) float32


class Window(NamedTuple):
    """Codes start .. last-1 of a string are in view; first .. last-1 are scored or drawn."""

    start: int
    first: int
    last: int


class Engine:
    """Args:
    model: the decoder, on the device where it is to run.
    bos: the id in front of every string, or None for a model trained without.
    tokens_per_picture: S; None if strings never exceed the context.
    context: the most codes in view, at most the model's max_seq_len, which is the default. Give the trained context.
    dtype: torch.bfloat16 runs under autocast; float32 is exact.
    """

    def __init__(
        self,
        model: Transformer,
        bos: int | None,
        *,
        tokens_per_picture: int | None = None,
        context: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        assert dtype in (torch.float32, torch.bfloat16), dtype
        assert bos is None or model.arch.codebook_size <= bos < model.arch.vocab_size, bos
        self.model, self.bos, self.dtype = model, bos, dtype
        self.tokens_per_picture = tokens_per_picture
        self.context = min(context or model.arch.max_seq_len, model.arch.max_seq_len)

    @property
    def device(self) -> torch.device:
        return self.model.lm_head.weight.device

    def logprobs(self, prompt: Codes, rest: Codes, batch: int | None = None) -> np.ndarray:
        """log p of every token of `rest`, given the prompt and what precedes it, softmax over all V logits.

        Args:
            prompt: (P,) integers in [0, K), shared by all rows; may be empty.
            rest: (N, L) integers in [0, V).
            batch: rows at a time; by default as many as fit in memory.

        Returns:
            (N, L) float32, nats. Where nothing precedes the first token (no BOS, empty prompt) it is nan.

        Raises:
            ValueError: wrong shape or code, or more codes than the context where no window can slide.
        """
        arch = self.model.arch
        prompt = _check("prompt", prompt, 1, arch.codebook_size)
        rest = _check("rest", rest, 2, arch.vocab_size)
        p, (n, length) = len(prompt), rest.shape
        out = np.empty((n, length), np.float32)
        rows = batch or self._rows(min(p + length, self.context))
        with self._running():
            for start, first, last in self.windows(p, p + length):
                shared, logits = self._prefix(prompt[start:])
                for at in range(0, n, rows):
                    piece = rest[at : at + rows, max(0, start - p) : last - p].to(self.device)
                    scores = self._score(shared, logits, piece)[:, first - last :]
                    out[at : at + rows, first - p : last - p] = scores.cpu().numpy()
        return out

    def generate(
        self,
        prompt: Codes,
        queries: Codes,
        n_new: int,
        sampling: Sampling | None = None,
        n_candidates: int = 1,
        progress: Progress | None = None,
        batch: int | None = None,
    ) -> Generated:
        """Draw `n_new` codes after each query. No id >= K is ever drawn.

        The noise of row i of `queries` is that of query number i, whatever the other rows are; candidate c is the
        same for any n_candidates > c.

        Args:
            prompt: (P,) integers in [0, K), shared by all queries; may be empty.
            queries: (N, Q) integers in [0, K); Q may be 0.
            sampling: None for the defaults.
            progress: called with (codes drawn, codes in all).
            batch: rows (queries x candidates) at a time; by default as many as fit in memory.

        Raises:
            ValueError: wrong shape or code; nothing to start from (no BOS, no codes); more codes than the context
                where no window can slide.
        """
        sampling = sampling or Sampling()
        k = self.model.arch.codebook_size
        prompt = _check("prompt", prompt, 1, k)
        queries = _check("queries", queries, 2, k)
        if n_new < 1 or n_candidates < 1:
            raise ValueError(f"n_new and n_candidates must be >= 1, got {n_new} and {n_candidates}")
        given = len(prompt) + queries.shape[1]
        plan = self.windows(given, given + n_new)
        if self.bos is None and any(w.start == w.first for w in plan):
            raise ValueError("this model has no BOS, so it needs at least one picture to go on from")
        n = len(queries)
        tokens = np.empty((n, n_candidates, n_new), np.int64)
        logprob = np.empty((n, n_candidates), np.float32)
        rows = batch or self._rows(min(given + n_new, self.context))
        per = max(1, rows // n_candidates)
        tick = _counter(progress, n * n_candidates * n_new)
        with self._running():
            prefix = lru_cache(maxsize=2)(lambda start: self._prefix(prompt[start:]))
            for at in range(0, n, per):
                some = queries[at : at + per].to(self.device)
                for c in range(0, n_candidates, rows):
                    candidates = np.arange(c, min(c + rows, n_candidates))
                    numbers = np.arange(at, at + len(some))
                    noise = uniforms(sampling.seed, numbers, candidates, n_new)
                    drawn, score = self._draw(prefix, len(prompt), some, noise, plan, sampling, tick)
                    shape = (len(some), len(candidates))
                    tokens[at : at + per, candidates] = drawn.cpu().numpy().reshape(*shape, n_new)
                    logprob[at : at + per, candidates] = score.cpu().numpy().reshape(shape)
        return Generated(tokens, logprob)

    def windows(self, given: int, total: int) -> list[Window]:
        """What is in view when codes `given` .. `total`-1 of a string are scored or drawn.

        All that fits the context is one window; each further picture has its own, from which the oldest pictures
        were dropped: with 4 pictures in context, 2 given and 6 in all: [0, 4), [1, 5), [2, 6).
        """
        if total > given and total <= self.context:
            return [Window(0, given, total)]
        size = self.tokens_per_picture
        if total > given and (size is None or size > self.context):
            picture = "pictures of unknown size" if size is None else f"a picture of {size} codes"
            raise ValueError(f"{total} codes exceed the context of {self.context}, and {picture} cannot slide")
        out: list[Window] = []
        while given < total:
            assert size is not None
            last = min((given // size + 1) * size, total)
            start = -(-max(0, last - self.context) // size) * size
            if out and out[-1].start == start:
                out[-1] = out[-1]._replace(last=last)
            else:
                out.append(Window(start, given, last))
            given = last
        return out

    def _running(self) -> _Running:
        return _Running(self)

    def _rows(self, positions: int) -> int:
        """Rows of so many positions that fit in memory: the cache, and the widest activations of a prefill."""
        arch = self.model.arch
        cache = 2 * arch.n_layers * arch.n_kv_heads * arch.head_dim * self.dtype.itemsize
        activations = 4 * (3 * arch.hidden_dim + 8 * arch.dim)
        budget = MEMORY
        if self.device.type == "cuda":
            budget = torch.cuda.get_device_properties(self.device).total_memory // 4
        return max(1, min(MOST_ROWS, budget // (max(1, positions) * (cache + activations))))

    def _feed(self, cache: KVCache, tokens: Tensor) -> Tensor:
        """Append tokens (R, T) to the cache; the logits (R, V) float32 of what follows them."""
        return self.model.lm_head(self.model.hidden(tokens, cache=cache)[:, -1]).float()

    def _prefix(self, codes: Tensor) -> tuple[KVCache, Tensor | None]:
        """The cache of BOS and shared codes (P,), one row; and the logits (1, V) of what follows, if anything does."""
        bos = [] if self.bos is None else [self.bos]
        ids = torch.cat((torch.tensor(bos, dtype=torch.int64), codes)).to(self.device)
        cache = KVCache(self.model.arch, 1, len(ids), self.dtype, self.device)
        return cache, self._feed(cache, ids[None]) if len(ids) else None

    def _score(self, shared: KVCache, logits: Tensor | None, tokens: Tensor) -> Tensor:
        """log p (R, T) float32 of tokens (R, T) after a shared prefix."""
        out = torch.full(tokens.shape, torch.nan, device=self.device)
        if logits is not None:
            out[:, 0] = logits.log_softmax(-1)[0, tokens[:, 0]]
        if tokens.shape[1] > 1:
            cache = shared.repeat(len(tokens), shared.length + tokens.shape[1] - 1)
            out[:, 1:] = -self.model(tokens[:, :-1], targets=tokens[:, 1:], cache=cache)
        return out

    def _draw(
        self,
        prefix: Callable[[int], tuple[KVCache, Tensor | None]],
        n_prompt: int,
        queries: Tensor,
        noise: np.ndarray,
        plan: list[Window],
        sampling: Sampling,
        tick: Callable[[int], None],
    ) -> tuple[Tensor, Tensor]:
        """Codes (R, n_new) after queries (R / C, Q), and their log likelihood (R,). Never waits for the device."""
        rows, n_new = noise.shape
        k, given = self.model.arch.codebook_size, n_prompt + queries.shape[1]
        u = torch.from_numpy(noise).to(self.device, exact_dtype(self.device))
        drawn = torch.zeros(rows, n_new, dtype=torch.int64, device=self.device)
        score = torch.zeros(rows, device=self.device)
        for start, first, last in plan:
            shared, logits = prefix(start)
            in_view = queries[:, max(0, start - n_prompt) :]
            so_far = drawn[:, max(0, start - given) : first - given]
            cache, logits = self._prefill(shared, logits, in_view, so_far, last - first)
            for i in range(first - given, last - given):
                codes = pick(logits[:, :k], u[:, i], sampling)
                score += logits.log_softmax(-1).gather(1, codes[:, None])[:, 0]
                drawn[:, i] = codes
                if i + 1 < last - given:
                    logits = self._feed(cache, codes[:, None])
                tick(rows)
        return drawn, score

    def _prefill(
        self, shared: KVCache, logits: Tensor | None, queries: Tensor, so_far: Tensor, n_new: int
    ) -> tuple[KVCache, Tensor]:
        """The cache of all rows with room for n_new codes, and the logits (R, V) of the first of them.

        Queries (R / C, Q) are fed once, then their cache is copied for each candidate; then codes so_far (R, T).
        """
        times = len(so_far) // len(queries)
        known = shared.length + queries.shape[1]
        room = known + so_far.shape[1] + n_new - 1
        cache = shared.repeat(len(queries), room if times == 1 else known)
        if queries.shape[1]:
            logits = self._feed(cache, queries)
        elif logits is not None:
            logits = logits.expand(len(queries), -1)
        if times > 1:
            cache = cache.repeat(times, room)
            logits = None if logits is None else logits.repeat_interleave(times, 0)
        if so_far.shape[1]:
            logits = self._feed(cache, so_far)
        assert logits is not None
        return cache, logits


class _Running:
    """Inference mode, and autocast where asked for."""

    def __init__(self, engine: Engine):
        half = engine.dtype == torch.bfloat16
        self.contexts = (
            torch.inference_mode(),
            torch.autocast(engine.device.type, torch.bfloat16, enabled=half),
        )

    def __enter__(self) -> None:
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error: object) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)


def _check(name: str, codes: Codes, dim: int, limit: int) -> Tensor:
    """Codes as int64 on the CPU. Raises ValueError for another shape, type, or a code outside [0, limit)."""
    x = codes if isinstance(codes, Tensor) else torch.from_numpy(np.asarray(codes))
    if x.numel() == 0 and x.dim() == dim:
        return x.to("cpu", torch.int64)
    if x.dim() != dim or x.is_floating_point() or x.dtype == torch.bool:
        shape = "(P,)" if dim == 1 else "(N, length)"
        raise ValueError(f"{name} must be {shape} integers, got {tuple(x.shape)} {x.dtype}")
    x = x.to("cpu", torch.int64)
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= limit:
        raise ValueError(f"{name} must hold codes in [0, {limit}), got {low} to {high}")
    return x


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    return tick
