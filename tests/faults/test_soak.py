"""The soak in its short form: two thousand connections that fail, and a worker that holds what it held before.

The long form is `make soak`.
"""

import json
import subprocess
import sys


def test_whatever_failing_connections_took_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", "--connections", "2000", "--slack", "32"],
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    figures = json.loads(done.stdout)
    assert figures["wrong"] == []
    assert done.returncode == 0
    assert sum(figures["kinds"].values()) >= 3000 and figures["acknowledged"] > 0
