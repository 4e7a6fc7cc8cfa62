"""The classifiers of four other systems, to compare an embedding with."""

import lazy_loader

# the public names are those of __init__.pyi; each is loaded when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
