"""The C interface in ctypes: structs, prototypes, and where the library is found.

Every function that the library exports has its line in PROTOTYPES; a test holds the table
to lib/minke.map and to the declarations of minke.h.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib
import sys
import threading
from ctypes import (
    CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t,
    c_uint32, c_uint64, c_void_p,
)
from typing import Any, Iterator, List, NoReturn, Optional, Union

from .errors import EINVAL, EVERSION, MinkeError

ABI = 1

# ---- Callbacks -------------------------------------------------------------

ALLOC_FN = CFUNCTYPE(c_void_p, c_void_p, c_size_t, c_size_t)
FREE_FN = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)
LOG_FN = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
PROGRESS_FN = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)
READER_OPEN_FN = CFUNCTYPE(c_int32, c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_uint64))
READER_READ_FN = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_uint64, c_void_p, c_size_t)
READER_CLOSE_FN = CFUNCTYPE(None, c_void_p, c_void_p)
TASK_FN = CFUNCTYPE(None, c_void_p, c_uint32)
EXECUTOR_FN = CFUNCTYPE(None, c_void_p, TASK_FN, c_void_p, c_uint32)
OBSERVER_FN = CFUNCTYPE(c_int32, c_void_p, c_uint32, c_uint32, c_uint64, POINTER(c_int32),
                        POINTER(c_float), c_size_t)
EVENT_FN = CFUNCTYPE(c_int32, c_void_p, c_int32, c_uint32, c_void_p, c_size_t)
ROW_FN = CFUNCTYPE(c_int32, c_void_p, c_uint64, POINTER(c_float), c_size_t)
TAKE_FN = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_size_t, c_int32, c_uint64)
COMPLETE_FN = CFUNCTYPE(c_int32, c_void_p, c_int32, c_uint64, c_void_p, c_size_t, c_uint32,
                        TAKE_FN, c_void_p)

# ---- Structs ---------------------------------------------------------------


class Params(Structure):
    """A struct that refuses numbers which ctypes alone would cut to the size of their field."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        kept = getattr(self, name)
        if isinstance(kept, int) and hasattr(value, "__index__") and kept != int(value):
            raise MinkeError(EINVAL, f"{name}: {int(value)} is out of range")


class ContextParams(Params):
    """minke_context_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("n_threads", c_uint32),
        ("flags", c_uint32),
        ("alloc", ALLOC_FN),
        ("free", FREE_FN),
        ("alloc_user", c_void_p),
        ("log", LOG_FN),
        ("log_user", c_void_p),
        ("progress", PROGRESS_FN),
        ("progress_user", c_void_p),
        ("reader_open", READER_OPEN_FN),
        ("reader_read", READER_READ_FN),
        ("reader_close", READER_CLOSE_FN),
        ("reader_user", c_void_p),
        ("executor", EXECUTOR_FN),
        ("executor_user", c_void_p),
    ]


class SessionParams(Params):
    """minke_session_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("max_tokens", c_uint32),
        ("prefill_chunk", c_uint32),
        ("flags", c_uint32),
        ("attention", c_uint32),
        ("window", c_uint32),
        ("cache_type", c_uint32),
        ("index_type", c_uint32),
        ("observe", c_uint32),
        ("observer", OBSERVER_FN),
        ("observer_user", c_void_p),
        ("progress", PROGRESS_FN),
        ("progress_user", c_void_p),
    ]


class SamplerParams(Params):
    """minke_sampler_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("top_k", c_uint32),
        ("temperature", c_float),
        ("top_p", c_float),
        ("min_p", c_float),
        ("repetition_penalty", c_float),
        ("presence_penalty", c_float),
        ("frequency_penalty", c_float),
        ("penalty_window", c_uint32),
        ("n_bias", c_uint32),
        ("seed", c_uint64),
        ("bias_tokens", POINTER(c_int32)),
        ("bias_values", POINTER(c_float)),
    ]


class QuantizeParams(Params):
    """minke_quantize_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("n_threads", c_uint32),
        ("preset", c_char_p),
        ("embed", c_char_p),
        ("head", c_char_p),
        ("attention", c_char_p),
        ("dense", c_char_p),
        ("shared", c_char_p),
        ("gate_up", c_char_p),
        ("down", c_char_p),
        ("progress", PROGRESS_FN),
        ("progress_user", c_void_p),
        ("log", LOG_FN),
        ("log_user", c_void_p),
        ("alloc", ALLOC_FN),
        ("free", FREE_FN),
        ("alloc_user", c_void_p),
        ("importance", c_char_p),
    ]


