"""
A first run
===========

From a folder of images to a model, scores and pictures. Each class has a folder of its own; here the images are drawn.
"""

from shared_run import shared_run

import plankton_embed as pe
from plankton_embed.plots.confusion import draw_confusion

# %%
# `pe.run` does the whole job: catalog, split, train, embed, index, evaluate. Called again, it skips what is finished.
# The test images are then predicted by the training images.

folder = shared_run()
evaluation = pe.evaluate(folder, folder, "knn", progress=False)
print(evaluation)

# %%
# The scores of each class, the worst first.

print(evaluation.scores.per_class.sort_values("f1").to_string(index=False, float_format="{:.2f}".format))

# %%
# Rows are the true classes.

figure = draw_confusion(evaluation.scores)
