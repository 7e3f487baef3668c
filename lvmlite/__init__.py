"""lvmlite: pictures become visual sentences; a decoder learns them in two cheap stages and is prompted with pictures.

    import lvmlite
    lvm = lvmlite.load("runs/quickstart/model")
    out = lvm.complete([photo_a, edges_a, photo_b])      # out[0] is the predicted picture

Importing this package imports neither torch nor numpy: everything is loaded where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvmlite.generate.lvm import LVM

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str, device: str = "auto") -> LVM:
    """Open a model folder for prompting. See `lvmlite.generate.lvm.LVM`.

    Args:
        path: a model folder written by training, e.g. ``runs/quickstart/model``.
        device: ``"auto"`` takes cuda, then mps, then cpu; or any torch device string.

    Raises:
        ValueError: the folder lacks a file, or holds a tokenizer of another vocabulary.
    """
    from lvmlite.generate.lvm import LVM

    return LVM.load(path, device=device)