class ChatParams(Params):
    """minke_chat_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("thinking", c_uint32),
        ("retention", c_uint32),
        ("encoding", c_char_p),
        ("tools", c_char_p),
        ("tools_len", c_size_t),
        ("response_format", c_char_p),
        ("response_format_len", c_size_t),
        ("context", c_char_p),
        ("context_len", c_size_t),
    ]


class TrimParams(Params):
    """minke_chat_trim_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("strategy", c_uint32),
        ("window", c_uint32),
        ("threshold", c_float),
        ("counts", POINTER(c_uint32)),
        ("n_counts", c_size_t),
    ]


class ReplyParams(Params):
    """minke_reply_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("thinking", c_uint32),
        ("encoding", c_char_p),
        ("on_event", EVENT_FN),
        ("user", c_void_p),
    ]


class GenerateParams(Params):
    """minke_generate_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("thinking", c_uint32),
        ("max_tokens", c_uint32),
        ("max_thinking", c_uint32),
        ("min_thinking", c_uint32),
        ("encoding", c_char_p),
        ("closing", c_char_p),
        ("closing_len", c_size_t),
        ("stops", POINTER(c_char_p)),
        ("stop_lens", POINTER(c_size_t)),
        ("n_stops", c_size_t),
        ("stop_tokens", POINTER(c_int32)),
        ("n_stop_tokens", c_size_t),
        ("on_event", EVENT_FN),
        ("user", c_void_p),
    ]


class SearchParams(Params):
    """minke_search_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("driver", c_uint32),
        ("preset", c_uint32),
        ("mode", c_uint32),
        ("n_first", c_uint32),
        ("n_verifications", c_uint32),
        ("n_meta", c_uint32),
        ("n_best", c_uint32),
        ("n_analyses", c_uint32),
        ("n_samples", c_uint32),
        ("max_rounds", c_uint32),
        ("seed", c_uint64),
        ("max_bytes", c_uint64),
        ("prompts", c_char_p),
        ("prompts_len", c_size_t),
        ("journal", c_char_p),
        ("log", LOG_FN),
        ("log_user", c_void_p),
        ("alloc", ALLOC_FN),
        ("free", FREE_FN),
        ("alloc_user", c_void_p),
    ]


class RolloutParams(Params):
    """minke_rollout_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("max_tokens", c_uint32),
        ("max_allowed", c_uint64),
    ]


class ObjectiveParams(Params):
    """minke_objective_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("given", c_uint32),
        ("preset", c_char_p),
        ("advantage", c_uint32),
        ("aggregation", c_uint32),
        ("kl", c_uint32),
        ("filter", c_uint32),
        ("std_ddof", c_uint32),
        ("std_eps", c_double),
        ("constant_length", c_double),
        ("clip_low", c_double),
        ("clip_high", c_double),
        ("off_policy_delta", c_double),
        ("tis_cap", c_double),
        ("overlong_max", c_uint64),
        ("overlong_cache", c_uint64),
        ("kl_weight", c_double),
    ]


class ObjectiveBatch(Params):
    """minke_objective_batch."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("n_sequences", c_size_t),
        ("n_tokens", c_size_t),
        ("groups", POINTER(c_int32)),
        ("rewards", POINTER(c_double)),
        ("lengths", POINTER(c_size_t)),
        ("kl_weights", POINTER(c_double)),
        ("logp", POINTER(c_double)),
        ("old", POINTER(c_double)),
        ("ref", POINTER(c_double)),
        ("rollout", POINTER(c_double)),
    ]


class ObjectiveStats(Params):
    """minke_objective_stats."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("groups", c_uint64),
        ("zero_variance_groups", c_uint64),
        ("dropped_groups", c_uint64),
        ("sequences", c_uint64),
        ("tokens", c_uint64),
        ("masked_sequences", c_uint64),
        ("reward_mean", c_double),
        ("policy_loss", c_double),
        ("kl_loss", c_double),
        ("kl", c_double),
        ("clip_fraction_low", c_double),
        ("clip_fraction_high", c_double),
        ("ratio_mean", c_double),
        ("off_policy_kl", c_double),
        ("tis_mean", c_double),
        ("tis_fraction", c_double),
    ]


class JudgeParams(Params):
    """minke_judge_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("n_samples", c_uint32),
        ("max_score", c_uint32),
        ("seed", c_uint64),
        ("question", c_char_p),
        ("question_len", c_size_t),
        ("answer", c_char_p),
        ("answer_len", c_size_t),
        ("rubrics", POINTER(c_char_p)),
        ("rubric_lens", POINTER(c_size_t)),
        ("n_rubrics", c_size_t),
        ("weights", POINTER(c_double)),
        ("prompt", c_char_p),
        ("prompt_len", c_size_t),
        ("complete", COMPLETE_FN),
        ("user", c_void_p),
    ]


