"""
Compare the class tree with a taxonomy
======================================

Ward's method joins the class means into a tree. Does this tree follow the taxonomy?
"""

from pathlib import Path

from shared_run import shared_run

import plankton_embed as pe

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
folder = shared_run()

# %%
# A wrong prediction may still be in the right broader group: accuracy at each rank.

found = pe.taxonomy(folder, "taxonomy.csv", progress=False)
print(found)
found.by_rank.round(2)

# %%
# On the left the tree of the model, on the right the taxonomy.

ax = pe.draw(found)
