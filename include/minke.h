/*
 * minke.h - the DeepSeek V3 family on the CPU, inside another program.
 *
 * This header is the whole public interface and its manual: what is not declared here is not API.
 *
 *   Engine    version, errors, callbacks; context, tokenizer, session, sampler
 *   Chat      encodings of conversations, replies, generating, trimming
 *   Convert   quantizing, importance of weights
 *   Learn     objectives, rewards, rollouts
 *   Prove     text from the host, judges, proofs, searching for a proof
 *
 * A complete program (cc program.c -lminke):
 *
 *   #include <minke.h>
 *   #include <stdio.h>
 *   #include <string.h>
 *
 *   static int32_t print(void *user, int32_t event, uint32_t call, const char *text, size_t len)
 *   {
 *       (void)user, (void)call;
 *       return event == MINKE_REPLY_EVENT_CONTENT && fwrite(text, 1, len, stdout) < len;
 *   }
 *
 *   int main(int argc, char **argv)
 *   {
 *       const char *chat = "[{\"role\": \"user\", \"content\": \"What is a minke?\"}]";
 *       minke_context *model = NULL;
 *       minke_session *session = NULL;
 *       minke_sampler *greedy = NULL;
 *       minke_generate_params params;
 *       int32_t prompt[256];
 *       size_t n;
 *
 *       minke_generate_params_init(&params, sizeof params);
 *       params.max_tokens = 200;
 *       params.on_event = print;
 *       if (minke_context_open(&model, argc > 1 ? argv[1] : "model", NULL) < 0
 *           || minke_session_open(&session, model, NULL) < 0
 *           || minke_sampler_open(&greedy, NULL) < 0
 *           || minke_chat_encode(model, chat, strlen(chat), NULL, prompt, 256, &n) < 0
 *           || minke_generate(session, greedy, prompt, n, &params, NULL) < 0)
 *           fprintf(stderr, "%s\n", minke_last_error());
 *       minke_sampler_free(greedy);
 *       minke_session_free(session);
 *       minke_context_free(model);
 *       return 0;
 *   }
 *
 * Three handles carry it:
 *
 *   minke_context   a loaded model: weights, tokenizer, worker threads.  Immutable after open; any
 *                   number of threads may use it at once.
 *   minke_session   one sequence: its tokens and caches.  One thread at a time.
 *   minke_sampler   logits to token, with its own random state.  One thread at a time.
 *
 * What holds unless a function says otherwise:
 *  - int32_t results are MINKE_OK or a negative MINKE_E*.  On error, outputs are untouched, and
 *    minke_last_error() says why in one line.
 *  - Handles may be freed in any order: a session keeps its context alive.  _free ignores NULL;
 *    where else a handle is required, NULL gives MINKE_EINVAL.
 *  - "Borrowed" results belong to the handle: never free them.
 *  - Text is UTF-8 with its length in bytes and need not end in NUL.  Paths end in NUL and are
 *    UTF-8 with '/' or the system's separator.
 *  - A params struct begins with struct_size and grows at its end alone.  Fill it by its _init
 *    function; a field that is 0 means "default".  What its pointers lead to must live as long as
 *    the call; callbacks and their user pointers as long as the handle that they were given to.
 *  - Functions that write into a buffer of the caller's report the size needed also with
 *    MINKE_ENOSPC: capacity 0 with a NULL buffer asks for it.
 *  - Callbacks get their user pointer first and run on the thread that called into minke.  They
 *    may call minke, but not on the handle in use (MINKE_EBUSY), and must return: no exception
 *    and no longjmp may leave them.
 *  - The caller's floating-point modes do not matter and are left as they were.
 *  - After fork(), calls in the child on handles of the parent give MINKE_EFORK; the child may
 *    open handles of its own.
 */
#ifndef MINKE_H
#define MINKE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MINKE_API
#  if defined(_WIN32) && defined(MINKE_BUILD)
#    define MINKE_API __declspec(dllexport)
#  elif defined(__GNUC__)
#    define MINKE_API __attribute__((visibility("default")))
#  else
#    define MINKE_API
#  endif
#endif

/* ======================================================================== *
 * Engine
 * ======================================================================== */

/* ---- Version ------------------------------------------------------------ */

#define MINKE_VERSION_MAJOR 0
#define MINKE_VERSION_MINOR 1
#define MINKE_VERSION_PATCH 0
#define MINKE_ABI 1   /* soname; changes only when an old binary would break */

/* Version of the library in use: major << 16 | minor << 8 | patch. */
MINKE_API uint32_t minke_version(void);

/* MINKE_ABI of the library in use.  Bindings check this before any other call. */
MINKE_API uint32_t minke_abi(void);

/* ---- Errors ------------------------------------------------------------- */

/* Values never change meaning; new ones may appear.  Test for < 0. */
#define MINKE_OK            0
#define MINKE_EINVAL      (-1)   /* an argument breaks the documented contract */
#define MINKE_ENOMEM      (-2)   /* out of memory, or a size does not fit size_t */
#define MINKE_EIO         (-3)   /* the operating system refused a file operation */
#define MINKE_EFORMAT     (-4)   /* a file or text is damaged or not what it claims */
#define MINKE_EUNSUPPORTED (-5)  /* well formed, but not something this build runs */
#define MINKE_ENOSPC      (-6)   /* the caller's buffer is too small; nothing was lost */
#define MINKE_EFULL       (-7)   /* the session holds no more tokens; truncate and retry */
#define MINKE_ECANCELED   (-8)   /* stopped by a callback or by cancel; the handle is valid */
#define MINKE_EVERSION    (-9)   /* a struct or key asks for something this build lacks */
#define MINKE_EINTERNAL  (-10)   /* a bug in minke; free the handle */
#define MINKE_EBUSY      (-11)   /* the handle is in use by the calling callback, or suspended */
#define MINKE_EFORK      (-12)   /* the handle was opened by a parent process */
#define MINKE_ESNAPSHOT  (-13)   /* a session's file is damaged, or of another kind */

/* Static name of a status, "MINKE_EINVAL" for instance; never NULL. */
MINKE_API const char *minke_status_name(int32_t status);

/* Why the last call that failed on this thread did, in one line; "" if none did.  Calls that
 * succeed, frees and getters leave it alone.  Borrowed; valid until this thread's next failing
 * call. */
MINKE_API const char *minke_last_error(void);

/* ---- Callbacks ---------------------------------------------------------- */

/* alloc: size bytes aligned to align, a power of two; NULL where there are none.  free: what
 * alloc gave, with its size.  Any thread may call them at any time. */
typedef void *(*minke_alloc_fn)(void *user, size_t size, size_t align);
typedef void (*minke_free_fn)(void *user, void *ptr, size_t size);

#define MINKE_LOG_ERROR 0
#define MINKE_LOG_WARN  1
#define MINKE_LOG_INFO  2

/* text: one line without newline, NUL-terminated, borrowed for the call. */
typedef void (*minke_log_fn)(void *user, int32_t level, const char *text);

/* done and total are in the unit of the operation (bytes, tokens).  Nonzero stops it with
 * MINKE_ECANCELED. */
typedef int32_t (*minke_progress_fn)(void *user, uint64_t done, uint64_t total);

/* A host's own files, for models inside archives and the like; on the thread that opens the
 * context.
 * open: *file and *size (bytes) of the file at path, whose separator is '/'.  Return 0; 1 if
 *   there is no such file; negative if it cannot be read.
 * read: exactly n bytes from offset into buffer.  Return 0, or negative. */
typedef int32_t (*minke_reader_open_fn)(void *user, const char *path, void **file,
                                        uint64_t *size);
typedef int32_t (*minke_reader_read_fn)(void *user, void *file, uint64_t offset,
                                        void *buffer, size_t n);
typedef void (*minke_reader_close_fn)(void *user, void *file);

/* A host's own parallel for: run task(arg, i) once for every i in [0, n) and return when all are
 * done.  On any threads and in any order, all at once or one after another; minke may itself have
 * been called from a task of the host's.  A context calls it from one thread at a time; contexts
 * that share it may call it at once.  Tasks are the only code of minke that runs on threads other
 * than the caller's and minke's own. */
typedef void (*minke_task_fn)(void *arg, uint32_t index);
typedef void (*minke_executor_fn)(void *user, minke_task_fn task, void *arg, uint32_t n);

/* ---- Context ------------------------------------------------------------ */

typedef struct minke_context minke_context;

typedef struct minke_context_params {
    uint32_t struct_size;        /* sizeof(struct), set by _init */
    uint32_t n_threads;          /* 0 = what affinity and the container's quota allow */
    uint32_t flags;              /* MINKE_CONTEXT_* */
    minke_alloc_fn alloc;        /* NULL = the C library's; set both or neither */
    minke_free_fn free;
    void *alloc_user;
    minke_log_fn log;            /* NULL = silent */
    void *log_user;
    minke_progress_fn progress;  /* NULL = none; while loading, in bytes */
    void *progress_user;
    minke_reader_open_fn reader_open;    /* NULL = the operating system's files; */
    minke_reader_read_fn reader_read;    /* set all three or none */
    minke_reader_close_fn reader_close;
    void *reader_user;
    minke_executor_fn executor;  /* NULL = minke's own threads; else n_threads tasks at most */
    void *executor_user;
} minke_context_params;

/* Map the weights instead of reading them: opening is immediate and memory is shared with the
 * page cache, but the files must not change or shrink while the context lives.  Not together with
 * a reader. */
#define MINKE_CONTEXT_MMAP           (1u << 0)
/* Refuse weights that hold NaN or infinity, naming the tensor (reads every byte). */
#define MINKE_CONTEXT_VERIFY         (1u << 1)
/* Refuse tensors that the model does not use instead of logging them. */
#define MINKE_CONTEXT_STRICT         (1u << 2)
/* Load the tokenizer alone: config.json and weights may be absent or disagree, and sessions
 * cannot be opened. */
#define MINKE_CONTEXT_TOKENIZER_ONLY (1u << 3)
/* Same bits also for any chunks of the prompt: one form of attention everywhere. */
#define MINKE_CONTEXT_DETERMINISTIC  (1u << 4)
/* Round activations to 16 bits where that is faster on this processor: in attention, and in
 * products of more than three tokens with weights of F32, F16, BF16 or F8_E4M3 (AVX-512).
 * Attention's output is then off by at most 5e-3 of its size, such products by 1e-4 of the
 * operands' norms.  What chooses experts and tokens is never rounded.  Bits are the same for any
 * number of threads; of those products a token has other bits alone than among many, so together
 * with MINKE_CONTEXT_DETERMINISTIC they stay exact.  Builds with oneDNN: see README.md. */
#define MINKE_CONTEXT_FAST           (1u << 5)

/* Fill params with defaults for a struct of this size: pass sizeof *params. */
MINKE_API void minke_context_params_init(minke_context_params *params, size_t size);

