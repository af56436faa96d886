"""The page in the browser: its Python part, its builder, and the page itself in headless Chromium."""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import machines
import numpy as np
import pytest
import wasm
from packages import NotTriedError
from surroundings import ROOT

import funcnet as fn
from funcnet.runs.selftest import REFERENCE

FOLDER = ROOT / "examples" / "browser"
if not FOLDER.exists() or not (ROOT / "README.md").exists():
    pytest.skip("the examples and the README are not next to the tests", allow_module_level=True)


def module(name: str) -> ModuleType:
    """A module of the page, which finds the others beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


parts, build, page, cells, strokes, textbook = map(module, ("parts", "build", "page", "cells", "strokes", "textbook"))
TEXTS = build.texts()
SOURCE = (FOLDER / "page.js").read_text()
needs_markdown = pytest.mark.skipif(find_spec("markdown_it") is None, reason="markdown-it-py is not installed")


# --------------------------------------------------------------------------------------------- the Python part


def test_the_fingerprint_is_the_guides() -> None:
    """The page runs the program of the guide, as the other machines do, and it prints the text of the guide."""
    program, output = TEXTS["fingerprint"]["program"], TEXTS["fingerprint"]["output"]
    assert (program, output.strip()) == machines.guide()
    assert page.printed(program) == output


@pytest.mark.parametrize(("name", "last"), [("xor", 0.02), ("ring", 0.05)])
def test_a_lesson_prints_what_the_text_prints(name: str, last: float) -> None:
    """The loss falls, the picture has the sign of each point's class beside it, and the lines are those of the text."""
    run = page.start(name, "{}")
    fixed, first = json.loads(page.describe(run)), json.loads(page.drawing(run))
    assert first["losses"] == []
    drawing = json.loads(page.drawing(page.advance(run, 1000)))
    assert drawing["losses"][0] > 0.5
    assert drawing["losses"][-1] < last
    assert len(drawing["losses"]) == fixed["epochs"]
    assert drawing["printed"].strip() == TEXTS[name].strip()
    picture, (low, high) = np.array(drawing["picture"]), fixed["extent"]
    assert picture.shape == (61, 61)
    assert np.abs(picture).max() <= 1000
    places = np.array(fixed["points"])
    columns, rows = np.rint(60 * (places[:, :2] - low) / (high - low)).astype(int).T
    assert np.array_equal(picture[60 - rows, columns] > 0, places[:, 2] == 1)


def test_exclusive_or_is_the_readmes_network() -> None:
    """The README's program ends with the same bits as the lesson."""
    names: dict[str, Any] = {}
    exec(build.blocks(ROOT / "README.md", "# funcnet")[0], names)  # noqa: S102  # the README's program
    assert fn.equal(names["net"], page.advance(page.start("xor", "{}"), 100).net)


def test_slices_change_no_bit() -> None:
    """A run in slices of any length is the run at once, and a run that is over stays as it is."""
    start = page.start("ring", '{"hidden": [3], "learning_rate": 0.2}')
    whole, sliced = page.advance(start, 6), start
    for epochs in (1, 0, 3, 2):
        sliced = page.advance(sliced, epochs)
    assert page.drawing(sliced) == page.drawing(whole)
    assert fn.equal(sliced.net, whole.net)
    over = page.advance(whole, 100)
    assert page.drawing(page.advance(over, 1)) == page.drawing(over)


def test_digits_begin_as_in_the_tutorial() -> None:
    """The first epoch prints the first lines of the text, and the picture has 24 images of 8 by 8 pixels."""
    pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")
    drawing = json.loads(page.drawing(page.advance(page.start("digits", "{}"), 1)))
    assert drawing["printed"].splitlines() == TEXTS["digits"].splitlines()[:2]
    picture = np.array(drawing["picture"])
    assert picture.shape == (28, 73)
    assert np.abs(picture).max() == 1000
    assert not picture[::9].any()
    assert not picture[:, ::9].any()
    small = page.start("digits", '{"hidden": [12, 6], "learning_rate": 0.1}')
    assert [layer.bias.shape for layer in small.net[::2]] == [(12,), (6,), (10,)]


def arc(middle: float, size: float, begin: float, end: float) -> list[tuple[float, float]]:
    """Points of an ellipse around (0.45, middle), from the angle ``begin`` to ``end`` in half turns."""
    angles = np.pi * np.linspace(begin, end, 24)
    return [(0.45 + 0.28 * float(np.cos(each)), middle + size * float(np.sin(each))) for each in angles]


