/* The tools of minke-chat: a calculator and a clock, which really run. */
#ifndef EXAMPLES_CHAT_TOOLS_H
#define EXAMPLES_CHAT_TOOLS_H

#include <stddef.h>

/* Their definitions, a JSON array in OpenAI's schema. */
extern const char chat_tools[];

/* Result of a call, in fresh memory: name and arguments (a JSON object).  What cannot be done
 * gives a text that says why, for the model to read. */
char *run_tool(const char *name, const char *arguments);

/* The JSON string that is the value of the first member key in json (len bytes), decoded, in
 * fresh memory; NULL where there is none. */
char *json_member(const char *json, size_t len, const char *key);

#endif