/* Open the model at path: a directory (config.json, *.safetensors, tokenizer files), or a GGUF
 * file, whose name ends in .gguf; of several parts, the first.  params may be NULL.  On success
 * the caller owns *out.
 *
 * A tokenizer that is missing or not of this family does not stop the model from opening: text
 * functions then fail with a message that says why.
 *
 * MINKE_EIO: a file cannot be read.  MINKE_EFORMAT: a file is damaged, a tensor is missing or has
 * the wrong shape.  MINKE_EUNSUPPORTED: the message names the key in the config, its value, and
 * what is accepted.  MINKE_ECANCELED: progress said so. */
MINKE_API int32_t minke_context_open(minke_context **out, const char *path,
                                     const minke_context_params *params);

/* Drop the caller's reference.  Memory goes when the last session does. */
MINKE_API void minke_context_free(minke_context *ctx);

/* Keys of minke_context_info.  Counts unless said otherwise. */
#define MINKE_INFO_N_VOCAB          1   /* length of a row of logits */
#define MINKE_INFO_N_LAYERS         2   /* without the multi-token-prediction layer */
#define MINKE_INFO_MAX_TOKENS       3   /* longest context the model was trained for */
#define MINKE_INFO_TOKEN_BOS        4   /* id, or -1 */
#define MINKE_INFO_TOKEN_EOS        5   /* id, or -1 */
#define MINKE_INFO_WEIGHT_BYTES     6   /* bytes of weights as held in memory */
#define MINKE_INFO_N_DENSE_LAYERS   7
#define MINKE_INFO_N_MTP_LAYERS     8   /* loaded multi-token-prediction layers */
#define MINKE_INFO_HIDDEN_SIZE      9
#define MINKE_INFO_N_HEADS         10
#define MINKE_INFO_KV_LORA_RANK    11
#define MINKE_INFO_ROPE_HEAD_DIM   12
#define MINKE_INFO_N_EXPERTS       13   /* routed, per layer; 0 = dense model */
#define MINKE_INFO_N_EXPERTS_USED  14   /* routed, per token */
#define MINKE_INFO_N_SHARED_EXPERTS 15
#define MINKE_INFO_INDEX_TOPK      16   /* tokens that sparse attention keeps; 0 = dense */
#define MINKE_INFO_INDEX_N_HEADS   17
#define MINKE_INFO_INDEX_HEAD_DIM  18
#define MINKE_INFO_N_PARAMS        19   /* weights of the main model */
#define MINKE_INFO_N_PARAMS_ACTIVE 20   /* of these, used per token */
#define MINKE_INFO_N_SURPLUS       21   /* tensors in the files that no layer uses */
#define MINKE_INFO_N_THREADS       22
#define MINKE_INFO_N_TOKENS        23   /* ids the tokenizer knows; 0 = no tokenizer */
#define MINKE_INFO_BYTES_EMBED     24   /* bytes of weights by part: embedding and head */
#define MINKE_INFO_BYTES_ATTENTION 25   /*   attention, with the indexer */
#define MINKE_INFO_BYTES_EXPERTS   26   /*   routed experts */
#define MINKE_INFO_BYTES_OTHER     27   /*   everything else */
#define MINKE_INFO_BYTES_DECODE    28   /* of weights multiplied for one decoded token */

/* Read one fact about the model.  MINKE_EVERSION if this build has no such key. */
MINKE_API int32_t minke_context_info(const minke_context *ctx, int32_t key,
                                     int64_t *value);

/* Keys of minke_context_text. */
#define MINKE_TEXT_MODEL_TYPE  1   /* "deepseek_v32", as config.json says it */
#define MINKE_TEXT_TOKENIZER   2   /* "deepseek-v3", "deepseek-llm", or "" */
#define MINKE_TEXT_CPU         3   /* instruction sets in use, "avx512" for instance */
#define MINKE_TEXT_WEIGHT_TYPE 4   /* type of most weights, "F8_E4M3" for instance */
#define MINKE_TEXT_TOKENIZER_ERROR 5 /* why text functions fail, or "" */
#define MINKE_TEXT_IDENTITY    6   /* 16 digits that tell models apart: of config, tokenizer and
                                    * a sample of the weights; "" without model */
#define MINKE_TEXT_SLOW_TYPES  7   /* types of its matrices that no fast kernel multiplies:
                                    * "Q2_K Q3_K" for instance, or "" */

/* Read one fact as text: *text borrowed, NUL-terminated, valid while the context lives.
 * MINKE_EVERSION if this build has no such key. */
MINKE_API int32_t minke_context_text(const minke_context *ctx, int32_t key,
                                     const char **text);

/* Name of the i-th tensor that no layer uses, i in [0, MINKE_INFO_N_SURPLUS).  Borrowed; NULL
 * when i is out of range. */
MINKE_API const char *minke_context_surplus(const minke_context *ctx, size_t i);

/* ---- Tokenizer ---------------------------------------------------------- */

/* MINKE_EUNSUPPORTED when the context has no tokenizer of this family.  Any thread; no state is
 * kept. */

#define MINKE_TOKENIZE_SPECIAL (1u << 0)  /* parse special tokens; trusted text only */
#define MINKE_TOKENIZE_BOS     (1u << 1)  /* begin with the beginning-of-sentence token;
                                           * MINKE_EUNSUPPORTED where there is none */

/* Encode text.  Bytes that are not UTF-8 are read as U+FFFD, as Python's errors="replace" does.
 * *n_out: tokens, also on MINKE_ENOSPC. */
MINKE_API int32_t minke_tokenize(const minke_context *ctx, const char *text,
                                 size_t text_len, uint32_t flags, int32_t *tokens,
                                 size_t capacity, size_t *n_out);

#define MINKE_DETOKENIZE_SKIP_SPECIAL (1u << 0) /* leave out tokens marked special */
#define MINKE_DETOKENIZE_PARTIAL      (1u << 1) /* hold back an incomplete code point */

/* Decode tokens to UTF-8; invalid sequences become U+FFFD.  *n_out: bytes, also on MINKE_ENOSPC.
 * With MINKE_DETOKENIZE_PARTIAL the last tokens are left out when a code point begins in them
 * that they do not end; *n_used (may be NULL) tells how many leading tokens the text is of, so
 * that a stream keeps the rest for its next call. */
MINKE_API int32_t minke_detokenize(const minke_context *ctx, const int32_t *tokens,
                                   size_t n, uint32_t flags, char *text,
                                   size_t capacity, size_t *n_out, size_t *n_used);

/* Bytes of one token, which may be a part of a character.  Borrowed; valid while the context
 * lives.  An id without token below the model's vocabulary gives length 0; one at or above it, or
 * negative, MINKE_EINVAL. */
MINKE_API int32_t minke_token_bytes(const minke_context *ctx, int32_t token,
                                    const char **bytes, size_t *len);

/* Id of the token with exactly this text, special or not: *token, or -1. */
MINKE_API int32_t minke_token_find(const minke_context *ctx, const char *text,
                                   size_t text_len, int32_t *token);

/* ---- Session ------------------------------------------------------------ */

typedef struct minke_session minke_session;

/* What an observer receives, kind by kind. */
#define MINKE_OBSERVE_EXPERTS  (1u << 0)  /* ids, best first, with their weights */
#define MINKE_OBSERVE_SELECTED (1u << 1)  /* positions, ascending, with index scores (DSA) */
#define MINKE_OBSERVE_RESIDUAL (1u << 2)  /* residual stream after the layer */

/* layer: 0-based; the multi-token-prediction layer follows the last.  token: position in the
 * session.  ids: (n,), NULL for the residual stream.  values: (n,).  Both borrowed for the call.
 * Return nonzero to stop the eval with MINKE_ECANCELED. */
typedef int32_t (*minke_observer_fn)(void *user, uint32_t kind, uint32_t layer,
                                     uint64_t token, const int32_t *ids,
                                     const float *values, size_t n);

typedef struct minke_session_params {
    uint32_t struct_size;
    uint32_t max_tokens;         /* capacity in tokens; 0 = MINKE_INFO_MAX_TOKENS.  Its memory is
                                  * reserved when the session is opened; pages that no token
                                  * reaches take address space alone, unless the host allocates */
    uint32_t prefill_chunk;      /* tokens of a prompt evaluated at a time; 0 = 256 */
    uint32_t flags;              /* MINKE_SESSION_* */
    uint32_t attention;          /* MINKE_ATTENTION_* */
    uint32_t window;             /* with MINKE_ATTENTION_WINDOW: tokens seen, at least 1 */
    uint32_t cache_type;         /* MINKE_CACHE_*: how latents and rope keys are kept */
    uint32_t index_type;         /* MINKE_INDEX_*: how the indexer's keys are kept */
    uint32_t observe;            /* MINKE_OBSERVE_* wanted */
    minke_observer_fn observer;  /* NULL = none */
    void *observer_user;
    minke_progress_fn progress;  /* NULL = none; during eval, in tokens */
    void *progress_user;
} minke_session_params;

/* Which past tokens attention sees.  What differs from the model's own is for comparison: the
 * weights were not trained for it. */
#define MINKE_ATTENTION_DEFAULT 0  /* the model's own: DSA where it has an indexer */
#define MINKE_ATTENTION_DENSE   1  /* every token */
#define MINKE_ATTENTION_WINDOW  2  /* the last window tokens, the token itself included */
#define MINKE_ATTENTION_DSA     3  /* those that the indexer selects; MINKE_EUNSUPPORTED where the
                                    * model has none */

/* Bytes of a token in one layer, with latents of 512 and rope keys of 64 numbers. */
#define MINKE_CACHE_F32    0   /* 2304; exact */
#define MINKE_CACHE_BF16   1   /* 1152 */
#define MINKE_CACHE_FP8    2   /* 656: latents in e4m3, a scale per 128, rope keys in bf16 */
#define MINKE_CACHE_NATIVE 3   /* what the model was trained for: FP8 where it has an indexer,
                                * else BF16 */

/* The same of the indexer's keys, with 128 numbers. */
#define MINKE_INDEX_F32      0   /* 512; exact */
#define MINKE_INDEX_INT8     1   /* 132: rotated, rounded to 8 bits, one scale per key; of the
                                  * selected tokens some 1 % differ from the exact ones */
#define MINKE_INDEX_RESCORED 2   /* 388: bf16 keys beside them, by which the best are scored
                                  * again: as if the keys were bf16 and the rest exact */
#define MINKE_INDEX_NATIVE   3   /* what the model was trained for: INT8 */

#define MINKE_SESSION_MTP      (1u << 0)  /* keep the caches of the prediction layer */
#define MINKE_SESSION_NAIVE    (1u << 1)  /* multi-head form of attention everywhere */
#define MINKE_SESSION_ABSORBED (1u << 2)  /* latent form of attention everywhere */

MINKE_API void minke_session_params_init(minke_session_params *params, size_t size);