DRAWN = {
    0: [arc(0.5, 0.45, 0, 2)],
    3: [arc(0.28, 0.22, -0.9, 0.5) + arc(0.72, 0.24, -0.5, 0.85)],
    7: [[(0.2, 0.1), (0.8, 0.1), (0.45, 0.95)], [(0.35, 0.5), (0.75, 0.5)]],
}


@pytest.mark.slow
def test_a_drawn_digit_is_read() -> None:
    """The trained network reads strokes; their place and size on the field change nothing."""
    pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")
    run = page.advance(page.start("digits", "{}"), 25)
    assert json.loads(page.drawing(run))["printed"].strip() == TEXTS["digits"].strip()
    for digit, drawn in DRAWN.items():
        found = json.loads(page.read(run, json.dumps(drawn)))
        assert found["probabilities"].index(max(found["probabilities"])) == digit
        assert abs(sum(found["probabilities"]) - 1000) <= 5
        moved = [[(20 + 8 * x, 8 * y - 3) for x, y in stroke] for stroke in drawn]
        assert np.abs(np.array(json.loads(page.read(run, json.dumps(moved)))["picture"]) - found["picture"]).max() <= 63


def test_strokes_become_an_image() -> None:
    """A point is a dot in the middle, a straight line goes from edge to edge, and nothing is an empty image."""
    images = {name: strokes.image_of(given).reshape(8, 8) for name, given in STROKES.items()}
    assert not images["nothing"].any()
    assert np.array_equal(np.argwhere(images["point"]), [[3, 3], [3, 4], [4, 3], [4, 4]])
    assert np.array_equal(images["line"].any(axis=1), [False] * 3 + [True] * 2 + [False] * 3)
    assert (images["line"][3:5] > 0.4).all()
    assert np.array_equal(images["cross"], images["cross"].T)


STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "nothing": [],
    "point": [[(5, 9)]],
    "line": [[(5, 9), (9, 9)]],
    "cross": [[(0, 0), (1, 1)], [(0, 1), (1, 0)]],
}


# --------------------------------------------------------------------------------------------- the sources agree


def listed(name: str) -> list[float]:
    """A list of numbers of page.js."""
    found = re.search(rf"const {name} = (\[.*?\]);", SOURCE)
    assert found
    numbers: list[float] = json.loads(found[1])
    return numbers


def test_each_lesson_has_a_section_a_text_and_settings_on_the_sliders() -> None:
    """page.py, page.html, page.js and the documentation name the same lessons and values."""
    sections = re.findall(r'data-lesson="(\w+)"', (FOLDER / "page.html").read_text())
    assert set(sections) == set(page.LESSONS) == set(TEXTS) - {"fingerprint"}
    for lesson in (page.exclusive_or(), page.ring()):
        assert lesson.learning_rate in listed("RATES")
        assert {*lesson.hidden} <= {*listed("SIZES")}
    assert {0.1, 100, 200} <= {*listed("RATES"), *listed("SIZES")}  # those of the digits


@pytest.mark.parametrize("name", ["page.js", "tutorial.js", "pad.js", "worker.js"])
def test_functions_are_short(name: str) -> None:
    """At most 40 lines from the line that begins a function or a method to the line that ends it."""
    blocks = re.findall(
        r"^( *)((?:async |get )*[\w ]+\(.*\) \{)\n((?:\1 .*\n|\n)*)", (FOLDER / name).read_text(), re.MULTILINE
    )
    assert len(blocks) >= 3
    assert [head for _, head, body in blocks if body.count("\n") + 2 > 40] == []


# --------------------------------------------------------------------------------------------- the cells of a part


@pytest.fixture
def said() -> list[tuple[str, str]]:
    """What cells say while they run."""
    return []


