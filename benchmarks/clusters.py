"""Do clusters of unlabelled images match classes that the network has never seen? By adjusted mutual information.

    python benchmarks/clusters.py runs/seen_unseen/vectors/unseen_train.parquet

The vectors have the true labels, which only the scores use. The images are divided into as many clusters as `clusters`
chooses by default (the root of the number of images), and into as many as there are classes. HDBSCAN finds its own
number; the images that it leaves out count as one cluster. k-means: scikit-learn's, the best of ten starts; mean and
standard deviation over five seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from plankton_embed.analysis.clusters import find_clusters
from plankton_embed.table import EmbeddingTable

N_SEEDS, N_STARTS = 5, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", help="labelled vectors of classes that the network was not trained on")
    arguments = parser.parse_args()
    table = EmbeddingTable.load(arguments.vectors)
    table = table.select(table.is_labelled)
    truth = table.label.astype(str)
    rows = []
    for n_groups in (round(len(table) ** 0.5), len(table.classes)):
        tree = find_clusters(table, n_clusters=n_groups, progress=False)
        rows.append(("tree", n_groups, 0.0, adjusted_mutual_info_score(truth, tree.cluster), np.nan))
        scores = [
            adjusted_mutual_info_score(
                truth, KMeans(n_groups, n_init=N_STARTS, random_state=seed).fit_predict(table.vectors)
            )
            for seed in range(N_SEEDS)
        ]
        rows.append(("k-means", n_groups, 0.0, np.mean(scores), np.std(scores, ddof=1)))
    for min_size in (5, 10, 20):
        dense = find_clusters(table, "hdbscan", min_size=min_size, progress=False)
        score = adjusted_mutual_info_score(truth, dense.cluster)
        rows.append((f"hdbscan, min_size {min_size}", len(dense.groups), (dense.cluster == 0).mean(), score, np.nan))
    print(f"{len(table):,} images of {len(table.classes)} classes")
    print(pd.DataFrame(rows, columns=["method", "groups", "left out", "AMI", "sd"]).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
