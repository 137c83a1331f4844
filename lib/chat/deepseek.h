/* The marks of DeepSeek's encodings, in prompts and in replies. */
#ifndef MK_DEEPSEEK_H
#define MK_DEEPSEEK_H

#include "chat/prompt.h"
#include "chat/reply.h"

#define MK_DS_BOS "<｜begin▁of▁sentence｜>"
#define MK_DS_EOS "<｜end▁of▁sentence｜>"
#define MK_DS_USER "<｜User｜>"
#define MK_DS_ASSISTANT "<｜Assistant｜>"
#define MK_DS_THINK "<think>"
#define MK_DS_THINK_END "</think>"
#define MK_DS_CALLS "<｜tool▁calls▁begin｜>"
#define MK_DS_CALLS_END "<｜tool▁calls▁end｜>"
#define MK_DS_CALL "<｜tool▁call▁begin｜>"
#define MK_DS_CALL_END "<｜tool▁call▁end｜>"
#define MK_DS_SEP "<｜tool▁sep｜>"
#define MK_DS_OUTPUTS "<｜tool▁outputs▁begin｜>"
#define MK_DS_OUTPUTS_END "<｜tool▁outputs▁end｜>"
#define MK_DS_OUTPUT "<｜tool▁output▁begin｜>"
#define MK_DS_OUTPUT_END "<｜tool▁output▁end｜>"
#define MK_DSML "｜DSML｜"
#define MK_DSML_OPEN "<" MK_DSML
#define MK_DSML_CLOSE "</" MK_DSML

/* Styles of the writers of V3 and V3.1. */
#define MK_V3_ASKS     (1u << 0)   /* users' messages end in the mark that asks for an answer */
#define MK_V31_REPEATS (1u << 1)   /* an answer is asked for behind answers too */

/* What all replies share but those of V2. */
#define MK_DS_ANSWER (MK_IN(MK_REPLY_REASONING) | MK_IN(MK_REPLY_CONTENT))
#define MK_DS_THINKS (MK_MARKER_TOKEN | MK_MARKER_THINKS)
#define MK_DS_MARKERS \
    {MK_DS_EOS, MK_MARKER_TOKEN, MK_IN_ALL, mk_reply_read_end, MK_REPLY_DONE}, \
    {MK_DS_BOS, MK_DS_THINKS, MK_IN(MK_REPLY_CONTENT), mk_reply_read_stray, MK_REPLY_SAME}, \
    {MK_DS_THINK, MK_DS_THINKS, MK_DS_ANSWER, mk_reply_read_think, MK_REPLY_SAME}, \
    {MK_DS_THINK_END, MK_DS_THINKS, MK_DS_ANSWER, mk_reply_read_think_end, MK_REPLY_CONTENT}

int32_t mk_chat_write_v2(struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v3(struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v31(struct mk_chat *c, struct mk_chat_out *out);
int32_t mk_chat_write_v32(struct mk_chat *c, struct mk_chat_out *out);

extern const struct mk_reply_grammar mk_reply_v2, mk_reply_v3, mk_reply_v31, mk_reply_dsml;

/* DeepSeek's parser of a whole V3.2 reply; see mk_reply_grammar. */
int32_t mk_reply_strict_dsml(minke_reply *r);

#endif