@pytest.fixture
def run(said: list[tuple[str, str]]) -> Callable[[str], dict[str, Any]]:
    """Run cells one after the other in one namespace."""
    room, numbers = cells.room(), count(1)

    def say(kind: str, text: str) -> None:
        said.append((kind, text))

    def run_next(source: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(cells.run(room, next(numbers), source, say))
        return found

    return run_next


Run = Callable[[str], dict[str, Any]]


def test_cells_share_their_names(run: Run) -> None:
    """A later cell sees the names of the earlier ones, which are those of a ``__main__`` of its own."""
    before = dict(sys.modules["__main__"].__dict__)
    assert run("class Thing:\n    pass\n")["error"] == ""
    assert run("print(Thing.__module__, Thing is __import__('sys').modules['__main__'].Thing)")["printed"] == (
        "__main__ True\n"
    )
    assert sys.modules["__main__"].__dict__ == before
    assert json.loads(cells.run(cells.room(), 1, "Thing", print))["error"].endswith("name 'Thing' is not defined\n")


def test_a_layer_can_be_defined_again(run: Run) -> None:
    """A reader changes the cell that registers a layer, and runs it again."""
    head = "import funcnet as fn\nfrom attrs import frozen\n\n@frozen(eq=False)\nclass Same(fn.Layer):\n    pass\n\n"
    body = "fn.register_layer(Same, forward=lambda p, x: x, backward=lambda p, x, g: (g, p))\n"
    assert [run(head + body)["error"] for _ in range(2)] == ["", ""]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "print(1)\ndef f():\n    return 1 / 0\nf()\n",
            (
                'Traceback (most recent call last):\n  File "<cell 1>", line 4, in <module>\n    f()\n'
                '  File "<cell 1>", line 3, in f\n    return 1 / 0\n'
            ),
        ),
        ("x = (\n", '  File "<cell 1>", line 1\n    x = (\n        ^\nSyntaxError: '),
        ("raise SystemExit(3)", "SystemExit: 3\n"),
    ],
    ids=["error", "syntax", "exit"],
)
def test_an_error_is_pythons_traceback(source: str, error: str, run: Run) -> None:
    """It has the lines of the cell and nothing of the page, and the output before it is kept."""
    found = run(source)
    marks = re.compile(r"^ *~+\^+~*\n", re.MULTILINE)  # newer Pythons mark the part of the line
    assert error in marks.sub("", found["error"])
    assert "cells.py" not in found["error"]
    assert found["printed"] == ("1\n" if "print" in source else "")
    assert run("print(2)")["printed"] == "2\n"


def test_progress_is_said_and_not_printed(
    run: Run, said: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output comes while the cell runs; what is written to stderr comes a few times a second, as on a terminal."""
    monkeypatch.setattr(cells, "PAUSE", 60)
    bar = "for i in range(3):\n    print(i)\n    sys.stderr.write(f'\\r{i} of 3\\r')\n"
    found = run(f"import sys\n{bar}sys.stderr.write('\\ncareful\\n')\n")
    assert found["printed"] == "0\n1\n2\n"
    assert "".join(text for kind, text in said if kind == "printed") == "0\n1\n2\n"
    assert [text for kind, text in said if kind == "progress"] == ["0 of 3", "2 of 3\ncareful"]


def test_figures_are_shown_once(run: Run) -> None:
    """A cell returns pyplot's open figures with their titles, and closes them."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found = run("from matplotlib import pyplot as plt\nfigure, axes = plt.subplots()\naxes.set_title('A\\nline')\n")
    (figure,) = found["figures"]
    assert base64.b64decode(figure["png"]).startswith(b"\x89PNG")
    assert figure["titles"] == "A line"
    assert run("print(plt.get_fignums())") == {"printed": "[]\n", "error": "", "figures": []}


PART = '''# %% [markdown]
"""# Part 3. A title.

See [part 4](part_04_more.py), [the README](../../README.md) and [a page](https://example.org/).
"""

# %%
print(1)

# %% [markdown]
"""```text
1
```

## More
"""

# %% tags=["processes"]
fork()

# %% [markdown]
"""```text
<b>
```
"""

# %% Exercise 2
answer = None  # your lines here

# The check of exercise 2.
print("Exercise 2:", "solved" if answer else "not solved yet")
'''


@needs_markdown
def test_a_part_is_read_as_cells(tmp_path: Path) -> None:
    """An output belongs to the cell above it; a solution ends before its check; only some links stay."""
    (tmp_path / "part_03_some.py").write_text(PART)
    (tmp_path / "part_03_some_solutions.py").write_text(
        PART.replace("answer = None  # your lines here", "answer = 1").replace("# Part 3. A title", "# Solutions")
    )
    (part,) = textbook.textbook(tmp_path)
    first, second = (cell["html"] for cell in part["cells"] if "html" in cell)
    assert first == (
        '<h2>Part 3. A title.</h2>\n<p>See <a href="#part_04_more">part 4</a>, <span>the README</span> and '
        '<a href="https://example.org/">a page</a>.</p>\n'
    )
    assert second == "<h3>More</h3>\n"
    assert (part["name"], part["title"]) == ("part_03_some", "Part 3. A title")
    check = PART[PART.index("# The check") :].strip()
    assert [cell for cell in part["cells"] if "source" in cell] == [
        {"source": "print(1)", "output": "1\n"},
        {"source": "fork()", "output": "<b>\n", "processes": True},
        {"source": f"answer = None  # your lines here\n\n{check}", "exercise": 2, "solution": "answer = 1"},
    ]


@needs_markdown
def test_the_tutorial_is_read_whole() -> None:
    """Each part is there with all its programs and outputs, and no output is left in a text."""
    found = textbook.textbook(build.EXAMPLES / "tutorial")
    for part in found:
        text = (build.EXAMPLES / "tutorial" / f"{part['name']}.py").read_text()
        programs = [cell for cell in part["cells"] if "source" in cell]
        assert len(programs) == len(re.findall(r"^# %%(?! \[markdown\])", text, re.MULTILINE)) > 3
        assert sum("output" in cell for cell in programs) == text.count('"""```text\n')
        assert not any(cell.get("html", "").startswith('<pre><code class="language-text') for cell in part["cells"])
        assert part["title"].startswith(f"Part {int(part['name'].split('_')[1])}. ")
    assert len(found) >= 9


# --------------------------------------------------------------------------------------------- the builder


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small file for each part, whose hash is the expected one."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in (*parts.PARTS, "funcnet.whl"):
        (folder / name).write_bytes(f"content of {name} </script>".encode())
    with zipfile.ZipFile(folder / "funcnet.whl", "w") as wheel:
        for path in (ROOT / "funcnet").rglob("*.py"):
            wheel.write(path, path.relative_to(ROOT))
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in parts.PARTS}
    monkeypatch.setattr(parts, "PARTS", {name: parts.Part("a package", each) for name, each in hashes.items()})
    return folder


