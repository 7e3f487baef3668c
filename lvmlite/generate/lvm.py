"""LVM: the object that `lvmlite.load` gives. Pictures in, pictures out.

lvm = lvmlite.load("runs/quickstart/model")
out = lvm.complete([a, a_edges, b])        # 1 pair + 1 query -> 1 picture
out[0].save("edges.png"); out.read("edges")  # PIL picture; bool (H, W) of b's own size
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lvmlite.devices import pick_device
from lvmlite.generate.engine import Engine, Progress, Sampling
from lvmlite.generate.folder import ModelFolder, read_model
from lvmlite.generate.prompt import read_pictures
from lvmlite.images import Geometry
from lvmlite.model.transformer import Transformer
from lvmlite.tasks import build_task
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer, decode_tokens, encode_pictures

if TYPE_CHECKING:
    from PIL import Image

    _Pictures = list[Image.Image]
else:
    _Pictures = list


@dataclass(frozen=True)
class Query:
    """The last picture of a prompt: fitted, uint8 (size, size, 3), and the (H, W) it came with."""

    fitted: np.ndarray
    shape: tuple[int, int]


class Completion(_Pictures):
    """A list of PIL pictures, size x size, in the order they were drawn.

    Attributes:
        tokens: (n_images, S) int64.
        logprob: log p of the tokens given the prompt, nats; temperature 1, nothing cut off.
        candidates: all completions of this prompt in the order of sampling, this one among them. The list that
            `complete` gives is candidate 0, the same whatever n_candidates is: taking the likeliest would favour plain
            pictures. ``max(out.candidates, key=lambda c: c.logprob)`` is that.
    """

    def __init__(self, pictures: np.ndarray, tokens: np.ndarray, logprob: float, lvm: LVM, query: Query | None):
        from PIL import Image

        super().__init__(Image.fromarray(picture) for picture in pictures)
        self.tokens, self.logprob = tokens, logprob
        self.candidates: list[Completion] = [self]
        self._pictures, self._lvm, self._query = pictures, lvm, query

    def read(self, kind: str, index: int = 0) -> Any:
        """The annotation that picture `index` shows, as the kind's task reads it.

        Annotations come at the size of the query, the last picture of the prompt; where "crop" cut the query maps
        are 0. Without a prompt they keep the model's size.

        Raises:
            ValueError: no such kind.
        """
        task, query = self._lvm.task(kind), self._query
        if query is None:
            return task.read(self._pictures[index])
        annotation = task.read(self._pictures[index], image=query.fitted)
        return task.unfit(annotation, self._lvm.geometry, query.shape)


class LVM:
    """A prompted vision model.

    Attributes:
        model, tokenizer: the nets, on one device, fp32.
        tasks: kind -> Task.
        geometry: how pictures are fitted.
        engine: likelihoods and sampling of codes.
        info: lvmlite.json.
        codes: kind -> (K,) bool, the codes it uses.
        prompts: kind -> pairs (photo, annotation) of uint8 pictures that came with the model.
    """

    def __init__(self, parts: ModelFolder, device: torch.device | str = "cpu"):
        info = parts.checked
        self.model: Transformer = parts.model.to(device).eval().requires_grad_(False)
        self.tokenizer: Tokenizer = parts.tokenizer.to(device).eval().requires_grad_(False)
        self.tasks: dict[str, Task] = {kind: build_task(config) for kind, config in info.kinds.items()}
        self.geometry: Geometry = info.geometry
        self.info: dict[str, Any] = parts.info
        self.codes, self.prompts = parts.codes, parts.prompts
        size = info.tokens_per_picture
        bos = self.model.arch.bos if info.bos == "sentence" else None
        self.engine = Engine(self.model, bos, tokens_per_picture=size, context=info.pictures * size)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> LVM:
        """Open a model folder.

        Args:
            device: "auto" takes cuda, then mps, then cpu; or any torch device.

        Raises:
            ValueError: a part is missing, broken or of another model; a device this machine lacks. One line.
        """
        return cls(read_model(path), pick_device(device))

    def task(self, kind: str) -> Task:
        """Raises ValueError that names the known kinds, and the nearest."""
        if kind not in self.tasks:
            near = difflib.get_close_matches(kind, self.tasks, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"no kind '{kind}'; this model knows {', '.join(self.tasks) or 'none'}{hint}")
        return self.tasks[kind]

    def encode(self, pictures: Any) -> np.ndarray:
        """Codes (N, S) int64 of pictures: PIL images, uint8 arrays, paths or bytes, in a list.

        Raises:
            ValueError: names the picture that cannot be used.
        """
        return self._encode(pictures, "encode")

    def decode(self, tokens: np.ndarray | Tensor) -> np.ndarray:
        """Pictures (N, size, size, 3) uint8 of codes (N, S)."""
        codes = tokens.cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens)
        return decode_tokens(self.tokenizer, codes)

    def complete(
        self,
        prompt: Any,
        n_images: int = 1,
        n_candidates: int = 1,
        temperature: float = 1.0,
        top_k: int = 100,
        top_p: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Completion:
        """Draw the pictures that follow a prompt. The same seed gives the same pictures.

        Args:
            prompt: pictures as `prompt.read_pictures` takes them, e.g. [photo, edges, photo] or the frames of a video;
                empty for a model with BOS to start from nothing. Beyond the trained context the oldest are dropped.
            n_images: how many pictures to draw, each seeing those before it.
            n_candidates: independent answers.
            temperature, top_k, top_p, seed: see `Sampling`; temperature 0 takes the likeliest code.
            progress: called with (codes drawn, codes in all).

        Returns:
            candidate 0: a list of n_images PIL pictures; see `Completion`.

        Raises:
            ValueError: a picture that cannot be used, a number out of range, nothing to start from.
        """
        if n_images < 1 or n_candidates < 1:
            raise ValueError(f"n_images and n_candidates must be >= 1, got {n_images} and {n_candidates}")
        sampling = Sampling(temperature, top_k, top_p, seed)
        fitted, shapes = read_pictures(prompt, self.geometry)
        codes = encode_pictures(self.tokenizer, fitted).astype(np.int64)
        size = self.tokenizer.n_tokens
        none = np.empty((1, 0), np.int64)
        out = self.engine.generate(codes.ravel(), none, n_images * size, sampling, n_candidates, progress)
        tokens = out.tokens[0].reshape(n_candidates, n_images, size)
        pictures = self.decode(tokens.reshape(-1, size)).reshape(n_candidates, n_images, *self._picture_shape)
        query = Query(fitted[-1], shapes[-1]) if shapes else None
        candidates = [
            Completion(pictures[c], tokens[c], float(out.logprob[0, c]), self, query) for c in range(n_candidates)
        ]
        for candidate in candidates:
            candidate.candidates = candidates
        return candidates[0]

    def perplexity(self, prompt: Any, target: Any) -> float:
        """exp(-mean log p) over all tokens of the target pictures, given the prompt; softmax over all ids.

        LVM's number: 1 is certain, codebook_size is guessing. Compare only models of one tokenizer.

        Raises:
            ValueError: a picture that cannot be used, no target, nothing before it for a model without BOS.
        """
        given, wanted = self._encode(prompt, "prompt"), self._encode(target, "target")
        if not len(wanted):
            raise ValueError("target is empty; give at least one picture to score")
        scores = self.engine.logprobs(given.ravel(), wanted.reshape(1, -1)).astype(np.float64)
        if np.isnan(scores).any():
            raise ValueError(
                "this model has no BOS: give at least one prompt picture, else the first code has no prediction"
            )
        return math.exp(-scores.mean())

    @property
    def _picture_shape(self) -> tuple[int, int, int]:
        return (self.geometry.size, self.geometry.size, 3)

    def _encode(self, pictures: Any, name: str) -> np.ndarray:
        fitted, _ = read_pictures(pictures, self.geometry, name)
        return encode_pictures(self.tokenizer, fitted).astype(np.int64)
