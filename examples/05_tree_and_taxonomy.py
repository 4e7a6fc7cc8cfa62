"""
The tree of classes, and a taxonomy
===================================

Ward's method joins the means of the classes into a tree. Does it follow the taxonomy?
"""

from pathlib import Path

from shared_run import shared_run

import plankton_embed as pe
from plankton_embed.plots.taxonomy_comparison import draw_taxonomy_comparison

folder = shared_run()
Path("taxonomy.csv").write_text(
    """label,lineage
copepod,Animalia>Arthropoda>Copepoda
medusa,Animalia>Cnidaria>Hydrozoa
chaetognath,Animalia>Chaetognatha>Sagittoidea
fish_egg,Animalia>Chordata>Teleostei
diatom_chain,Chromista>Ochrophyta>Bacillariophyceae
radiolarian,Chromista>Radiozoa>Polycystina
"""
)

# %%
# A wrong prediction may still be in the right broader group: accuracy at each rank.

found = pe.taxonomy(folder, "taxonomy.csv", progress=False)
print(found.by_rank.to_string(index=False, float_format="{:.2f}".format))

# %%
# Left the tree of the model, right the taxonomy.

figure = draw_taxonomy_comparison(found.comparison)
