"""Plain values to the types a dataclass declares, and back.

In: a dataclass; mappings, lists and scalars as YAML gives them. Out: an instance, or a `RecipeError`. Nothing
is guessed: a bool is no number and a number no text; but an int may stand for a float, and 1e3 for an int.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class RecipeError(ValueError):
    """A mistake in a recipe, in one line: ``file: path: problem``.

    Attributes:
        problem: what is wrong, and what is allowed or meant.
        where: dotted path of the value, ``stages[0].lr``; empty for the whole file.
        file: the file, or the override, that said so.
    """

    def __init__(self, problem: str, where: str = "", file: str = "") -> None:
        self.problem, self.where, self.file = " ".join(problem.split()), where, file
        super().__init__(": ".join(part for part in (file, where, self.problem) if part))


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both inclusive; None is unbounded. ``Annotated[int, Range(1)]`` is an int >= 1."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"between {self.low} and {self.high}"
        return f">= {self.low}" if self.low is not None else f"<= {self.high}"


@dataclass(frozen=True)
class OneOf:
    """What `one_of` puts in a field's metadata."""

    key: str
    table: Callable[[], Mapping[str, type]]


def one_of(key: str, table: Callable[[], Mapping[str, type]]) -> dict[str, Any]:
    """Metadata of a field whose mappings each name, under `key`, the dataclass of a table that they are.

    The field is of type ``Any`` (one), ``list[Any]`` or ``dict[str, Any]`` (many). Every dataclass of the
    table has `key` as a Literal field, so that `to_dict` writes it back. `table` is called when a recipe is
    built, so it may import what it lists.

        sentences: list[Any] = field(default_factory=list, metadata=one_of("type", lambda: SENTENCES))
        # {type: video, stride: 4} -> SENTENCES["video"](type="video", stride=4)
    """
    return {"one_of": OneOf(key, table)}


def to_dict(obj: Any) -> Any:
    """Plain dicts, lists and scalars, from which `build` makes an equal object. Tuples become lists."""
    if is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: to_dict(getattr(obj, f.name)) for f in fields(obj) if f.init}
    if isinstance(obj, Mapping):
        return {key: to_dict(value) for key, value in obj.items()}
    return [to_dict(value) for value in obj] if isinstance(obj, list | tuple) else obj


def leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """A plain value with `change` applied to every scalar."""
    if isinstance(value, dict):
        return {key: leaves(v, change) for key, v in value.items()}
    return [leaves(v, change) for v in value] if isinstance(value, list) else change(value)


def as_dataclass(cls: type[T], value: Any, where: str) -> T:
    """An instance of the dataclass `cls` from a mapping found at the path `where`, or a `RecipeError`."""
    assert is_dataclass(cls), f"{cls} is not a dataclass"
    if not isinstance(value, Mapping):
        raise RecipeError(f"expected a mapping, got {show(value)}", where)
    known = {f.name: f for f in fields(cls) if f.init}
    for key in value:
        if key not in known:
            raise RecipeError(f"unknown key; {_nearest(key, known)}", join(where, key))
    for name, f in known.items():
        if name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise RecipeError("missing; it must be given", join(where, name))
    hints = get_type_hints(cls, include_extras=True)
    built = {
        name: _convert(hints[name], value[name], join(where, name), known[name].metadata.get("one_of"))
        for name in known
        if name in value
    }
    try:
        return cls(**built)
    except ValueError as error:
        raise RecipeError(str(error), where) from error


def _convert(kind: Any, value: Any, where: str, choice: OneOf | None = None) -> Any:
    """`value` as type `kind`; `choice` applies where `kind` is, or holds, Any."""
    origin, args = get_origin(kind), get_args(kind)
    if value == "???" and isinstance(value, str):
        raise RecipeError(f"has no value yet; give one, as in {where}=...", where)
    if kind is Any:
        return _choose(choice, value, where) if choice else value
    if origin is Annotated:
        result = _convert(args[0], value, where, choice)
        for bound in args[1:]:
            if isinstance(bound, Range) and result is not None and result not in bound:
                raise RecipeError(f"expected {bound}, got {show(value)}", where)
        return result
    if origin in (Union, types.UnionType):
        return _union(kind, args, value, where, choice)
    if origin is Literal:
        return _literal(args, value, where)
    if origin in (list, tuple):
        return _list(origin, args, value, where, choice)
    if origin is dict:
        return _dict(args, value, where, choice)
    if is_dataclass(kind):
        return as_dataclass(kind, value, where)  # type: ignore[arg-type]
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    assert kind in _NAMES, f"{where}: {kind} is not a type of a recipe"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int and number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if kind is float and number and abs(value) <= sys.float_info.max:  # false for nan
        return float(value)
    if kind not in (int, float) and isinstance(value, kind):
        return value
    quotes = "; put it in quotes" if kind is str and isinstance(value, bool | int | float) else ""
    raise RecipeError(f"expected {_NAMES[kind]}, got {show(value)}{quotes}", where)


