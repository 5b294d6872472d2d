"""A test that asserts nothing proves nothing: each says what must hold, itself or in what it calls."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
_EXPECTING = frozenset({"raises", "warns", "fail"})  # of pytest
_CALLED_BY_WITH = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def calls(function: Function) -> set[str]:
    """Return the names of the functions that a function calls.

    Methods are left out, since their names say too little, but for those of pytest that expect something.
    """
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                found.add(called.id)
            elif isinstance(called, ast.Attribute) and called.attr in _EXPECTING:
                found.add(called.attr)
    return found


def asserts(function: Function) -> bool:
    return any(map(_says_something, ast.walk(function))) or bool(calls(function) & _EXPECTING)


def _says_something(node: ast.AST) -> bool:
    """False for `assert name is not None`, which is for the type checker."""
    if not isinstance(node, ast.Assert):
        return False
    test = node.test
    return not (
        isinstance(test, ast.Compare)
        and not isinstance(test.left, ast.Call)
        and isinstance(test.ops[0], ast.IsNot)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


def asserting_names(trees: list[ast.AST]) -> set[str]:
    """Return the names of helpers that assert, or that call one which does.

    A class counts when its use in a `with` statement asserts.
    """
    helpers: dict[str, list[Function]] = defaultdict(list)
    for tree in trees:
        for function in functions(tree):
            if not function.name.startswith("test_"):
                helpers[function.name].append(function)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                helpers[node.name] += [one for one in functions(node) if one.name in _CALLED_BY_WITH]
    names = {name for name, found in helpers.items() if any(map(asserts, found))}
    while more := {name for name, found in helpers.items() if any(calls(one) & names for one in found)} - names:
        names |= more
    return names


def test_every_test_asserts_something() -> None:
    trees = {path: ast.parse(path.read_text(), str(path)) for path in sorted(TESTS.rglob("*.py"))}
    names = asserting_names(list(trees.values()))
    mute = [
        f"{path.relative_to(TESTS)}:{function.lineno} {function.name}"
        for path, tree in trees.items()
        if path.name.startswith("test_")
        for function in functions(tree)
        if function.name.startswith("test_") and not asserts(function) and not calls(function) & names
    ]
    assert "\n".join(mute) == "", "say what must hold"


def test_a_test_without_an_assertion_is_found() -> None:
    bodies = {"helper": "assert 1", "other": "helper()", "test_a": "other()", "test_b": "print()"}
    tree = ast.parse("".join(f"def {name}():\n    {body}\n" for name, body in bodies.items()))
    names = asserting_names([tree])
    assert names == {"helper", "other"}
    found = {each.name: asserts(each) or bool(calls(each) & names) for each in functions(tree)}
    assert (found["test_a"], found["test_b"]) == (True, False)
