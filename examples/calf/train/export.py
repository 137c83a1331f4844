"""Write a trained state as a released checkpoint: config.json, model.safetensors (bf16, norms and biases f32) and the
tokenizer's and generation's files.

    python3 export.py RUN OUT_DIR
"""
import json
import os
import shutil
import sys

import torch

import model as M
import train


def tensors(m):
    """Hugging Face's names, in the checkpoint's order"""
    c, out = m.c, {}
    E, I = c["n_routed_experts"], c["moe_intermediate_size"]
    out["model.embed_tokens.weight"] = m.embed_tokens.weight
    for l, b in enumerate(m.layers):
        for k, v in b.state_dict().items():
            p = f"model.layers.{l}."
            if b.moe and k in ("mlp.gate_proj", "mlp.up_proj"):
                for e in range(E):
                    out[f"{p}mlp.experts.{e}.{k[4:]}.weight"] = v[e * I:(e + 1) * I]
            elif b.moe and k == "mlp.down_proj":
                for e in range(E):
                    out[f"{p}mlp.experts.{e}.down_proj.weight"] = v[e]
            else:
                out[p + k] = v
    p = f"model.layers.{c['num_hidden_layers']}."
    for n in ("enorm", "hnorm"):
        out[f"{p}{n}.weight"] = getattr(m, n).weight
    out[p + "eh_proj.weight"], out[p + "shared_head.norm.weight"] = m.eh_proj.weight, m.shared_head_norm.weight
    out["model.norm.weight"], out["lm_head.weight"] = m.norm.weight, m.lm_head.weight
    return out


def write(path, named):
    head, at, raw = {"__metadata__": {"format": "pt"}}, 0, []
    for n, t in named.items():
        f32 = "norm" in n or n.endswith("bias")
        t = t.detach().cpu().to(torch.float32 if f32 else torch.bfloat16).contiguous()
        b = t.view(torch.uint8).numpy().tobytes() if f32 else t.view(torch.int16).numpy().tobytes()
        head[n] = {"dtype": "F32" if f32 else "BF16", "shape": list(t.shape), "data_offsets": [at, at + len(b)]}
        at += len(b)
        raw.append(b)
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(len(h).to_bytes(8, "little") + h + b"".join(raw))


def main():
    run, out = sys.argv[1:3]
    m = M.Calf()
    train.load(run, m)
    os.makedirs(out, exist_ok=True)
    write(os.path.join(out, "model.safetensors"), tensors(m))
    dump = lambda x, f: json.dump(x, open(os.path.join(out, f), "w"), indent=2)
    dump(M.CONFIG, "config.json")
    dump({"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 1.0, "top_p": 0.95}, "generation_config.json")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    for f in ("tokenizer.json", "tokenizer_config.json"):
        if os.path.realpath(out) != os.path.realpath(here):
            shutil.copy(os.path.join(here, f), out)


if __name__ == "__main__":
    main()
