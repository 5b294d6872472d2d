"""How the properties are tested: alike in every run, and never by the clock.

`HYPOTHESIS_PROFILE=explore make test` tries other examples each time; what that finds becomes an example of its own.

Servers and their many clients stand in one process here, which therefore may have as many open files as the hard limit
says, as the service's own processes do.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from hypothesis import settings

from waypost.service.privileges import raise_file_limit

raise_file_limit()

# Each session of pytest closes its root of temporary folders to others; where several checkouts are tested at a time by
# root, workers of another session, who are another user, could not enter theirs any more.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
    _checkout = hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:8]
    _root = Path(tempfile.gettempdir()) / f"wp-{os.geteuid()}-{_checkout}"
    _root.mkdir(mode=0o755, exist_ok=True)
    if _root.stat().st_uid == os.geteuid() and not _root.is_symlink():
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_root)

# A terminal, colours and widths are what a test says, and not where somebody runs it.
os.environ["TERM"] = "xterm"
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "WAYPOST_PASSWORD"):
    os.environ.pop(_name, None)

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
