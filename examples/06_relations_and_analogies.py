"""
Relations and analogies
=======================

Is the way from one image to another the same as between two others? Then a is to b as c is to d.
"""

from shared_run import shared_run

import plankton_embed as pe
from plankton_embed.plots.sheet import draw_sheet
from plankton_embed.workflows.contact_sheets import relations_sheet

folder = shared_run()

# %%
# Pairs of relations that repeat, counted by class. `expected` is what shuffled labels give.

relations = pe.relations(folder, n_images=60, n_shuffles=19, limit=200, progress=False)
print(relations)
print(relations.analogies.head(5)[["x1", "y1", "x2", "y2", "support", "expected"]].to_string(index=False))

# %%
# A copepod is to a chaetognath as a medusa is to …

classes, images = pe.analogy(folder, "copepod", "chaetognath", "medusa", n_results=3)
print(classes.to_string(index=False, float_format="{:.2f}".format))

# %%
# The relations that are most alike.

figure = draw_sheet(relations_sheet(relations))
