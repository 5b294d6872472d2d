"""`make install` and `make tools`: what is half made is made anew, and no service is started or enabled.

The scripts run as they are, with stand-ins for Python, pip and apt; `make fresh` runs them with the real ones.
"""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent

PYTHON = """\
#!/bin/sh
# An interpreter: of version $VERSION unless it is in an environment; with ensurepip when $ENSUREPIP says so.
here=$(dirname "$0")
case "$*" in
*print*) cat "$here/version" 2>/dev/null || echo "${VERSION:-3.11}" ;;
*"import pip"*) [ -e "$here/pip" ] || exit 1 ;;
*"import venv, ensurepip"*) [ "${ENSUREPIP:-yes}" = yes ] || exit 1 ;;
"-m venv --clear"*)
    rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && touch "$4/bin/pip" "$4/pyvenv.cfg"
    echo "${VERSION:-3.11}" >"$4/bin/version" ;;
"-m pip install"*) ;;
*sys.exit*) exit 0 ;;
*) exit 9 ;;
esac
echo "$*" >>"$CALLS"
"""

APT = """\
#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in *install*) ;; *) exit 0 ;; esac
/usr/sbin/policy-rc.d nsd start; echo "policy says $?" >>"$CALLS"
ln -s /lib/nsd.service /etc/systemd/system/multi-user.target.wants/nsd.service
ln -s /lib/nsd.path /etc/systemd/system/paths.target.wants/nsd.path
ln -s ../init.d/nsd /etc/rc2.d/S01nsd
exit "${APT_STATUS:-0}"
"""


class Desk:
    """A folder with a pyproject.toml, and stand-ins in front of the programs of the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls, self.venv = folder, folder / "calls", folder / ".venv"
        (folder / "bin").mkdir()
        (folder / "pyproject.toml").touch()
        os.utime(folder / "pyproject.toml", (1, 1))
        self.stand_in("python3", PYTHON)
        self.stand_in("apt-get", APT)

    def stand_in(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "CALLS": str(self.calls), **environment}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def install(self, *more: str, chosen: str = "file", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(TOOLS / "ensure-venv"), "python3", str(self.venv), chosen, *more, **environment)

    def made(self) -> list[str]:
        """Return the calls since the last time that made or installed something."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line.split()[1] for line in lines if line.startswith("-m ")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_environment_is_made_once_and_its_packages_installed_once(desk: Desk) -> None:
    assert desk.install().returncode == 0 and desk.made() == ["venv", "pip"]
    assert desk.install().returncode == 0 and desk.made() == []
    assert desk.install("dev").returncode == 0 and desk.made() == ["pip"]
    assert desk.install().returncode == 0 and desk.made() == [], "what development needs has all of it"
    (desk.folder / "pyproject.toml").touch()
    assert desk.install().returncode == 0 and desk.made() == ["pip"], "the list of packages is newer"


def test_a_half_made_environment_is_made_anew(desk: Desk) -> None:
    desk.install()
    desk.made()
    (desk.venv / "bin/pip").unlink()  # as when it was interrupted, or python3-venv was missing
    assert desk.install().returncode == 0 and desk.made() == ["venv", "pip"]
    (desk.venv / "bin/python").unlink()
    (desk.venv / "bin/python").symlink_to("/nowhere/python3.10")  # as after an upgrade of the system
    assert desk.install().returncode == 0 and desk.made() == ["venv", "pip"]


def test_packages_that_were_not_installed_to_the_end_are_installed_again(desk: Desk) -> None:
    desk.install()
    desk.made()
    (desk.venv / ".installed").unlink()
    assert desk.install().returncode == 0 and desk.made() == ["pip"]


def test_another_python_is_taken_when_it_is_chosen_and_only_then(desk: Desk) -> None:
    desk.install()
    desk.made()
    assert desk.install(VERSION="3.14").returncode == 0 and desk.made() == []
    assert desk.install(chosen="command", VERSION="3.14").returncode == 0 and desk.made() == ["venv", "pip"]
    assert desk.install(chosen="command", VERSION="3.14").returncode == 0 and desk.made() == []


