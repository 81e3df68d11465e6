"""The options of a class or function, read from its source without an import, so that help need not wait for torch.

The names, defaults and documentation that a parser would find by importing are found here in the syntax tree. A test
compares the two.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Option:
    """An option on the command line.

    Args:
        name: Its dotted name, without dashes.
        text: Its description in the docstring, on one line.
        default: Its default value.
        required: Whether it has no default.
        choices: The allowed values, where its type lists them.
        group: Whether it stands for the options below it.
    """

    name: str
    text: str = ""
    default: object = None
    required: bool = False
    choices: tuple[str, ...] = ()
    group: bool = False


@dataclass(frozen=True)
class _Argument:
    name: str
    annotation: ast.expr | None
    default: ast.expr | None


def package_folder(module: str) -> Path | None:
    """The folder of a module's top-level package, found without importing it; None if there is none."""
    found = importlib.util.find_spec(module.partition(".")[0])
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


def _file(module: str) -> Path | None:
    top = package_folder(module)
    if top is None:
        return None
    path = top.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


def summary(module: str) -> str:
    """The first line of the docstring of a module's package."""
    file = _file(module.removesuffix(".__main__"))
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) if file else None
    return (text or "").partition("\n")[0]


@cache
def _module(name: str) -> Module | None:
    file = _file(name)
    return Module(file) if file else None


