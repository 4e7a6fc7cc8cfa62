"""One module per format of images, with `recognize(path, files)` and `read(path, faults, …)`; see `source`."""

READERS = ("ecotaxa", "ifcb", "flowcam", "challenge", "arrays")  # in the order in which they are tried
FORMATS = (*READERS, "folder", "catalog")