/* Bytes a session with these params will allocate, without allocating them. */
MINKE_API int32_t minke_session_memory(const minke_context *ctx,
                                       const minke_session_params *params,
                                       uint64_t *bytes);

/* params may be NULL.  On success the caller owns *out.  Nothing is allocated afterwards. */
MINKE_API int32_t minke_session_open(minke_session **out, minke_context *ctx,
                                     const minke_session_params *params);

/* From one of the session's own callbacks nothing happens: the session stays, and must be freed
 * after the call. */
MINKE_API void minke_session_free(minke_session *s);

/* Append n >= 1 tokens and compute logits for the last.  MINKE_EFULL, with nothing evaluated, if
 * they do not fit.  After MINKE_ECANCELED the session holds the tokens up to
 * minke_session_length(), and no logits; after any other error it is as it was. */
MINKE_API int32_t minke_session_eval(minke_session *s, const int32_t *tokens, size_t n);

/* As eval, with the logits of every row: logits (n, n_vocab) of the caller, capacity in floats.
 * MINKE_ENOSPC, with nothing evaluated, when it is too small.  After MINKE_ECANCELED the rows of
 * the tokens that the session holds are written, the others are as they were. */
MINKE_API int32_t minke_session_eval_all(minke_session *s, const int32_t *tokens,
                                         size_t n, float *logits, size_t capacity);

/* row: logits (n,) of one token, n = n_vocab, borrowed for the call.  Return nonzero to stop with
 * MINKE_ECANCELED. */
typedef int32_t (*minke_row_fn)(void *user, uint64_t token, const float *row, size_t n);

/* As eval, calling on_row for every token in order. */
MINKE_API int32_t minke_session_eval_rows(minke_session *s, const int32_t *tokens,
                                          size_t n, minke_row_fn on_row, void *user);

/* Make the session hold exactly these tokens, reusing the longest common prefix; logits of the
 * last token are computed in any case.  *n_reused may be NULL.  On error the session holds a
 * prefix of tokens. */
MINKE_API int32_t minke_session_sync(minke_session *s, const int32_t *tokens, size_t n,
                                     size_t *n_reused);

/* Forget all but the first n tokens, and what a step of a generator left half evaluated; n at or
 * above the length changes nothing else.  Otherwise logits become unavailable.  With
 * MINKE_SESSION_MTP, dropping tokens of the last chunk evaluated costs nothing; behind less than
 * that, the next eval runs the last token kept once more, unobserved. */
MINKE_API int32_t minke_session_truncate(minke_session *s, size_t n);

/* Tokens held. */
MINKE_API size_t minke_session_length(const minke_session *s);

/* The tokens held, minke_session_length() of them.  Borrowed; valid until the next call on this
 * session. */
MINKE_API const int32_t *minke_session_tokens(const minke_session *s);

/* Raw logits of the last token evaluated, (n,), n = n_vocab.  Borrowed; valid until the next
 * eval, sync, truncate, fill, load or free on this session.  MINKE_EINVAL when there are none. */
MINKE_API int32_t minke_session_logits(const minke_session *s, const float **logits,
                                       size_t *n);

/* Logits of the multi-token-prediction layer: given the token that follows the last one
 * evaluated, predict the one after it.  logits (n,) of the caller, n >= n_vocab.  The session
 * must have been opened with MINKE_SESSION_MTP and hold logits: after truncate, evaluate a token
 * first.  MINKE_EUNSUPPORTED without such a layer. */
MINKE_API int32_t minke_session_mtp(minke_session *s, int32_t next, float *logits,
                                    size_t n);

/* Another session that holds the same: tokens, caches, and the last logits if there are any.
 * From then on the two know nothing of each other.  params NULL: those of s, callbacks included.
 * Otherwise attention, window, cache_type, index_type and MINKE_SESSION_MTP must be those of s
 * (MINKE_EINVAL), and its tokens must fit (MINKE_EFULL).  The caches are copied;
 * minke_session_memory tells what the new session takes.  MINKE_EBUSY where s is in use.  On
 * success the caller owns *out. */
MINKE_API int32_t minke_session_fork(minke_session **out, const minke_session *s,
                                     const minke_session_params *params);

/* For benchmarks: append n tokens as if they were evaluated, with random numbers of mean 0 and
 * variance 1 in the caches, the same for the same seed; logits become unavailable.  What the
 * model says afterwards means nothing, but takes the time that a session of this length takes.
 * MINKE_EFULL if they do not fit; on error the session is as it was. */
MINKE_API int32_t minke_session_fill(minke_session *s, size_t n, uint64_t seed);

/* Write the session to a file at path: tokens, caches, and the last logits if it has any.  The
 * file appears, replacing an older one, when it is complete and on disk; on error (MINKE_EIO)
 * there is nothing new.  A process killed meanwhile leaves the older file as it was, and beside it
 * one named path.part-*.  Through the operating system even where the context has a reader. */
MINKE_API int32_t minke_session_save(const minke_session *s, const char *path);

/* Make the session what it was when the file at path was written, bit for bit.  MINKE_ESNAPSHOT
 * where the file is cut, altered, written by another version, of another model
 * (MINKE_TEXT_IDENTITY), or of a session with other caches: attention, window, cache_type,
 * index_type and MINKE_SESSION_MTP must be the same, all else may differ.  MINKE_EFULL where its
 * tokens do not fit.  On error the session is as it was; only a file that changes while it is
 * read may leave it empty. */
MINKE_API int32_t minke_session_load(minke_session *s, const char *path);

/* Keys of minke_session_time.  What is in the total and in none of the others: products before
 * and after attention, norms, the head. */
#define MINKE_TIME_TOTAL     1   /* in eval, sync and mtp calls */
#define MINKE_TIME_INDEX     2   /* scores of the indexer */
#define MINKE_TIME_SELECT    3   /* choice of the best, scoring again included */
#define MINKE_TIME_ATTENTION 4   /* scores, softmax and weighted sums; in the naive form also keys
                                  * and values per head */
#define MINKE_TIME_FFN       5   /* experts, or the dense feed-forward part */

/* For benchmarks: *ns wall-clock nanoseconds since the session was opened.  MINKE_EVERSION if
 * this build has no such key. */
MINKE_API int32_t minke_session_time(const minke_session *s, int32_t key, uint64_t *ns);

/* Ask a running eval, or the next one, to stop: it returns MINKE_ECANCELED within one layer of
 * one chunk.  The one session call any thread may make. */
MINKE_API void minke_session_cancel(minke_session *s);

/* ---- Sampler ------------------------------------------------------------ */

typedef struct minke_sampler minke_sampler;

/* In this order: bias, penalties, temperature, top-k, top-p, min-p, draw.  Penalties look at the
 * last penalty_window tokens given to minke_sampler_accept(). */
typedef struct minke_sampler_params {
    uint32_t struct_size;
    uint32_t top_k;              /* 0 = off */
    float temperature;           /* 0 = greedy: ties to the lowest id */
    float top_p;                 /* 0 or 1 = off, else in (0, 1] */
    float min_p;                 /* 0 = off, else in (0, 1] */
    float repetition_penalty;    /* 0 or 1 = off, else > 0: divides positive logits */
    float presence_penalty;      /* 0 = off; subtracted once per seen token */
    float frequency_penalty;     /* 0 = off; subtracted per occurrence */
    uint32_t penalty_window;     /* tokens; 0 = 64 */
    uint32_t n_bias;             /* entries in bias_tokens and bias_values */
    uint64_t seed;               /* equal seeds give equal tokens */
    const int32_t *bias_tokens;  /* copied; may be NULL when n_bias is 0 */
    const float *bias_values;    /* added to the logits; -inf forbids a token */
} minke_sampler_params;

MINKE_API void minke_sampler_params_init(minke_sampler_params *params, size_t size);

/* params may be NULL (greedy).  Needs no context.  MINKE_EINVAL names the field out of range.  On
 * success the caller owns *out. */
MINKE_API int32_t minke_sampler_open(minke_sampler **out,
                                     const minke_sampler_params *params);
MINKE_API void minke_sampler_free(minke_sampler *sampler);

/* Choose a token from logits (n,), which are only read.  NaN or +infinity among them, or no
 * token left to choose, gives MINKE_EINVAL.  Does not accept the token by itself. */
MINKE_API int32_t minke_sampler_sample(minke_sampler *sampler, const float *logits,
                                       size_t n, int32_t *token);

/* Tell the sampler that a token was taken, sampled or not: penalties count it. */
MINKE_API int32_t minke_sampler_accept(minke_sampler *sampler, int32_t token);

/* Log-probabilities of the last sample: *chosen under the distribution sampled from
 * and *chosen_full under the plain softmax of the logits given (either may be NULL).
 * MINKE_EINVAL before the first sample. */
MINKE_API int32_t minke_sampler_logprob(const minke_sampler *sampler, float *chosen,
                                        float *chosen_full);

/* Tokens that the last sample could have been, ascending: those that top-k, top-p, min-p and
 * forbidding biases left; at temperature 0 the one.  *n of them, also on MINKE_ENOSPC; 0 = all.
 * MINKE_EINVAL before the first sample. */
MINKE_API int32_t minke_sampler_allowed(const minke_sampler *sampler, int32_t *tokens,
                                        size_t capacity, size_t *n);

/* The n best tokens under the plain softmax of logits (n_vocab,), best first, ties to
 * the lowest id: tokens (n,), logprobs (n,).  n <= n_vocab.  Needs no sampler. */
MINKE_API int32_t minke_logprobs_best(const float *logits, size_t n_vocab, size_t n,
                                      int32_t *tokens, float *logprobs);

/* ======================================================================== *
 * Chat
 * ======================================================================== */

/* ---- Encodings of conversations ----------------------------------------- */

/* Conversations are JSON: an array of messages in OpenAI's schema.  role: "system",
 * "developer" (V3.2), "user", "assistant", "tool".  content: text or null.  Assistants
 * also: reasoning_content, tool_calls, prefix, and token_ids, the ids that the model
 * sampled for this message, which are then used as they are (less the reasoning, where
 * the retention rule takes it), behind the prompt that they answered.  An empty list of
 * tool_calls is none.  V3.2 also reads tools and response_format of system and
 * developer messages.
 *
 * Encodings: "deepseek-v2", "deepseek-v3", "deepseek-v3-0324", "deepseek-r1.hf",
 * "deepseek-r1.api-docs", "deepseek-r1-0528", "deepseek-v3.1", "deepseek-v3.1-terminus"
 * (also "deepseek-v3.2-exp"), "deepseek-v3.2", "deepseek-v3.2-speciale".  The model's own
 * follows from its chat template, or from its type where it has none (V3.2); Speciale's
 * files look like V3.2's, so it must be named.
 *
 * Any thread; no state is kept. */

#define MINKE_THINKING_DEFAULT 0   /* on where the model always thinks, else off */
#define MINKE_THINKING_ON      1
#define MINKE_THINKING_OFF     2   /* ignored by models without the switch */