class Elements(HTMLParser):
    """The scripts and styles of a page, by id or, without one, by name; all addresses; and the policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.addresses: list[str] = []
        self.policy: dict[str, set[str]] = {}
        self.current = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses, and which element begins."""
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "href") if name in given]
        self.current = str(given.get("id", tag)) if tag in ("script", "style") else ""
        if given.get("http-equiv") == "Content-Security-Policy":
            for directive in str(given["content"]).split(";"):
                name, *sources = directive.split()
                self.policy[name] = set(sources)

    def handle_endtag(self, tag: str) -> None:
        """Note that no script and no style is open."""
        del tag
        self.current = ""

    def handle_data(self, data: str) -> None:
        """Keep the content of a script or a style."""
        if self.current:
            self.found[self.current] = self.found.get(self.current, "") + data


NEVER = {
    "default-src": {"'none'"},
    "base-uri": {"'none'"},
    "form-action": {"'none'"},
    "img-src": {"data:"},
    "worker-src": {"blob:"},
}
"""The policy of both forms of the page, without what each form allows of its own sources."""


def hashed(source: str) -> str:
    """The source of a policy that allows one script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@needs_markdown
def test_one_file_has_everything(fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has each part and source once, loads nothing else, and no text in it ends a script early."""
    sources = tmp_path / "sources"
    shutil.copytree(FOLDER, sources, ignore=shutil.ignore_patterns("__pycache__"))
    with (sources / "page.js").open("a") as file:
        file.write('\nconst trap = "</script><!-- </SCRIPT>";\n')
    monkeypatch.setattr(build, "HERE", sources)
    monkeypatch.setattr(sys, "argv", ["build.py", str(tmp_path / "page.html"), "--parts", str(fakes), "--offline"])
    build.main()
    text = (tmp_path / "page.html").read_text()
    elements = Elements(text)
    assert set(elements.addresses) == {"data:,"}
    script_hash, style_hash = (hashed(elements.found[name]) for name in ("script", "style"))
    assert elements.policy == {
        **NEVER,
        "script-src": {script_hash, "'wasm-unsafe-eval'"},
        "style-src": {style_hash},
    }
    assert not re.search(r"(?<!\w)(https?:)?//\w+\.\w", re.sub(r"^ *// .*$", "", text, flags=re.MULTILINE))
    assert elements.found["style"].strip() == (sources / "page.css").read_text().strip()
    script = elements.found["script"]
    both = "\n".join((sources / name).read_text() for name in ("tutorial.js", "pad.js", "page.js"))
    assert script.strip() == build.escaped(both).strip()
    assert r'"<\/script><\!-- <\/SCRIPT>"' in script
    stored = {
        name.removeprefix("file:"): gzip.decompress(base64.b64decode(data))
        for name, data in elements.found.items()
        if name.startswith("file:")
    }
    assert stored == build.files(parts.kept(fakes))
    assert json.loads(stored["texts.json"]) == TEXTS
    assert stored["numpy.whl"] == (fakes / "numpy.whl").read_bytes()
    assert set(re.findall(r'"([\w.-]+\.(?:wasm|zip|json|whl|js|py|gz))"', SOURCE)) == set(stored)


