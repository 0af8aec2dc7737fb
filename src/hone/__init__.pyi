"""What `import hone` offers, for type checkers: `hone/__init__.py` imports it when it is used."""

from hone.api import Measured as Measured
from hone.api import Run as Run
from hone.api import evaluate as evaluate
from hone.api import load as load
from hone.api import plan as plan
from hone.api import run as run
from hone.api import search as search

__version__: str
