"""What `import plankton_embed` gives, and what it does not load."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import plankton_embed
from plankton_embed.workflows.draw import FIGURES

HEAVY = ("torch", "pandas", "faiss", "sklearn", "matplotlib", "pyarrow", "pydantic", "PIL")
VERBS = ("run", "demo", "catalog", "train", "embed", "index", "search", "classify", "evaluate", "enroll",
         "seen_unseen", "compare", "pca", "film", "dendrogram", "clusters", "relations", "suspects", "taxonomy",
         "apply_corrections", "export", "shift", "abundance", "doctor", "models", "export_model",
         "adapt", "report", "review", "next")  # fmt: skip


def loaded_by(code: str) -> set[str]:
    shown = f"{code}\nimport sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy():
    assert not loaded_by("import plankton_embed") & set(HEAVY)


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['plankton-embed', '--help']\nfrom plankton_embed.__main__ import main\n"
    code += "try: main()\nexcept SystemExit as e: assert not e.code"
    assert not loaded_by(code) & {"torch", "pandas", "faiss"}


ABOVE = ("table", "images.catalog", "images.splits", "images.preparation", "images.corrections", "images.features",
         "classifiers.scoring", "classifiers.prediction", "classifiers.enrollment", "classifiers.mlp",
         "analysis.dendrogram", "analysis.clusters", "analysis.relations", "analysis.suspects", "analysis.shift",
         "analysis.body_size", "analysis.samples", "analysis.counts", "spreadsheet", "vector_index",
         "plots.confusion", "plots.history", "workflows.contact_sheets", "workflows.classify", "workflows.evaluate",
         "workflows.pca", "workflows.clusters", "workflows.suspects", "workflows.shift", "workflows.abundance",
         "workflows.export", "network.onnx", "page.document", "page.server", "workflows.report",
         "workflows.review")  # fmt: skip


def test_no_torch_above_the_waist():
    """One process imports them in turn, and ends at the first that loads it."""
    code = f"import importlib, sys\nfor name in {ABOVE}:\n    importlib.import_module(f'plankton_embed.{{name}}')\n"
    code += "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_verbs_are_functions_whatever_is_imported():
    for module in pkgutil.walk_packages(plankton_embed.__path__, "plankton_embed."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for verb in VERBS:
        assert callable(getattr(plankton_embed, verb)), verb


@pytest.mark.parametrize("package", [plankton_embed, plankton_embed.baselines], ids=lambda package: package.__name__)
def test_every_public_name_is_where_the_stub_says(package):
    tree = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    declared = {n.names[0].name: n.module for n in tree.body if isinstance(n, ast.ImportFrom)}
    for name, module in declared.items():
        home = importlib.import_module(".".join(filter(None, (package.__name__, module))))
        assert getattr(package, name) is getattr(home, name)
    assert set(dir(package)) == set(package.__all__) == set(declared)


@pytest.mark.parametrize("name", plankton_embed.MOVED_TO_BASELINES)
def test_a_moved_name_still_works_with_a_warning(name):
    with pytest.warns(FutureWarning, match=rf"plankton_embed\.{name} is now plankton_embed\.baselines\.{name}"):
        old = getattr(plankton_embed, name)
    assert old is getattr(plankton_embed.baselines, name)
    assert name not in dir(plankton_embed)


def test_every_result_of_a_verb_is_public_and_its_figure_is_known():
    results = {inspect.signature(getattr(plankton_embed, verb)).return_annotation for verb in VERBS}
    results = {name for names in results for name in names.split(" | ")} - {"pd.DataFrame", "Path"}
    assert results - set(plankton_embed.__all__) == set()
    without = {
            "AtlasCounts", "CorrectedCatalog", "Diagnosis", "EcotaxaCounts", "EmbeddingModel", "EmbeddingTable",
            "Review", "ScoreCounts", "ShardedIndex", "VectorIndex", "VectorShards", "WrittenPredictions",
        }  # fmt: skip
    assert results & {kind.__name__ for kind in FIGURES} == results - without


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No plankton_embed attribute tarin"):
        plankton_embed.tarin  # noqa: B018


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert version("plankton_embed") == plankton_embed.__version__
