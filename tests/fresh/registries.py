"""How this machine reaches the package registries, read from its own apt and pip, so that no file here names one."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CARRIED_APT = re.compile(r'Acquire::(https?|ftp|Retries|Check-|ForceIP|Queue)[^ ]* "[^"]+";')
_CARRIED_PIP = frozenset({"index-url", "extra-index-url", "proxy", "cert", "trusted-host", "timeout", "retries"})
_CARRIED_ENVIRONMENT = re.compile(r"(https?|ftp|no|all)_proxy|SSL_CERT_(FILE|DIR)|PIP_(INDEX_URL|CERT|PROXY)", re.I)

CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class NoRegistry(Exception):
    """This machine does not say where Debian's packages come from."""


@dataclass(frozen=True, slots=True)
class Debian:
    """Where Debian's packages come from: the address of the main archive, and of the security updates or ""."""

    archive: str
    security: str

    def sources(self, suite: str) -> str:
        """Return the `sources.list` of a release; "testing" has no archives for updates."""
        lines = [f"deb {self.archive} {suite} main"]
        if suite != "testing":
            lines.append(f"deb {self.archive} {suite}-updates main")
            if self.security:
                lines.append(f"deb {self.security} {suite}-security main")
        return "\n".join(lines) + "\n"


def debian() -> Debian:
    """Ask apt. Raises `NoRegistry`."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages"]
    return read_targets(_said(*command))


def read_targets(text: str) -> Debian:
    """Read lines `ADDRESS CODENAME ORIGIN`. Raises `NoRegistry`."""
    rows = [row for line in text.splitlines() if len(row := line.split()) == 3 and row[2] == "Debian"]
    main = [address for address, codename, _ in rows if "-" not in codename]
    security = [address for address, codename, _ in rows if codename.endswith("-security")]
    if not main:
        raise NoRegistry("apt-get indextargets names no archive of Debian: run `apt-get update` first")
    return Debian(main[0], security[0] if security else "")


def apt_options() -> str:
    """Return the lines of apt's configuration that say how to reach it: proxies, certificates, patience."""
    lines = _said("apt-config", "dump", "Acquire").splitlines()
    return "".join(f"{line}\n" for line in lines if _CARRIED_APT.fullmatch(line))


def pip_options() -> str:
    """Return a `pip.conf` that says how to reach the registry: addresses, proxy, certificates, patience."""
    return read_pip(_said(sys.executable, "-m", "pip", "config", "list"))


def read_pip(text: str) -> str:
    """Read lines `global.NAME='VALUE'` and `:env:.NAME='VALUE'`; leaves out what is a file of this machine."""
    found = {}
    for line in text.splitlines():
        name, _, quoted = line.partition("=")
        option, value = name.rpartition(".")[2], quoted.strip("'\"")
        value = " ".join(word for word in value.split() if not word.startswith("file:"))
        if option in _CARRIED_PIP and value:
            found[option] = BUNDLE if option == "cert" else value
    return "[global]\n" + "".join(f"{option} = {value}\n" for option, value in sorted(found.items()))


def environment() -> dict[str, str]:
    """Return the variables by which programs learn of proxies and certificates."""
    return {name: value for name, value in os.environ.items() if _CARRIED_ENVIRONMENT.fullmatch(name)}


def own_certificates(into: Path) -> None:
    """Copy the authorities that this machine's owner added; `update-ca-certificates` there takes them up."""
    into.mkdir(parents=True, exist_ok=True)
    for path in CERTIFICATES.glob("*.crt"):
        shutil.copy(path, into)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
