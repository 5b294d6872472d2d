"""After a worker has confined itself nothing is imported: its user may be unable to read the program."""

import ast
import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

# Imports within functions that no worker calls.
_NEVER = {
    "_md5": "hashlib without OpenSSL",
    "_sha1": "hashlib without OpenSSL",
    "_sha2": "hashlib without OpenSSL",
    "_sha256": "hashlib without OpenSSL",
    "_sha3": "hashlib without OpenSSL",
    "_sha512": "hashlib without OpenSSL",
    "_blake2": "hashlib without OpenSSL",
    "_hmac": "hmac without OpenSSL",
    "_aix_support": "AIX",
    "_ios_support": "iOS",
    "_osx_support": "macOS",
    "_ast_unparse": "for who writes programs",
    "asyncio.windows_events": "Windows",
    "urllib.error": "no worker reads a path from a URI",
    "urllib.request": "no worker reads a path from a URI",
    "encodings.mbcs": "Windows",
    "cryptography.hazmat.backends.openssl.backend": "keys and certificates are made by commands",
    "tracemalloc": "for who traces memory",
    "codeop": "the traceback of a SyntaxError",
    "difflib": "the traceback of a SyntaxError",
    "concurrent.futures.interpreter": "work is done in threads",
    "concurrent.futures.process": "work is done in threads",
    "email.parser": "messages are read by waypost.message",
    "importlib.abc": "setuptools, where Python is older than 3.12",
    "importlib.metadata": "for who asks for a version",
    "email.generator": "no worker writes an EmailMessage",
    "email.policy": "no worker writes an EmailMessage",
    "email.charset": "no worker writes an EmailMessage",
    "tomllib": "the configuration is read by the supervisor",
}
_COMMANDS = {
    *("argparse", "doctest", "getopt", "grp", "plistlib", "pprint", "py_compile", "pydoc", "readline", "rlcompleter"),
    *("statistics", "tarfile"),
}
"""What modules of the standard library need for being run as programs, or for work that is not a mail server's."""

_PROGRAM = """
    import json, sys
    import waypost.service.processes.worker
    from waypost.service.processes.preload import preload
    preload()
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    print(json.dumps({name: [file, getattr(sys.modules[name], "__package__", "")] for name, file in files.items()}))
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def late_imports(tree: ast.AST, package: str) -> set[str]:
    """Return the names that functions of a module import when they are called."""
    found: set[str] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                base = importlib.util.resolve_name(base, package) if node.level else base
                found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def test_no_module_that_a_worker_holds_imports_another_later() -> None:
    loaded = json.loads(run(_PROGRAM))
    late: dict[str, set[str]] = {}
    for name, facts in loaded.items():
        file, package = facts
        if file is None or not file.endswith(".py"):
            continue
        for imported in late_imports(ast.parse(Path(file).read_text(encoding="utf-8")), package):
            if imported not in loaded:
                late.setdefault(imported, set()).add(name)
    known = {*_NEVER, *_COMMANDS, *sys.builtin_module_names}  # what is built in needs no file
    late = {
        name: where
        for name, where in late.items()
        if name not in known and name.partition(".")[0] != "_pyrepl" and is_module(name)  # of the interactive shell
    }
    assert not late, (
        f"{late}: name them in waypost/service/processes/preload.py, "
        "or here with the reason why they are never imported"
    )


_CONFINED = """
    import json, sys, tempfile, time
    from pathlib import Path

    import waypost.service.processes.worker
    from encodings.aliases import aliases
    from email.charset import ALIASES, CHARSETS
    from waypost.message.charset import decode_charset, is_charset
    from waypost.message.dsn import compose
    from waypost.message.decoded_words import decode_value
    from waypost.message.address import Address
    from waypost.service.processes.confinement import Reach, Unconfined, confine
    from waypost.service.processes.preload import preload
    from waypost.service.processes.privileges import harden

    names = sorted({*aliases, *aliases.values(), *CHARSETS, *ALIASES, *sys.argv[1:]} - {"mbcs", "oem", "dbcs", "ansi"})
    known = [name for name in names if is_charset(name)]  # in this process only to know the names
    kept = ("encodings.aliases", "encodings.utf_8")
    for name in [name for name in sys.modules if name.startswith("encodings.") and name not in kept]:
        del sys.modules[name]
    import encodings
    encodings._cache.clear()

    preload()
    class Blind:
        def find_spec(self, name, path=None, target=None):
            late.append(name)
            raise ImportError(f"{name} is imported after the confinement")
    late = []
    sys.meta_path.insert(0, Blind())
    try:
        harden()
        confine(Reach((), (Path(tempfile.gettempdir()),), frozenset()))
    except Unconfined:
        pass  # the kernel can't; the import is refused all the same
    failed = []
    for name in known:
        if not is_charset(name):
            failed.append(name)
        for octets in (b"plain", bytes(range(256)), b"\\x1b$B$3$s\\x1b(B", b"\\x8e\\xb1\\x8f\\xb0\\xa1"):
            decode_charset(octets, name)
        decode_value(b"=?" + name.encode() + b"?B?z/Do4uXy?= =?utf-8?q?=C3?=")
    Address.parse("x@h\\u00e9.example").domain_key
    time.strptime("2026", "%Y")
    try:
        raise ValueError("quoted")
    except ValueError:
        import traceback
        traceback.format_exc()
    print(json.dumps({"failed": failed, "late": late, "known": len(known)}))
"""


def test_every_codec_is_there_after_the_confinement() -> None:
    more = ("windows-1251", "koi8-r", "iso-2022-jp", "gb18030", "big5", "euc-kr", "shift_jis", "euc-jp", "iso-8859-8-i")
    found = json.loads(run(_CONFINED, *more))
    assert found["failed"] == [] and found["late"] == [] and found["known"] > 200
