"""
Predictions for EcoTaxa
=======================

An export of EcoTaxa is read with its statuses; predictions go back as a table that EcoTaxa imports.
"""

from pathlib import Path

import pandas as pd
from shared_run import new_images, shared_run

import plankton_embed as pe

folder = shared_run()
images = sorted(new_images().glob("*/*.png"))[::3]

# %%
# An export is a table `ecotaxa_….tsv` beside its images: some objects are validated, others only predicted.

table = pd.DataFrame(
    {
        "object_id": [image.stem for image in images],
        "img_file_name": [str(image.relative_to(new_images())) for image in images],
        "object_annotation_category": [image.parent.name if number % 3 else "" for number, image in enumerate(images)],
        "object_annotation_status": ["validated" if number % 3 else "" for number in range(len(images))],
    }
)
table.to_csv(new_images() / "ecotaxa_export.tsv", sep="\t", index=False)
catalog = pe.catalog(new_images() / "ecotaxa_export.tsv", progress=False)
print(catalog)

# %%
# Only the objects that no person has decided are written.

predictions = pe.classify(folder, catalog, "knn", progress=False)
counts = pe.export(predictions, catalog, Path("ecotaxa_predictions.tsv"), overwrite=True)
print(counts.to_dict())
print(pd.read_csv("ecotaxa_predictions.tsv", sep="\t").head().to_string(index=False))
