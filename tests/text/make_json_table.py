#!/usr/bin/env python3
"""Write tests/golden/chat/json.txt: JSON texts, and what Python makes of them.

    python3 tests/text/make_json_table.py > tests/golden/chat/json.txt

Two lines a case: a JSON text as somebody may send it, and json.dumps of its value with
ensure_ascii=False.  Equal runs give equal files.
"""

import json
import math
import random
import struct
import sys

R = random.Random(20250107)
NUMBERS = """0 -0 1 -1 10 007x 123456789012345678901234567890 -9223372036854775808
18446744073709551616 0.0 -0.0 1.0 1.50 100.0 1e0 1E0 1e+0 1e-0 1e5 1.5e3 1E+2 1e15 1e16 1e17 1e21
1e22 123456789012345.0 1234567890123456.0 12345678901234567.0 123456789012345678.0 9007199254740993.0
0.1 0.01 0.001 0.0001 0.00001 0.000123 1e-4 1e-5 1.0e-7 2.5e-5 5e-324 2e-324 4.9406564584124654e-324
2.2250738585072014e-308 2.2250738585072011e-308 1.7976931348623157e308 0.30000000000000004 3.14
2.718281828459045 1e23 8.41e21 9.5367431640625e-07 4503599627370497.5 1e300 -1e-300 0.1e1 10.10e-1
99999999999999990000.0 1.00000000000000000000001 0.333333333333333333333333 1e1 33.3e-1""".split()
NUMBERS.remove("007x")
TEXTS = ["", " ", "a", "ü", "日本", "😀", "｜DSML｜", "\\", "\"", "/", "</think>", "\n\r\t\b\f",
         "\x00\x01\x1f\x7f\x80\x9f", "\u2028\u2029", "\ufeff", "\uffff", "\U0010ffff", "a\"b\\c/d",
         "e\u0301", "<script>", "'", "%s", "\x1b[0m", "x" * 70]


def number() -> str:
    kind = R.randrange(5)
    if kind == 0:
        return R.choice(NUMBERS)
    if kind == 1:
        return str(R.randrange(-10**R.randrange(1, 30), 10**R.randrange(1, 30)))
    if kind == 2:
        while True:
            x = struct.unpack("<d", R.randbytes(8))[0]
            if math.isfinite(x):
                return repr(x) if R.random() < 0.5 else f"{x:.{R.randrange(1, 25)}e}"
    if kind == 3:
        return f"{R.uniform(-1000, 1000):.{R.randrange(1, 20)}f}"
    return f"{R.randrange(-99, 99)}e{R.randrange(-30, 30)}"


def string() -> str:
    """A literal, with escapes that dumps would not write."""
    out = []
    text = "".join(R.choice(TEXTS) for _ in range(R.randrange(4)))
    for c in text:
        way = R.random()
        units = struct.unpack(f"<{len(c.encode('utf-16-le')) // 2}H", c.encode("utf-16-le"))
        if way < 0.2:
            out += [f"\\u{u:04x}" if way < 0.1 else f"\\u{u:04X}" for u in units]
        elif c == "/" and way < 0.5:
            out.append("\\/")
        else:
            out.append(json.dumps(c, ensure_ascii=False)[1:-1])
    return '"' + "".join(out) + '"'


def space() -> str:
    return R.choice(["", "", "", " ", "  ", "\t", "\r"])


def value(depth: int) -> str:
    kind = R.randrange(9 if depth < 4 else 5)
    if kind == 0:
        return R.choice(["null", "true", "false"])
    if kind in (1, 2):
        return number()
    if kind in (3, 4):
        return string()
    items = [value(depth + 1) for _ in range(R.randrange(5))]
    if kind in (5, 6):
        return "[" + ",".join(space() + item + space() for item in items) + space() + "]"
    keys = {}
    for item in items:
        key = string()
        keys.setdefault(json.loads(key), (key, item))
    return "{" + ",".join(space() + key + space() + ":" + space() + item + space()
                          for key, item in keys.values()) + space() + "}"


def main() -> None:
    cases = [s for s in NUMBERS] + [json.dumps(t) for t in TEXTS] \
        + [json.dumps(t, ensure_ascii=False) for t in TEXTS]
    cases += ["[" * n + "]" * n for n in (1, 2, 50, 200)]
    cases += ['{"z": 1, "a": {"y": [], "b": {}}, "": 0, "A": 1.0}', ' [ 1 , 2 ] ', '{"1": 2, "10": 3}']
    cases += [number() for _ in range(1200)] + [string() for _ in range(600)]
    cases += [value(0) for _ in range(1400)]
    for text in cases:
        written = json.dumps(json.loads(text), ensure_ascii=False)
        if "Infinity" not in written and "\n" not in text + written:
            sys.stdout.buffer.write((text + "\n" + written + "\n").encode())


if __name__ == "__main__":
    main()
