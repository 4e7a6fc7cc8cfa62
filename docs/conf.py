"""Sphinx configuration."""

import sys
from pathlib import Path
from typing import get_args, get_origin

import plankton_embed
from plankton_embed.settings import OBJECTIVES, PRESETS, Settings

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_pictures

project = "plankton_embed"
project_copyright = "the plankton_embed authors"
release = plankton_embed.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",  # all are run, but for the shared module
    "ignore_pattern": r"shared_run\.py",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "image_scrapers": ("gallery_pictures.save_pictures",),
}
html_theme = "furo"
html_title = "plankton_embed"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100  # longer ones have a parameter a line
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
myst_enable_extensions = ["colon_fence"]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.md5"]


def _describe_settings() -> str:
    """Return a table of every setting, part by part, as Markdown."""
    lines = []
    plain = Settings.build()
    for part, field in Settings.model_fields.items():
        if not hasattr(field.annotation, "model_fields"):
            lines += [f"`{part}` ({field.default}): {field.description}.", ""]
            continue
        lines += [f"## {part}", "", field.annotation.__doc__, "", "| setting | default | what it is |", "|---|---|---|"]
        for name, value in field.annotation.model_fields.items():
            choices = get_args(value.annotation) if str(get_origin(value.annotation)) == "typing.Literal" else ()
            allowed = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
            default = getattr(getattr(plain, part), name)
            lines.append(f"| `{part}.{name}` | `{default}` | {value.description}.{allowed} |")
        lines.append("")
    objectives = {name: record.defaults for name, record in OBJECTIVES.items() if record.defaults}
    for title, changes in (("Presets", PRESETS), ("Defaults of an objective", objectives)):
        lines += [f"## {title}", "", "| name | changes |", "|---|---|"]
        for name, values in changes.items():
            lines.append(f"| `{name}` | {', '.join(f'`{key}={value}`' for key, value in values.items())} |")
        lines.append("")
    return "\n".join(lines)


(Path(__file__).parent / "_build").mkdir(exist_ok=True)
(Path(__file__).parent / "_build" / "settings.md").write_text(_describe_settings(), encoding="utf-8")
