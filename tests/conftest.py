"""How the properties are tested: alike in every run, and never by the clock.

`HYPOTHESIS_PROFILE=explore make test` tries other examples each time; what that finds becomes an example of its own.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
