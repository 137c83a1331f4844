/* The encoding of V2, without tools or reasoning.
 * Reference: chat_template in tokenizer_config.json of DeepSeek-V2-Chat. */
#include "chat/deepseek.h"

static void v2_message(const struct mk_chat_message *m, struct mk_chat_out *out)
{
    if (m->role == MK_ROLE_ASSISTANT) {
        size_t begin;

        mk_chat_adds(out, "Assistant:");
        begin = out->text.len;
        mk_chat_adds(out, " ");
        mk_chat_add_model(out, m->content->text);
        mk_chat_adds(out, MK_DS_EOS);
        mk_chat_own_ids(out, m, begin, MK_CUT_NONE);
        return;
    }
    if (m->role == MK_ROLE_USER) {
        mk_chat_adds(out, "User: ");
        mk_chat_add_plain(out, m->content->text);
    } else {
        mk_chat_add_trusted(out, m->content->text);
    }
    mk_chat_adds(out, "\n\n");
}

int32_t mk_chat_write_v2(struct mk_chat *c, struct mk_chat_out *out)
{
    if (c->bos)
        mk_chat_adds(out, MK_DS_BOS);
    for (size_t i = 0; i < c->n; i++) {
        if (c->messages[i].role == MK_ROLE_TOOL)
            continue;
        if (mk_chat_content(&c->messages[i]) == NULL)
            return MINKE_EINVAL;
        v2_message(&c->messages[i], out);
    }
    if (c->generation)
        mk_chat_adds(out, "Assistant:");
    return MINKE_OK;
}
