"""
A first run
===========

From a folder of images to a model, scores and pictures. Each class has a folder of its own; here the images are drawn.
"""

from shared_run import shared_run

import plankton_embed as pe

# %%
# `pe.run` does the whole job: catalog, split, train, embed, index, evaluate. Called again, it skips finished steps.
# `pe.evaluate` predicts the test images of the run from its training images, and compares with their true labels.

folder = shared_run()
evaluation = pe.evaluate(folder, folder, "knn", progress=False)
print(evaluation)

# %%
# The scores of each class, the lowest F1 first.

evaluation.scores.per_class.sort_values("f1").round(2)

# %%
# The confusion matrix: rows are the true classes, columns the predicted ones. `pe.draw` returns matplotlib Axes.

ax = pe.draw(evaluation)
ax.figure.savefig("confusion.png")
