"""The binding's view of the C interface, held to minke.h and lib/minke.map."""

import ctypes
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

from minke import _ffi, errors

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "include" / "minke.h").read_text("utf-8"), flags=re.S)
CC = shlex.split(os.environ.get("CC") or "cc")

SCALARS = {
    "void": None, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "size_t": ctypes.c_size_t,
    "float": ctypes.c_float, "double": ctypes.c_double,
}


def ctype(text: str, name: str = "") -> object:
    """The ctypes type of a C type such as "const int32_t *"."""
    words = text.replace("*", " * ").replace("const", " ").split()
    base, stars = words[0], words.count("*")
    if base.endswith("_fn"):
        return getattr(_ffi, base[len("minke_"):].upper())
    if base == "void" or f"typedef struct {base} {base};" in HEADER:
        kind, stars = (ctypes.c_void_p, stars - 1) if stars else (None, 0)
    elif base == "char":
        kind, stars = ctypes.c_char_p, stars - 1
    else:
        kind = _ffi.STRUCTS.get(base) or SCALARS[base]
    for _ in range(stars):
        kind = ctypes.POINTER(kind)
    return kind


def declarations() -> dict:
    """name: (result, arguments) of every function in the header."""
    found = {}
    for result, name, arguments in re.findall(
            r"^MINKE_API ([^;(]*?)\b(minke_\w+)\(([^;]*)\);", HEADER, re.M):
        types = [] if arguments.strip() == "void" else [
            ctype(re.sub(r"\w+$", "", part.strip())) for part in arguments.split(",")]
        found[name] = (ctype(result), types)
    return found


def fields(struct: str) -> list:
    """(name, type) of every field of a struct in the header."""
    body = re.search(rf"typedef struct {struct} \{{(.*?)\}} {struct};", HEADER, re.S)[1]
    return [(match[2], ctype(match[1])) for match in
            re.finditer(r"\s*([^;]*?)\b(\w+);", body)]


class Prototypes(unittest.TestCase):
    maxDiff = None

    def test_every_exported_function_has_a_prototype(self) -> None:
        exported = re.findall(r"^\s+(minke_\w+);", (ROOT / "lib" / "minke.map").read_text(),
                              re.M)
        self.assertEqual(sorted(exported), sorted(_ffi.PROTOTYPES))

    def test_prototypes_are_those_of_the_header(self) -> None:
        self.assertEqual(declarations(), _ffi.PROTOTYPES)

    def test_callbacks_are_those_of_the_header(self) -> None:
        found = re.findall(r"typedef ([^;(]*?)\(\*minke_(\w+_fn)\)\(([^;]*)\);", HEADER)
        self.assertTrue(found)
        for result, name, arguments in found:
            with self.subTest(name):
                mine = getattr(_ffi, name.upper())
                self.assertEqual(mine._restype_, ctype(result))
                expected = [ctype(re.sub(r"\w+$", "", part.strip()))
                            for part in arguments.split(",")]
                # Text that comes with its length need not end in NUL: a plain pointer.
                for i in range(len(expected) - 1):
                    if expected[i:i + 2] == [ctypes.c_char_p, ctypes.c_size_t]:
                        expected[i] = ctypes.c_void_p
                self.assertEqual(list(mine._argtypes_), expected)


class Structs(unittest.TestCase):
    def test_fields_are_those_of_the_header(self) -> None:
        names = re.findall(r"typedef struct (minke_\w+) \{", HEADER)
        self.assertEqual(sorted(names), sorted(_ffi.STRUCTS))
        for name in names:
            with self.subTest(name):
                self.assertEqual(fields(name), _ffi.STRUCTS[name]._fields_)

    def test_layout_is_the_compilers(self) -> None:
        if shutil.which(CC[0]) is None:
            self.skipTest(f"{CC[0]} is not installed")
        if os.environ.get("MINKE_CROSS"):
            self.skipTest("the compiler is for another machine")
        lines = []
        for name, mirror in _ffi.STRUCTS.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            for field, _ in mirror._fields_:
                lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "layout.c"
            source.write_text('#include <stdio.h>\n#include "minke.h"\n'
                              "int main(void) {" + "\n".join(lines) + "return 0; }\n")
            subprocess.run([*CC, f"-I{ROOT / 'include'}", str(source), "-o",
                            folder + "/layout"], check=True)
            output = subprocess.run([folder + "/layout"], check=True, capture_output=True,
                                    text=True).stdout
        for line in output.splitlines():
            name, number = line.split()
            struct, _, field = name.partition(".")
            mirror = _ffi.STRUCTS[struct]
            mine = getattr(mirror, field).offset if field else ctypes.sizeof(mirror)
            self.assertEqual(mine, int(number), name)


class Constants(unittest.TestCase):
    def values(self, prefix: str) -> dict:
        found = re.findall(rf"^#define MINKE_{prefix}(\w+)\s+\(?(-?\d+)u?(?: << (\d+))?\)?",
                           HEADER, re.M)
        return {name: int(base) << int(shift or 0) for name, base, shift in found}

    def test_statuses(self) -> None:
        for name, value in self.values("E").items():
            self.assertEqual(getattr(errors, "E" + name), value, name)

    def test_info_keys(self) -> None:
        self.assertEqual(self.values("INFO_"),
                         {name.upper(): key for name, key in _ffi.INFO_KEYS.items()})

    def test_text_keys(self) -> None:
        self.assertEqual(self.values("TEXT_"),
                         {name.upper(): key for name, key in _ffi.TEXT_KEYS.items()})

    def test_flags(self) -> None:
        for prefix in ("CONTEXT_", "TOKENIZE_", "DETOKENIZE_", "OBSERVE_", "SESSION_"):
            for name, value in self.values(prefix).items():
                self.assertEqual(getattr(_ffi, prefix + name), value, prefix + name)

    def test_abi(self) -> None:
        abi = re.search(r"^#define MINKE_ABI (\d+)", HEADER, re.M)[1]
        self.assertEqual(_ffi.ABI, int(abi))

    def test_package_version(self) -> None:
        import minke
        parts = [re.search(rf"^#define MINKE_VERSION_{part} (\d+)", HEADER, re.M)[1]
                 for part in ("MAJOR", "MINOR", "PATCH")]
        self.assertEqual(minke.__version__, ".".join(parts))


if __name__ == "__main__":
    unittest.main(verbosity=2)
