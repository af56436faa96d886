"""The documentation site: it has a page for everything, its links lead somewhere, and a browser finds and shows it.

With ``FUNCNET_SITE``, the folder of a site that ``examples/site/build_site.py`` has built, the pages are opened in
headless Chromium.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import quote_plus

import pytest
from surroundings import ROOT

import funcnet as fn

pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples" / "site"
if not FOLDER.exists() or not (ROOT / "README.md").exists():
    pytest.skip("the examples and the README are not next to the tests", allow_module_level=True)
if not all(map(find_spec, ("jupytext", "sphinx", "furo", "myst_nb", "sphinx_design"))):
    pytest.skip("the extra 'docs' is not installed", allow_module_level=True)


def module(name: str) -> ModuleType:
    """A module of the site, which finds the others beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


build_site, gallery, links, reference, staging = map(module, ("build_site", "gallery", "links", "reference", "staging"))


# --------------------------------------------------------------------------------------------- the sources


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the site, without a run."""
    folder = tmp_path_factory.mktemp("pages")
    staging.stage(folder, {}, {}, classroom=True)
    return folder


def test_everything_has_a_page_that_the_contents_lead_to(staged: Path) -> None:
    """Each guide, part, solution and example is a page, and the contents of its folder have it once."""
    for folder, sources in {
        "guides": sorted((ROOT / "examples" / "guides").glob("*.md")),
        "tutorial": sorted((ROOT / "examples" / "tutorial").glob("part_*.py")),
        "gallery": sorted((ROOT / "examples").glob("*.py")),
    }.items():
        index = (staged / folder / "index.md").read_text()
        assert len(sources) >= 10
        for source in sources:
            assert len(list((staged / folder).glob(f"{source.stem}.*"))) == 1, source
            contents = index.count(f"\n{source.stem}\n")
            assert contents == (not source.stem.endswith("_solutions")), source


def test_the_tables_name_files() -> None:
    """Each example has a title, the examples with MNIST load it, and groups and terms name what exists."""
    sources = {path.stem: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert set(gallery.TABLE) == set(sources)
    assert {name for name, text in sources.items() if "load_mnist" in text} == gallery.MNIST
    guides = {path.stem for path in (ROOT / "examples" / "guides").glob("*.md")}
    assert {name for names in staging.GROUPS.values() for name in names} <= guides
    known = {path.name: path for path in staging.pages() if path.parent.name in ("guides", "tutorial", "examples")}
    for name, heading in staging.TERMS:
        source = known[name].read_text()
        assert not heading or re.search(rf"^(\"\"\")?#+ {re.escape(heading)}$", source, re.MULTILINE), (name, heading)
    terms = ", ".join(staging.TERMS.values()).split(", ")
    assert len(terms) == len(set(terms))


def test_a_part_has_its_links(staged: Path) -> None:
    """Below its title stand the class-room, the notebook and the solutions, and the index has its terms."""
    page = json.loads((staged / "tutorial" / "part_07_overfitting.ipynb").read_text())
    text = "".join(page["cells"][0]["source"])
    assert text.startswith("# Part 7. Overfitting\n\n<a href=")
    assert "```{index} ! overfitting, ! regularization\n```" in text
    assert '<a href="../classroom/index.html#part_07_overfitting">' in text
    assert "(path:../files/part_07_overfitting.ipynb)" in text
    assert "(part_07_solutions.ipynb)" in text
    assert (staged / "files" / "part_07_overfitting.ipynb").exists()
    solutions = json.loads((staged / "tutorial" / "part_07_solutions.ipynb").read_text())
    assert "(part_07_overfitting.ipynb)" in "".join(solutions["cells"][0]["source"])
    said = "".join("".join(cell["source"]) for cell in page["cells"])
    assert "```{index} ! early stopping" in said
    assert "[`part_07_solutions.py`](part_07_solutions.ipynb)" in said
    assert "Next, [part 8](part_08_bits.ipynb): how" in said
    assert "part_07_overfitting.ipynb)" not in said.replace("(path:../files/part_07_overfitting.ipynb)", "")
    assert "[Part 8. The same bits](part_08_bits.ipynb): how" in (staged / "tutorial" / "index.md").read_text()


def test_links_become_links_of_the_site(tmp_path: Path) -> None:
    """A file without a page is copied, blocks of code stay, and a wrong link is refused."""
    source = ROOT / "examples" / "guides" / "networks.md"

    def linked(text: str) -> str:
        result: str = staging.linked(text, source, "guides/networks.md", tmp_path)
        return result

    for link, expected in {
        "[a](../digits.py)": "[a](../gallery/digits.md)",
        "[a](results.md#mnist-better)": "[a](results.md#mnist-better)",
        "[a](..)": "[a](../gallery/index.md)",
        "[a](../tutorial/part_01_neuron.py)": "[a](../tutorial/part_01_neuron.ipynb)",
        "[a](https://a.b/c)": "[a](https://a.b/c)",
        "[a](#types)": "[a](#types)",
        "[a](../../LICENSE)": "[a](../files/LICENSE)",
        "`fn.fit` and `fn.fit(x)`": "{py:obj}`fn.fit <funcnet.fit>` and `fn.fit(x)`",
        "```python\n[a](../digits.py)\n```\n": "```python\n[a](../digits.py)\n```\n",
    }.items():
        assert linked(link) == expected
    assert (tmp_path / "files" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"networks\.md: the link absent\.md leads to no file"):
        linked("[a](absent.md)")


def test_a_failing_program_stops_the_build(tmp_path: Path) -> None:
    """An example and a part that raise an error, and Sphinx after a warning."""
    (tmp_path / "pages").mkdir()
    program = tmp_path / "part_99_wrong.py"
    program.write_text('# %% [markdown]\n"""# Wrong"""\n\n# %%\nprint(1)\nraise ValueError("planted")\n')
    with pytest.raises(RuntimeError, match="planted"):
        gallery.run(program, tmp_path / "run")
    with pytest.raises(Exception, match="planted"):
        build_site.run_notebook(program)
    (tmp_path / "pages" / "index.md").write_text("# Title\n\n[a](absent.md)\n")
    assert build_site.run_sphinx(tmp_path / "pages", tmp_path / "site") != 0


