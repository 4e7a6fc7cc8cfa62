"""
Predictions for EcoTaxa
=======================

Read an export of EcoTaxa, predict the objects that nobody has validated, and write a table that EcoTaxa imports.
"""

import pandas as pd
from shared_run import new_images, shared_run

import plankton_embed as pe

folder = shared_run()
images = sorted(new_images("ecotaxa").glob("*/*.png"))[::3]

# %%
# An export is a table `ecotaxa_….tsv` beside its images. In this one, a third of the objects are not validated.

table = pd.DataFrame(
    {
        "object_id": [image.stem for image in images],
        "img_file_name": [str(image.relative_to(new_images("ecotaxa"))) for image in images],
        "object_annotation_category": [image.parent.name if number % 3 else "" for number, image in enumerate(images)],
        "object_annotation_status": ["validated" if number % 3 else "" for number in range(len(images))],
    }
)
table.to_csv(new_images("ecotaxa") / "ecotaxa_export.tsv", sep="\t", index=False)
catalog = pe.catalog(new_images("ecotaxa") / "ecotaxa_export.tsv", progress=False)
print(catalog)
ax = pe.draw(catalog)

# %%
# `export` leaves out the objects that a person has validated.

predictions = pe.classify(folder, catalog, "knn", progress=False)
counts = pe.export(predictions, catalog, "ecotaxa_predictions.tsv", overwrite=True)
print(counts.n_objects, "predictions written,", counts.n_validated, "validated objects left out")

# %%
# The table that EcoTaxa imports; its second line is EcoTaxa's: `[t]` is text.

pd.read_csv("ecotaxa_predictions.tsv", sep="\t").head()
