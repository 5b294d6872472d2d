"""`make tools` unpacks Exim beside Postfix: once, whole or not at all, and without an installation.

The script runs as it is, with stand-ins for apt, dpkg and ldd; `make fresh` runs it with the real ones.
"""

import subprocess
from pathlib import Path

import pytest
from tests.tools.test_setting_up import TOOLS, Desk

APT = """\
#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case "$*" in *install*) ;; *) exit 0 ;; esac
for word in "$@"; do case $word in Dir::Cache::archives=*) archives=${word#*=} ;; esac; done
for package in ${PACKAGES-exim4-base exim4-daemon-light libfoo}; do touch "$archives/${package}_4_amd64.deb"; done
exit "${APT_STATUS:-0}"
"""
DPKG = """\
#!/bin/sh
echo "dpkg $1 $(basename "$2")" >>"$CALLS"
mkdir -p "$3/usr/sbin" "$3/usr/lib/x86_64-linux-gnu"
case $2 in
*daemon*) printf '#!/bin/sh\\n' >"$3/usr/sbin/exim4" && chmod 755 "$3/usr/sbin/exim4" ;;
*libfoo*) touch "$3/usr/lib/x86_64-linux-gnu/libfoo.so.1" ;;
esac
"""
LDD = """\
#!/bin/sh
IFS=:
for folder in $LD_LIBRARY_PATH; do [ ! -e "$folder/libfoo.so.1" ] || { echo "libfoo.so.1 => $folder"; exit 0; }; done
echo "libfoo.so.1 => not found"
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    for name, script in (("apt-get", APT), ("dpkg", DPKG), ("ldd", LDD), ("id", "#!/bin/sh\necho 0\n")):
        made.stand_in(name, script)
    return made


def ensure(desk: Desk, **environment: str) -> subprocess.CompletedProcess[str]:
    return desk.run(str(TOOLS / "ensure-exim"), str(desk.folder / "lib/exim"), **environment)


def calls(desk: Desk) -> list[str]:
    found = desk.calls.read_text().splitlines() if desk.calls.exists() else []
    desk.calls.unlink(missing_ok=True)
    return found


def test_exim_is_unpacked_once_and_never_installed(desk: Desk) -> None:
    assert ensure(desk).returncode == 0
    done = calls(desk)
    assert done[0] == "apt-get update -qq" and " --download-only " in done[1] and len(done) == 5
    assert {line.split()[1] for line in done[2:]} == {"-x"}, "dpkg unpacks, and configures nothing"
    home = desk.folder / "lib/exim"
    assert (home / "usr/sbin/exim4").exists() and [path.name for path in home.parent.iterdir()] == ["exim"]
    assert not (home / "archives").exists() and home.stat().st_mode & 0o777 == 0o755, "users find it, too"
    assert ensure(desk).returncode == 0 and calls(desk) == []


def test_what_is_half_unpacked_is_unpacked_anew(desk: Desk) -> None:
    ensure(desk)
    (desk.folder / "lib/exim/usr/lib/x86_64-linux-gnu/libfoo.so.1").unlink()  # as after an upgrade of the system
    calls(desk)
    assert ensure(desk).returncode == 0 and len(calls(desk)) == 5
    (desk.folder / "lib/exim/usr/sbin/exim4").unlink()
    assert ensure(desk).returncode == 0 and len(calls(desk)) == 5


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"APT_STATUS": "100"}, ""),
        ({"PACKAGES": "exim4-base exim4-daemon-light"}, "does not find its libraries: \tlibfoo.so.1 => not found"),
    ],
)
def test_nothing_is_left_of_what_did_not_work(desk: Desk, environment: dict[str, str], words: str) -> None:
    done = ensure(desk, **environment)
    assert done.returncode != 0 and words.replace("\t", "") in done.stderr
    assert list((desk.folder / "lib").iterdir()) == []


def test_without_root_it_says_what_root_has_to_run(desk: Desk) -> None:
    desk.stand_in("id", "#!/bin/sh\necho 1000\n")
    done = ensure(desk)
    assert done.returncode == 1 and done.stderr.endswith("    sudo make tools\n") and calls(desk) == []
