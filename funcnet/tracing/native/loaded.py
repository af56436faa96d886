"""The compiled interpreter, if it is there, was built from this version and for this NumPy, and is not turned off.

Every import of funcnet runs this module, so it imports what opens the interpreter only if there is one.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import TYPE_CHECKING, Final

VARIABLE: Final = "FUNCNET_NATIVE"
"""The environment variable with the folder of the interpreter; 0 turns it off."""
NAME: Final = f"replay{EXTENSION_SUFFIXES[0]}"


def _loaded() -> tuple[ModuleType | None, str]:
    """Return the interpreter, or None, and what computes replays."""
    folder = os.environ.get(VARIABLE, "") or os.path.dirname(__file__)  # noqa: PTH120  # pathlib takes a while to import
    path = os.path.join(folder, NAME)  # noqa: PTH118  # as above
    if folder == "0" or not os.path.isfile(path):  # noqa: PTH113  # as above
        return None, "python"
    from funcnet.tracing.native.compiled import opened  # noqa: PLC0415  # only if there is an interpreter

    return opened(path)


_found: Final = _loaded()
STATE: Final = _found[1]
"""What computes replays: "native" or "python", and why an interpreter that was found is not used."""
if TYPE_CHECKING:
    from funcnet.tracing.native import replay as replay  # noqa: PLC0414  # exported
else:
    replay = _found[0]
