#!/usr/bin/env python3
"""calf in other types: FP8 in blocks as DeepSeek released V3, and GGUF files.

    python3 examples/calf/variants.py OUT [--model DIR]     # OUT/calf-fp8/, OUT/calf-q8_0.gguf, OUT/calf-q4_k.gguf

FP8 is written here, by the standard library alone: matrices of the layers in e4m3 with one scale, a power of two, per
128 x 128 block; embedding, head, norms, routers and the index weights stay as they are.  GGUF files are minke's own.
"""
import argparse
import array
import ctypes
import json
import math
import os
import shutil
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bindings", "python"))
BLOCK, LARGEST = 128, 448.0
KEPT = ("norm", "mlp.gate.", "weights_proj", "eh_proj")
TYPES = ["fp8", "q8_0", "q4_k"]


def bf16(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def e4m3(x):
    """The nearest code of x in 0 .. 448, ties to the even one."""
    if x < 2.0 ** -6:
        return round(x * 2 ** 9)
    m, e = math.frexp(x)
    return ((e + 6) << 3) + round(m * 16) - 8


def table(shift, known={}):
    """bf16's bits -> e4m3's code of the number divided by 2**shift"""
    if shift not in known:
        half = bytes(min(0x7E, e4m3(math.ldexp(bf16(i), -shift))) if i < 0x7F80 else 0x7F for i in range(1 << 15))
        known[shift] = half + bytes(c | 0x80 for c in half)
    return known[shift]


def blocks(raw, rows, columns):
    """bf16 matrix -> (e4m3 bytes, scales)"""
    words = array.array("H", raw)
    if sys.byteorder == "big":
        words.byteswap()
    out, scales = bytearray(rows * columns), []
    for r0 in range(0, rows, BLOCK):
        for c0 in range(0, columns, BLOCK):
            spans = [(r * columns + c0, r * columns + min(c0 + BLOCK, columns)) for r in range(r0, min(r0 + BLOCK, rows))]
            amax = bf16(max(max(map(0x7FFF .__and__, words[a:b])) for a, b in spans))
            shift = math.ceil(math.log2(amax / LARGEST)) if amax else 0
            code = table(shift).__getitem__
            for a, b in spans:
                out[a:b] = bytes(map(code, words[a:b]))
            scales.append(2.0 ** shift)
    return bytes(out), struct.pack(f"<{len(scales)}f", *scales)


def read_safetensors(path):
    """-> {name: (type, shape, bytes)}"""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in head.items()}


def write_safetensors(path, tensors):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for k, (kind, shape, raw) in tensors.items():
        head[k] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(len(h).to_bytes(8, "little") + h + b"".join(t[2] for t in tensors.values()))


def write_fp8(model, out):
    os.makedirs(out, exist_ok=True)
    tensors = {}
    for k, (kind, shape, raw) in read_safetensors(os.path.join(model, "model.safetensors")).items():
        if len(shape) != 2 or ".layers." not in k or any(x in k for x in KEPT):
            tensors[k] = kind, shape, raw
            continue
        codes, scales = blocks(raw, *shape)
        tensors[k] = "F8_E4M3", shape, codes
        tensors[k + "_scale_inv"] = "F32", [-(-n // BLOCK) for n in shape], scales
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "scale_fmt": "ue8m0",
                                     "weight_block_size": [BLOCK, BLOCK]}
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
    for f in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(os.path.join(model, f), out)


def write_gguf(model, out, kind):
    from minke import _ffi
    lib, params = _ffi.load(), _ffi.QuantizeParams()
    lib.minke_quantize_params_init(ctypes.byref(params), ctypes.sizeof(params))
    params.preset = kind.encode()
    lib.check(lib.minke_quantize(os.fsencode(out), os.fsencode(model), ctypes.byref(params)))


def write(model, folder, kind):
    """-> (path of the model in that type, bytes of its weights' file)"""
    if kind == "fp8":
        out = os.path.join(folder, "calf-fp8")
        write_fp8(model, out)
        return out, os.path.getsize(os.path.join(out, "model.safetensors"))
    out = os.path.join(folder, f"calf-{kind}.gguf")
    write_gguf(model, out, kind)
    return out, os.path.getsize(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out"), p.add_argument("--model", default=HERE)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for kind in TYPES:
        path, size = write(a.model, a.out, kind)
        print(f"{path}  {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
