"""
Relations and analogies
=======================

A relation is the difference of two vectors. If two relations are nearly equal, then x1 is to y1 as x2 is to y2.
"""

from shared_run import shared_run

import plankton_embed as pe

folder = shared_run()

# %%
# Repeated relations, counted by class (`support`). `expected` is the mean count with shuffled labels.

relations = pe.relations(folder, n_images=60, n_shuffles=19, limit=200, progress=False)
print(relations)
relations.analogies.head(5)[["x1", "y1", "x2", "y2", "support", "expected"]].round(2)

# %%
# A copepod is to a chaetognath as a medusa is to …

classes, images = pe.analogy(folder, "copepod", "chaetognath", "medusa", n_results=3)
classes.round(2)

# %%
# The pairs of relations that differ least.

ax = pe.draw(relations)
