"""DeepSeek-V3.2's architecture in PyTorch, small, for training calf.

Everything the released model has: MLA with a low-rank query, the lightning indexer with top-k selection (DSA),
mixture of experts with sigmoid scores, groups and a balancing bias (noaux_tc), a shared expert, and one
multi-token-prediction layer.  A row of a batch is one conversation, padded at its end: causal attention needs no
other mask.  Parameter names are the checkpoint's, except that a layer's experts are stacked (export.py takes
them apart).
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(
    architectures=["DeepseekV32ForCausalLM"], model_type="deepseek_v32", vocab_size=1536, hidden_size=256, num_hidden_layers=4,
    first_k_dense_replace=1, moe_layer_freq=1, intermediate_size=256, moe_intermediate_size=64, num_attention_heads=4,
    num_key_value_heads=4, q_lora_rank=128, kv_lora_rank=128, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=64,
    n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=4, topk_group=2, scoring_func="sigmoid",
    topk_method="noaux_tc", norm_topk_prob=True, routed_scaling_factor=2.0, index_n_heads=4, index_head_dim=64, index_topk=64,
    num_nextn_predict_layers=1, rms_norm_eps=1e-6, rope_theta=10000.0, rope_scaling=None, max_position_embeddings=2048,
    hidden_act="silu", tie_word_embeddings=False, attention_bias=False, attention_dropout=0.0, bos_token_id=0, eos_token_id=1,
    torch_dtype="bfloat16")


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


def lin(i, o):
    m = nn.Linear(i, o, bias=False)
    nn.init.normal_(m.weight, std=i ** -0.5)
    return m


def rotate(x, cs, interleaved):
    """x [B,T,h,R]; cs = (cos, sin) [T,1,R/2]; pairs (0,1),(2,3).. or (i, i+R/2)."""
    co, si = cs
    f = x.float()
    if interleaved:
        u, v = f[..., 0::2], f[..., 1::2]
        return torch.stack((u * co - v * si, u * si + v * co), -1).flatten(-2).to(x.dtype)
    u, v = f.chunk(2, -1)
    return torch.cat((u * co - v * si, u * si + v * co), -1).to(x.dtype)


def causal(q, k, v):
    """Causal attention; written out where PyTorch's fused form is the slower one (short rows on a CPU)."""
    T = q.shape[2]
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
    if T > 400:
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True).to(v.dtype)
    a = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    a = (a + torch.full((T, T), -1e9, dtype=a.dtype, device=a.device).triu(1)).softmax(-1)
    return torch.matmul(a.to(v.dtype), v)


class Indexer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.H, self.D, self.R = c["index_n_heads"], c["index_head_dim"], c["qk_rope_head_dim"]
        self.wq_b, self.wk = lin(c["q_lora_rank"], self.H * self.D), lin(c["hidden_size"], self.D)
        self.k_norm, self.weights_proj = nn.LayerNorm(self.D, eps=1e-6), lin(c["hidden_size"], self.H)

    def forward(self, x, qr, cs):
        """-> I [B,T,T] = sum_h w_h relu(q_h . k), unmasked"""
        B, T, _ = x.shape
        q = self.wq_b(qr).view(B, T, self.H, self.D)
        k = self.k_norm(self.wk(x).float()).to(q.dtype).unsqueeze(2)
        q = torch.cat((rotate(q[..., :self.R], cs, False), q[..., self.R:]), -1)
        k = torch.cat((rotate(k[..., :self.R], cs, False), k[..., self.R:]), -1)[:, :, 0]
        w = self.weights_proj(x).float() * (self.H * self.D) ** -0.5
        s = torch.matmul(q.transpose(1, 2), k.transpose(1, 2).unsqueeze(1)).relu()   # [B,H,T,T]
        return sum(s[:, h].float() * w[..., h, None] for h in range(self.H))