@needs_markdown
def test_a_folder_has_everything(fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has the page, its two linked sources, and a script for each file that the page loads by name."""
    site = tmp_path / "site"
    line = ["build.py", "--folder", str(site), "--parts", str(fakes), "--offline", "--home", "../?a&b"]
    monkeypatch.setattr(sys, "argv", line)
    build.main()
    assert {path.name for path in site.iterdir()} == {"index.html", "page.css", "page.js", "files"}
    stored = {}
    for path in (site / "files").iterdir():
        found = re.fullmatch(r'packed\["(.*)"\] = "(.*)";\n', path.read_text())
        assert found
        assert path.name == f"{found[1]}.js"
        stored[found[1]] = gzip.decompress(base64.b64decode(found[2]))
    assert stored == build.files(parts.kept(fakes))
    elements = Elements((site / "index.html").read_text())
    assert set(elements.addresses) == {"data:,", "page.css", "page.js", "../?a&b"}
    assert elements.policy == {**NEVER, "script-src": {"'self'", "'wasm-unsafe-eval'"}, "style-src": {"'self'"}}


def test_without_markdown_the_command_says_what_to_install(
    fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tutorial's text cannot be rendered, and no page is written."""
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    monkeypatch.setattr(sys, "argv", ["build.py", str(tmp_path / "page.html"), "--parts", str(fakes), "--offline"])
    with pytest.raises(SystemExit, match=r"needs markdown-it-py: pip install markdown-it-py$"):
        build.main()
    assert not (tmp_path / "page.html").exists()


def test_a_wrong_part_is_refused(fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the part, and both hashes or what to run; no page is written."""
    data = (fakes / "numpy.whl").read_bytes()
    (fakes / "numpy.whl").write_bytes(data + b"!")
    hashes = f"must be {hashlib.sha256(data).hexdigest()}, got {hashlib.sha256(data + b'!').hexdigest()}"
    with pytest.raises(parts.PartsError, match=rf"numpy\.whl: the SHA-256 {hashes}"):
        parts.kept(fakes)
    (fakes / "numpy.whl").unlink()
    with pytest.raises(parts.PartsError, match=r"numpy\.whl: .* has no such file; run: python examples/browser/parts"):
        parts.kept(fakes)
    page_file = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["build.py", str(page_file), "--parts", str(fakes), "--offline"])
    with pytest.raises(SystemExit, match=r"numpy\.whl: .* has no such file"):
        build.main()
    assert not page_file.exists()


def test_a_wheel_of_other_sources_is_refused(fakes: Path) -> None:
    """A page would otherwise compare fingerprints of a program that is not the checkout's."""
    parts.kept(fakes)
    with zipfile.ZipFile(fakes / "funcnet.whl", "a") as wheel:
        wheel.writestr("funcnet/more.py", "")
    with pytest.raises(parts.PartsError, match=r"^funcnet\.whl: its sources are not those of this checkout; run: "):
        parts.kept(fakes)
    (fakes / "funcnet.whl").write_bytes(b"no archive")
    with pytest.raises(parts.PartsError, match=r"^funcnet\.whl: it is damaged; run: "):
        parts.kept(fakes)


def test_a_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    """The error names the part, the wheel and the file."""
    wheel = Path(shutil.make_archive(str(tmp_path / "some"), "zip", FOLDER, "page.css"))
    assert parts.member(wheel, "a", ("page.css",)) == (FOLDER / "page.css").read_bytes()
    with pytest.raises(parts.PartsError, match=r"^a: some\.zip has no file b$"):
        parts.member(wheel, "a", ("b",))


def refuse(_: Path) -> dict[str, Path]:
    """Fail in place of a download."""
    pytest.fail("the download begins")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offline"], "--offline needs --parts FOLDER"),
        (["a.html", "--folder", "site"], "give either a file or --folder, got a.html and --folder site"),
        (["folder"], "folder is a folder; give the name of a file, or --folder folder"),
        (["absent/a.html"], "absent/a.html: there is no folder absent"),
        (["--folder", "file"], "--folder file: a file has that name"),
        (["--parts", "file/parts"], "--parts file/parts: a file has that name, or the name of a folder above it"),
    ],
    ids=" ".join,
)
def test_settings_without_a_result_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command ends before the download, and says why."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
    monkeypatch.setattr(build, "parts", refuse)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        build.main()
    assert message in capsys.readouterr().err


