"""One format of images a module, with `recognize(path, files)` and `read(path, faults, …)`; see `source`."""

READERS = ("ecotaxa", "ifcb", "flowcam", "challenge", "arrays")  # in the order in which they are asked
FORMATS = (*READERS, "folder", "catalog")