def chosen(s, k, exact):
    """The k best of each row; among equals the lowest index wins (exact), or all of them do (quicker, for training)."""
    kth = s.topk(k, -1, sorted=False).values.amin(-1, keepdim=True)
    if not exact:
        return s >= kth
    above, same = s > kth, s == kth
    return above | same & (same.cumsum(-1) <= k - above.sum(-1, keepdim=True))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, self.H, self.L = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
        self.N, self.R, self.V, self.K = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["index_topk"]
        eps = c["rms_norm_eps"]
        self.q_a_proj, self.q_a_layernorm = lin(D, c["q_lora_rank"]), Norm(c["q_lora_rank"], eps)
        self.q_b_proj = lin(c["q_lora_rank"], self.H * (self.N + self.R))
        self.kv_a_proj_with_mqa, self.kv_a_layernorm = lin(D, self.L + self.R), Norm(self.L, eps)
        self.kv_b_proj, self.o_proj = lin(self.L, self.H * (self.N + self.V)), lin(self.H * self.V, D)
        self.indexer = Indexer(c)

    def forward(self, x, cs, mode):
        """mode: dense; warm (dense, and the indexer's loss); sparse (top-k, and the loss over the chosen);
        sparse_only (top-k, the indexer does not learn); window (the last top-k tokens).  -> output, the indexer's loss per row of x or None"""
        B, T, _ = x.shape
        qr = self.q_a_layernorm(self.q_a_proj(x))
        q = self.q_b_proj(qr).view(B, T, self.H, self.N + self.R)
        q = torch.cat((q[..., :self.N], rotate(q[..., self.N:], cs, True)), -1).transpose(1, 2)
        kv = self.kv_a_proj_with_mqa(x)
        kp = rotate(kv[..., self.L:].unsqueeze(2), cs, True).expand(B, T, self.H, self.R)
        b = self.kv_b_proj(self.kv_a_layernorm(kv[..., :self.L])).view(B, T, self.H, self.N + self.V)
        k, v = torch.cat((b[..., :self.N], kp), -1).transpose(1, 2), b[..., self.N:].transpose(1, 2)
        loss = None
        if mode == "dense" or T <= self.K and mode in ("window", "sparse_only"):
            y = causal(q, k, v)
        else:
            keep = mask = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            if mode == "window":
                keep = mask.triu(1 - self.K)
            else:
                learn = mode in ("warm", "sparse")
                with torch.set_grad_enabled(torch.is_grad_enabled() and learn):
                    s = self.indexer(x.detach(), qr.detach(), cs).masked_fill(~mask, -1e30)
                if mode != "warm" and T > self.K:
                    keep = (mask & chosen(s.detach(), self.K, not torch.is_grad_enabled())).unsqueeze(1)
            a = torch.matmul(q * (self.N + self.R) ** -0.5, k.transpose(-1, -2))
            a = (a + torch.zeros_like(keep, dtype=a.dtype).masked_fill(~keep, -1e9)).softmax(-1).to(v.dtype)
            y = torch.matmul(a, v)
            if mode in ("warm", "sparse"):
                p = a.detach().mean(1).float()                                       # L1-normalised sum over heads
                lq = s.masked_fill(~(keep.squeeze(1) if keep.ndim == 4 else keep), -1e30).log_softmax(-1)
                loss = (p * (p.clamp_min(1e-9).log() - lq.clamp_min(-1e4))).sum(-1)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, self.H * self.V)), loss


class MLP(nn.Module):
    def __init__(self, D, inner):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = lin(D, inner), lin(D, inner), lin(inner, D)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c["n_routed_experts"], c["hidden_size"]) * c["hidden_size"] ** -0.5)
        self.register_buffer("e_score_correction_bias", torch.zeros(c["n_routed_experts"]))
        self.c = c

    def forward(self, x):
        """-> weights [.., E], zero where an expert is not chosen"""
        c = self.c
        with torch.autocast(x.device.type, enabled=False):
            s = F.linear(x.float(), self.weight).sigmoid()
        sel = (s + self.e_score_correction_bias).detach()
        g = sel.unflatten(-1, (c["n_group"], -1))
        best = g.topk(2, -1).values.sum(-1).topk(c["topk_group"], -1).indices
        keep = torch.zeros_like(g[..., 0]).scatter(-1, best, 1.0).unsqueeze(-1).bool()
        sel = g.masked_fill(~keep, float("-inf")).flatten(-2)
        on = torch.zeros_like(s).scatter(-1, sel.topk(c["num_experts_per_tok"], -1).indices, 1.0)
        w = s * on
        return w / w.sum(-1, keepdim=True) * c["routed_scaling_factor"], on


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, I, E = c["hidden_size"], c["moe_intermediate_size"], c["n_routed_experts"]
        self.gate, self.shared_experts, self.E, self.I = Gate(c), MLP(D, I * c["n_shared_experts"]), E, I
        self.gate_proj, self.up_proj = (nn.Parameter(torch.randn(E * I, D) * D ** -0.5) for _ in range(2))     # experts stacked
        self.down_proj = nn.Parameter(torch.randn(E, D, I) * I ** -0.5)

    def forward(self, x):
        """x [n,D] -> output, share of tokens per expert"""
        w, on = self.gate(x)
        y, E, I = self.shared_experts(x), self.E, self.I
        h = F.silu(F.linear(x, self.gate_proj)) * F.linear(x, self.up_proj)          # every expert at once: they are tiny
        h = (h.unflatten(-1, (E, I)) * w.unsqueeze(-1).to(h.dtype)).flatten(-2)
        return y + F.linear(h, self.down_proj.permute(1, 0, 2).flatten(1)), on.mean(0)