def exit_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What parts.py returns for a folder."""
    monkeypatch.setattr(sys, "argv", ["parts.py", str(folder)])
    code: int = parts.main()
    return code


@pytest.mark.slow
def test_a_package_that_pip_cannot_download(
    fakes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It alone has its own exit code. The error has the command and pip's own message."""
    (fakes / "attrs.whl").unlink()
    monkeypatch.setitem(parts.PARTS, "attrs.whl", parts.Part(str(fakes / "absent.whl"), ""))
    assert exit_code(fakes, monkeypatch) == parts.CANNOT_DOWNLOAD
    assert re.search(r"(?s)pip fails: -m pip download .*absent\.whl\n.*absent\.whl", capsys.readouterr().err)


@pytest.mark.slow
def test_a_wheel_that_pip_cannot_build(
    fakes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a fault of the checkout."""
    monkeypatch.setattr(parts, "ROOT", fakes)
    assert exit_code(fakes, monkeypatch) == 1
    assert re.search(r"(?s)pip fails: -m pip wheel .*'pyproject\.toml'", capsys.readouterr().err)


def test_other_content_is_a_fault(
    fakes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part with one byte more fails, whether the folder has it or pip downloads it; the right parts do not."""
    built = Path(shutil.copy(fakes / "funcnet.whl", fakes / "built.whl"))

    def pip(_: str, command: str, *__: str) -> Path:
        return fakes / "attrs.whl" if command == "download" else built

    monkeypatch.setattr(parts, "_pip", pip)
    assert exit_code(fakes, monkeypatch) == 0
    (fakes / "numpy.whl").write_bytes((fakes / "numpy.whl").read_bytes() + b"!")
    assert exit_code(fakes, monkeypatch) == 1
    (fakes / "numpy.whl").unlink()
    assert exit_code(fakes, monkeypatch) == 1  # the content of attrs.whl
    assert capsys.readouterr().err.count("numpy.whl: the SHA-256 must be") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("code", "error"), [(3, NotTriedError), (1, RuntimeError), (2, RuntimeError)])