/* When the reasoning of an assistant message leaves the prompt. */
#define MINKE_RETAIN_DEFAULT 0     /* as the model's own template does it */
#define MINKE_RETAIN_TURN    1     /* at the next user message; V3.2's rule */
#define MINKE_RETAIN_NONE    2     /* at the next message; the rule of R1 and V3.1 */
#define MINKE_RETAIN_ALL     3     /* never */

#define MINKE_CHAT_NO_GENERATION (1u << 0)  /* do not ask for an answer at the end; V3.2,
                                             * V3-0324 and R1-0528 do so in the user's turn,
                                             * which this does not change */
#define MINKE_CHAT_NO_BOS        (1u << 1)  /* do not begin with the token that begins texts */
#define MINKE_CHAT_TRUST_TEXT    (1u << 2)  /* special tokens in the text of users and tools
                                             * count; otherwise they are ordinary text */
#define MINKE_CHAT_NO_DROP       (1u << 3)  /* V3.2: keep developer messages before the last
                                             * user message, as drop_thinking=False does */

typedef struct minke_chat_params {
    uint32_t struct_size;
    uint32_t flags;              /* MINKE_CHAT_NO_GENERATION and the like */
    uint32_t thinking;           /* MINKE_THINKING_* */
    uint32_t retention;          /* MINKE_RETAIN_* */
    const char *encoding;        /* name; NULL = the model's */
    const char *tools;           /* JSON array of tools, or NULL; V3.1 and later */
    size_t tools_len;
    const char *response_format; /* JSON, or NULL; V3.2 */
    size_t response_format_len;
    const char *context;         /* JSON array of the messages in front, which are already */
    size_t context_len;          /*   in the session and are not written; or NULL.  V3.2 */
} minke_chat_params;

MINKE_API void minke_chat_params_init(minke_chat_params *params, size_t size);

/* Name of the i-th known encoding, NULL behind the last.  Static. */
MINKE_API const char *minke_chat_encoding_name(size_t i);

/* Name of the model's own encoding: *name static.  MINKE_EUNSUPPORTED, listing the known
 * names, for a template that is none of them. */
MINKE_API int32_t minke_chat_encoding(const minke_context *ctx, const char **name);

/* The prompt as text.  ctx may be NULL when params names the encoding; params may be NULL
 * otherwise.  *n_out: bytes, also on MINKE_ENOSPC.  MINKE_EINVAL: a message is not what the
 * encoding can write; the error names it.  MINKE_EFORMAT: not JSON. */
MINKE_API int32_t minke_chat_render(const minke_context *ctx, const char *messages,
                                    size_t messages_len, const minke_chat_params *params,
                                    char *text, size_t capacity, size_t *n_out);

/* The prompt as tokens, by the same rules; *n_out counts them. */
MINKE_API int32_t minke_chat_encode(const minke_context *ctx, const char *messages,
                                    size_t messages_len, const minke_chat_params *params,
                                    int32_t *tokens, size_t capacity, size_t *n_out);

/* Sampling that the model's makers advise: *temperature, *top_p.  encoding NULL = the
 * model's; ctx may be NULL when it is named. */
MINKE_API int32_t minke_chat_sampling(const minke_context *ctx, const char *encoding,
                                      float *temperature, float *top_p);

/* ---- Replies ------------------------------------------------------------ */

/* What the model writes, token by token, told as events: reasoning, content, tool calls.  One
 * thread at a time. */
typedef struct minke_reply minke_reply;

#define MINKE_REPLY_EVENT_REASONING 1   /* text: a piece of reasoning */
#define MINKE_REPLY_EVENT_CONTENT   2   /* text: a piece of the answer */
#define MINKE_REPLY_EVENT_CALL      3   /* text: name of the tool; a call begins */
#define MINKE_REPLY_EVENT_ARGUMENTS 4   /* text: a piece of its arguments, JSON */
#define MINKE_REPLY_EVENT_CALL_END  5   /* text: the whole call as OpenAI's JSON; its arguments
                                         * are valid JSON even where the pieces were not */
#define MINKE_REPLY_EVENT_MALFORMED 6   /* text: what is wrong; no text is lost by it */
#define MINKE_REPLY_EVENT_FINISHED  7   /* text: "stop", "tool_calls", or the reason given */

/* event: MINKE_REPLY_EVENT_*.  call: index of the tool call, for the events of calls.  text: whole
 * UTF-8 characters, borrowed for the call.  Return nonzero to stop with MINKE_ECANCELED; the text
 * is then taken all the same. */
typedef int32_t (*minke_event_fn)(void *user, int32_t event, uint32_t call,
                                  const char *text, size_t len);

/* Be DeepSeek's own parser: minke_reply_finish fails, with its message, where that does. */
#define MINKE_REPLY_STRICT (1u << 0)

typedef struct minke_reply_params {
    uint32_t struct_size;
    uint32_t flags;              /* MINKE_REPLY_STRICT */
    uint32_t thinking;           /* MINKE_THINKING_*, as in the prompt */
    const char *encoding;        /* name; NULL = the model's */
    minke_event_fn on_event;     /* NULL = none */
    void *user;
} minke_reply_params;

MINKE_API void minke_reply_params_init(minke_reply_params *params, size_t size);

/* ctx may be NULL when params names the encoding: the reply then takes text alone.  A reply keeps
 * its context alive.  On success the caller owns *out. */
MINKE_API int32_t minke_reply_open(minke_reply **out, minke_context *ctx,
                                   const minke_reply_params *params);

/* From the reply's own callback nothing happens: it must be freed after the call. */
MINKE_API void minke_reply_free(minke_reply *reply);

/* Take one token (MINKE_EINVAL as in minke_token_bytes), or a piece of text that may end inside
 * a character.  Pieces of reasoning, content and arguments are passed on at once, but for what
 * may be the beginning of a marker.  A marker that is a token of its own counts only as that
 * token. */
MINKE_API int32_t minke_reply_token(minke_reply *reply, int32_t token);
MINKE_API int32_t minke_reply_text(minke_reply *reply, const char *text, size_t len);

/* The reply is over: what was held back is passed on, then MINKE_REPLY_EVENT_FINISHED.  reason:
 * NUL-terminated, or NULL for "tool_calls" or "stop".  MINKE_EFORMAT in strict mode. */
MINKE_API int32_t minke_reply_finish(minke_reply *reply, const char *reason);

/* 1 while inside the reasoning, and 1 once the text that ends a reply was read; else 0, also for
 * NULL. */
MINKE_API int32_t minke_reply_thinking(const minke_reply *reply);
MINKE_API int32_t minke_reply_ended(const minke_reply *reply);

/* The message so far as JSON: role, content, reasoning_content, tool_calls, and, where
 * something was, malformed: an array of texts.  *n_out: bytes, also on MINKE_ENOSPC. */
MINKE_API int32_t minke_reply_message(const minke_reply *reply, char *text,
                                      size_t capacity, size_t *n_out);

/* ---- Generating --------------------------------------------------------- */

/* A reply from its prompt to its end: at once, by minke_generate, or in steps, by a generator. */

#define MINKE_FINISH_STOP            1  /* the model ended, or a stop text or token came */
#define MINKE_FINISH_LENGTH          2  /* max_tokens, in the answer */
#define MINKE_FINISH_THINKING_LENGTH 3  /* max_tokens, while still thinking: no answer */
#define MINKE_FINISH_TOOL_CALLS      4  /* the model ended and calls tools */
#define MINKE_FINISH_CANCELED       5  /* by a callback or minke_session_cancel */
#define MINKE_FINISH_FULL            6  /* the session holds no more tokens */

/* No chat: all text is content, up to the token that ends texts. */
#define MINKE_GENERATE_PLAIN (1u << 0)

typedef struct minke_generate_params {
    uint32_t struct_size;
    uint32_t flags;              /* MINKE_GENERATE_* */
    uint32_t thinking;           /* MINKE_THINKING_*, as in the prompt */
    uint32_t max_tokens;         /* of the reply, reasoning included; 0 = while there is room */
    uint32_t max_thinking;       /* tokens of reasoning, behind which closing and </think> are
                                  * forced and the answer follows; 0 = no cap */
    uint32_t min_thinking;       /* tokens of reasoning before which neither </think> nor the
                                  * end is drawn; at most max_thinking; 0 = none */
    const char *encoding;        /* name; NULL = the model's */
    const char *closing;         /* text in front of a forced </think>, or NULL */
    size_t closing_len;
    const char *const *stops;    /* n_stops texts, UTF-8, not empty; the answer ends before the */
    const size_t *stop_lens;     /*   first that is complete; NULL = NUL-terminated */
    size_t n_stops;
    const int32_t *stop_tokens;  /* the reply ends before them, anywhere */
    size_t n_stop_tokens;
    minke_event_fn on_event;     /* NULL = none; the last is MINKE_REPLY_EVENT_FINISHED with "stop",
                                  * "length", "thinking_length", "tool_calls", "canceled" or
                                  * "full" */
    void *user;
} minke_generate_params;

MINKE_API void minke_generate_params_init(minke_generate_params *params, size_t size);

/* Make the session hold the prompt (n_prompt tokens, as minke_session_sync), draw tokens
 * until the reply ends, and pass its events on.  With n_prompt 0 the reply goes on from the
 * session's logits.  The session then holds the prompt and the reply, but for the last token.
 * *reason: MINKE_FINISH_*, may be NULL.  A reply that was canceled is a reply: MINKE_OK.
 * params may be NULL; what it points to is copied.  On error the session holds a prefix of
 * prompt and reply. */
MINKE_API int32_t minke_generate(minke_session *s, minke_sampler *sampler,
                                 const int32_t *prompt, size_t n_prompt,
                                 const minke_generate_params *params, int32_t *reason);

/* The same in steps, for hosts with a frame to draw.  One thread at a time, the session's.
 * Session and sampler must outlive the generator and not be used for anything else meanwhile;
 * between steps the session may be read.  While it holds tokens that a step left half evaluated,
 * its other calls give MINKE_EBUSY, but for truncate, which drops them; the generator then ends
 * with MINKE_EINVAL. */
typedef struct minke_generator minke_generator;

/* Nothing is evaluated yet, but of the session only what it shares with the prompt is left.  On
 * success the caller owns *out. */
MINKE_API int32_t minke_generator_open(minke_generator **out, minke_session *s,
                                      minke_sampler *sampler, const int32_t *prompt,
                                      size_t n_prompt, const minke_generate_params *params);

/* Also between steps: what was begun is dropped, and the session usable. */
MINKE_API void minke_generator_free(minke_generator *g);

/* Work for so many microseconds, UINT64_MAX for until it ends, and at least one layer.  A
 * step may end between two layers; nothing that it calls for is lost.  Chunks of the prompt
 * shrink and grow until one layer of a chunk takes a small part of the time.  *over:
 * microseconds beyond those given, at most one layer of a chunk, one row of logits or one
 * draw; may be NULL.  *reason: MINKE_FINISH_*, or 0: step again.  Bits are those of
 * minke_session_eval with the same chunks.  On error step no further. */