class ProofPromptParams(Params):
    """minke_proof_prompt_params."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("ask", c_int32),
        ("problem", c_char_p),
        ("problem_len", c_size_t),
        ("proof", c_char_p),
        ("proof_len", c_size_t),
        ("rating", c_char_p),
        ("rating_len", c_size_t),
        ("prompts", c_char_p),
        ("prompts_len", c_size_t),
    ]


# C struct -> the class that mirrors it.
STRUCTS = {
    "minke_context_params": ContextParams,
    "minke_session_params": SessionParams,
    "minke_sampler_params": SamplerParams,
    "minke_quantize_params": QuantizeParams,
    "minke_chat_params": ChatParams,
    "minke_chat_trim_params": TrimParams,
    "minke_reply_params": ReplyParams,
    "minke_generate_params": GenerateParams,
    "minke_search_params": SearchParams,
    "minke_rollout_params": RolloutParams,
    "minke_objective_params": ObjectiveParams,
    "minke_objective_batch": ObjectiveBatch,
    "minke_objective_stats": ObjectiveStats,
    "minke_judge_params": JudgeParams,
    "minke_proof_prompt_params": ProofPromptParams,
}

# ---- Constants -------------------------------------------------------------

CONTEXT_MMAP = 1 << 0
CONTEXT_VERIFY = 1 << 1
CONTEXT_STRICT = 1 << 2
CONTEXT_TOKENIZER_ONLY = 1 << 3
CONTEXT_DETERMINISTIC = 1 << 4
CONTEXT_FAST = 1 << 5

TOKENIZE_SPECIAL = 1 << 0
TOKENIZE_BOS = 1 << 1
DETOKENIZE_SKIP_SPECIAL = 1 << 0
DETOKENIZE_PARTIAL = 1 << 1

OBSERVE_EXPERTS = 1 << 0
OBSERVE_SELECTED = 1 << 1
OBSERVE_RESIDUAL = 1 << 2

SESSION_MTP = 1 << 0
SESSION_NAIVE = 1 << 1
SESSION_ABSORBED = 1 << 2

ATTENTION_DEFAULT = 0
ATTENTION_DENSE = 1
ATTENTION_WINDOW = 2
ATTENTION_DSA = 3

CHAT_NO_GENERATION = 1 << 0
CHAT_NO_BOS = 1 << 1
CHAT_TRUST_TEXT = 1 << 2
CHAT_NO_DROP = 1 << 3
REPLY_STRICT = 1 << 0
GENERATE_PLAIN = 1 << 0

# Keys of Model.info: the names of the header's MINKE_INFO_* and MINKE_TEXT_*.
INFO_KEYS = {
    "n_vocab": 1, "n_layers": 2, "max_tokens": 3, "token_bos": 4, "token_eos": 5,
    "weight_bytes": 6, "n_dense_layers": 7, "n_mtp_layers": 8, "hidden_size": 9, "n_heads": 10,
    "kv_lora_rank": 11, "rope_head_dim": 12, "n_experts": 13, "n_experts_used": 14,
    "n_shared_experts": 15, "index_topk": 16, "index_n_heads": 17, "index_head_dim": 18,
    "n_params": 19, "n_params_active": 20, "n_surplus": 21, "n_threads": 22, "n_tokens": 23,
    "bytes_embed": 24, "bytes_attention": 25, "bytes_experts": 26, "bytes_other": 27,
    "bytes_decode": 28,
}
TEXT_KEYS = {"model_type": 1, "tokenizer": 2, "cpu": 3, "weight_type": 4, "tokenizer_error": 5,
             "identity": 6, "slow_types": 7}

# ---- Prototypes ------------------------------------------------------------

_handle = c_void_p
_handle_out = POINTER(c_void_p)
_size_out = POINTER(c_size_t)
_tokens = POINTER(c_int32)
_floats = POINTER(c_float)
_doubles = POINTER(c_double)

# name: (result, arguments)
PROTOTYPES = {
    "minke_version": (c_uint32, []),
    "minke_abi": (c_uint32, []),
    "minke_status_name": (c_char_p, [c_int32]),
    "minke_last_error": (c_char_p, []),
    "minke_context_params_init": (None, [POINTER(ContextParams), c_size_t]),
    "minke_context_open": (c_int32, [_handle_out, c_char_p, POINTER(ContextParams)]),
    "minke_context_free": (None, [_handle]),
    "minke_context_info": (c_int32, [_handle, c_int32, POINTER(c_int64)]),
    "minke_context_text": (c_int32, [_handle, c_int32, POINTER(c_char_p)]),
    "minke_context_surplus": (c_char_p, [_handle, c_size_t]),
    "minke_tokenize": (c_int32, [_handle, c_char_p, c_size_t, c_uint32, _tokens, c_size_t,
                                 _size_out]),
    "minke_detokenize": (c_int32, [_handle, _tokens, c_size_t, c_uint32, c_char_p, c_size_t,
                                   _size_out, _size_out]),
    "minke_token_bytes": (c_int32, [_handle, c_int32, POINTER(c_char_p), _size_out]),
    "minke_token_find": (c_int32, [_handle, c_char_p, c_size_t, _tokens]),
    "minke_chat_params_init": (None, [POINTER(ChatParams), c_size_t]),
    "minke_chat_encoding_name": (c_char_p, [c_size_t]),
    "minke_chat_encoding": (c_int32, [_handle, POINTER(c_char_p)]),
    "minke_chat_render": (c_int32, [_handle, c_char_p, c_size_t, POINTER(ChatParams), c_char_p,
                                    c_size_t, _size_out]),
    "minke_chat_encode": (c_int32, [_handle, c_char_p, c_size_t, POINTER(ChatParams), _tokens,
                                    c_size_t, _size_out]),
    "minke_chat_sampling": (c_int32, [_handle, c_char_p, _floats, _floats]),
    "minke_chat_trim_params_init": (None, [POINTER(TrimParams), c_size_t]),
    "minke_chat_trim": (c_int32, [c_char_p, c_size_t, POINTER(TrimParams), c_char_p, c_size_t,
                                  _size_out, POINTER(c_int32)]),
    "minke_reply_params_init": (None, [POINTER(ReplyParams), c_size_t]),
    "minke_reply_open": (c_int32, [_handle_out, _handle, POINTER(ReplyParams)]),
    "minke_reply_free": (None, [_handle]),
    "minke_reply_token": (c_int32, [_handle, c_int32]),
    "minke_reply_text": (c_int32, [_handle, c_char_p, c_size_t]),
    "minke_reply_finish": (c_int32, [_handle, c_char_p]),
    "minke_reply_thinking": (c_int32, [_handle]),
    "minke_reply_ended": (c_int32, [_handle]),
    "minke_reply_message": (c_int32, [_handle, c_char_p, c_size_t, _size_out]),
    "minke_session_params_init": (None, [POINTER(SessionParams), c_size_t]),
    "minke_session_memory": (c_int32, [_handle, POINTER(SessionParams), POINTER(c_uint64)]),
    "minke_session_open": (c_int32, [_handle_out, _handle, POINTER(SessionParams)]),
    "minke_session_free": (None, [_handle]),
    "minke_session_eval": (c_int32, [_handle, _tokens, c_size_t]),
    "minke_session_eval_all": (c_int32, [_handle, _tokens, c_size_t, _floats, c_size_t]),
    "minke_session_eval_rows": (c_int32, [_handle, _tokens, c_size_t, ROW_FN, c_void_p]),
    "minke_session_sync": (c_int32, [_handle, _tokens, c_size_t, _size_out]),
    "minke_session_truncate": (c_int32, [_handle, c_size_t]),
    "minke_session_length": (c_size_t, [_handle]),
    "minke_session_tokens": (_tokens, [_handle]),
    "minke_session_logits": (c_int32, [_handle, POINTER(_floats), _size_out]),
    "minke_session_mtp": (c_int32, [_handle, c_int32, _floats, c_size_t]),
    "minke_session_cancel": (None, [_handle]),
    "minke_session_fork": (c_int32, [_handle_out, _handle, POINTER(SessionParams)]),
    "minke_session_fill": (c_int32, [_handle, c_size_t, c_uint64]),
    "minke_session_save": (c_int32, [_handle, c_char_p]),
    "minke_session_load": (c_int32, [_handle, c_char_p]),
    "minke_session_time": (c_int32, [_handle, c_int32, POINTER(c_uint64)]),
    "minke_sampler_params_init": (None, [POINTER(SamplerParams), c_size_t]),
    "minke_sampler_open": (c_int32, [_handle_out, POINTER(SamplerParams)]),
    "minke_sampler_free": (None, [_handle]),
    "minke_sampler_sample": (c_int32, [_handle, _floats, c_size_t, _tokens]),
    "minke_sampler_accept": (c_int32, [_handle, c_int32]),
    "minke_sampler_logprob": (c_int32, [_handle, _floats, _floats]),
    "minke_sampler_allowed": (c_int32, [_handle, _tokens, c_size_t, _size_out]),
    "minke_logprobs_best": (c_int32, [_floats, c_size_t, c_size_t, _tokens, _floats]),
    "minke_generate_params_init": (None, [POINTER(GenerateParams), c_size_t]),
    "minke_generate": (c_int32, [_handle, _handle, _tokens, c_size_t, POINTER(GenerateParams),
                                 _tokens]),
    "minke_generator_open": (c_int32, [_handle_out, _handle, _handle, _tokens, c_size_t,
                                      POINTER(GenerateParams)]),
    "minke_generator_free": (None, [_handle]),
    "minke_generator_step": (c_int32, [_handle, c_uint64, _tokens, POINTER(c_uint64)]),
    "minke_generator_info": (c_int32, [_handle, c_int32, POINTER(c_int64)]),
    "minke_generator_tokens": (_tokens, [_handle, _size_out]),
    "minke_generator_message": (c_int32, [_handle, c_char_p, c_size_t, _size_out]),
    "minke_quantize_params_init": (None, [POINTER(QuantizeParams), c_size_t]),
    "minke_quantize": (c_int32, [c_char_p, c_char_p, POINTER(QuantizeParams)]),
    "minke_importance": (c_int32, [_handle, _tokens, c_size_t, c_uint32, c_char_p, PROGRESS_FN,
                                   c_void_p]),
    "minke_objective_params_init": (None, [POINTER(ObjectiveParams), c_size_t]),
    "minke_objective_batch_init": (None, [POINTER(ObjectiveBatch), c_size_t]),
    "minke_objective_stats_init": (None, [POINTER(ObjectiveStats), c_size_t]),
    "minke_objective": (c_int32, [POINTER(ObjectiveParams), POINTER(ObjectiveBatch), _doubles,
                                  _doubles, _doubles, POINTER(ObjectiveStats)]),
    "minke_reward_overlong": (c_int32, [c_uint64, c_uint64, c_uint64, _doubles]),
    "minke_reward_boxed": (c_int32, [c_char_p, c_size_t, _size_out, _size_out]),
    "minke_reward_equal": (c_int32, [c_char_p, c_size_t, c_char_p, c_size_t, c_uint32,
                                     _tokens]),
    "minke_reward_answer": (c_int32, [c_char_p, c_size_t, c_char_p, c_size_t, c_uint32,
                                      _doubles]),
    "minke_reward_format": (c_int32, [c_char_p, c_size_t, c_uint32, _doubles]),
    "minke_reward_language": (c_int32, [c_char_p, c_size_t, c_char_p, _doubles]),
    "minke_reward_rubric": (c_int32, [_doubles, _doubles, c_size_t, _doubles]),
    "minke_judge_params_init": (None, [POINTER(JudgeParams), c_size_t]),
    "minke_judge": (c_int32, [POINTER(JudgeParams), _doubles, _doubles]),
    "minke_rollout_params_init": (None, [POINTER(RolloutParams), c_size_t]),
    "minke_rollout_memory": (c_int32, [_handle, POINTER(RolloutParams), POINTER(c_uint64)]),
    "minke_rollout_open": (c_int32, [_handle_out, _handle, POINTER(RolloutParams)]),
    "minke_rollout_free": (None, [_handle]),
    "minke_rollout_record": (c_int32, [_handle, _handle]),
    "minke_rollout_sample": (c_int32, [_handle, _handle, _tokens]),
    "minke_rollout_finish": (c_int32, [_handle, c_int32]),
    "minke_rollout_array": (c_int32, [_handle, c_int32, POINTER(c_char_p), POINTER(c_char_p),
                                      POINTER(c_uint64), POINTER(c_uint32), POINTER(c_void_p)]),
    "minke_rollout_facts": (c_int32, [_handle, c_char_p, c_size_t, _size_out]),
    "minke_rollout_save": (c_int32, [_handle, c_char_p]),
    "minke_rollout_load": (c_int32, [_handle_out, _handle, c_char_p]),
    "minke_rollout_replay": (c_int32, [_handle, _handle, c_uint32]),
    "minke_rollout_score": (c_int32, [_handle, _handle, _floats, _floats, c_size_t]),
    "minke_proof_score": (c_int32, [c_char_p, c_size_t, c_uint32, _doubles]),
    "minke_proof_split": (c_int32, [c_char_p, c_size_t, c_uint32, c_char_p, c_size_t, _size_out,
                                    _size_out]),
    "minke_proof_prompt_params_init": (None, [POINTER(ProofPromptParams), c_size_t]),
    "minke_proof_prompt": (c_int32, [POINTER(ProofPromptParams), c_char_p, c_size_t, _size_out]),
    "minke_proof_verifier_reward": (c_int32, [c_char_p, c_size_t, c_double, c_double, _doubles]),
    "minke_proof_generator_reward": (c_int32, [c_char_p, c_size_t, c_double, c_double, _doubles]),
    "minke_proof_label": (c_int32, [_doubles, _doubles, c_size_t, c_uint32, _doubles]),
    "minke_search_params_init": (None, [POINTER(SearchParams), c_size_t]),
    "minke_search_open": (c_int32, [_handle_out, c_char_p, c_size_t, POINTER(SearchParams)]),
    "minke_search_free": (None, [_handle]),
    "minke_search_run": (c_int32, [_handle, COMPLETE_FN, c_void_p]),
    "minke_search_best": (c_int32, [_handle, POINTER(c_char_p), _size_out, _doubles]),
    "minke_search_result": (c_int32, [_handle, c_char_p, c_size_t, _size_out]),
}

# ---- Finding and loading ---------------------------------------------------

PathLike = Union[str, "os.PathLike[str]"]


def _file_names() -> List[str]:
    if sys.platform == "darwin":
        return [f"libminke.{ABI}.dylib", "libminke.dylib"]
    if sys.platform == "win32":
        return [f"libminke-{ABI}.dll", "minke.dll"]
    return [f"libminke.so.{ABI}", "libminke.so"]


def candidates() -> Iterator[str]:
    """Where the library may be when nobody names it, in the order tried: beside this
    package, in the build folder of the source tree that holds it, installed."""
    here = pathlib.Path(__file__).resolve().parent
    for folder in (here, here.parents[2] / "build" / "lib"):
        for name in _file_names():
            if (folder / name).is_file():
                yield str(folder / name)
    found = ctypes.util.find_library("minke")
    if found is not None:
        yield found
    for prefix in ("/usr/local", sys.prefix):
        for name in _file_names():
            path = os.path.join(prefix, "lib", name)
            if os.path.isfile(path):
                yield path


class Library:
    """The loaded library: its functions are attributes, with their prototypes set."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._dll = ctypes.CDLL(path)
        self._dll.minke_abi.restype = c_uint32
        abi = self._dll.minke_abi()
        if abi != ABI:
            raise MinkeError(EVERSION, f"{path}: ABI {ABI} expected, {abi} found")
        for name, (result, arguments) in PROTOTYPES.items():
            try:
                function = getattr(self._dll, name)
            except AttributeError:
                raise MinkeError(EVERSION, f"{path}: no function {name}") from None
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def check(self, status: int) -> None:
        """Raise MinkeError for a negative status of a call made on this thread."""
        if status < 0:
            self.fail(status)

    def fail(self, status: int) -> NoReturn:
        raise MinkeError(status, self.minke_last_error().decode("utf-8", "replace"))


_loaded: dict[str, Library] = {}
_lock = threading.Lock()


def load(path: Optional[PathLike] = None) -> Library:
    """The library at path; else at $MINKE_LIBRARY; else the first of candidates()."""
    name = os.fspath(path) if path is not None else os.environ.get("MINKE_LIBRARY") or None
    if name is None:
        name = next(candidates(), None)
    if name is None:
        raise MinkeError(EVERSION, "no minke library found: install it, or set MINKE_LIBRARY "
                         "to the path of " + _file_names()[-1])
    with _lock:
        if name not in _loaded:
            _loaded[name] = Library(name)
        return _loaded[name]