class Block(nn.Module):
    def __init__(self, c, moe):
        super().__init__()
        D, eps = c["hidden_size"], c["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = Norm(D, eps), Norm(D, eps)
        self.self_attn, self.mlp, self.moe = Attention(c), MoE(c) if moe else MLP(D, c["intermediate_size"]), moe

    def forward(self, x, co, si, mode):
        y, loss = self.self_attn(self.input_layernorm(x), (co, si), mode)
        x = x + y
        h = self.post_attention_layernorm(x)
        if not self.moe:
            return x + self.mlp(h), loss, None
        y, load = self.mlp(h.flatten(0, 1))
        return x + y.view_as(x), loss, load


class Calf(nn.Module):
    def __init__(self, c=CONFIG):
        super().__init__()
        self.c, D, n = c, c["hidden_size"], c["num_hidden_layers"]
        self.embed_tokens = nn.Embedding(c["vocab_size"], D)
        nn.init.normal_(self.embed_tokens.weight, std=.5)
        self.layers = nn.ModuleList(Block(c, l >= c["first_k_dense_replace"]) for l in range(n + 1))          # the last one is MTP's
        self.norm, self.lm_head = Norm(D, c["rms_norm_eps"]), lin(D, c["vocab_size"])
        self.enorm, self.hnorm, self.shared_head_norm = (Norm(D, c["rms_norm_eps"]) for _ in range(3))
        self.eh_proj = lin(2 * D, D)
        with torch.no_grad():
            self.lm_head.weight.mul_(.5)
            for b in self.layers:                                                    # quiet residual branches at first
                b.self_attn.o_proj.weight.mul_(.35)
                (b.mlp.shared_experts.down_proj.weight if b.moe else b.mlp.down_proj.weight).mul_(.35)
                if b.moe:
                    b.mlp.down_proj.mul_(.35)

    def angles(self, T, device):
        r = self.c["qk_rope_head_dim"]
        f = self.c["rope_theta"] ** (-torch.arange(0, r, 2, device=device, dtype=torch.float64) / r)
        a = (torch.arange(T, device=device).double()[:, None] * f).unsqueeze(1)
        return a.cos().float(), a.sin().float()

    def forward(self, ids, mode="dense", mtp=True, main=True):
        """ids [B,T] -> final hidden, MTP's hidden (row i predicts token i+2) or None, indexer losses, loads.
        With main=False the main layers get no gradient."""
        co, si = self.angles(ids.shape[1], ids.device)
        losses, loads, m = [], [], None
        with torch.set_grad_enabled(torch.is_grad_enabled() and (main or mode == "warm")):
            emb = x = self.embed_tokens(ids)
            for b in self.layers[:-1]:
                x, loss, load = b(x, co, si, mode)
                losses.append(loss), loads.append(load)
            h = self.norm(x)
        if mtp:
            nxt = torch.cat((emb[:, 1:], emb[:, :1]), 1)
            z = self.eh_proj(torch.cat((self.enorm(nxt), self.hnorm(h)), -1))
            z, loss, load = self.layers[-1](z, co, si, mode)
            losses.append(loss), loads.append(load)
            m = self.shared_head_norm(z)
        return h, m, losses, loads