MINKE_API int32_t minke_generator_step(minke_generator *g, uint64_t microseconds,
                                      int32_t *reason, uint64_t *over);

/* Keys of minke_generator_info. */
#define MINKE_GENERATOR_REASON     1   /* MINKE_FINISH_*, or 0 while it goes on */
#define MINKE_GENERATOR_FORCED     2   /* 1 when max_thinking ended the reasoning */
#define MINKE_GENERATOR_STOP       3   /* index of the stop text that ended the reply, or -1 */
#define MINKE_GENERATOR_N_PROMPT   4   /* tokens of the prompt */
#define MINKE_GENERATOR_N_REUSED   5   /* of these, held by the session before */
#define MINKE_GENERATOR_N_HELD     6   /* of these, held by now */
#define MINKE_GENERATOR_N_TOKENS   7   /* of the reply so far */
#define MINKE_GENERATOR_N_THINKING 8   /* of these, reasoning */

/* Read one fact about the reply.  MINKE_EVERSION if this build has no such key. */
MINKE_API int32_t minke_generator_info(const minke_generator *g, int32_t key, int64_t *value);

/* Tokens of the reply so far: *n of them, borrowed, valid until the next step; NULL when g or
 * n is. */
MINKE_API const int32_t *minke_generator_tokens(const minke_generator *g, size_t *n);

/* The message so far as JSON, to be appended to the conversation: as minke_reply_message,
 * without members that hold nothing, and with token_ids, unless a stop text ended it.  *n_out:
 * bytes, also on MINKE_ENOSPC. */
MINKE_API int32_t minke_generator_message(const minke_generator *g, char *text,
                                         size_t capacity, size_t *n_out);

/* ---- Trimming: long conversations with tools ---------------------------- */

#define MINKE_TRIM_STRATEGY_ALL     1   /* discard every tool call with its results */
#define MINKE_TRIM_STRATEGY_OLDEST  2   /* discard the oldest 75 % of them */
#define MINKE_TRIM_STRATEGY_SUMMARY 3   /* ask the host for a summary */

#define MINKE_TRIM_ACTION_KEPT      0 /* below the threshold: nothing changed */
#define MINKE_TRIM_ACTION_TRIMMED   1 /* below it now */
#define MINKE_TRIM_ACTION_OVER      2 /* above it still, with all discarded that may be */
#define MINKE_TRIM_ACTION_SUMMARIZE 3 /* nothing changed; the host should summarize */

typedef struct minke_chat_trim_params {
    uint32_t struct_size;
    uint32_t strategy;           /* MINKE_TRIM_STRATEGY_* */
    uint32_t window;             /* tokens that fit; > 0 */
    float threshold;             /* part of the window; 0 = 0.8 */
    const uint32_t *counts;      /* tokens of each message, one per message */
    size_t n_counts;
} minke_chat_trim_params;

MINKE_API void minke_chat_trim_params_init(minke_chat_trim_params *params, size_t size);

/* Messages with as much tool history discarded as the strategy says, when they hold more
 * than threshold * window tokens.  An assistant message that calls tools and the results
 * behind it go together or stay together; everything else stays.  Depends on nothing but
 * its arguments.  text: the messages as JSON; *n_out its bytes, also on MINKE_ENOSPC;
 * *action MINKE_TRIM_ACTION_*. */
MINKE_API int32_t minke_chat_trim(const char *messages, size_t messages_len,
                                  const minke_chat_trim_params *params, char *text,
                                  size_t capacity, size_t *n_out, int32_t *action);

/* ======================================================================== *
 * Convert
 * ======================================================================== */

/* ---- Quantizing --------------------------------------------------------- */

/* Types are named as in GGUF files, in any case: f32, f16, bf16, q8_0, q4_0, q4_1,
 * q5_0, q5_1, q2_k to q6_k, iq4_nl, iq4_xs.  Presets mix them by part of the model:
 * q2_k_m, q3_k_m, q4_k_s, q4_k_m, q5_k_m.  Norms and routers stay f32.  Rows that are no
 * multiple of a type's block get the next larger type that fits. */
typedef struct minke_quantize_params {
    uint32_t struct_size;
    uint32_t n_threads;          /* 0 = what affinity and the container's quota allow */
    const char *preset;          /* a preset or a type for all parts; NULL = "q8_0" */
    const char *embed;           /* types by part; NULL = what the preset says */
    const char *head;
    const char *attention;       /* with the indexer */
    const char *dense;           /* feed-forward of dense layers */
    const char *shared;          /* shared experts */
    const char *gate_up;         /* routed experts: gate and up */
    const char *down;            /* routed experts: down */
    minke_progress_fn progress;  /* NULL = none; in bytes written */
    void *progress_user;
    minke_log_fn log;            /* NULL = silent */
    void *log_user;
    minke_alloc_fn alloc;        /* NULL = C library; set both or neither */
    minke_free_fn free;
    void *alloc_user;
    const char *importance;      /* path of a file that weighs columns: minke_importance's or
                                  * llama.cpp's imatrix, GGUF or older; NULL = all alike */
} minke_quantize_params;

MINKE_API void minke_quantize_params_init(minke_quantize_params *params, size_t size);

/* Write the model at in_path (a directory as for minke_context_open, or a GGUF file)
 * to a GGUF file at out_path, as llama.cpp names things.  params may be NULL.  Memory
 * stays below a layer's weights.  The file appears, replacing an older one, when it is
 * complete; on error there is nothing new.  A tokenizer that is not of this family is
 * left out, which the log says.
 *
 * MINKE_EIO, MINKE_EFORMAT, MINKE_EUNSUPPORTED: as minke_context_open; the last also for
 * an unknown preset or type.  MINKE_EFORMAT: a weight is NaN or beyond 65504.
 * MINKE_ECANCELED: progress said so.  Any thread. */
MINKE_API int32_t minke_quantize(const char *out_path, const char *in_path,
                                 const minke_quantize_params *params);

/* ---- Importance of weights ----------------------------------------------- */

/* Evaluate n tokens of a text and write to out_path how large the inputs of each column of
 * each matrix are on average, for minke_quantize_params.importance (and llama.cpp: a GGUF file
 * as its imatrix program writes).  The text is evaluated in pieces of chunk tokens (0 = 512, at
 * least 2), each begun with BOS; some hundred pieces are usual.  Beside a session of chunk
 * tokens it takes 4 bytes per column of each matrix.  progress may be NULL; in tokens.
 *
 * MINKE_EINVAL: n is 0, a pointer is NULL, a token out of range.  MINKE_ECANCELED: progress
 * said so.  MINKE_EIO.  On error there is no new file.  Any thread. */
MINKE_API int32_t minke_importance(minke_context *ctx, const int32_t *tokens, size_t n,
                                   uint32_t chunk, const char *out_path,
                                   minke_progress_fn progress, void *progress_user);

/* ======================================================================== *
 * Learn
 * ======================================================================== */

/* ---- Objectives --------------------------------------------------------- */

/* The policy objectives of the GRPO family over a ragged batch: loss, exact gradient and
 * statistics, in double precision.  With lp, old and ref the log-probabilities of a token under
 * the policy now, the one that sampled, and the reference, and A the advantage of its sequence:
 *
 *   r    = exp(lp - old)
 *   loss = sum over tokens of  c (-w M min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + b D)
 *
 * c is the aggregation's weight, w truncated importance sampling (tis_cap), M the mask of
 * off_policy_delta, D the KL estimate, b its weight; w, M and A are constants to the gradient.
 *
 *   preset     advantage  aggregation      clip          KL estimate  groups of equal rewards
 *   "grpo"     mean, std  sequence mean    0.2   0.2     k3           stay
 *   "dapo"     mean, std  token mean       0.2   0.28    k3           dropped
 *   "dr_grpo"  mean       constant length  0.2   0.2     k3           stay
 *   "olmo3"    mean       token mean       0.2   0.272   k3           dropped
 *   "v3.2"     mean       sequence mean    0.2   0.2     unbiased     stay
 *
 * kl_weight is 0 unless given, in every preset.  DeepSeek publishes no clip for V3.2 and 10 for
 * the final R1; dapo, dr_grpo and olmo3 were trained with kl_weight 0.
 * References: DeepSeekMath arXiv 2402.03300, DAPO 2503.14476, Dr. GRPO 2503.20783,
 * DeepSeek-V3.2 2512.02556 equations 5 to 9, Olmo 3 2512.13961. */

#define MINKE_ADVANTAGE_MEAN     1   /* A = R - mean of the group */
#define MINKE_ADVANTAGE_MEAN_STD 2   /* (R - mean) / (std + std_eps); 0 where all are equal */

/* Of n sequences, T tokens, n_groups groups, all without what the filter drops.  Empty sequences
 * add nothing to the sum and are counted. */
#define MINKE_AGGREGATION_SEQUENCE_MEAN   1   /* c = 1 / (n * length of the sequence) */
#define MINKE_AGGREGATION_TOKEN_MEAN      2   /* c = 1 / T: as verl and TRL do for DAPO */
#define MINKE_AGGREGATION_GROUP_TOKENS    3   /* c = 1 / (n_groups * tokens of the group): as
                                               * DAPO's paper writes it */
#define MINKE_AGGREGATION_CONSTANT_LENGTH 4   /* c = 1 / (n * constant_length) */

/* Estimates D of KL(policy || reference) from one token, x = lp - ref. */
#define MINKE_KL_NONE     1   /* no such term, whatever kl_weight is */
#define MINKE_KL_K1       2   /* x */
#define MINKE_KL_K2       3   /* x^2 / 2 */
#define MINKE_KL_K3       4   /* exp(-x) + x - 1 */
#define MINKE_KL_UNBIASED 5   /* r k3, r not detached: its gradient is r x */

#define MINKE_FILTER_NONE 1   /* groups of equal rewards stay: their A is 0 */
#define MINKE_FILTER_DROP 2   /* they leave the batch before anything is counted; the rewards as
                               * given decide, before overlong shaping; a group of one is one */

/* Fields of minke_objective_params in which 0 is a value; or those that are set into given. */
#define MINKE_OBJECTIVE_STD_DDOF         (1u << 0)
#define MINKE_OBJECTIVE_STD_EPS          (1u << 1)
#define MINKE_OBJECTIVE_CLIP_LOW         (1u << 2)
#define MINKE_OBJECTIVE_CLIP_HIGH        (1u << 3)
#define MINKE_OBJECTIVE_OFF_POLICY_DELTA (1u << 4)

