"""service/waypost.service: systemd understands all of it, and it says what the supervisor relies on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "src" / "waypost" / "service" / "waypost.service"


def settings() -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in lines]


def test_it_says_what_the_supervisor_relies_on() -> None:
    unit = dict(settings())
    assert unit["Type"] == "notify", "notify-reload came with systemd 253, and Debian 12 has 252"
    assert unit["ExecReload"] == "/opt/waypost/.venv/bin/waypost reload --config /etc/waypost/waypost.toml"
    assert unit["KillMode"] == "mixed", "the supervisor stops its workers"
    assert unit["ExecStart"].endswith("waypost serve --config /etc/waypost/waypost.toml")
    for capability in ("CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN"):
        assert capability in unit["CapabilityBoundingSet"].split()
    assert unit["MemoryMax"] == "80%", "whatever arrives, the machine goes on"
    assert int(unit["LimitNOFILE"]) > 10_000, "limits.connections"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("waypost")
    there = tmp_path / "waypost.service"
    there.write_text(UNIT.read_text().replace("/opt/waypost/.venv/bin/waypost", str(program)))
    found = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True)
    complaints = [
        line for line in found.stderr.splitlines() if str(there) in line or line.startswith("waypost.service")
    ]
    assert found.returncode == 0 and not complaints, found.stderr