def test_a_cell_of_webassembly_without_its_parts(
    code: int, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that pip cannot download is not tried; any other fault fails, with the last line as its reason."""
    assert wasm.CANNOT_DOWNLOAD == parts.CANNOT_DOWNLOAD
    program = tmp_path / "parts.py"
    program.write_text(f"import sys; print('first\\nthe reason', file=sys.stderr); sys.exit({code})")
    monkeypatch.setattr(wasm, "PARTS", program)
    with pytest.raises(error, match=r"^parts\.py fails: the reason$"):
        wasm.collect(tmp_path)


def test_a_text_without_a_program_is_refused(tmp_path: Path) -> None:
    """The error names the file and the text that the program should follow."""
    (tmp_path / "a.md").write_text("# Title\n\n```text\n1\n```\n")
    with pytest.raises(ValueError, match=r"a\.md: no program with its output follows '# Title'"):
        build.blocks(tmp_path / "a.md", "# Title")


# --------------------------------------------------------------------------------------------- the browser

PLACE = os.environ.get("FUNCNET_BROWSER", "")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("FUNCNET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
PATIENCE = 900
needs_browser = pytest.mark.skipif(
    not PLACE, reason="FUNCNET_BROWSER names no folder with the parts of examples/browser/parts.py"
)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on the path, nor in FUNCNET_CHROMIUM")


def console(address: str, profile: Path) -> list[str]:
    """The messages on the console of headless Chromium, which finds no host, until everything has run."""
    line = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", address]
    hosts = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    line += ["--enable-logging=stderr", f"--user-data-dir={profile}", hosts]
    log = profile.with_suffix(".log")
    with log.open("wb") as stream, subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=stream) as browser:
        begin = time.monotonic()
        while not re.search(r'"funcnet: (end"|failed)', log.read_text(errors="replace")):
            if browser.poll() is not None or time.monotonic() - begin > PATIENCE:
                break
            time.sleep(0.2)
        browser.terminate()
    return re.findall(r":CONSOLE[:(]\d+\)?\] \"(.*)\", source: ", log.read_text(errors="replace"))


class Quiet(SimpleHTTPRequestHandler):
    """The handler of ``python -m http.server``, without its lines on stderr."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


@contextmanager
def built(form: str, folder: Path) -> Generator[str]:
    """Build the page, and yield its address: of the file, of the folder's index, or of a server of the folder."""
    place = folder / ("page.html" if form == "file" else "site")
    given = argparse.Namespace(file=place, folder=None if form == "file" else place, home=None)
    build.write(given, build.files(parts.kept(Path(PLACE))))
    if form != "server":
        yield (place if form == "file" else place / "index.html").as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def verdicts(said: list[str]) -> dict[str, tuple[str, str]]:
    """What the page says of each lesson and cell: the verdict, and what it printed."""
    words = "same|different|error|exercise|solved"
    found = re.findall(rf"^funcnet: ([\w:]+) ({words}) (.*)$", "\n".join(said), re.MULTILINE)
    return {name: (verdict, json.loads(own)) for name, verdict, own in found}


def expected_of(part: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """What the page must say of the cells of a part; an exercise prints that it is not solved yet."""
    programs = [cell for cell in part["cells"] if "source" in cell]
    return {
        f"{part['name']}:{number}": ("exercise", None) if "exercise" in cell else ("same", cell.get("output", ""))
        for number, cell in enumerate(programs, 1)
        if "processes" not in cell
    }


@pytest.mark.slow
@needs_browser
@needs_chromium
@needs_markdown
@pytest.mark.parametrize(("form", "run"), [("folder", "#all"), ("file", "#run"), ("server", "#run")])
def test_a_browser_computes_the_same_bits(
    form: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page runs everything within its policy: each output is the text's, and the console has no other line."""
    expected: dict[str, tuple[str, str | None]] = {}
    for part in textbook.textbook(build.EXAMPLES / "tutorial") if run == "#all" else ():
        expected |= expected_of(part)
    with built(form, tmp_path) as address:
        said = console(address + run, tmp_path / "profile")
    assert all(line.startswith("funcnet: ") for line in said), said
    assert said[-1] == "funcnet: end"
    with capsys.disabled():
        print("", *(line for line in said if "seconds" in line), sep=f"\n{form}: ")  # noqa: T201  # for the reader
    found = verdicts(said)
    texts = {**TEXTS, "fingerprint": TEXTS["fingerprint"]["output"], "reference": REFERENCE}
    for name, text in texts.items():
        verdict, own = found.pop(name)
        assert (name, verdict, own.strip()) == (name, "same", text.strip())
    for name, (verdict, text) in expected.items():
        said_of_it, own = found.pop(name, ("not run", ""))
        assert (said_of_it, own) == (verdict, own if text is None else text), name
        assert text is not None or re.match(r"Exercise \d+: not solved yet", own), name
    assert found == {}


@pytest.mark.slow
@needs_browser
@needs_chromium
@needs_markdown
@pytest.mark.parametrize("form", ["file", "server"])
def test_a_browser_sees_another_output(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with one digit changed is different, and the other cells of the part are the same."""
    read = build.textbook

    def planted(folder: Path) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read(folder)
        fault = next(cell for cell in found[1]["cells"] if re.search(r"\d", cell.get("output", "")))
        fault["output"] = re.sub(r"\d", lambda digit: str(9 - int(digit[0])), fault["output"], count=1)
        return found

    monkeypatch.setattr(build, "textbook", planted)
    name = read(build.EXAMPLES / "tutorial")[1]["name"]
    with built(form, tmp_path) as address:
        said = console(f"{address}#run:{name}", tmp_path / "profile")
    assert said[-1] == "funcnet: end", said
    counts = Counter(verdict for cell, (verdict, _) in verdicts(said).items() if cell.startswith(name))
    assert counts["different"] == 1
    assert counts["same"] > 5
    assert counts["error"] == 0
