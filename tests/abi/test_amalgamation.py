"""The two-file form compiles by itself: minke.c, minke.h, a C compiler."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CC = shlex.split(os.environ.get("CC") or "cc")


class Amalgamation(unittest.TestCase):
    def test_two_files_compile_and_export_the_same_names(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, str(ROOT / "lib" / "amalgamate.py"), folder],
                           check=True)
            subprocess.run([*CC, "-std=c11", "-O0", "-Wall", "-Wextra", "-Werror", "-c",
                            "minke.c"], cwd=folder, check=True)
            names = subprocess.run(["nm", "--defined-only", "-g", "minke.o"], cwd=folder,
                                   check=True, capture_output=True, text=True).stdout
        header = (ROOT / "include" / "minke.h").read_text("utf-8")
        declared = set(re.findall(r"^MINKE_API [^;(]*?\b(minke_\w+)\(", header, re.M))
        self.assertEqual(declared - set(re.findall(r"\b(minke_\w+)$", names, re.M)), set())

    def test_every_source_is_listed(self) -> None:
        listed = re.findall(r"^\s*'([^']+\.c)'", (ROOT / "lib" / "meson.build").read_text(),
                            re.M)
        lib = ROOT / "lib"
        present = {path.relative_to(lib).as_posix() for pattern in ("*.c", "*/*.c")
                   for path in lib.glob(pattern)}
        self.assertEqual(sorted(present), sorted(listed))


if __name__ == "__main__":
    unittest.main(verbosity=2)
