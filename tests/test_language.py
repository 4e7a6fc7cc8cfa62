"""Plain English: words and phrases that docs, help, messages and docstrings do not use, and what to write instead."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from typer.main import get_command

import plankton_embed
from plankton_embed.cli import app

ROOT, PACKAGE = Path(__file__).parents[1], Path(plankton_embed.__file__).parent
TEXTS = [
    path
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/*.md",
        "docs/api/*.md",
        "examples/*.py",
        "examples/README.rst",
    )
    for path in sorted(ROOT.glob(pattern))
]
PHRASES = {  # regular expressions -> what to write instead
    r"asked about": "query",
    r"(?:that|which|those) (?:it|they) knows?": "in the reference",
    r"of the known(?! (?:class|image|label|one))": "images from known classes",
    r"held out|held against|(?:hold|holds) \S+(?: \S+){0,3} against": "calibration set; compare ... with",
    r"chances": "probabilities",
    r"strange(?:r|rs|ness|st)?": "unknown classes, novelty score",
    r"told|tells|says": "reported, reports, shows",
    r"parted|commas? part": "separated, split",
    r"mend|mends|mended|mending": "fix, fixed",
    r"(?:lie|lies|lay|stand|stands|stood)(?! for)": "is, are",
    r"two sides": "duplicate images in more than one split",
    r"(?:name|names|naming) (?:an? |the |its |all |these |those |new |test )*(?:images?|query)": "predict",
    r"named? (?:right|wrong|so|by)|names (?:by|right|wrong)|named majority|unnamed images?": "predicted by",
    r"(?<!class )names? (?:of|for) (?:the )?images?": "predictions",
    r"score names|rank by rank": "report accuracy at each rank",
    r"(?<!there )(?:is|are|was|were) no (?!longer|more|less)\w+": "is not a",
    r"comma between": "comma-separated",
    r"knows? (?:other|something|nothing|their names?|the names?)|know their names": "pretrained on; labelled",
    r"learned before": "pretrained",
    r"shaken off": "to fine-tune pretrained weights, use a lower rate",
    r"one in twenty|as many as the space can tell|the space (?:can tell|tells)": "5 %; what the model can detect",
    r"bring (?:vectors|images) onto": "project vectors onto",
    r"what makes (?:an? |the )?images?": "novelty score",
    r"whose loss is a signal": "for the loss signal",
    r"in the form of the place|place the images came from": "export to EcoTaxa or an IFCB dashboard",
    r"refused? (?:images?|classes)|(?:images?|classes) (?:is|are) refused|refused where|known refused": "rejected",
    r"an image each|for the good of|nobody could learn": "subject, verb, object",
    r"fate|lettering|membership": "outcome, text, posterior",
}
PATTERN = re.compile(r"(?<![\w-])(?:" + "|".join(PHRASES) + r")(?![\w-])", re.IGNORECASE)


def find_phrases(text: str) -> list[str]:
    """Return the phrases of the list in a text, with some words around each."""
    text = " ".join(text.split())
    return [text[max(0, m.start() - 30) : m.end() + 30] for m in PATTERN.finditer(text)]


def texts_of(tree: ast.AST) -> dict[int, str]:
    """Return the texts of a module by line: literals of several words, f-strings included, docstrings not."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | docstrings:
            text = node.value
        else:
            continue
        if " " in text:
            found[node.lineno] = f"{found.get(node.lineno, '')} {text}"
    return found


def docstrings_of(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> dict[int, str]:
    """Return the docstrings of a module, and of its public classes, functions and methods, by line."""
    found = {getattr(node, "lineno", 1): ast.get_docstring(node) or ""}
    for part in node.body:
        if isinstance(part, (ast.ClassDef, ast.FunctionDef)) and not part.name.startswith("_"):
            found |= docstrings_of(part)
    return found


def test_the_list_finds_what_it_should_and_leaves_plain_english():
    for text in ("names 0.5 of them: strangers", "drop images that lie on two sides", "vectors that know their names",
                 "that is no class", "how they parted\nover training", "held out for calibration"):  # fmt: skip
        assert find_phrases(text), text
    for text in ("there is no such file", "understand", "a standard", "relied", "a sample stands for 5 m³",
                 "images from known classes", "class names of images",
                 "a recommended value", "it is no longer used"):  # fmt: skip
        assert not find_phrases(text), text


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs(path):
    assert find_phrases(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["", *sorted(get_command(app).commands)])
def test_help(name):
    group = get_command(app)
    command = group.commands[name] if name else group
    with command.make_context(name or "plankton-embed", [], resilient_parsing=True) as context:
        assert find_phrases(command.get_help(context)) == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_messages(path):
    texts = texts_of(ast.parse(path.read_text(encoding="utf-8")))
    assert [(line, hit) for line, text in texts.items() for hit in find_phrases(text)] == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_docstrings(path):
    texts = docstrings_of(ast.parse(path.read_text(encoding="utf-8")))
    assert [(line, hit) for line, text in texts.items() for hit in find_phrases(text)] == []


MOST = {"asked": 7, "held": 5, "chances": 2, "strangers": 2}  # 5 % of what the package had when this list was made


def test_identifiers():
    words = Counter(
        word
        for path in PACKAGE.rglob("*.py")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == tokenize.NAME
        for word in token.string.split("_")
    )
    assert {word: words[word] for word, most in MOST.items() if words[word] > most} == {}
