"""Print what include/minke.h says about itself: "version" (0.1.0) or "abi" (1)."""

import pathlib
import re
import sys

HEADER = pathlib.Path(__file__).resolve().parent.parent / "include" / "minke.h"


def number(name: str) -> str:
    found = re.search(rf"^#define MINKE_{name} (\d+)", HEADER.read_text("utf-8"), re.M)
    if found is None:
        sys.exit(f"{HEADER}: no #define MINKE_{name}")
    return found.group(1)


if sys.argv[1:] == ["abi"]:
    print(number("ABI"))
else:
    print(".".join(number("VERSION_" + part) for part in ("MAJOR", "MINOR", "PATCH")))
