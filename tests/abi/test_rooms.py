"""A room uses what stands below it, in its includes and in its links.

The rooms' order is that of lib/meson.build.  MINKE_OBJECTS names the archive of all objects.
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
LIB = ROOT / "lib"
CC = shlex.split(os.environ.get("CC") or "cc")
# Headers of C itself, of processors, and of oneDNN.
PORTABLE = {"assert.h", "errno.h", "fenv.h", "float.h", "math.h", "stdarg.h", "stddef.h", "stdint.h",
            "string.h", "arm_neon.h", "cpuid.h", "immintrin.h", "dnnl.h"}

sys.path.insert(0, str(LIB))
import amalgamate  # noqa: E402


def rooms() -> list[str]:
    """Folders of lib/ from the lowest up; a file of lib/ itself is a room of its own."""
    parts = [path.relative_to(LIB).parts for path in amalgamate.sources()]
    return list(dict.fromkeys(part[0] if len(part) > 1 else pathlib.Path(part[0]).stem
                              for part in parts))


def room_of(name: str) -> str:
    """Of an object: "base_alloc.c.o" is of base, "context.c.o" of context."""
    return re.split(r"[_.]", name)[0]


def symbols(path: str) -> tuple[dict[str, set], dict[str, set]]:
    """Names that each object of an archive, or each of several objects, defines and lacks."""
    defined: dict[str, set] = {}
    wanted: dict[str, set] = {}
    for line in subprocess.run(["nm", "-A", "-g", "-P", path], check=True, capture_output=True,
                               text=True).stdout.splitlines():
        place, name, kind = line.replace("]", "").replace("[", ":").split()[:3]
        table = wanted if kind in "Uw" else defined
        thing = pathlib.Path(place.rstrip(":").rsplit(":", 1)[-1]).name
        table.setdefault(thing, set()).add(name)
    return defined, wanted


def upward(order: list[str], defined: dict[str, set], wanted: dict[str, set]) -> list[str]:
    """What each object takes from a room above its own."""
    home = {name: thing for thing, names in defined.items() for name in names}
    return [f"{thing} uses {name} of {home[name]}"
            for thing, names in sorted(wanted.items()) for name in sorted(names)
            if name in home and order.index(room_of(home[name])) > order.index(room_of(thing))]


class Rooms(unittest.TestCase):
    def test_objects_link_downward(self) -> None:
        path = os.environ.get("MINKE_OBJECTS")
        if not path:
            self.skipTest("no archive of objects in this build")
        defined, wanted = symbols(path)
        order = rooms()
        self.assertEqual({room_of(thing) for thing in defined}, set(order))
        self.assertEqual(upward(order, defined, wanted), [])

    def test_includes_go_downward(self) -> None:
        order = rooms()
        wrong = []
        for path in sorted(LIB.rglob("*.[ch]")):
            parts = path.relative_to(LIB).parts
            own = parts[0] if len(parts) > 1 else path.stem
            for name in re.findall(r'^#\s*include "(\w+)/', path.read_text("utf-8"), re.M):
                if order.index(name) > order.index(own):
                    wrong.append(f"{'/'.join(parts)} includes {name}/")
        self.assertEqual(wrong, [])

    def test_only_its_own_files_know_the_system(self) -> None:
        wrong = []
        for path in sorted(LIB.rglob("*.[ch]")):
            text = path.read_text("utf-8")
            headers = set(re.findall(r"^#\s*include <([^>]+)>", text, re.M))
            if not path.name.startswith("os_") and ("_WIN32" in text or headers - PORTABLE):
                wrong.append(path.name)
        self.assertEqual(wrong, [])

    def test_a_planted_upward_call_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("base_low", "int high(void); int low(void) { return high(); }"),
                               ("model_high", "int high(void) { return 1; }"),
                               ("chat_top", "int low(void); int top(void) { return low(); }")):
                (pathlib.Path(folder) / f"{name}.c").write_text(text)
                subprocess.run([*CC, "-c", f"{name}.c", "-o", f"{name}.c.o"], cwd=folder,
                               check=True)
            subprocess.run(["ar", "rcs", "planted.a", "base_low.c.o", "model_high.c.o",
                            "chat_top.c.o"], cwd=folder, check=True)
            found = upward(rooms(), *symbols(f"{folder}/planted.a"))
        self.assertEqual(found, ["base_low.c.o uses high of model_high.c.o"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
