"""Every message for a user that the packages can raise, read from the source: `python -m tests.house.messages`.

Values show as `{name}`. A text that is put together in another function is followed there; one that only passes an
error of another place on is left out, as it is listed where it is written.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.house.source import MODULES, PACKAGES, ROOT, dotted, name_of, tree

PAGE = ROOT / "docs" / "messages.md"
COMMAND = "python -m tests.house.messages"
ERRORS = (
    "InputError", "UnreadableError", "PartlyReadError", "OutputError", "SampleError", "MaskError", "LabelFileError",
    "RefusedError", "refusal",
)  # fmt: skip
# Functions whose results are messages, called through a table or for any exception.
WRITERS = {"engine/cli/messages.py": "", "engine/cli/parser.py": "user_message _reworded"}
MOST = 12  # texts of one error: alternatives beyond these say nothing new
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z`{'-])")


@dataclass(frozen=True, order=True)
class Message:
    """One text.

    Attributes:
        place: the file's name.
        function: the function that raises or writes it.
        text: the message, with `{name}` for each value.
    """

    place: str
    function: str
    text: str

    @property
    def sentences(self) -> list[str]:
        """The sentences; an abbreviation or a path ends none, as no capital follows it."""
        return _SENTENCE.split(self.text)


@cache
def messages() -> list[Message]:
    """All messages, by file and text."""
    found = set()
    for path in MODULES:
        writers = WRITERS.get(name_of(path))
        for function in _functions(path):
            for node in _inside(function):
                if isinstance(node, ast.Raise):
                    texts = _raised(node, function, path)
                elif isinstance(node, ast.Return) and writers is not None and _writes(function, writers):
                    texts = _texts(node.value, function, path, node.lineno)
                else:
                    continue
                found |= {Message(name_of(path), function.name, text) for text in texts if _is_told(text)}
    return sorted(found)


def _writes(function: ast.FunctionDef, writers: str) -> bool:
    """Whether a function returns whole messages."""
    named = function.name in writers.split() if writers else True
    return named and function.returns is not None and ast.unparse(function.returns) in ("str", "str | None")


def _is_told(text: str) -> bool:
    """Whether a text has words of its own: not only values, and more than a part of a message."""
    return len(re.sub(r"\{[^{}]*\}", "", text).split()) > 2


@cache
def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _inside(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def _raised(node: ast.Raise, function: ast.FunctionDef, path: Path) -> list[str]:
    """The texts of a raise; none where it is no error for users or passes another's text on."""
    call = node.exc
    if not isinstance(call, ast.Call) or not call.args or ast.unparse(call.func).rpartition(".")[2] not in ERRORS:
        return []
    texts = _texts(call.args[-1], function, path, node.lineno)
    if ast.unparse(call.func) == "LabelFileError":
        texts = [f"'{{{ast.unparse(call.args[0])}}}' {text}." for text in texts]
    return texts


