"""Structs only grow at their end: their layout, held to structs.txt.

    python3 tests/abi/test_structs.py --write    after a struct has grown

The list is of systems with pointers of 64 bits.  CC is the compiler.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = pathlib.Path(__file__).with_name("structs.txt")
HEADER = (ROOT / "include" / "minke.h").read_text("utf-8")
CC = shlex.split(os.environ.get("CC") or "cc")

Layout = dict[str, tuple[int, int]]     # offset and size by field; "" is the struct


def declared() -> dict[str, list[str]]:
    """Structs of the header with the names of their fields, in order."""
    text = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
    structs = re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", text, re.S)
    return {name: [re.search(r"(\w+)$", field.strip())[1]
                   for field in body.split(";") if field.strip()]
            for name, body in structs}


def compiled() -> dict[str, Layout]:
    lines = [f'    printf("{name} {field} %zu %zu\\n", offsetof({name}, {field}), '
             f"sizeof((({name} *)0)->{field}));"
             for name, fields in declared().items() for field in fields]
    lines += [f'    printf("{name} - %zu %zu\\n", sizeof(void *), sizeof({name}));'
              for name in declared()]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "layout.c"
        source.write_text("#include <minke.h>\n#include <stdio.h>\nint main(void)\n{\n"
                          + "\n".join(lines) + "\n    return 0;\n}\n")
        subprocess.run([*CC, f"-I{ROOT / 'include'}", str(source), "-o", f"{folder}/layout"],
                       check=True)
        return read(subprocess.run([f"{folder}/layout"], check=True, capture_output=True,
                                   text=True).stdout)


def read(text: str) -> dict[str, Layout]:
    found: dict[str, Layout] = {}
    for line in text.splitlines():
        name, field, offset, size = line.split()
        found.setdefault(name, {})[field] = (int(offset), int(size))
    return found


def faults(then: dict[str, Layout], now: dict[str, Layout]) -> list[str]:
    """What in now would break a binary that was built for then."""
    wrong = []
    for name, old in then.items():
        new = now.get(name, {})
        wrong += [f"{name}.{field}: {place} became {new.get(field)}"
                  for field, place in old.items()
                  if field != "-" and new.get(field) != place]
        wrong += [f"{name}.{field}: added at {offset}, inside of what was"
                  for field, (offset, _) in new.items()
                  if field not in old and offset < old["-"][1]]
    return wrong


class Structs(unittest.TestCase):
    def test_layout_is_the_listed_one(self) -> None:
        now = compiled()
        if next(iter(now.values()))["-"][0] != 8:
            self.skipTest("pointers are not of 64 bits")
        self.assertEqual(faults(read(LIST.read_text()), now), [])
        self.assertEqual(read(LIST.read_text()), now, "a struct has grown: run with --write")

    def test_no_struct_ends_in_padding(self) -> None:
        """A field that is added later would lie in bytes that old callers did not set."""
        for name, layout in compiled().items():
            end = max(offset + size for field, (offset, size) in layout.items() if field != "-")
            self.assertEqual(end, layout["-"][1], name)

    def test_changes_that_break_are_found(self) -> None:
        then = {"s": {"-": (8, 16), "a": (0, 4), "b": (8, 8)}}
        self.assertEqual(faults(then, {"s": {"-": (8, 24), "a": (0, 4), "b": (8, 8),
                                             "c": (16, 8)}}), [])
        self.assertEqual(len(faults(then, {"s": {"-": (8, 16), "a": (0, 4), "b": (8, 8),
                                                 "c": (4, 4)}})), 1)
        self.assertEqual(len(faults(then, {"s": {"-": (8, 16), "b": (8, 8)}})), 1)
        self.assertEqual(len(faults(then, {"s": {"-": (8, 16), "a": (4, 4), "b": (8, 8)}})), 1)
        self.assertEqual(len(faults(then, {})), 2)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        LIST.write_text("".join(f"{name} {field} {offset} {size}\n"
                                for name, layout in compiled().items()
                                for field, (offset, size) in layout.items()))
    else:
        unittest.main(verbosity=2)
