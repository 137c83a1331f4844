"""Write the library as two files: amalgamate.py OUTDIR makes minke.c and minke.h.

The sources are those of lib/meson.build, in its order, after all internal headers.  They
share one scope, so the name of every static function, macro and struct tag must be unique in
lib/: compiling minke.c, as tests/abi does, shows it.
"""

import pathlib
import re
import sys

LIB = pathlib.Path(__file__).resolve().parent
HEADER = LIB.parent / "include" / "minke.h"

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
FEATURE = re.compile(r"^\s*#\s*define\s+(_[A-Z0-9_]+_SOURCE)\b(.*)$")
GUARD = re.compile(r"^#ifndef (\w+_H)\n#define \1$", re.M)


def sources() -> list[pathlib.Path]:
    text = (LIB / "meson.build").read_text("utf-8")
    text = text[: text.index("minke_sources")]
    return [LIB / name for name in re.findall(r"^\s*'([^']+\.c)'", text, re.M)]


def resolve(name: str, origin: pathlib.Path) -> pathlib.Path:
    for folder in (origin.parent, LIB):
        if (folder / name).is_file():
            return (folder / name).resolve()
    sys.exit(f'{origin}: "{name}" is not in lib/')


class Amalgamation:
    """Headers come first, outside of any condition that a source includes them under."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.lines: list[str] = []
        self.features: dict[str, str] = {}
        self.seen: set[pathlib.Path] = set()

    def add(self, path: pathlib.Path, lines: list[str]) -> None:
        """Append a file to lines, and the headers that it includes to where they belong."""
        for line in path.read_text("utf-8").splitlines():
            feature = FEATURE.match(line)
            include = INCLUDE.match(line)
            if feature:
                self.features[feature[1]] = feature[2].strip()
            elif include is None:
                lines.append(line)
            elif include[1] != "minke.h":
                self.include(resolve(include[1], path), lines)

    def include(self, path: pathlib.Path, lines: list[str]) -> None:
        if not GUARD.search(path.read_text("utf-8")):
            self.add(path, lines)   # a template, put in at each place
        elif path not in self.seen:
            self.seen.add(path)
            whole: list[str] = [f"\n/* ---- lib/{path.relative_to(LIB).as_posix()} ---- */"]
            self.add(path, whole)
            self.headers += whole

    def text(self, version: str) -> str:
        head = [f"/* minke {version} in one file; minke.h goes beside it.  Made by "
                "lib/amalgamate.py:", " * change the sources that it is made of.  Compile "
                "as C11, link with -pthread -lm. */"]
        for name, value in sorted(self.features.items()):
            head += [f"#ifndef {name}", f"#  define {name} {value}".rstrip(), "#endif"]
        head += ["#ifndef MINKE_BUILD", "#  define MINKE_BUILD", "#endif",
                 "#ifdef __GNUC__   /* some processors need only a part of the headers */",
                 '#  pragma GCC diagnostic ignored "-Wunused-function"',
                 '#  pragma GCC diagnostic ignored "-Wunused-const-variable"',
                 "#endif", '#include "minke.h"']
        return "\n".join(head + self.headers + self.lines) + "\n"


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    header = HEADER.read_text("utf-8")
    version = ".".join(re.findall(r"^#define MINKE_VERSION_\w+ (\d+)", header, re.M))
    paths = sources()
    whole = Amalgamation()
    for path in paths:
        whole.lines.append(f"\n/* ---- lib/{path.relative_to(LIB).as_posix()} ---- */")
        whole.add(path, whole.lines)
    (out / "minke.c").write_text(whole.text(version), "utf-8")
    (out / "minke.h").write_text(header, "utf-8")


if __name__ == "__main__":
    main()
