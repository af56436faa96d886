"""Check a site's own links: every address leads to a file and to an id in it, and the ids of a page are unique.

Links to other sites are not followed, and the class-room makes the sections that a link to it names by a script.

Run: python examples/site/links.py build/site
"""

from __future__ import annotations

import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the id and the addresses of an element."""
        given = {name: value for name, value in attrs if value}
        self.ids.update([given["id"]] if "id" in given else [])
        self.ids.update({given["name"]} - {given.get("id")} if tag == "a" and "name" in given else [])
        self.addresses |= {given[name] for name in ("href", "src") if name in given}


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the links of the pages in a folder, a line for each fault."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found: list[str] = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        found += [f"{name}: the id {each} occurs {count} times" for each, count in page.ids.items() if count > 1]
        for address in sorted(page.addresses):
            target, anchor = _target(path, address)
            if not target.is_file():
                found.append(f"{name}: {address} leads to no file")
            elif anchor and target in pages and target.parent.name != "classroom" and anchor not in pages[target].ids:
                found.append(f"{name}: {address} leads to no id")
    return found


def _target(path: Path, address: str) -> tuple[Path, str]:
    """Return the file and the anchor that an address on a page leads to; the page itself for another site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return path, ""
    return (path.parent / unquote(parts.path)).resolve() if parts.path else path, unquote(parts.fragment)


def main() -> None:
    """Print the faults; the exit code is 1 if there are any."""
    found = faults(Path(sys.argv[1]))
    print("\n".join(found) or "every link leads to a file, or to an id in it")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