def _texts(node: ast.AST | None, function: ast.FunctionDef, path: Path, line: int, depth: int = 0) -> list[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant):
        return [node.value if isinstance(node.value, str) else f"{{{node.value}}}"]
    if depth > 12 or node is None:
        return ["{…}"]

    def parts(*nodes: ast.AST) -> list[str]:
        each = [_texts(part, function, path, line, depth + 1) for part in nodes]
        return ["".join(texts) for texts in itertools.islice(itertools.product(*each), MOST)]

    def either(*nodes: ast.AST) -> list[str]:
        texts = [text for part in nodes for text in _texts(part, function, path, line, depth + 1)]
        return list(dict.fromkeys(texts))[:MOST]

    if isinstance(node, ast.JoinedStr):
        return parts(*node.values)
    if isinstance(node, ast.FormattedValue):
        return parts(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return parts(node.left, node.right)
    if isinstance(node, ast.IfExp):
        return either(node.body, node.orelse)
    if isinstance(node, ast.Name):
        values = _assigned(node.id, function, line)
        return either(*values) if values else [f"{{{node.id}}}"]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for place, writer in _named(node.func.id, path):
            returned = [inner for inner in _inside(writer) if isinstance(inner, ast.Return)]
            found = [text for inner in returned for text in _texts(inner.value, writer, place, inner.lineno, depth + 1)]
            if found and all(re.search(r"[a-z]{3} [a-z]", text) or not text for text in found):
                return list(dict.fromkeys(found))[:MOST]
    return [f"{{{_short(node)}}}"]


def _named(name: str, path: Path) -> Iterator[tuple[Path, ast.FunctionDef]]:
    """The function that a file calls by a name: its own, or one that it imports and that returns a text."""
    place = _imported(path).get(name, path)
    for function in _functions(place):
        if function.name == name and function.returns is not None and ast.unparse(function.returns) == "str":
            yield place, function


@cache
def _places() -> dict[str, Path]:
    """The files of the packages by the names by which they are imported."""
    return {dotted(module): module for module in MODULES}


@cache
def _imported(path: Path) -> dict[str, Path]:
    """The names that a file imports from other files of the packages."""
    places = _places()
    found = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module in places:
            found |= dict.fromkeys([alias.name for alias in node.names], places[node.module])
    return found


def _assigned(name: str, function: ast.FunctionDef, line: int) -> list[ast.AST]:
    """The texts that a name can have at a line of a function; none where one of them is no text."""
    found = _flow(function.body, [], name, line)
    return found if all(map(_is_text, found)) else []


def _flow(body: list[ast.stmt], before: list[ast.AST], name: str, line: int) -> list[ast.AST]:
    """What a name can stand for after a block, or at a line in it, given what it could stand for before."""
    found = before
    for statement in body:
        if statement.lineno > line:
            break
        blocks = [block for block in _blocks(statement) if block[0].lineno <= line]
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
            found = [statement.value]
        elif isinstance(statement, ast.AugAssign) and ast.unparse(statement.target) == name:
            found = [ast.BinOp(value, ast.Add(), statement.value) for value in found]
        elif blocks and statement.end_lineno and line <= statement.end_lineno:
            return _flow(blocks[-1], found, name, line)
        elif blocks and not isinstance(statement, ast.FunctionDef):
            ways = [] if isinstance(statement, ast.If) and statement.orelse else [found]
            ways += [_flow(block, found, name, line) for block in blocks if not _leaves(block)]
            found = list({ast.unparse(value): value for way in ways for value in way}.values())
    return found


def _leaves(block: list[ast.stmt]) -> bool:
    return isinstance(block[-1], ast.Raise | ast.Return | ast.Continue | ast.Break)


def _is_text(node: ast.AST) -> bool:
    """Whether an expression is written as a text, so that it may stand for its name."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    return isinstance(node, ast.JoinedStr)


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The lists of statements inside a statement."""
    blocks: list[list[ast.stmt]] = []
    for _, value in ast.iter_fields(statement):
        if not isinstance(value, list):
            continue
        if value and all(isinstance(item, ast.stmt) for item in value):
            blocks.append(value)
        blocks += [item.body for item in value if isinstance(item, ast.ExceptHandler | ast.match_case)]
    return sorted(blocks, key=lambda block: block[0].lineno)


def _short(node: ast.AST) -> str:
    """An expression as a reader of messages needs it: the name in it, or dots."""
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        return {"len": "number", "type": "type"}.get(called) or _short(node.args[0])
    text = ast.unparse(node)
    return text if re.fullmatch(r"[\w.]+", text) else next(iter(re.findall(r"[A-Za-z_]\w{2,}", text)), "…")


def page() -> str:
    """The page of all messages."""
    lines = [
        "# Messages",
        "",
        "Every error message for what a user gave: what was given and what is allowed, and the remedy. `{name}` stands",
        f"for a value. This page is written by `{COMMAND}` from the source, and a test holds it against it.",
    ]
    found = messages()
    for package in PACKAGES:
        own = [message for message in found if message.place.startswith(f"{package}/")]
        lines += ["", f"## {package}", "", "| message | remedy | place |", "|---|---|---|"]
        for message in own:
            *said, remedy = message.sentences
            # A message of one sentence has its remedy within it.
            first, last = (" ".join(said), remedy) if said else (remedy, "")
            cells = (first, last, f"{message.place.removeprefix(package + '/')}: {message.function}")
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