/* Any field may be set over any preset. */
typedef struct minke_objective_params {
    uint32_t struct_size;
    uint32_t given;              /* MINKE_OBJECTIVE_* */
    const char *preset;          /* NULL = "v3.2" */
    uint32_t advantage;          /* MINKE_ADVANTAGE_*; 0 = the preset's, so for the next three */
    uint32_t aggregation;        /* MINKE_AGGREGATION_* */
    uint32_t kl;                 /* MINKE_KL_* */
    uint32_t filter;             /* MINKE_FILTER_* */
    uint32_t std_ddof;           /* given: divisor n - std_ddof of the variance, 0 or 1.  Else 0,
                                  * as open-instruct; 1 in TRL, verl, SLIME, Dr. GRPO's code */
    double std_eps;              /* given: at least 0.  Else 0, as the papers; TRL 1e-4, verl and
                                  * SLIME 1e-6, open-instruct and Dr. GRPO's code 1e-8 */
    double constant_length;      /* tokens, above 0; 0 = 1, as Dr. GRPO's paper.  Given without
                                  * aggregation it chooses MINKE_AGGREGATION_CONSTANT_LENGTH.
                                  * TRL: the longest completion allowed; verl: likewise, but not
                                  * averaged over sequences */
    double clip_low;             /* given: at least 0; infinity = no bound */
    double clip_high;            /* given: at least 0; infinity = no bound */
    double off_policy_delta;     /* given: the policy term of a sequence with A < 0 and mean of
                                  * (rollout - lp) > delta is 0; its KL term stays, and it is
                                  * counted.  Else nothing is masked.  V3.2's mask */
    double tis_cap;              /* above 0: w = min(exp(old - rollout), tis_cap); 0 = no w.
                                  * Olmo 3 took 2 */
    uint64_t overlong_max;       /* tokens; adds minke_reward_overlong(length, overlong_max, */
    uint64_t overlong_cache;     /*   overlong_cache) to each reward; 0 = off.  DAPO: 20480, 4096 */
    double kl_weight;            /* b for all sequences; finite, at least 0 */
} minke_objective_params;

MINKE_API void minke_objective_params_init(minke_objective_params *params, size_t size);

/* Sequences lie one behind the other in the arrays of tokens.  Nothing is kept. */
typedef struct minke_objective_batch {
    uint32_t struct_size;
    size_t n_sequences;          /* at least 1 */
    size_t n_tokens;             /* the sum of lengths */
    const int32_t *groups;       /* (n_sequences,) any id, one per prompt, in any order */
    const double *rewards;       /* (n_sequences,) finite, as every number here */
    const size_t *lengths;       /* (n_sequences,) tokens of each; 0 is a length */
    const double *kl_weights;    /* (n_sequences,) b of each, or NULL: kl_weight for all */
    const double *logp;          /* (n_tokens,) lp */
    const double *old;           /* (n_tokens,) */
    const double *ref;           /* (n_tokens,) NULL = none; needed where b is not 0 */
    const double *rollout;       /* (n_tokens,) the inference engine's own; NULL = old */
} minke_objective_batch;

MINKE_API void minke_objective_batch_init(minke_objective_batch *batch, size_t size);

/* Of the batch without dropped groups, unless said otherwise; fractions and means are over its
 * tokens, 0 when there are none. */
typedef struct minke_objective_stats {
    uint32_t struct_size;        /* set by the caller: no more is written */
    uint64_t groups;             /* dropped ones too */
    uint64_t zero_variance_groups;   /* of these, with equal rewards (after overlong shaping) */
    uint64_t dropped_groups;     /* of these, dropped */
    uint64_t sequences;
    uint64_t tokens;
    uint64_t masked_sequences;   /* of sequences, by off_policy_delta */
    double reward_mean;          /* over all sequences given, after overlong shaping */
    double policy_loss;          /* loss = policy_loss + kl_loss */
    double kl_loss;
    double kl;                   /* mean D; 0 without ref */
    double clip_fraction_low;    /* tokens with A < 0 and r < 1 - clip_low, masked ones too */
    double clip_fraction_high;   /* tokens with A > 0 and r > 1 + clip_high */
    double ratio_mean;           /* mean r */
    double off_policy_kl;        /* mean of rollout - lp */
    double tis_mean;             /* mean w; 1 without tis_cap */
    double tis_fraction;         /* tokens whose w is the cap */
} minke_objective_stats;

MINKE_API void minke_objective_stats_init(minke_objective_stats *stats, size_t size);

/* *loss; grad[t] = its derivative by logp[t], (n_tokens,), NULL or logp itself allowed;
 * advantages[i], (n_sequences,), NULL allowed, 0 for dropped sequences; stats may be NULL.
 * params may be NULL.  Sums run in the order of the batch: same input, same bits.  At the edges
 * of the clip, r = 1 - clip_low and r = 1 + clip_high, the gradient is that inside.
 *
 * Where libraries differ: verl adds a second clip at 3 for A < 0 and bounds log-ratios by 20; it
 * takes A = R for a group of one (here 0, as TRL and open-instruct) and leaves empty sequences
 * out of its count (TRL counts them).
 *
 * MINKE_EINVAL: no such preset; a value out of range; a number that is not finite (the message
 * names it); lengths that do not add up to n_tokens; ref missing; a ratio, KL estimate or sum
 * that leaves the range of double.  MINKE_ENOMEM: 64 bytes per sequence.  Any thread. */
MINKE_API int32_t minke_objective(const minke_objective_params *params,
                                  const minke_objective_batch *batch, double *loss, double *grad,
                                  double *advantages, minke_objective_stats *stats);

/* ---- Rewards ------------------------------------------------------------ */

/* Length penalty, DAPO's soft one (equation 13): 0 up to max - cache tokens, then falling linearly
 * to -1 at max, and -1 beyond.  *reward.  MINKE_EINVAL: cache above max. */
MINKE_API int32_t minke_reward_overlong(uint64_t length, uint64_t max, uint64_t cache,
                                        double *reward);

/* Rewards of text that follow from rules stated here.  Texts are UTF-8; broken bytes are
 * allowed and match nothing.  Any thread; no state is kept. */

/* Where the answer of a reply stands: the content of its last \boxed{} or \fbox{} whose braces
 * close (\{ and \} do not count), without white space around it, behind the last "</think>".
 * *begin and *length in bytes of text.  MINKE_EFORMAT when there is none, as when "<think>" is
 * opened and never closed. */
MINKE_API int32_t minke_reward_boxed(const char *text, size_t text_len, size_t *begin,
                                     size_t *length);

#define MINKE_REWARD_PERCENT_UNIT (1u << 0)  /* the percent sign is a unit: 50% is 50 */
#define MINKE_REWARD_SAME_UNITS   (1u << 1)  /* both have the same unit or none has */

/* Whether two answers are the same: *equal 1 or 0.  Both as numbers, exactly, or else as texts.
 *
 * Numbers: integers and decimals (12, -0.50, .5, 5.); groups of three digits may be parted by
 * ",", "{,}", "\,", "\!" or one space; fractions a/b and \frac{a}{b} (\dfrac, \tfrac, \cfrac,
 * \frac12) of decimals, whole numbers in front of a fraction (2\frac{1}{3}, 2 1/3); powers of ten
 * (1.5e3, 1.5\times10^{3}, \cdot).  A comma is never a decimal point.  A percent sign is a
 * hundredth: 50% is 1/2 and 0.5, not 50.  Units are \text{}, \mathrm{}, \mbox{} behind the
 * number, a degree sign, and \$ in front; where one answer has none it is not looked at, two must
 * be the same; words as "million" are no units, and such an answer is a text.  "x =" in front is
 * left out, unless it is another letter on the other side.  What is beyond 400 digits or 10^400
 * is a text.
 *
 * Left out of both: $ and \( \) \[ \], \left, \right, \displaystyle, spaces (but between letters
 * or digits), \boxed{} around all, a full stop at the end.  An empty answer equals nothing, and
 * answers above 2048 bytes are compared byte for byte. */
MINKE_API int32_t minke_reward_equal(const char *a, size_t a_len, const char *b, size_t b_len,
                                     uint32_t flags, int32_t *equal);

/* *reward: 1 when the boxed answer of a reply equals gold, else 0. */
MINKE_API int32_t minke_reward_answer(const char *text, size_t text_len, const char *gold,
                                      size_t gold_len, uint32_t flags, double *reward);

/* The reply begins with "<think>", which stands nowhere else, and holds "</think>": TRL's
 * ^<think>(?!.*<think>)(.*?)</think>.*$ */
#define MINKE_REWARD_FORMAT_THINK  0
/* And behind the first "</think>" only <answer>...</answer> and white space, each of these tags
 * once. */
#define MINKE_REWARD_FORMAT_ANSWER 1

/* *reward: 1 when the reply has the format of rule, MINKE_REWARD_FORMAT_*, else 0. */
MINKE_API int32_t minke_reward_format(const char *text, size_t text_len, uint32_t rule,
                                      double *reward);

/* Share of the words of text that are of a script: *share in [0, 1], 0 when there is no word.
 * script: latin, greek, cyrillic, hebrew, arabic, devanagari, thai, hangul, han, kana; or a
 * language by its code: en, de, fr, es, it, pt (latin), ru (cyrillic), el, he, ar, hi, th, ko
 * (hangul), zh (han), ja (han and kana).  MINKE_EINVAL for others.
 *
 * A word is a run of letters and marks of one script; an apostrophe between two letters does not
 * end it.  Each Han, Hiragana or Katakana character is a word by itself, as those are written
 * without spaces; Hangul is written with them.  Not counted: digits and symbols; code between
 * ` or ```; mathematics between $ (nothing blank inside next to them, as Pandoc reads it), $$,
 * \( \), \[ \]; TeX commands; the tags <think>, </think>, <answer>, </answer>. */
MINKE_API int32_t minke_reward_language(const char *text, size_t text_len, const char *script,
                                        double *share);

/* Scores of n rubrics into one: sum of weight * score over sum of |weight|.  weights NULL = all 1;
 * negative ones count against.  MINKE_EINVAL: n is 0, a number is not finite, all weights are 0. */
MINKE_API int32_t minke_reward_rubric(const double *scores, const double *weights, size_t n,
                                      double *reward);

/* ---- Rollouts ----------------------------------------------------------- */

/* What a trainer must know of a sequence that minke wrote: tokens, the probabilities with which
 * they were drawn, the tokens that could have been, the experts of every layer, and on request the
 * tokens that sparse attention selected.  A rollout is filled while a session works and is
 * replayed in another.  Sessions that use it keep it alive; one thread at a time, the session's. */
typedef struct minke_rollout minke_rollout;

#define MINKE_ROLLOUT_NO_ALLOWED (1u << 0)   /* leave out the tokens that could have been drawn */
#define MINKE_ROLLOUT_NO_EXPERTS (1u << 1)   /* leave out the experts */
#define MINKE_ROLLOUT_SELECTED   (1u << 2)   /* keep what sparse attention selected: 4 bytes for
                                              * each of top-k, layer and token */

