"""What a test set is for, and who judged it."""

from typing import Literal

Role = Literal["domain", "dev", "guard", "last"]
"""last: the test queries of the run whose model training started from."""
JudgedBy = Literal["people", "model"]
