"""Recipes: dataclasses <- YAML <- dotted overrides. Mechanism only: which keys exist the dataclasses say.

In: a YAML file, overrides such as ``stages[0].lr=3e-4``, and a dataclass. Out: an instance of it, every value
of the declared type and range; or one `RecipeError`: a line that says where, what is wrong, what is allowed.

    @dataclass
    class Train:
        steps: Annotated[int, Range(1)] = 1000
        lr: float = 3e-4

    load("train.yaml", Train, ["lr=1e-3"])  # Train(steps=1000, lr=0.001)
    build(Train, {"setps": 5})  # RecipeError: setps: unknown key; did you mean 'steps'?

OmegaConf reads the YAML: ``1e-4`` is a number, ``${seed}`` refers to another value of the file, ``???`` marks
a value that must be given. ``extends: other.yaml`` takes over another file; all other keys are then dotted paths
into it, ``stages[0].lr: 1e-3``. Types: bool, int, float, str, None, Literal, list, tuple, dict[str, ...],
dataclasses, Annotated[..., Range], unions of these, Any; and `one_of` for entries of a registry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from lvmlite.recipe.files import escape, override, read_extended, resolve
from lvmlite.recipe.values import Range, RecipeError, as_dataclass, join, leaves, one_of, to_dict

__all__ = ["Range", "RecipeError", "build", "config_hash", "difference", "load", "one_of", "save", "to_dict"]

T = TypeVar("T")


def load(path: str | os.PathLike[str], cls: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file as an instance of `cls`.

    Args:
        path: the file; with those it extends.
        cls: a dataclass.
        overrides: ``key=value``, applied in order, the value in YAML: ``sizes=[64, 128]``;
            nothing after ``=`` is null. A list or mapping that the file leaves out starts from its default;
            naming the next index of a list adds an entry.

    Raises:
        RecipeError: anything wrong with the file, an override or a value.
    """
    raw, first, changed = read_extended(path, cls)
    changed += [(override(raw, cls, text), f"override '{text}'") for text in overrides]
    try:
        return as_dataclass(cls, resolve(raw), "")
    except RecipeError as error:
        said = [name for where, name in changed if _within(error.where, where)]
        file = said[-1] if said else first if error.where else os.fspath(path)  # nobody alone is to blame for the whole
        raise RecipeError(error.problem, error.where, file) from None


def build(cls: type[T], mapping: Mapping[str, Any], where: str = "", file: str = "") -> T:
    """An instance of the dataclass `cls` from plain values.

    Args:
        cls: a dataclass; a ValueError of its ``__post_init__`` becomes a RecipeError with the path.
        mapping: plain mappings, lists and scalars.
        where, file: put before the path of every error.

    Raises:
        RecipeError: an unknown or missing key, a value of the wrong type, out of range or not allowed.
    """
    try:
        return as_dataclass(cls, mapping, where)
    except RecipeError as error:
        raise RecipeError(error.problem, error.where, file) from None


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write a YAML file that `load` reads as an equal object. Replaces the file in one step."""
    from omegaconf import OmegaConf

    temporary = Path(f"{os.fspath(path)}.tmp")
    OmegaConf.save(OmegaConf.create(escape(to_dict(obj))), temporary)
    temporary.replace(path)


def config_hash(obj: Any) -> str:
    """16 hex digits of the SHA-256 of the values: equal for equal objects, whatever the order of keys."""

    def one(leaf: Any) -> Any:  # 1.0 == 1
        return int(leaf) if isinstance(leaf, float) and leaf.is_integer() else leaf

    text = json.dumps(leaves(to_dict(obj), one), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(a: Any, b: Any) -> list[str]:
    """What changed from a to b: ``["stages[0].lr: 0.001 -> 0.002"]``; empty if they are equal."""
    return list(_difference(to_dict(a), to_dict(b), ""))


def _within(a: str, b: str) -> bool:
    """Whether one of two paths leads to, or through, the other."""
    return bool(a and b) and (a == b or a.startswith((f"{b}.", f"{b}[")) or b.startswith((f"{a}.", f"{a}[")))


def _difference(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, list) and isinstance(b, list):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _difference(a.get(key, MISSING), b.get(key, MISSING), join(where, key))
    elif a != b:
        before, after = ("absent" if v is MISSING else json.dumps(v, ensure_ascii=False) for v in (a, b))
        yield f"{where}: {before} -> {after}"
