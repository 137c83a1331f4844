/* The table of encodings: its names, and how a model's template is told from others. */
#define _GNU_SOURCE 1 /* mkdtemp, strdup */
#include "base/json.h"
#include "chat/encoding.h"
#include "minke.h"
#include "test.h"
#include "text/text_data.h"

TEST(every_name_is_one_encodings)
{
    const char *name;

    for (size_t i = 0; (name = minke_chat_encoding_name(i)) != NULL; i++) {
        const struct mk_encoding *e = mk_encoding_find(name);

        CHECK(e != NULL && e->names[0] == name);
        for (size_t k = 0; e != NULL && k < 3 && e->names[k] != NULL; k++)
            CHECK(mk_encoding_find(e->names[k]) == e);
    }
    CHECK(mk_encoding_find("deepseek-r1") == mk_encoding_find("deepseek-r1.hf"));
    CHECK(mk_encoding_find("deepseek-v3.2-exp") == mk_encoding_find("deepseek-v3.1-terminus"));
}

TEST(an_unknown_encoding_is_refused_with_the_known_names)
{
    minke_chat_params p;
    char text[8];
    size_t n = 7;

    minke_chat_params_init(&p, sizeof(p));
    p.encoding = "chatml";
    CHECK_INT(minke_chat_render(NULL, "[]", 2, &p, text, sizeof(text), &n), MINKE_EUNSUPPORTED);
    CHECK_HAS(minke_last_error(), "chatml");
    for (size_t i = 0; minke_chat_encoding_name(i) != NULL; i++)
        CHECK_HAS(minke_last_error(), minke_chat_encoding_name(i));
    CHECK_INT(n, 7);
}

/* A template of ../shared/data, NUL-terminated, or NULL. */
static char *published_template(const char *name)
{
    char path[256], *json, *text = NULL;
    const struct mk_allocator a = {0};
    const struct mk_json *v;
    struct mk_arena arena;
    size_t n;

    snprintf(path, sizeof(path), "../shared/data/tokenizers/%s/tokenizer_config.json", name);
    if ((json = text_load(path, &n)) == NULL)
        return NULL;
    mk_arena_init(&arena, &a);
    CHECK_INT(mk_json_parse(&v, &arena, json, n, "config"), MINKE_OK);
    v = mk_json_get(v, "chat_template");
    if (v != NULL && (text = malloc(v->text.len + 64)) != NULL)
        strcpy(text, v->text.data);
    mk_arena_free(&arena);
    free(json);
    return text;
}

static const struct mk_encoding *match(const char *text, size_t len)
{
    return mk_encoding_match((struct mk_view){text, len});
}

TEST(published_templates_are_known_and_changed_ones_are_not)
{
    static const char *const known[] = {"deepseek-v2", "deepseek-v3"};
    static const char *const changes[] = {"User", "Assistant", "message['content']"};
    int n_found = 0;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char *text = published_template(known[i]);

        if (text == NULL)
            continue;
        n_found++;
        CHECK(match(text, strlen(text)) == mk_encoding_find(known[i]));
        CHECK(match(text, strlen(text) / 2) == NULL);
        for (size_t k = 0; k < 3; k++) {
            char *copy = strdup(text);

            for (char *at = copy; (at = strstr(at, changes[k])) != NULL;)
                at[1] = '_';
            CHECK(match(copy, strlen(copy)) == NULL);
            free(copy);
        }
        strcat(text, "{% macro f() %}{% endmacro %}");
        CHECK(match(text, strlen(text)) == NULL);
        free(text);
    }
    CHECK(match("", 0) == NULL);
    CHECK(match("{{ bos_token }}", 15) == NULL);
    if (n_found == 0)
        SKIP("no ../shared/data/tokenizers");
}

/* A folder with the small tokenizer and a chat_template.jinja. */
TEST(a_template_in_a_file_of_its_own_counts)
{
    char folder[] = "/tmp/minke-chat-XXXXXX", command[256], path[64];
    const char *name = NULL;
    minke_context_params p;
    minke_context *ctx = NULL;
    char *text = published_template("deepseek-v3");
    FILE *f;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(command, sizeof(command), "cp tests/golden/tokenizer/tokenizer*.json %s", folder);
    CHECK_INT(system(command), 0);
    snprintf(path, sizeof(path), "%s/chat_template.jinja", folder);
    minke_context_params_init(&p, sizeof(p));
    p.flags = MINKE_CONTEXT_TOKENIZER_ONLY;
    for (int round = 0; round < (text != NULL ? 2 : 1); round++) {
        CHECK((f = fopen(path, "w")) != NULL);
        fputs(round == 0 ? "{{ somebody's }}" : text, f);
        fclose(f);
        CHECK_INT(minke_context_open(&ctx, folder, &p), MINKE_OK);
        if (round == 0) {
            CHECK_INT(minke_chat_encoding(ctx, &name), MINKE_EUNSUPPORTED);
            CHECK_HAS(minke_last_error(), "known encodings: deepseek-v2, deepseek-v3,");
        } else {
            CHECK_INT(minke_chat_encoding(ctx, &name), MINKE_OK);
            CHECK_STR(name, "deepseek-v3");
        }
        minke_context_free(ctx);
    }
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    CHECK_INT(system(command), 0);
    free(text);
}

TEST_MAIN(RUN(every_name_is_one_encodings);
          RUN(an_unknown_encoding_is_refused_with_the_known_names);
          RUN(published_templates_are_known_and_changed_ones_are_not);
          RUN(a_template_in_a_file_of_its_own_counts))
