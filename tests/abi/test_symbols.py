"""What the library exports, held to minke.h and lib/minke.map.

MINKE_LIBRARY and MINKE_STATIC name the built files; CC and CXX the compilers.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include" / "minke.h").read_text("utf-8")
MAP = (ROOT / "lib" / "minke.map").read_text("utf-8")
CC = shlex.split(os.environ.get("CC") or "cc")
CXX = shlex.split(os.environ.get("CXX") or "c++")

DECLARED = set(re.findall(r"^MINKE_API [^;(]*?\b(minke_\w+)\(", HEADER, re.M))


def defined(path: str, *options: str) -> set:
    """Names that nm lists as defined, without version suffix."""
    lines = subprocess.run(["nm", "--defined-only", *options, path], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    found = [line.split() for line in lines]
    return {words[2].split("@")[0] for words in found
            if len(words) == 3 and words[1].isupper() and words[1] != "A"}


class Symbols(unittest.TestCase):
    def test_map_lists_what_the_header_declares(self) -> None:
        self.assertEqual(set(re.findall(r"^\s+(minke_\w+);", MAP, re.M)), DECLARED)

    def test_shared_library_exports_what_the_header_declares(self) -> None:
        path = os.environ.get("MINKE_LIBRARY")
        if not path:
            self.skipTest("no shared library in this build")
        self.assertEqual(defined(path, "-D"), DECLARED)

    def test_static_archive_exposes_what_the_header_declares(self) -> None:
        path = os.environ.get("MINKE_STATIC")
        if not path:
            self.skipTest("no static archive in this build")
        # Sanitizers and coverage add names of their own with these prefixes.
        names = {name for name in defined(path, "-g") if not name.startswith(("__", "_ZT"))}
        self.assertEqual(names, DECLARED)

    def test_soname_holds_the_abi_number(self) -> None:
        path = os.environ.get("MINKE_LIBRARY")
        if not path:
            self.skipTest("no shared library in this build")
        abi = re.search(r"^#define MINKE_ABI (\d+)", HEADER, re.M)[1]
        dynamic = subprocess.run(["readelf", "-d", path], check=True, capture_output=True,
                                 text=True).stdout
        self.assertIn(f"[libminke.so.{abi}]", dynamic)


class Header(unittest.TestCase):
    def compile(self, compiler: list, standard: str, suffix: str) -> None:
        if shutil.which(compiler[0]) is None:
            self.skipTest(f"{compiler[0]} is not installed")
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / ("alone" + suffix)
            source.write_text('#include "minke.h"\nint answer(void);\n'
                              "int answer(void) { return MINKE_OK; }\n")
            subprocess.run([*compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic",
                            "-Werror", f"-I{ROOT / 'include'}", "-fsyntax-only", str(source)],
                           check=True)

    def test_compiles_alone_as_c99(self) -> None:
        self.compile(CC, "c99", ".c")

    def test_compiles_alone_as_c11(self) -> None:
        self.compile(CC, "c11", ".c")

    def test_compiles_alone_as_cxx11(self) -> None:
        self.compile(CXX, "c++11", ".cc")

    def test_compiles_alone_as_cxx20(self) -> None:
        self.compile(CXX, "c++20", ".cc")

    def test_its_example_is_a_program(self) -> None:
        path = os.environ.get("MINKE_LIBRARY")
        if not path:
            self.skipTest("no shared library in this build")
        lines = HEADER[HEADER.index("#include <minke.h>"):HEADER.index(" * Three handles")]
        code = re.sub(r"^ \*(   )?", "", lines, flags=re.M)
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "program.c"
            source.write_text(code)
            subprocess.run([*CC, "-std=c99", "-Wall", "-Wextra", "-Werror",
                            f"-I{ROOT / 'include'}", str(source), path, "-o",
                            f"{folder}/program"], check=True)
            run = subprocess.run([f"{folder}/program", str(ROOT / "examples" / "calf")],
                                 check=True, capture_output=True, text=True)
        self.assertEqual(run.stderr, "")
        self.assertNotEqual(run.stdout, "")

    def test_no_function_takes_more_than_eight_arguments(self) -> None:
        code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
        for name, arguments in re.findall(r"\b(minke_\w+)\(([^()]*)\);", code):
            self.assertLessEqual(arguments.count(",") + 1, 8, name)

    def test_public_types_have_fixed_widths(self) -> None:
        code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
        for word in ("enum", "bool", "long", "short", "unsigned", r"int", r"\.\.\.", "inline"):
            self.assertIsNone(re.search(rf"(?<!\w){word}(?!\w)", code), word)


if __name__ == "__main__":
    unittest.main(verbosity=2)
