"""Plankton images as points in a space where distance means likeness."""

import lazy_loader

__version__ = "0.1.0"

# the public names are those of __init__.pyi; each is loaded when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
