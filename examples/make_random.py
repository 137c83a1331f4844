#!/usr/bin/env python3
"""Write a small model of random weights in DeepSeek's checkpoint format.

    python3 examples/make_random.py DIRECTORY [--kind v2-lite | v3 | v3.2] [--seed N] ...

writes config.json, model.safetensors (BF16), generation_config.json and, from
tests/golden/make_tokenizer.py, a byte-level tokenizer of 512 tokens.  What such a model says
is noise; it exists so that loading, evaluation and sampling can be tried and measured.  Only
the standard library is needed; equal seeds give equal files.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
from array import array

TOKENIZER = pathlib.Path(__file__).resolve().parents[1] / "tests/golden/make_tokenizer.py"

SIGMOID = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True,
           "routed_scaling_factor": 2.5}
KINDS = {
    "v2-lite": {"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"],
                "scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False,
                "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1,
                "q_lora_rank": None, "n_shared_experts": 2},
    "v3": {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], **SIGMOID},
    "v3.2": {"model_type": "deepseek_v32", "architectures": ["DeepseekV32ForCausalLM"],
             **SIGMOID, "index_n_heads": 8, "index_head_dim": 64, "index_topk": 64},
}

# Normal deviates as bf16, from which the weights are drawn.
TABLE_SIZE = 4096


def config(arguments: argparse.Namespace) -> dict:
    hidden = arguments.hidden
    base = {
        "vocab_size": 512, "hidden_size": hidden, "num_hidden_layers": arguments.layers,
        "first_k_dense_replace": 1, "intermediate_size": 3 * hidden,
        "moe_intermediate_size": hidden // 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "q_lora_rank": 128, "kv_lora_rank": 64,
        "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32,
        "n_routed_experts": arguments.experts, "n_shared_experts": 1, "num_experts_per_tok": 4,
        "n_group": 4, "topk_group": 2, "moe_layer_freq": 1, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
                         "mscale": 1.0, "mscale_all_dim": 1.0,
                         "original_max_position_embeddings": 4096},
        "max_position_embeddings": 163840, "hidden_act": "silu", "tie_word_embeddings": False,
        "attention_bias": False, "bos_token_id": 0, "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }
    return {**base, **KINDS[arguments.kind]}


def linear(name: str, rows: int, columns: int) -> tuple:
    return name + ".weight", (rows, columns), 0.0, 1.5 / math.sqrt(columns)


def norm(name: str, n: int) -> tuple:
    return name + ".weight", (n,), 1.0, 0.1


def mlp(prefix: str, hidden: int, inner: int) -> list:
    return [linear(prefix + "gate_proj", inner, hidden), linear(prefix + "up_proj", inner, hidden),
            linear(prefix + "down_proj", hidden, inner)]


def attention(c: dict, p: str) -> list:
    d, h, latent = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    out = []
    if c["q_lora_rank"]:
        out += [linear(p + "q_a_proj", c["q_lora_rank"], d),
                norm(p + "q_a_layernorm", c["q_lora_rank"]),
                linear(p + "q_b_proj", h * (nope + rope), c["q_lora_rank"])]
    else:
        out += [linear(p + "q_proj", h * (nope + rope), d)]
    out += [linear(p + "kv_a_proj_with_mqa", latent + rope, d), norm(p + "kv_a_layernorm", latent),
            linear(p + "kv_b_proj", h * (nope + value), latent),
            linear(p + "o_proj", d, h * value)]
    if "index_topk" in c:
        heads, size, p = c["index_n_heads"], c["index_head_dim"], p + "indexer."
        out += [linear(p + "wq_b", heads * size, c["q_lora_rank"]), linear(p + "wk", size, d),
                norm(p + "k_norm", size), (p + "k_norm.bias", (size,), 0.0, 0.1),
                linear(p + "weights_proj", heads, d)]
    return out


def layer(c: dict, index: int) -> list:
    p, d = f"model.layers.{index}.", c["hidden_size"]
    out = [norm(p + "input_layernorm", d), norm(p + "post_attention_layernorm", d)]
    out += attention(c, p + "self_attn.")
    if index < c["first_k_dense_replace"]:
        return out + mlp(p + "mlp.", d, c["intermediate_size"])
    out.append(linear(p + "mlp.gate", c["n_routed_experts"], d))
    if c["topk_method"] == "noaux_tc":
        out.append((p + "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],), 0.0, 0.1))
    for expert in range(c["n_routed_experts"]):
        out += mlp(f"{p}mlp.experts.{expert}.", d, c["moe_intermediate_size"])
    return out + mlp(p + "mlp.shared_experts.", d,
                     c["moe_intermediate_size"] * c["n_shared_experts"])


def tensors(c: dict) -> list:
    """(name, shape, mean, standard deviation) of every tensor."""
    out = [("model.embed_tokens.weight", (c["vocab_size"], c["hidden_size"]), 0.0, 1.0)]
    for index in range(c["num_hidden_layers"]):
        out += layer(c, index)
    return out + [norm("model.norm", c["hidden_size"]),
                  linear("lm_head", c["vocab_size"], c["hidden_size"])]


def bf16(x: float) -> int:
    """Upper half of the float's bits, rounded to nearest."""
    return (struct.unpack("<I", struct.pack("<f", x))[0] + 0x8000) >> 16


def write_weights(path: pathlib.Path, wanted: list, rng: random.Random) -> int:
    """The safetensors file; returns the number of weights."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in wanted:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    deviates = [rng.gauss(0.0, 1.0) for _ in range(TABLE_SIZE)]
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, mean, deviation in wanted:
            table = [bf16(mean + deviation * x) for x in deviates]
            values = array("H", rng.choices(table, k=math.prod(shape)))
            if sys.byteorder == "big":
                values.byteswap()
            values.tofile(file)
    return offset // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--kind", choices=KINDS, default="v3.2")
    parser.add_argument("--hidden", type=int, default=256, help="hidden size")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--experts", type=int, default=16, help="routed experts, per layer")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.hidden < 4 or arguments.layers < 1 or arguments.experts < 4 \
            or arguments.experts % 4:
        parser.error("hidden at least 4, layers at least 1, experts a multiple of 4")
    out, c = arguments.directory, config(arguments)
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(TOKENIZER), str(out)], check=True)
    (out / "config.json").write_text(json.dumps(c, indent=1) + "\n", "utf-8")
    (out / "generation_config.json").write_text(json.dumps(
        {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.6,
         "top_p": 0.95}, indent=1) + "\n", "utf-8")
    n = write_weights(out / "model.safetensors", tensors(c), random.Random(arguments.seed))
    print(f"{out}: {arguments.kind}, {n / 1e6:.1f} million random weights")


if __name__ == "__main__":
    main()