class Module:
    """The syntax tree of a file, and the definitions of its names."""

    def __init__(self, path: Path) -> None:
        self.names: dict[str, ast.stmt] = {}
        for node in _statements(ast.parse(path.read_text("utf-8")).body):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                self.names |= {alias.asname or alias.name: node for alias in node.names}
            elif isinstance(node, ast.Assign):
                self.names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.names[node.target.id] = node

    def find(self, name: str) -> tuple[Module, ast.stmt] | None:
        """The module where a name is defined, through any number of imports, and its definition."""
        node = self.names.get(name)
        if not isinstance(node, ast.ImportFrom):
            return None if node is None else (self, node)
        source = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        origin = _module(node.module or "") if node.level == 0 else None
        return origin.find(source) if origin else None

    def value(self, node: ast.expr | None) -> object:
        """The value of a literal, of a name that stands for one, or of a quotient of two such numbers.

        Raises:
            ValueError: the expression is something else.
        """
        if isinstance(node, ast.Name) and (found := self.find(node.id)):
            module, definition = found
            if isinstance(definition, ast.Assign | ast.AnnAssign):
                return module.value(definition.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            left, right = self.value(node.left), self.value(node.right)
            if isinstance(left, int | float) and isinstance(right, int | float):
                return left / right
        if node is None:
            return None
        return ast.literal_eval(node)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those inside `if` and `try`."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])


@cache
def options(path: str, prefix: str = "") -> tuple[Option, ...]:
    """The options of a class or of a method, with those of the settings inside it.

    Args:
        path: "package.module:Class" or "package.module:Class.method".
        prefix: The beginning of their names, with its dot.

    Raises:
        LookupError: the source was not found.
    """
    place, _, inside = path.partition(":")
    name, _, method = inside.partition(".")
    module = _module(place)
    found = module.find(name) if module else None
    if found is None or not isinstance(found[1], ast.ClassDef):
        msg = f"no source of {path}"
        raise LookupError(msg)
    return tuple(_of_class(found[0], found[1], method or "__init__", prefix))


def _of_class(module: Module, node: ast.ClassDef, method: str, prefix: str) -> Iterator[Option]:
    home, owner, function = _method(module, node, method)
    texts = _texts(node) | _texts(owner) | (_texts(function) if function else {})
    arguments = _fields(module, node) if function is None else _arguments(function)
    yield from _options(home, arguments, texts, prefix, {})
    if function is None or function.args.kwarg is None or method != "__init__":
        return
    # A constructor that hands its other arguments on has those of its base as well.
    own = {prefix + argument.name for argument in arguments}
    for base in owner.bases:
        found = home.find(base.id) if isinstance(base, ast.Name) else None
        if found and isinstance(found[1], ast.ClassDef):
            inherited = _of_class(found[0], found[1], method, prefix)
            yield from (option for option in inherited if option.name not in own)


def _method(module: Module, node: ast.ClassDef, name: str) -> tuple[Module, ast.ClassDef, ast.FunctionDef | None]:
    """A method of a class or of its bases, with the class and the module that define it."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == name:
            return module, node, item
    for base in node.bases:
        found = module.find(base.id) if isinstance(base, ast.Name) else None
        if found and isinstance(found[1], ast.ClassDef):
            inherited = _method(found[0], found[1], name)
            if inherited[2] is not None:
                return inherited
    return module, node, None


def _arguments(function: ast.FunctionDef) -> list[_Argument]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    pairs = [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [_Argument(arg.arg, arg.annotation, default) for arg, default in pairs if arg.arg != "self"]


def _fields(module: Module, node: ast.ClassDef) -> list[_Argument]:
    """The fields of a dataclass, those of its bases first."""
    fields: dict[str, _Argument] = {}
    for base in node.bases:
        found = module.find(base.id) if isinstance(base, ast.Name) else None
        if found and isinstance(found[1], ast.ClassDef):
            fields |= {argument.name: argument for argument in _fields(found[0], found[1])}
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        if "ClassVar" not in ast.unparse(item.annotation):
            fields[item.target.id] = _Argument(item.target.id, item.annotation, item.value)
    return list(fields.values())


def _texts(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """The description of each argument in a docstring."""
    lines = (ast.get_docstring(node) or "").splitlines()
    texts: dict[str, str] = {}
    name, inside, margin = "", False, 0
    for line in lines:
        if re.fullmatch(r"(Args|Attributes):", line):
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
        elif inside and line.strip():
            indent = len(line) - len(line.lstrip())
            match = re.match(r"\s+(\w+)(?: \([^)]*\))?:\s*(.*)", line)
            if match and (not margin or indent == margin):
                margin, name = indent, match[1]
                texts[name] = match[2]
            elif name:
                texts[name] += " " + line.strip()
    return {name: text.strip() for name, text in texts.items()}


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(item) for item in node.decorator_list)


def _settings(module: Module, node: ast.ClassDef) -> tuple[Module, list[_Argument], dict[str, str]] | None:
    """The fields of a class of settings and their descriptions; None for any other class.

    A class of settings is a dataclass, or is derived from one by `engine.settings.Overrides`:
    `class Other(Overrides, of=Settings, but=("name",))`.
    """
    if _is_dataclass(node):
        return module, _fields(module, node), _texts(node)
    base = next((word.value for word in node.keywords if word.arg == "of"), None)
    found = module.find(base.id) if isinstance(base, ast.Name) else None
    if found is None or not isinstance(found[1], ast.ClassDef):
        return None
    left_out = next((ast.literal_eval(word.value) for word in node.keywords if word.arg == "but"), ("name",))
    fields = [one for one in _fields(found[0], found[1]) if one.name not in left_out]
    return found[0], [replace(one, default=ast.Constant(None)) for one in fields], _texts(found[1])


def _options(
    module: Module, arguments: list[_Argument], texts: dict[str, str], prefix: str, given: dict[str, ast.expr],
    giver: Module | None = None,
) -> Iterator[Option]:  # fmt: skip
    """The options of arguments; the defaults in `given`, which the caller sets, replace their own."""
    for argument in arguments:
        name = prefix + argument.name
        text = texts.get(argument.name, "")
        home, default = module, argument.default
        if argument.name in given:
            home, default = giver or module, given[argument.name]
        kind = module.find(argument.annotation.id) if isinstance(argument.annotation, ast.Name) else None
        settings = _settings(kind[0], kind[1]) if kind and isinstance(kind[1], ast.ClassDef) else None
        if settings is not None:
            yield Option(name, text, group=True)
            place, call = _call(home, default)
            keywords = {word.arg: word.value for word in call.keywords if word.arg} if call else {}
            source, inner, said = settings
            yield from _options(source, inner, said, f"{name}.", keywords, place)
            continue
        option = Option(name, text, required=default is None, choices=tuple(_choices(module, argument.annotation)))
        yield option if default is None else replace(option, default=home.value(_field_default(default)))


def _field_default(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("field"):
        return next((word.value for word in node.keywords if word.arg == "default"), node)
    return node


def _call(module: Module, node: ast.expr | None) -> tuple[Module, ast.Call | None]:
    """The call that makes a default, written in its place or found by name."""
    if isinstance(node, ast.Name) and (found := module.find(node.id)) and isinstance(found[1], ast.Assign):
        return _call(found[0], found[1].value)
    return module, node if isinstance(node, ast.Call) else None


def _choices(module: Module, node: ast.expr | None) -> Iterator[str]:
    """The values that a type lists, through its names and unions."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
        values = ast.literal_eval(node.slice)
        yield from map(str, values if isinstance(values, tuple) else (values,))
    elif isinstance(node, ast.BinOp):
        yield from _choices(module, node.left)
        yield from _choices(module, node.right)
    elif isinstance(node, ast.Name):
        home, definition = module.find(node.id) or (module, None)
        if isinstance(definition, ast.Assign | ast.AnnAssign):
            yield from _choices(home, definition.value)
