#!/usr/bin/env python3
"""Write unicode.c from unicode-16.txt: character classes in a two-stage table.

    python3 lib/text/make_unicode.py

unicode-16.txt holds code-point ranges of Unicode 16.0 (general categories L, M, N, P and S of
UnicodeData.txt, White_Space of PropList.txt) and the letters that the deepseek-llm
pre-tokenizer lists.
"""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
BITS = {"L": 1, "M": 2, "N": 4, "P": 8, "S": 16, "White_Space": 32, "llm_letter": 64}
BLOCK = 128
LAST = 0x10FFFF


def read_ranges(path):
    ranges = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split("#")[0].split()
            if not words:
                continue
            first, _, last = words[1].partition("-")
            ranges.setdefault(words[0], []).append((int(first, 16), int(last or first, 16)))
    return ranges


def write_table(out, name, values):
    out.append(f"const uint8_t {name}[{len(values)}] = {{")
    for i in range(0, len(values), 24):
        out.append("    " + ",".join(str(v) for v in values[i:i + 24]) + ",")
    out.append("};")
    out.append("")


def letters_pattern(ranges):
    text = "\\s?["
    for first, last in ranges:
        text += chr(first) if first == last else chr(first) + "-" + chr(last)
    return (text + "]+").encode()


def write_text(out, name, data):
    out.append(f"const char {name}[] =")
    for i in range(0, len(data), 20):
        out.append('    "' + "".join(f"\\{b:03o}" for b in data[i:i + 20]) + '"')
    out[-1] += ";"


def main():
    ranges = read_ranges(os.path.join(HERE, "unicode-16.txt"))
    classes = bytearray(LAST + 1)
    for name, bit in BITS.items():
        for first, last in ranges[name]:
            for c in range(first, last + 1):
                classes[c] |= bit
    blocks, index, seen = [], [], {}
    for start in range(0, LAST + 1, BLOCK):
        block = bytes(classes[start:start + BLOCK])
        if block not in seen:
            seen[block] = len(seen)
            blocks += block
        index.append(seen[block])
    assert len(seen) <= 256
    out = ["/* Written by make_unicode.py from unicode-16.txt (Unicode 16.0); never by hand. */",
           '#include "text/unicode.h"', ""]
    write_table(out, "mk_unicode_index", index)
    write_table(out, "mk_unicode_blocks", blocks)
    write_text(out, "mk_unicode_llm_letters", letters_pattern(ranges["llm_letter"]))
    with open(os.path.join(HERE, "unicode.c"), "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")
    print(f"{len(seen)} blocks, {len(blocks) + len(index)} bytes")


if __name__ == "__main__":
    main()
