"""YAML files, the files they extend, and overrides to plain values; OmegaConf reads all of them.

In: a path, ``key=value`` lines. Out: dicts, lists and scalars for `values.as_dataclass`, or a `RecipeError`.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from lvmlite.recipe.values import OneOf, RecipeError, join, leaves, show, to_dict


@contextmanager
def _plainly(file: str = "", where: str = "") -> Iterator[None]:
    """Turns what reading a file or a value of YAML may raise into a RecipeError."""
    import yaml
    from omegaconf.errors import GrammarParseError, OmegaConfBaseException

    try:
        yield
        return
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is not text in UTF-8, so no recipe"
    except RecursionError:
        problem = "is nested too deeply"
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        problem = f"line {mark.line + 1}: {problem}" if mark else problem
    except GrammarParseError as error:
        problem, where = (
            "cannot read the reference; write it as in ${seed}",
            where or str(error.full_key or ""),
        )
    except OmegaConfBaseException as error:
        first, where = str(error).partition("\n")[0], str(error.full_key or "")
        found = re.fullmatch(r"Interpolation key '(.*)' not found", first)
        problem = f"refers to ${{{found[1]}}}, which the file does not give" if found else first
    raise RecipeError(problem, where, file) from None


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML file as plain values, references not yet resolved."""
    import yaml
    from omegaconf import OmegaConf

    file = os.fspath(path)
    with _plainly(file):
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None or isinstance(node, yaml.MappingNode):
            return OmegaConf.to_container(OmegaConf.create(text))  # type: ignore[return-value]
    raise RecipeError("expected a mapping of keys to values, as in 'seed: 0'", file=file)


def resolve(raw: dict[str, Any]) -> Any:
    """Plain values with every ``${...}`` replaced by what it refers to."""
    from omegaconf import OmegaConf

    with _plainly():
        return OmegaConf.to_container(OmegaConf.create(raw), resolve=True)


def escape(value: Any) -> Any:
    """Plain values as OmegaConf reads them back: text that holds ``${`` is not a reference."""
    return leaves(value, lambda leaf: re.sub(r"(\\*)\$\{", r"\1\1\\${", leaf) if isinstance(leaf, str) else leaf)


def read_extended(path: str | os.PathLike[str], cls: type) -> tuple[dict[str, Any], str, list[tuple[str, str]]]:
    """A file as plain values, laid over the file it extends, that one over its own, and so on.

    ``extends: other.yaml`` is a path as seen from the file. Every other key of a file that has it is then a dotted
    path, set as an override would; a list or mapping replaces the whole of what was there.

    Args:
        cls: the dataclass of the whole.

    Returns:
        the values; the file that extends none; and what the others set, in order: (path of the value, file).

    Raises:
        RecipeError: the file it extends is not there, or extends this one in turn; a key that leads nowhere.
    """
    file = Path(path)
    raw, chain = read(file), [file]
    changes: list[tuple[str, dict[str, Any]]] = []
    while "extends" in raw:
        base = raw.pop("extends")
        if not isinstance(base, str) or not base:
            raise RecipeError("expected a path, as in ../quickstart.yaml", "extends", os.fspath(file))
        changes.append((os.fspath(file), raw))
        file = file.parent / base
        if not file.is_file():
            raise RecipeError(f"there is no file {file}", "extends", changes[-1][0])
        if any(file.samefile(other) for other in chain):
            goes = " -> ".join(map(str, [*chain, file]))
            raise RecipeError(f"the files extend each other: {goes}", "extends", changes[-1][0])
        raw, chain = read(file), [*chain, file]
    said = []
    for name, values in reversed(changes):
        said += [(assign(raw, cls, str(key), value, name), name) for key, value in values.items()]
    return raw, os.fspath(file), said


def override(raw: dict[str, Any], cls: type, text: str) -> str:
    """Set one ``key=value`` in `raw`; returns the path of the value."""
    from omegaconf import OmegaConf

    said = f"override '{text}'"
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise RecipeError("expected key=value, as in stages[0].lr=3e-4", file=said)
    with _plainly(said, key):
        parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    return assign(raw, cls, key, parsed["value"], said)


def assign(raw: dict[str, Any], cls: type, key: str, value: Any, said: str) -> str:
    """Set the value that a dotted key leads to; returns its path. `said`: the file or override, for errors."""
    if not re.fullmatch(r"[^.\[\]]+(\.[^.\[\]]+|\[[^\[\]]+\])*", key):
        raise RecipeError(f"cannot read the key '{key}'; write it as in stages[0].lr=3e-4", file=said)
    node: Any = raw
    kind: Any = cls
    choice, where = None, ""
    steps = [step.strip("[]") for step in re.findall(r"\[[^\[\]]+\]|[^.\[\]]+", key)]
    for step, following in zip(steps, [*steps[1:], None]):
        if not isinstance(node, dict | list):
            raise RecipeError(f"is {show(node)}, so it has no '{step}'", where, said)
        kind, choice = _enter(node, step, kind, choice)
        index: Any = step
        if isinstance(node, list):
            index = int(step) if step.isdigit() else len(node) + 1
            if index > len(node):
                raise RecipeError(f"has {len(node)} entries, counted from 0, so no [{step}]", where, said)
            node.extend([None] * (index == len(node)))
        where = join(where, index)
        if following is None:
            node[index] = value
        elif node[index] is None if isinstance(node, list) else node.get(index) is None:
            node[index] = [] if following == "0" else {}
        node = node[index]
    return where


def _enter(node: Any, name: str, kind: Any, choice: OneOf | None) -> tuple[Any, OneOf | None]:
    """The type of the entry `name` of `node`, which is of type `kind`. Fills in its default, if it has one.

    So an override inside a list or mapping that the file leaves out keeps the rest of the default.
    """
    if kind is Any and choice and isinstance(node, dict):
        kind = choice.table().get(str(node.get(choice.key)))
    while get_origin(kind) in (Annotated, Union, types.UnionType):
        kind = next((m for m in get_args(kind) if m is Any or is_dataclass(m) or get_origin(m)), None)
    if get_origin(kind) in (list, tuple, dict):
        return get_args(kind)[get_origin(kind) is dict], choice
    for f in fields(kind) if is_dataclass(kind) and isinstance(node, dict) else ():
        if f.name == name and f.init:
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if node.get(name) is None and default is not MISSING:
                node[name] = escape(to_dict(default))
            return get_type_hints(kind, include_extras=True)[name], f.metadata.get("one_of")
    return None, None