def test_an_example_shows_its_output_and_its_figure(tmp_path: Path) -> None:
    """The page has the command, what it prints, the figure with a text in its place, and the source."""
    source = tmp_path / "own_layer.py"
    source.write_text('"""Draw."""\nfrom pathlib import Path\n\nPath("a.png").touch()\nprint("drawn")\n')
    done = gallery.run(source, tmp_path / "run")
    page = gallery.page(source, done, tmp_path)
    assert "`python examples/own_layer.py` prints:\n\n```text\ndrawn\n```" in page
    assert "![The figure of own_layer.py: Draw.](own_layer_a.png)" in page
    assert (tmp_path / "own_layer_a.png").exists()
    assert f"```python\n{source.read_text().rstrip()}\n```" in page
    assert "without running" in gallery.page(source, None, tmp_path)


def test_a_guide_shows_the_pictures_of_its_programs(tmp_path: Path) -> None:
    """Each follows its program and the output, in the order in which the program saves them."""
    (tmp_path / "z.png").touch()
    (tmp_path / "a.png").touch()
    runs = {"plots_1.py": gallery.Run("1\n", (tmp_path / "a.png", tmp_path / "z.png"))}
    text = "# T\n\n```python\n# no\n```\n\n## H\n\n```python\n# save z.png, a.png\n```\n\n```text\n1\n```\n{}\nEnd.\n"
    pictures = "\n![Picture z.png: H](plots_z.png)\n\n![Picture a.png: H](plots_a.png)\n"
    assert staging.illustrated(text.format(""), "plots", runs, tmp_path / "guides") == text.format(pictures)
    assert {path.name for path in (tmp_path / "guides").iterdir()} == {"plots_a.png", "plots_z.png"}
    assert staging.illustrated(text.format(""), "plots", {}, tmp_path) == text.format("")
    programs = staging.drawings(tmp_path / "programs")
    assert len([path for path in programs if path.stem.startswith("plots_")]) == 7


