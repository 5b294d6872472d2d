"""How the properties are tested: alike in every run, and never by the clock.

`HYPOTHESIS_PROFILE=explore make test` tries other examples each time; what that finds becomes an example of its own.

Servers and their many clients stand in one process here, which therefore may have as many open files as the hard limit
says, as the service's own processes do.
"""

import os

from hypothesis import settings

from waypost.service.processes.privileges import raise_file_limit

raise_file_limit()

# A terminal, colours and widths are what a test says, and not where somebody runs it.
os.environ["TERM"] = "xterm"
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "WAYPOST_PASSWORD"):
    os.environ.pop(_name, None)

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
