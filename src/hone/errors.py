"""The two kinds of failure that have an exit code of their own; everything else is a bug and propagates."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence saying what, where (file, row, key) and what to do."""

    exit_code = 2


class TransientError(Exception):
    """A fault outside Hone that lasted through every retry: finished work is kept, run the command again."""

    exit_code = 75