@pytest.mark.parametrize("name", ["a file", "a folder"])
def test_other_things_are_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that has no site stays as it is."""
    (tmp_path / "keep").write_text("this")
    monkeypatch.setattr(sys, "argv", ["build_site.py", str(tmp_path / "keep" if name == "a file" else tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        build_site.main()
    assert (tmp_path / "keep").read_text() == "this"


# --------------------------------------------------------------------------------------------- the reference


def test_every_public_name_stands_in_the_reference_once() -> None:
    """A name appears as a class, a function, a type, or a module with its members."""
    text = "\n".join(reference.pages().values())
    for name in dir(fn):
        entry = rf"\.\. (?:auto(?:class|function)|py:data|py:module):: funcnet\.{name}$"
        assert len(re.findall(rf"^{entry}", text, re.MULTILINE)) == 1, name
    for name in reference.ALIASES:
        assert re.search(rf"^\.\. py:data:: funcnet\.{name}\n\n   \S", text, re.MULTILINE), name


def test_the_reference_misses_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an optional library, ``dir`` has fewer names, and the reference raises an error."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "funcnet.plots", raising=False)
    monkeypatch.delattr(fn, "plots", raising=False)
    with pytest.raises(ImportError, match="matplotlib"):
        reference.pages()


def test_every_section_has_names() -> None:
    """A section without names would mean that a module moved."""
    found = reference.sections()
    assert list(found) == list(reference.SECTIONS)
    assert next(iter(found["Layers"])) == "funcnet.layers.dense"
    passes = found["Networks"]["funcnet.network.passes"]
    assert passes.index("forward") < passes.index("backward")


# --------------------------------------------------------------------------------------------- the links


def test_the_checker_finds_planted_faults(tmp_path: Path) -> None:
    """A link to no file, one to no id, and an id that occurs twice; other sites are not followed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.html").write_text('<p id="x"><a name="y"><a href="../c.html#z"><a href="#x">')
    (tmp_path / "c.html").write_text(
        '<p id="z"><a href="a/b.html#x"><a href="a/b.html#y"><a href="http://a/#d"><a href="data:,"><img src="a/d%20e">'
    )
    (tmp_path / "a" / "d e").touch()
    assert links.faults(tmp_path) == []
    (tmp_path / "d.html").write_text(
        '<p id="x"><p id="x"><a href="absent.html"><img src="no.png"><a href="c.html#x"><a href="#y"><a href="a/">'
    )
    assert links.faults(tmp_path) == [
        "d.html: the id x occurs 2 times",
        "d.html: #y leads to no id",
        "d.html: a/ leads to no file",
        "d.html: absent.html leads to no file",
        "d.html: c.html#x leads to no id",
        "d.html: no.png leads to no file",
    ]


# --------------------------------------------------------------------------------------------- the pages