def _literal(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    for one in allowed:
        if type(one) is type(value) and one == value:
            return one
    quotes = "; put words such as 'on' and 'off' in quotes" if isinstance(value, bool) else ""
    near = _nearest(value, allowed, listing=False)
    raise RecipeError(f"{show(value)} is not one of {_words(allowed)}{near}{quotes}", where)


def _list(origin: type, args: tuple[Any, ...], value: Any, where: str, choice: OneOf | None) -> Any:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"expected a list, got {show(value)}", where)
    kinds = args * len(value) if origin is list else args
    if origin is tuple and args[-1:] == (Ellipsis,):
        kinds = args[:1] * len(value)
    if len(kinds) != len(value):
        raise RecipeError(f"expected a list of {len(kinds)}, got {len(value)} entries", where)
    return origin(_convert(k, v, f"{where}[{i}]", choice) for i, (k, v) in enumerate(zip(kinds, value)))


def _dict(args: tuple[Any, ...], value: Any, where: str, choice: OneOf | None) -> dict[str, Any]:
    assert args[0] is str, f"{where}: keys of a recipe are text"
    if not isinstance(value, Mapping):
        raise RecipeError(f"expected a mapping, got {show(value)}", where)
    for key in value:
        if not isinstance(key, str):
            raise RecipeError(f"the key {show(key)} is not text; put it in quotes", where)
    return {key: _convert(args[1], v, join(where, key), choice) for key, v in value.items()}


def _union(kind: Any, args: tuple[Any, ...], value: Any, where: str, choice: OneOf | None) -> Any:
    if value is None and type(None) in args:
        return None
    members = [m for m in args if m is not type(None)]
    members.sort(key=lambda m: (get_args(m)[0] if get_origin(m) is Annotated else m) is not type(value))
    errors: list[RecipeError] = []
    for member in members:
        try:
            return _convert(member, value, where, choice)
        except RecipeError as error:
            errors.append(error)
    deepest = max(errors, key=lambda error: len(error.where))
    if len(errors) == 1 or len(deepest.where) > len(where):
        raise deepest
    raise RecipeError(f"expected {_describe(kind)}, got {show(value)}", where)


def _choose(choice: OneOf, value: Any, where: str) -> Any:
    table = choice.table()
    if not isinstance(value, Mapping):
        name = value if isinstance(value, str) and value in table else next(iter(table))
        raise RecipeError(f"expected a mapping such as {{{choice.key}: {name}}}, got {show(value)}", where)
    if choice.key not in value:
        raise RecipeError(f"missing; one of {_words(table)}", join(where, choice.key))
    name = _literal(tuple(table), value[choice.key], join(where, choice.key))
    return as_dataclass(table[name], value, where)


# --- words


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}


def _describe(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([_describe(args[0]), *(str(bound) for bound in args[1:] if isinstance(bound, Range))])
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(member) for member in args)
    if origin is Literal:
        return " or ".join(map(show, args))
    if origin in (list, tuple):
        return "a list"
    return _NAMES.get(kind, "a mapping")


def show(value: Any) -> str:
    """A value as one writes it in YAML, short."""
    if isinstance(value, Mapping | list | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."


def _words(allowed: Iterable[Any]) -> str:
    return ", ".join(map(str, allowed))


def _nearest(word: Any, allowed: Iterable[Any], listing: bool = True) -> str:
    """ "did you mean 'steps'?"; else the allowed words, or nothing where they are listed already."""
    names = [name for name in allowed if isinstance(name, str)]
    close = difflib.get_close_matches(word, names, n=1) if isinstance(word, str) else []
    if close:
        return f"{'' if listing else '; '}did you mean '{close[0]}'?"
    return f"allowed: {_words(names)}" if listing else ""


def join(where: str, key: Any) -> str:
    """The path of an entry: ``stages`` and 0 -> ``stages[0]``; ``stages[0]`` and "lr" -> ``stages[0].lr``."""
    if isinstance(key, int) or (where and re.search(r"[.\[\]]", str(key))):
        return f"{where}[{key}]"
    return f"{where}.{key}" if where else str(key)
