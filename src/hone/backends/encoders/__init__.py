"""Students and other bi-encoders. Names are imported at first use: reading settings loads no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
