"""What all tests share."""

import os

from hypothesis import settings

# Tests run side by side, a process for each core: threads of their own would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test is timed: a busy machine would make it fail.
settings.register_profile("hone", deadline=None)
settings.load_profile("hone")
