"""The root file systems: built once by debootstrap, kept outside the checkout, never written to afterwards."""

import shutil
import subprocess
from pathlib import Path

from tests.fresh import registries
from tests.fresh.systems import INTERPRETER_HOME, System

INCLUDED = "python3,make,git,ca-certificates"
"""What is on a fresh machine beside Debian's smallest system."""


def built(system: System, cache: Path, *, again: bool = False) -> Path:
    """Return the root of a system, built when it is not there (some minutes). Raises `CalledProcessError`."""
    root = cache / "roots" / system.suite
    if again and root.exists():
        shutil.rmtree(root)
    if not root.exists():
        half = root.with_name(f"{root.name}.half")  # an interrupted build is never taken for a root
        if half.exists():
            shutil.rmtree(half)
        half.parent.mkdir(parents=True, exist_ok=True)
        _build(system, half)
        half.rename(root)
    return root


def _build(system: System, root: Path) -> None:
    debian = registries.debian()
    options = ["--variant=minbase", f"--include={INCLUDED}"]
    script = Path("/usr/share/debootstrap/scripts") / system.suite
    generic = [] if script.exists() else ["sid"]
    subprocess.run(["debootstrap", *options, system.suite, root, debian.archive, *generic], check=True)
    (root / "etc/apt/sources.list").write_text(debian.sources(system.suite))
    (root / "etc/apt/apt.conf.d/90registry").write_text(registries.apt_options())
    (root / "etc/pip.conf").write_text(registries.pip_options())
    registries.own_certificates(root / registries.CERTIFICATES.relative_to("/"))
    subprocess.run(["chroot", root, "update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)


def lend_interpreter(prefix: Path, version: str, cache: Path) -> Path:
    """Copy an interpreter of this machine, as a layer over a root; returns the layer's folder.

    Its installed packages stay here. The loader of the fresh machine has to know its library: see `Machine`.
    """
    layer = cache / "interpreters" / f"{version}-{prefix.name}"
    home = layer / INTERPRETER_HOME.lstrip("/") / f"python{version}"
    if layer.exists():
        return layer
    half = layer.with_name(f"{layer.name}.half")
    if half.exists():
        shutil.rmtree(half)
    target = half / home.relative_to(layer)
    library = f"lib/python{version}"
    (target / "bin").mkdir(parents=True)
    shutil.copy2(prefix / "bin" / f"python{version}", target / "bin")
    ignored = shutil.ignore_patterns("site-packages", "__pycache__", "test", "tests", "idlelib", "*.a")
    shutil.copytree(prefix / library, target / library, symlinks=True, ignore=ignored)
    (target / library / "site-packages").mkdir()
    for shared in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy2(shared, target / "lib", follow_symlinks=False)
    if (prefix / "include").is_dir():
        shutil.copytree(prefix / "include", target / "include", symlinks=True)
    for folder in (half, *half.rglob("*")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    half.rename(layer)
    return layer
