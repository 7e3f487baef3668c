"""Pickles of numpy arrays, read without unpickling.

In: the bytes of a pickle. Out: its arrays, in dicts, lists and tuples. The opcodes are followed here on values of our
own: nothing is imported, nothing that a file names is called, and no object of its choice is made. Known are only the
few words in which numpy writes a plain array, by their old module names (numpy.core) and their new (numpy._core).
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
WORDS = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.numeric _frombuffer": "buffer",
    "numpy._core.numeric _frombuffer": "buffer",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # bytes, as protocol 2 writes them
    "__builtin__ bytes": "bytes",  # no bytes, likewise
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


@dataclass(eq=False)
class _Word:
    """Something that a pickle names. It stands for itself; nothing is imported."""

    what: str


@dataclass(eq=False)
class _Dtype:
    code: str
    order: str = "="


@dataclass(eq=False)
class _Shell:
    """An array that is announced, and filled once."""

    array: np.ndarray | None = None


def read_pickle(data: bytes) -> Any:
    """What a pickle of numpy arrays holds, protocols 2 to 5.

    Returns:
        arrays of numbers or booleans, in dicts with text keys, lists and tuples, beside numbers, text, bytes and None.

    Raises:
        ValueError: it is broken, or holds or names anything else, in one line.
    """
    try:
        value = _follow(data)
    except (IndexError, KeyError):
        raise ValueError("a broken pickle: it takes what it has not put down") from None
    seen: set[int] = set()
    left = [value]
    while left:  # a file may nest as deep as it likes, or hold itself
        item = left.pop()
        if isinstance(item, _Word | _Dtype | _Shell):
            raise ValueError("a pickle that holds a part of an array outside of one")
        if isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            left += item.values() if isinstance(item, dict) else item
    return value


def _follow(data: bytes) -> Any:
    """Carry out the opcodes on values of our own."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    arg: Any

    def take(n: int | None = None) -> list[Any]:
        """The last n values, or those since the last mark."""
        start = marks.pop() if n is None else len(stack) - n
        if start < 0:
            raise IndexError
        items = stack[start:]
        del stack[start:]
        return items

    for op, arg, _ in pickletools.genops(data):
        name = op.name
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in NUMBERS or name in TEXTS:
            stack.append(arg)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(take(int(name[5:]) if name[5:] else None)))
        elif name in ("APPEND", "APPENDS"):
            items = take(None if name == "APPENDS" else 1)
            if not isinstance(stack[-1], list):
                raise ValueError("a broken pickle: it appends to what is no list")
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = take(None if name == "SETITEMS" else 2)
            keys, values = items[::2], items[1::2]
            if not isinstance(stack[-1], dict) or len(keys) != len(values) or {*map(type, keys)} - {str}:
                raise ValueError("a pickle whose dicts are not of text keys")
            stack[-1].update(zip(keys, values))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            value = memo[arg]
            stack.append(value.array if isinstance(value, _Shell) and value.array is not None else value)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            word = arg if name == "GLOBAL" else " ".join(map(str, take(2)))
            if word not in WORDS:
                raise ValueError(f"a pickle that names {word.replace(' ', '.')}; only arrays of numbers are read")
            stack.append(_Word(WORDS[word]))
        elif name in ("REDUCE", "BUILD"):
            target, given = take(2)
            stack.append((_reduced if name == "REDUCE" else _built)(target, given))
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"a pickle with the opcode {name}; only arrays of numbers are read")
    raise AssertionError("genops raises ValueError where STOP is missing")


def _reduced(target: Any, given: Any) -> Any:
    match target.what if isinstance(target, _Word) else None, given:
        case "array", (_Word(what="ndarray"), (0,), b"b"):
            return _Shell()
        case "buffer", (bytes() | bytearray() as raw, _Dtype() as dtype, tuple(shape), "C" | "F" as order):
            return _array(raw, dtype, shape, order)
        case "dtype", (str(code), int(), int()):
            if code not in DTYPES:
                raise ValueError(f"a pickle of arrays of dtype {code}; only numbers are read: {', '.join(DTYPES)}")
            return _Dtype(code)
        case "encode", (str(text), "latin1"):
            return text.encode("latin1")
        case "bytes", ():
            return b""
    raise ValueError("a pickle that makes something other than arrays of numbers")


def _built(target: Any, given: Any) -> Any:
    match target, given:
        case _Dtype(), (3 | 4, "<" | ">" | "|" | "=" as order, None, None, None, -1, -1, 0):
            target.order = order
            return target
        case _Shell(array=None), (1, tuple(shape), _Dtype() as dtype, int(fortran), bytes(raw)):
            target.array = _array(raw, dtype, shape, "F" if fortran else "C")
            return target.array
    raise ValueError("a pickle that fills something other than arrays of numbers")


def _array(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[Any, ...], order: Any) -> np.ndarray:
    """A copy in native byte order, once the shape and the number of bytes agree."""
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)  # type: ignore[arg-type]
    if len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array whose shape is not of whole numbers")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} and dtype {dtype.code} from {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order=order).astype(kind.newbyteorder("="))
