"""Build a page that runs funcnet and its tutorial in the browser: one HTML file, or a folder.

Both open by a double click and need no network. The file has everything in it, compressed. The folder has scripts that
the page loads when it needs them, so that it starts sooner; a web server can serve it as well. The parts come from PyPI
by pip (see ``parts.py``), and markdown-it-py, of the extra ``docs``, renders the tutorial's text.

Run: python examples/browser/build.py funcnet.html
     python examples/browser/build.py --folder classroom
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import re
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final

from parts import ROOT, PartsError, kept, parts
from textbook import textbook

HERE: Final = Path(__file__).resolve().parent
EXAMPLES: Final = ROOT / "examples"
SOURCES: Final = {"page.css": ("page.css",), "page.js": ("tutorial.js", "pad.js", "page.js")}
"""What ``page.html`` links, and the files that are joined for it."""

INLINE: Final = {
    "page.css": ("style-src", '<link rel="stylesheet" href="page.css">', "<style>", "</style>"),
    "page.js": ("script-src", '<script src="page.js" defer></script>', '<script type="module">', "</script>"),
}
"""Where the single file has the sources: the directive of the page's policy that allows them, what loads them in
``page.html``, and what replaces it."""

HOME: Final = '  <p><a href="HOME">Documentation</a></p>\n'
"""The line of ``page.html`` with the link to the documentation."""


def blocks(path: Path, begin: str) -> tuple[str, str]:
    """Return the first block of code after a text, and the printed text that follows it.

    Args:
        path: A file of the documentation.
        begin: A text in the file; the two blocks are the first ones after it.
    """
    rest = path.read_text(encoding="utf-8").partition(begin)[2]
    code = re.search(r"```python\n(.*?)```|^# %%\n(.*?)^# %%", rest, re.DOTALL | re.MULTILINE)
    output = re.search(r"```text\n(.*?)```", rest, re.DOTALL)
    if code is None or output is None:
        raise ValueError(f"{path}: no program with its output follows {begin!r}")
    return code[1] or code[2], output[1]


def texts() -> dict[str, object]:
    """Return what the documentation prints, which the page compares with what the browser prints."""
    tutorial = EXAMPLES / "tutorial"
    digits = tutorial / "part_04_digits.py"
    program, output = blocks(EXAMPLES / "guides" / "reproducibility.md", "# Reproducibility")
    return {
        "fingerprint": {"program": program, "output": output},
        "xor": blocks(ROOT / "README.md", "# funcnet")[1],
        "ring": blocks(tutorial / "part_09_own_layer.py", "## Training")[1],
        "digits": "".join(blocks(digits, begin)[1] for begin in ("## Training", "## The fingerprint")),
    }


def files(found: dict[str, Path]) -> dict[str, bytes]:
    """Return all that the page loads, by the names that ``page.js`` uses."""
    sources = {name: HERE / name for name in ("worker.js", "page.py", "strokes.py", "cells.py")}
    loaded = {name: path.read_bytes() for name, path in (sources | found).items() if name != "pyodide.mjs"}
    written = {"texts.json": texts(), "tutorial.json": textbook(EXAMPLES / "tutorial")}
    return {name: json.dumps(value).encode() for name, value in written.items()} | loaded


def document(home: str | None) -> str:
    """Return the page, with a link to the documentation if its address is given."""
    page = (HERE / "page.html").read_text(encoding="utf-8")
    return page.replace(HOME, "" if home is None else HOME.replace("HOME", escape(home)))


def source_of(name: str) -> str:
    """Return a source that the page links."""
    return "\n".join((HERE / each).read_text(encoding="utf-8") for each in SOURCES[name])


def single(loaded: dict[str, bytes], home: str | None = None) -> str:
    """Return the page as one HTML file. Its policy allows two sources, by their hashes."""
    page = document(home)
    for name, (directive, link, begin, end) in INLINE.items():
        source = "\n" + escaped(source_of(name))
        sha256 = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        page = page.replace(f"{directive} 'self'", f"{directive} 'sha256-{sha256}'")
        page = page.replace(link, f"{begin}{source}{end}")
    stored = (f'<script type="text/plain" id="file:{name}">{packed(data)}</script>\n' for name, data in loaded.items())
    return page.replace("</body>", f"{''.join(stored)}</body>")


def packed(data: bytes) -> str:
    """Return a file as gzip in base64."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def folder(loaded: dict[str, bytes], home: str | None = None) -> dict[str, str]:
    """Return the page as files by their names. Scripts have the data, because a page from a file may load no other."""
    data = {f"files/{name}.js": f'packed["{name}"] = "{packed(each)}";\n' for name, each in loaded.items()}
    return {"index.html": document(home), **{name: source_of(name) for name in SOURCES}, **data}


def escaped(source: str) -> str:
    """Return a source that no HTML parser takes for the end of its element, or for a comment."""
    return re.sub(r"<(/script|/style|!--)", r"<\\\1", source, flags=re.IGNORECASE)


def settings() -> argparse.Namespace:
    """Return the settings of the command line; what cannot be written is refused before the download."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, nargs="?", help="the HTML file; funcnet.html by default")
    parser.add_argument("--folder", type=Path, help="write files to this folder instead; it opens at index.html")
    parser.add_argument("--home", help="the address of the documentation, for a link at the top of the page")
    parser.add_argument("--parts", type=Path, help="keep the parts in this folder, and use those that it has")
    parser.add_argument("--offline", action="store_true", help="only use the parts of that folder")
    given = parser.parse_args()
    if given.offline and given.parts is None:
        parser.error("--offline needs --parts FOLDER, a folder with the parts")
    if given.file is not None and given.folder is not None:
        parser.error(f"give either a file or --folder, got {given.file} and --folder {given.folder}")
    given.file = given.file or Path("funcnet.html")
    if given.folder is None and given.file.is_dir():
        parser.error(f"{given.file} is a folder; give the name of a file, or --folder {given.file}")
    if given.folder is None and not given.file.absolute().parent.is_dir():
        parser.error(f"{given.file}: there is no folder {given.file.parent}")
    for option, folder in (("--folder", given.folder), ("--parts", given.parts)):
        if folder is not None and not next(filter(Path.exists, (folder, *folder.absolute().parents))).is_dir():
            parser.error(f"{option} {folder}: a file has that name, or the name of a folder above it")
    return given


def write(given: argparse.Namespace, loaded: dict[str, bytes]) -> str:
    """Write the page, and return what was written."""
    if given.folder is None:
        given.file.write_text(single(loaded, given.home), encoding="utf-8")
        return f"{given.file}: {given.file.stat().st_size / 1e6:.1f} MB; open it in a browser"
    (given.folder / "files").mkdir(parents=True, exist_ok=True)
    written = folder(loaded, given.home)
    for name, text in written.items():
        (given.folder / name).write_text(text, encoding="utf-8")
    return f"{given.folder}: {sum(map(len, written.values())) / 1e6:.1f} MB; open {given.folder / 'index.html'}"


def main() -> None:
    """Collect the parts and write the page."""
    given = settings()
    with tempfile.TemporaryDirectory() as directory:
        try:
            loaded = files((kept if given.offline else parts)(given.parts or Path(directory)))
            print(write(given, loaded))
        except (PartsError, OSError) as error:
            sys.exit(str(error))
        except ModuleNotFoundError as error:
            sys.exit(f"{error}; the text of the tutorial needs markdown-it-py: pip install markdown-it-py")


if __name__ == "__main__":
    main()