typedef struct minke_rollout_params {
    uint32_t struct_size;
    uint32_t flags;              /* MINKE_ROLLOUT_* */
    uint32_t max_tokens;         /* prompt and reply, at least a session's; 0 = the model's */
    uint64_t max_allowed;        /* ids of all allowed sets together; 0 = 32 for each token */
} minke_rollout_params;

MINKE_API void minke_rollout_params_init(minke_rollout_params *params, size_t size);

/* Bytes that minke_rollout_open will take. */
MINKE_API int32_t minke_rollout_memory(const minke_context *ctx,
                                       const minke_rollout_params *params, uint64_t *bytes);

/* An empty record for sequences of this model.  Nothing is allocated afterwards. */
MINKE_API int32_t minke_rollout_open(minke_rollout **out, const minke_context *ctx,
                                     const minke_rollout_params *params);
MINKE_API void minke_rollout_free(minke_rollout *r);

/* From now on write down what the session evaluates and minke_generate draws; with r NULL no
 * longer.  The session is empty, or holds what r holds.  Tokens that the session forgets leave the
 * record when others take their place.  Experts are kept for prompt and reply alike; tokens that
 * minke_generate forces are kept as not drawn.  A snapshot goes back in the record; one with other
 * tokens, as minke_session_fill, ends it: no draw is written, nothing saved or replayed.
 * MINKE_EINVAL: other tokens are held, or r is of a model of another shape or has no room for the
 * session. */
MINKE_API int32_t minke_rollout_record(minke_session *s, minke_rollout *r);

/* Draw a token from the session's logits, accept it and write it down: for loops of the host's
 * own, which evaluate it next.  MINKE_EFULL: the allowed set does not fit; nothing was written,
 * though the sampler has drawn.  MINKE_EINVAL: the session is not recorded, or an earlier token
 * was drawn with other parameters. */
MINKE_API int32_t minke_rollout_sample(minke_session *s, minke_sampler *sampler, int32_t *token);

/* Say how the sequence ended, MINKE_FINISH_*; minke_generate does so itself. */
MINKE_API int32_t minke_rollout_finish(minke_rollout *r, int32_t reason);

/* Arrays of a record with n tokens, of which the first m were evaluated (all but the last,
 * usually).  A token that was not drawn has probabilities of 0.
 *
 *   allowed_offsets  I64 (n + 1,)  ids of token t are allowed[offsets[t]] up to offsets[t + 1]
 *   tokens           I32 (n,)      prompt and reply
 *   logprobs         F32 (n,)      under the distribution that was drawn from
 *   logprobs_full    F32 (n,)      under the softmax of the logits
 *   allowed          I32           ascending for each token, the drawn one among them; no ids =
 *                                  all tokens
 *   selected         I32 (m, layers, top-k)  positions, ascending, then -1
 *   experts          U8 (m, layers with experts, experts of a token); U16 above 256 experts
 *   sampled          U8 (n,)       1 where a sampler drew it */
#define MINKE_ROLLOUT_ARRAY_ALLOWED_OFFSETS 1
#define MINKE_ROLLOUT_ARRAY_TOKENS          2
#define MINKE_ROLLOUT_ARRAY_LOGPROBS        3
#define MINKE_ROLLOUT_ARRAY_LOGPROBS_FULL   4
#define MINKE_ROLLOUT_ARRAY_ALLOWED         5
#define MINKE_ROLLOUT_ARRAY_SELECTED        6
#define MINKE_ROLLOUT_ARRAY_EXPERTS         7
#define MINKE_ROLLOUT_ARRAY_SAMPLED         8

/* One array by key: its name and type (static texts), *n_dims (at most 3) of shape, and *data,
 * borrowed until the record changes.  All but r and key may be NULL.  MINKE_EINVAL: it is not
 * kept.  MINKE_EVERSION: no such key. */
MINKE_API int32_t minke_rollout_array(const minke_rollout *r, int32_t key, const char **name,
                                      const char **dtype, uint64_t *shape, uint32_t *n_dims,
                                      const void **data);

/* Facts as a JSON object: model (its identity), model_type, finish_reason, n_prompt, sampling
 * (temperature, top_k, ..., seed as a text; null when nothing was drawn).  *n_out: bytes, also on
 * MINKE_ENOSPC. */
MINKE_API int32_t minke_rollout_facts(const minke_rollout *r, char *text, size_t capacity,
                                      size_t *n_out);

/* Write the arrays and, as metadata, the facts to a safetensors file, which any reader of that
 * format opens.  It appears, replacing an older one, when it is complete and on disk. */
MINKE_API int32_t minke_rollout_save(const minke_rollout *r, const char *path);

/* A record from its file, for a model of the shape of the one that wrote it; its weights may
 * differ.  MINKE_EFORMAT: the file is damaged, the message names the array.  MINKE_EINVAL: it is
 * of a model of another shape.  Through the operating system.  On success the caller owns *out. */
MINKE_API int32_t minke_rollout_load(minke_rollout **out, const minke_context *ctx,
                                     const char *path);

#define MINKE_ROLLOUT_REPLAY_EXPERTS  (1u << 0)
#define MINKE_ROLLOUT_REPLAY_SELECTED (1u << 1)

/* From now on take the experts and the selection of each position from r, as far as r goes, and
 * choose freely beyond; with r NULL choose freely again.  Weights of experts come from the scores
 * at hand, normalized over the recorded ids, without the balancing bias.  flags: MINKE_REPLAY_*, 0
 * = all that r keeps.  What r holds at this moment counts.  MINKE_EINVAL: r is of a model of other
 * shape, or does not keep it, or the session does not select. */
MINKE_API int32_t minke_rollout_replay(minke_session *s, const minke_rollout *r, uint32_t flags);

/* Evaluate the tokens of r in the session, which is emptied first, and tell how likely each drawn
 * one was: logprobs (n,) at the temperature and over the allowed set that r keeps, logprobs_full
 * (n,) under the softmax of the logits; 0 where none was drawn; either may be NULL.  capacity: of
 * each, at least n.  With the same weights and caches and MINKE_CONTEXT_DETERMINISTIC they
 * are r's own bit for bit.  MINKE_EUNSUPPORTED: r was drawn with penalties or a bias, or was
 * cut without keeping the allowed sets.  Outputs are untouched on error. */
MINKE_API int32_t minke_rollout_score(const minke_rollout *r, minke_session *s, float *logprobs,
                                      float *logprobs_full, size_t capacity);

/* ======================================================================== *
 * Prove
 * ======================================================================== */

/* ---- Text from the host ------------------------------------------------- */

/* The drivers below (proof search, judges) ask the host for text and nothing else, so that it
 * may come from minke's sessions, from a service, or from a script. */

#define MINKE_ASK_PROOF  1   /* a solution with its self-evaluation, or any first answer */
#define MINKE_ASK_VERIFY 2   /* an evaluation of a solution */
#define MINKE_ASK_META   3   /* an analysis of an evaluation */
#define MINKE_ASK_REFINE 4   /* a better solution, made from evaluated ones */
#define MINKE_ASK_JUDGE  5   /* a score for an answer */

/* Takes one completion: text UTF-8 (other bytes are allowed), the answer as the model ended it;
 * what stands in front of the last "</think>" in it counts as reasoning.  reason: MINKE_FINISH_*;
 * only those with MINKE_FINISH_STOP are used, all others (a time-out is MINKE_FINISH_CANCELED)
 * count as unfinished.  n_thinking: length of the reasoning, in one unit for all completions
 * (tokens, say); 0 = the bytes in front of </think>.  Copies what it needs.  Returns 0, or
 * nonzero when no more is wanted: the callback should return then. */
typedef int32_t (*minke_take_fn)(void *sink, const char *text, size_t text_len, int32_t reason,
                                 uint64_t n_thinking);

/* Generate n completions of a prompt (a user's message, UTF-8, borrowed for the call) and hand
 * each to take(sink, ...), in their order, on this thread; as soon as each is there, if it can
 * be.  seed: completion i is to be sampled with seed + i; a search that is resumed asks for the
 * rest alone, with fewer n and a larger seed.  ask: MINKE_ASK_*, so that a host may use other
 * models or lengths by purpose.  Return 0, also when some did not finish: those not handed over
 * count as unfinished, and more than n are not taken.  Nonzero stops the driver, which returns
 * MINKE_ECANCELED; what was taken stays taken. */
typedef int32_t (*minke_complete_fn)(void *user, int32_t ask, uint64_t seed, const char *prompt,
                                     size_t prompt_len, uint32_t n, minke_take_fn take,
                                     void *sink);

/* ---- Judges ------------------------------------------------------------- */

/* Everything that params point to must stay as it is until minke_judge returns; nothing is
 * kept. */
typedef struct minke_judge_params {
    uint32_t struct_size;
    uint32_t n_samples;          /* judgements of each rubric, averaged; 0 = 1 */
    uint32_t max_score;          /* judges give 0 to max_score; 0 = 2 */
    uint64_t seed;               /* rubric i is asked about with seed + i * n_samples */
    const char *question;        /* texts are UTF-8, and NULL only with length 0 */
    size_t question_len;
    const char *answer;
    size_t answer_len;
    const char *const *rubrics;  /* (n_rubrics,) criteria, none NULL */
    const size_t *rubric_lens;   /* (n_rubrics,) bytes of each */
    size_t n_rubrics;            /* at least 1 */
    const double *weights;       /* (n_rubrics,) as minke_reward_rubric; NULL = all 1 */
    const char *prompt;          /* text with {question}, {answer}, {rubric} and {max} in it, each
                                  * replaced once; NULL = minke's wording */
    size_t prompt_len;
    minke_complete_fn complete;  /* must be set; may call minke, minke_judge too */
    void *user;
} minke_judge_params;

MINKE_API void minke_judge_params_init(minke_judge_params *params, size_t size);

/* The generative reward: for each of the rubrics complete is asked, with MINKE_ASK_JUDGE, for
 * judgements of the answer.  A judgement's score is the number in its last \boxed{} behind
 * "</think>", as JSON writes numbers, from 0 to max_score; it is divided by that.  Judgements
 * without are left out; a rubric that has none counts as 0, and its weight counts.  *reward: sum
 * of weight * score over sum of |weight|, in [-1, 1].  scores: of each rubric in [0, 1], -1 for
 * none; (n_rubrics,) or NULL.
 *
 * MINKE_ECANCELED: complete said so.  MINKE_EINVAL: no rubric, no complete, or weights that
 * minke_reward_rubric refuses; nothing is asked then.  MINKE_ENOMEM.  Outputs are untouched on
 * error.  Any thread; complete runs on it. */
MINKE_API int32_t minke_judge(const minke_judge_params *params, double *reward, double *scores);

/* ---- Proofs ------------------------------------------------------------- */

