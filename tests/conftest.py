"""What all tests share."""

from hypothesis import settings

# No test is timed: a busy machine would make it fail.
settings.register_profile("hone", deadline=None)
settings.load_profile("hone")