SITE: Final = os.environ.get("FUNCNET_SITE", "")
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM: Final = os.environ.get("FUNCNET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that ``FUNCNET_SITE`` names, or one that is built without runs."""
    if SITE:
        return Path(SITE).resolve()
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(FOLDER / "build_site.py"), str(folder), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder


def test_it_is_whole(site: Path) -> None:
    """Links work, signatures have aliases and values, pictures have texts, and no page loads from elsewhere."""
    assert links.faults(site) == []
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    texts = "\n".join(text for path, text in pages.items() if "reference" in path.parts)
    for name in dir(fn):
        assert re.search(rf'id="(?:module-)?funcnet\.{name}"', texts), name
    for path, text in pages.items():
        assert "TypeAliasForwardRef" not in text, path
        assert "attr_dict" not in text, path
        assert not re.search(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//', text), path
        assert not re.search(r"<img\b(?![^>]*\balt=\"[^\"])", text), path


class Browser:
    """Headless Chromium, which takes commands of the DevTools protocol from a pipe."""

    def __init__(self, profile: Path) -> None:
        (reads, self.writes), (self.reads, writes) = os.pipe(), os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        shell = ["sh", "-c", f'exec "$@" 3</dev/fd/{reads} 4>/dev/fd/{writes}', "sh", CHROMIUM, *options]
        self.process = subprocess.Popen(shell, pass_fds=(reads, writes), stderr=subprocess.DEVNULL)
        os.close(reads)
        os.close(writes)
        self.count, self.rest = 0, b""
        self.session: Mapping[str, str] = {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.ask("Page.enable")

    def message(self) -> dict[str, Any]:
        """The next message of the browser."""
        while b"\0" not in self.rest:
            data = os.read(self.reads, 1 << 20)
            assert data, "Chromium has ended"
            self.rest += data
        text, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of a command."""
        self.count += 1
        text = json.dumps({"id": self.count, "method": method, "params": parameters, **self.session})
        os.write(self.writes, text.encode() + b"\0")
        while (found := self.message()).get("id") != self.count:
            pass
        result: dict[str, Any] = found["result"]
        return result

    def open(self, address: str, width: int = 1200, scheme: str = "light") -> None:
        """Open a page, and wait until it is loaded."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=address)
        while self.message().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """The value of an expression on the page, or of its promise."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    """Chromium, for all tests."""
    if not SITE:
        pytest.skip("FUNCNET_SITE names no folder with a site")
    if not CHROMIUM:
        pytest.skip("there is no Chromium on the path, nor in FUNCNET_CHROMIUM")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.process.terminate()
    browser.process.wait()


FIRST: Final = """new Promise(done => {
    const begin = Date.now();
    const look = () => {
        const link = document.querySelector("#search-results ul.search li > a");
        if (link || Date.now() - begin > 20000) done(link ? link.href : "nothing");
        else setTimeout(look, 50);
    };
    look();
})"""


@pytest.mark.parametrize(
    ("term", "page"),
    {
        "early stopping": "tutorial/part_07_overfitting",
        "overfitting": "tutorial/part_07_overfitting",
        "dropout": "tutorial/part_07_overfitting",
        "learning rate": "guides/learning_rates",
        "backpropagation": "tutorial/part_02_layer",
        "softmax": "tutorial/part_04_digits",
        "convolution": "tutorial/part_10_convolution",
        "confusion matrix": "guides/plots",
        "save a network": "guides/networks",
        "cross-validation": "guides/cross_validation",
        "Epoch": "tutorial/glossary",
        "vanishing gradient": "tutorial/part_11_recurrent",
        "How do I load the weights?": "guides/networks",
        "regression": "gallery/regression",
        "predict probabilities": "guides/networks",
        "GPU": "guides/coming_from",
        "LSTM": "tutorial/part_11_recurrent",
        "validation set": "tutorial/part_07_overfitting",
        "class weights": "guides/imbalance",
        "random seed": "tutorial/part_08_bits",
        "plot loss": "guides/plots",
        "train_epoch": "reference/training",
    }.items(),
)
def test_a_search_finds_the_right_page_first(term: str, page: str, site: Path, browser: Browser) -> None:
    """The search works from files."""
    browser.open(f"{site.as_uri()}/search.html?q={quote_plus(term)}")
    assert re.split(r"\.html", str(browser.value(FIRST)))[0] == f"{site.as_uri()}/{page}"


COLORS: Final = """(() => {
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const style = getComputedStyle(document.body);
    return [style.backgroundColor, style.color].map(text => light(text.match(/[\\d.]+/g).map(Number)));
})()"""


def test_no_page_is_wider_than_a_telephone(site: Path, browser: Browser) -> None:
    """At 380, 800 and 1200 pixels no page scrolls sideways; the text has contrast in light and in dark mode."""
    names = [path for path in site.rglob("*.html") if "_modules" not in path.parts and "classroom" not in path.parts]
    for path in names:
        for width, scheme in ((380, "light"), (800, "dark"), (1200, "light")):
            browser.open(path.as_uri(), width, scheme)
            assert browser.value("document.documentElement.scrollWidth") <= width, (path, width)
            assert browser.value("document.body.scrollWidth") <= width, (path, width)
            ground, text = browser.value(COLORS)
            assert (ground < text) == (scheme == "dark")
            assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 7, path


def test_the_measures_notice_a_wide_page(browser: Browser, tmp_path: Path) -> None:
    """A page with a wide block is wider than the window, and gray on gray has no contrast."""
    page = tmp_path / "wide.html"
    page.write_text('<body style="background: #777; color: #888"><div style="width: 900px">a</div>')
    browser.open(page.as_uri(), 380)
    assert browser.value("document.documentElement.scrollWidth") > 380
    ground, text = browser.value(COLORS)
    assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) < 7