/* Solutions that judge themselves, as DeepSeekMath-V2 writes them: one section under the line
 * "## Solution" and one under "## Self Evaluation".  An evaluation, a solution's own or a
 * verifier's, holds "Here is my evaluation of the solution:" and, behind "Based on my evaluation,
 * the final overall score should be:" (or "overal"), \boxed{} with 1 for complete and rigorous,
 * 0.5 for sound but for small errors, 0 otherwise.  Texts are what the model ended with; what
 * stands up to the last "</think>" is left out.  Any thread; no state is kept. */

/* How a text is read. */
#define MINKE_PROOF_MODE_DEFAULT  0  /* as released, but a score outside [0, 1] is none */
#define MINKE_PROOF_MODE_RELEASED 1  /* exactly what DeepSeek's released code reads: also "boxed{"
                                      * without backslash, a score of 2, inf or nan, headings as
                                      * "**Solution**" or in the middle of a line */
#define MINKE_PROOF_MODE_STRICT   2  /* both headings once, alone on their lines, the first at the
                                      * beginning; both phrases, the first at the beginning;
                                      * \boxed{} with 0, 0.5 or 1 at the end */

/* Score of an evaluation, or of an analysis of one: *score.  mode: MINKE_PROOF_MODE_*.
 * MINKE_EFORMAT when it has none.  MINKE_EVERSION: no such mode. */
MINKE_API int32_t minke_proof_score(const char *text, size_t text_len, uint32_t mode,
                                    double *score);

/* The two sections without white space around them, one behind the other in parts: the solution's
 * *n_solution bytes and the evaluation's *n_evaluation, counted also on MINKE_ENOSPC, which a
 * capacity (bytes) below their sum gives.  MINKE_EFORMAT when a section is missing.
 * MINKE_EVERSION: no such mode.  MINKE_ENOMEM. */
MINKE_API int32_t minke_proof_split(const char *text, size_t text_len, uint32_t mode,
                                    char *parts, size_t capacity, size_t *n_solution,
                                    size_t *n_evaluation);

/* What a prompt is made of.  Texts are UTF-8, and NULL only with length 0; nothing is kept. */
typedef struct minke_proof_prompt_params {
    uint32_t struct_size;
    int32_t ask;                 /* must be set: MINKE_ASK_PROOF, which needs problem;
                                  * MINKE_ASK_VERIFY, and proof; MINKE_ASK_META and
                                  * MINKE_ASK_REFINE, and rating */
    const char *problem;
    size_t problem_len;
    const char *proof;           /* a solution */
    size_t proof_len;
    const char *rating;          /* an evaluation of it; to refine it may be empty */
    size_t rating_len;
    const char *prompts;         /* text of a file with other wording, or NULL */
    size_t prompts_len;
} minke_proof_prompt_params;

MINKE_API void minke_proof_prompt_params_init(minke_proof_prompt_params *params, size_t size);

/* The prompt as a search writes it, with no white space around the texts that are put in.
 * *n_out: its bytes, also on MINKE_ENOSPC, which a capacity (bytes of text) below it gives.
 *
 * A file of prompts: a line "@prompt NAME" begins a part: proof, verify, meta, refine, or solution
 * and evaluation, of which candidates are made; what is in front of the first is a comment, and
 * parts that are missing keep minke's wording.  {problem}, {proof}, {rating}, {instruction} (the
 * part proof, filled in), {candidates}, {number} (from 1) or {index} (from 0), {solution} or
 * {solution_index} (of an evaluation) are replaced, all other braces stay.
 *
 * MINKE_EINVAL: no such ask.  MINKE_EFORMAT: the message names the line of prompts, or the part
 * and what it lacks.  MINKE_ENOMEM.  Outputs are untouched on other errors than MINKE_ENOSPC. */
MINKE_API int32_t minke_proof_prompt(const minke_proof_prompt_params *params, char *text,
                                     size_t capacity, size_t *n_out);

/* What an evaluation earns whose solution deserves score: (1 - |s' - s|) * meta, or 0 when a
 * phrase or the score s' is missing.  score and meta, the rating of the evaluation (1 = none was
 * made), in [0, 1]. */
MINKE_API int32_t minke_proof_verifier_reward(const char *evaluation, size_t evaluation_len,
                                              double score, double meta, double *reward);

/* What a solution with its self-evaluation s' earns: 0.76 * s + 0.24 * (1 - |s' - s|) * meta, or 0
 * when a section, a phrase or the score is missing. */
MINKE_API int32_t minke_proof_generator_reward(const char *text, size_t text_len, double score,
                                               double meta, double *reward);

/* A label without humans, from n evaluations of one proof: scores (n,) and confirmed (n,), the
 * share of analyses that found the evaluation right (not looked at where the score is 1).  Those
 * below 1 that more than half confirm count; *label is the lowest of their scores when at least
 * k (0 = 1) agree on it, 1 when none counts, and -1 when the proof is to be discarded. */
MINKE_API int32_t minke_proof_label(const double *scores, const double *confirmed, size_t n,
                                    uint32_t k, double *label);

/* ---- Searching for a proof ---------------------------------------------- */

/* Completions into a solution: refined step by step, from a pool, or the best of many.  The
 * solution's sections and scores are read as minke_proof_split and minke_proof_score do; answers
 * without both sections are left out, but for the drivers that sample, where the whole text is then
 * the solution.  One thread at a time. */
typedef struct minke_search minke_search;

/* Solutions judge themselves and are refined with that judgement, until one gives itself 1; of
 * n_first chains the last solution with the best self-score wins. */
#define MINKE_SEARCH_DRIVER_SEQUENTIAL 0
/* A pool of solutions, each verified n_verifications times; in every round the n_best by their
 * mean score (then self-score, then by chance) are refined with their evaluations, until one
 * passes. */
#define MINKE_SEARCH_DRIVER_POOL       1
/* Of n_first samples: the answer that most give (the last \boxed{} of the solution, compared as a
 * number or a text; the whole solution where there is none), */
#define MINKE_SEARCH_DRIVER_VOTE       2
#define MINKE_SEARCH_DRIVER_BEST       3   /* the best self-score, */
#define MINKE_SEARCH_DRIVER_LONGEST    4   /* the longest reasoning; ties to the first */

/* How the pool works, and what 0 in the counts stands for: the paper's way with 64 first proofs,
 * 64 verifications, 64 best; a prompt for each pair of a proof and one of 8 evaluations, low scores
 * first; 1 sample; passed with 1 by all verifications; 16 rounds behind the first, */
#define MINKE_SEARCH_PRESET_PAPER      0
/* or the released repository's with 128 first proofs, 64 verifications, 32 best; a prompt for each
 * proof, with 4 evaluations of each score (8 where all scores are equal); 4 samples; passed with a
 * mean above 0.99999; 15 rounds behind the first. */
#define MINKE_SEARCH_PRESET_REPOSITORY 1

typedef struct minke_search_params {
    uint32_t struct_size;
    uint32_t driver;             /* MINKE_SEARCH_DRIVER_* */
    uint32_t preset;             /* MINKE_SEARCH_PRESET_* */
    uint32_t mode;               /* MINKE_PROOF_MODE_DEFAULT or _STRICT */
    uint32_t n_first;            /* first solutions; 0 = sequential 1, samples 8, or the preset's */
    uint32_t n_verifications;    /* of every solution in the pool */
    uint32_t n_meta;             /* analyses of every evaluation with a score of 0.75 or less; 0 =
                                  * none; reported, and used for nothing */
    uint32_t n_best;             /* solutions refined in a round */
    uint32_t n_analyses;         /* evaluations used of each: prompts, or shown per score */
    uint32_t n_samples;          /* completions of a prompt that refines */
    uint32_t max_rounds;         /* the first included; 0 = sequential 8, or the preset's */
    uint64_t seed;               /* of requests and of all that goes by chance */
    uint64_t max_bytes;          /* of the texts kept; 0 = 4 GiB (1 GiB with 32 bits) */
    const char *prompts;         /* text as for minke_proof_prompt; NULL = minke's.  Copied, as */
    size_t prompts_len;
    const char *journal;         /*   this: path of the journal, or NULL */
    minke_log_fn log;            /* NULL = silent; one line a round */
    void *log_user;
    minke_alloc_fn alloc;        /* NULL = C library; set both or neither */
    minke_free_fn free;
    void *alloc_user;
} minke_search_params;

MINKE_API void minke_search_params_init(minke_search_params *params, size_t size);

/* A search for problem (UTF-8).  params may be NULL.  Texts and the path are copied; log and the
 * allocator are used until minke_search_free.  On success the caller owns *out.
 *
 * journal: every completion is appended to that file and is on disk before the next is taken; a
 * search that was killed goes on from there and finds what it would have found.  A last line that
 * is cut or damaged is left out; two searches must not write to one.
 *
 * MINKE_EINVAL: a count above 16384; a problem that is no UTF-8; the journal is of another problem,
 * or of other settings, seed or prompts.  MINKE_EFORMAT: the file is no journal, or damaged (the
 * message names the line), or the prompts are.  MINKE_EVERSION: no such driver or preset.
 * MINKE_EIO: the journal cannot be read or written.  MINKE_ENOMEM. */
MINKE_API int32_t minke_search_open(minke_search **out, const char *problem, size_t problem_len,
                                    const minke_search_params *params);

/* NULL is allowed.  While the search runs (from complete or log) nothing happens. */
MINKE_API void minke_search_free(minke_search *s);

/* Search to the end; complete and log run on this thread, and get MINKE_EBUSY from calls on s.
 * MINKE_ECANCELED: complete said so; MINKE_ENOMEM, also for max_bytes; MINKE_EIO: the journal
 * cannot be written; MINKE_EFORMAT: what the journal holds is not what this search asks for.  After
 * an error the search may be run again and goes on from what it has.  Finding nothing is no
 * error. */
MINKE_API int32_t minke_search_run(minke_search *s, minke_complete_fn complete, void *user);

/* The solution chosen, without its evaluation: *solution borrowed until the next run or free; NULL
 * with length 0 when there is none (yet).  *score: mean of its verifications, its share of the
 * votes, or its self-score, all in [0, 1]; -1 = none; may be NULL.  MINKE_EBUSY: it runs. */
MINKE_API int32_t minke_search_best(const minke_search *s, const char **solution,
                                    size_t *solution_len, double *score);

/* All that was found as a JSON object: driver, solved, finished, rounds, requests, completions, of
 * these unfinished and unreadable; best (id), score, answer; and proofs, an array of id, round,
 * chain (of sequential), parent (id), self_score, mean, ratings, qualities (of ratings), votes,
 * thinking, solution, evaluation, as far as the driver knows them.  *n_out: bytes, also on
 * MINKE_ENOSPC, which a capacity (bytes of text) below it gives.  MINKE_EBUSY: it runs.
 * MINKE_ENOMEM. */
MINKE_API int32_t minke_search_result(const minke_search *s, char *text, size_t capacity,
                                      size_t *n_out);

#ifdef __cplusplus
}
#endif
#endif /* MINKE_H */