def test_a_folder_that_is_no_environment_is_never_emptied(desk: Desk) -> None:
    desk.venv = desk.folder / "precious"
    desk.venv.mkdir()
    (desk.venv / "letters").write_text("dear")
    done = desk.install()
    assert done.returncode == 1 and "precious is no virtual environment" in done.stderr
    assert (desk.venv / "letters").read_text() == "dear"


def test_without_root_it_says_what_root_has_to_run(desk: Desk) -> None:
    desk.stand_in("id", "#!/bin/sh\necho 1000\n")
    done = desk.install(ENSUREPIP="no")
    assert done.returncode == 1 and not desk.venv.exists()
    assert "    sudo apt-get update && sudo apt-get install --yes python3" in done.stderr
    done = desk.run(str(TOOLS / "install-packages"), "the tests", "make tools", "postfix", "nsd")
    assert done.returncode == 1
    assert done.stderr == (
        "the tests: Debian packages are missing: postfix nsd\n"
        "As root, this installs them, and starts no service:\n"
        "    sudo make tools\n"
    )


def test_a_python_that_is_missing_or_too_old_is_named(desk: Desk) -> None:
    done = desk.run(str(TOOLS / "ensure-venv"), "python9", str(desk.venv), "command")
    assert done.returncode == 1 and done.stderr.startswith("there is no python9:")
    desk.stand_in("python3", '#!/bin/sh\ncase "$*" in *print*) echo 3.9 ;; *) exit 1 ;; esac\n')
    done = desk.install()
    assert done.returncode == 1 and "Waypost needs Python 3.11 or newer; python3 is 3.9" in done.stderr


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest cannot collect them together, although each room passes alone."""
    names = Counter(path.name for path in TOOLS.parent.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


ALONE = """\
set -eu
for folder in /usr/sbin /etc/systemd/system /etc/rc2.d; do mount -t tmpfs tmpfs $folder; done
mkdir /etc/systemd/system/multi-user.target.wants /etc/systemd/system/paths.target.wants
ln -s /lib/cron.service /etc/systemd/system/multi-user.target.wants/cron.service
ln -s ../init.d/cron /etc/rc2.d/S01cron
[ -z "${OWN_POLICY-}" ] || { echo "#!/bin/sh" >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; }
printf '#!/bin/sh\\n[ "$RC" = 0 ] && mv /etc/rc2.d/S01$1 /etc/rc2.d/K01$1\\n' >/usr/sbin/update-rc.d
chmod 755 /usr/sbin/update-rc.d
"$0" "the tests" "make tools" nsd || echo "status $?"
find /etc/systemd/system /etc/rc2.d -type l | sort
cat /usr/sbin/policy-rc.d 2>/dev/null || echo "no policy"
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0,
    reason="only root has mounts of its own",
)
@pytest.mark.parametrize("policy", ["", "its own"])
@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("update_rc", ["0", "1"])
def test_what_a_package_enables_is_taken_back_and_what_was_enabled_stays(
    desk: Desk, policy: str, failing: bool, update_rc: str
) -> None:
    """Debian's `policy-rc.d` says no while it installs, and is afterwards as before, also when apt fails."""
    script = str(TOOLS / "install-packages")
    command = ["unshare", "--mount", "sh", "-c", ALONE, script]
    done = desk.run(*command, OWN_POLICY=policy, RC=update_rc, APT_STATUS="100" if failing else "0")
    assert "policy says 101" in desk.calls.read_text()
    lines = done.stdout.splitlines()
    assert lines[-1] == ("#!/bin/sh" if policy else "no policy"), done.stderr
    if failing:
        assert "status 100" in lines
        return
    assert lines[1:-1] == [
        "/etc/rc2.d/K01nsd",
        "/etc/rc2.d/S01cron",
        "/etc/systemd/system/multi-user.target.wants/cron.service",
    ]
