#define _POSIX_C_SOURCE 200809L /* localtime_r */
#include "chat_tools.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"

const char chat_tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"calculator\", \"description\": "
    "\"Compute an arithmetic expression\", \"parameters\": {\"type\": \"object\", \"properties\": "
    "{\"expression\": {\"type\": \"string\", \"description\": \"The expression, e.g. 12 * 34\"}}, "
    "\"required\": [\"expression\"]}}}, "
    "{\"type\": \"function\", \"function\": {\"name\": \"clock\", \"description\": "
    "\"Tell the current date and time\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {}}}}]";

/* ---- JSON ---------------------------------------------------------------- */

/* Four hex digits, or -1. */
static long hex4(const char *text, size_t n)
{
    char digits[5] = "";
    char *end;
    long value;

    if (n < 4)
        return -1;
    memcpy(digits, text, 4);
    value = strtol(digits, &end, 16);
    return end == digits + 4 ? value : -1;
}

static char *put_utf8(char *out, long code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 63));
        *out++ = (char)(0x80 | (code & 63));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 63));
        *out++ = (char)(0x80 | (code >> 6 & 63));
        *out++ = (char)(0x80 | (code & 63));
    }
    return out;
}

/* The string whose first byte behind the quote is at text; it ends before end. */
static char *decode_string(const char *text, const char *end)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char *data = need_memory(NULL, (size_t)(end - text) + 8, 1), *out = data;

    while (text < end && *text != '"') {
        const char *escape;
        long code, low;

        if (*text != '\\' || text + 1 >= end) {
            *out++ = *text++;
            continue;
        }
        text++;
        escape = strchr(escapes, *text);
        code = *text == 'u' ? hex4(text + 1, (size_t)(end - text - 1)) : -1;
        if (escape != NULL && *escape != '\0')
            *out++ = meant[escape - escapes];
        text += code >= 0 ? 5 : 1;
        if (code >= 0xd800 && code < 0xdc00 && end - text > 6 && text[0] == '\\'
            && (low = hex4(text + 2, 4)) >= 0xdc00) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            text += 6;
        }
        if (code >= 0)
            out = put_utf8(out, code);
    }
    *out = '\0';
    return data;
}

char *json_member(const char *json, size_t len, const char *key)
{
    const size_t n = strlen(key);

    for (size_t i = 0; i + n + 2 < len; i++) {
        const char *at = json + i + n + 2, *end = json + len;

        if (json[i] != '"' || memcmp(json + i + 1, key, n) != 0 || json[i + n + 1] != '"')
            continue;
        while (at < end && (*at == ' ' || *at == ':'))
            at++;
        if (at < end && *at == '"')
            return decode_string(at + 1, end);
    }
    return NULL;
}

/* ---- Calculator ---------------------------------------------------------- */

/* What is left of an expression, and whether it was wrong so far. */
struct reader {
    const char *at;
    int wrong, depth;
};

static double read_sum(struct reader *r);

static int take(struct reader *r, char c)
{
    while (*r->at == ' ')
        r->at++;
    if (*r->at != c)
        return 0;
    r->at++;
    return 1;
}

/* A number, a sum in parentheses, or its root. */
static double read_item(struct reader *r)
{
    double value = 0;
    char *end;

    while (*r->at == ' ')
        r->at++;
    const int root = strncmp(r->at, "sqrt", 4) == 0;
    if (root)
        r->at += 4;
    if (take(r, '(')) {
        value = read_sum(r);
        if (!take(r, ')'))
            r->wrong = 1;
        return root ? sqrt(value) : value;
    }
    if (root || ((*r->at < '0' || *r->at > '9') && *r->at != '.')) {
        r->wrong = 1;
        return 0;
    }
    value = strtod(r->at, &end);
    r->wrong |= end == r->at;
    r->at = end;
    return value;
}

static double read_power(struct reader *r)
{
    double value;

    if (++r->depth > 200) {   /* a hostile expression must not exhaust the stack */
        r->wrong = 1;
        return 0;
    }
    if (take(r, '-')) {
        value = -read_power(r);
    } else {
        value = read_item(r);
        if (take(r, '^') || (strncmp(r->at, "**", 2) == 0 && (r->at += 2) != NULL))
            value = pow(value, read_power(r));
    }
    r->depth--;
    return value;
}

static double read_product(struct reader *r)
{
    double value = read_power(r);

    while (!r->wrong) {
        if (take(r, '*'))
            value *= read_power(r);
        else if (take(r, '/'))
            value /= read_power(r);
        else if (take(r, '%'))
            value = fmod(value, read_power(r));
        else
            break;
    }
    return value;
}

static double read_sum(struct reader *r)
{
    double value = read_product(r);

    while (!r->wrong) {
        if (take(r, '+'))
            value += read_product(r);
        else if (take(r, '-'))
            value -= read_product(r);
        else
            break;
    }
    return value;
}

static char *calculate(const char *expression)
{
    struct reader r = {expression, 0, 0};
    char *text = need_memory(NULL, 128, 1);
    const double value = read_sum(&r);

    take(&r, '=');
    while (*r.at == ' ')
        r.at++;
    if (r.wrong || *r.at != '\0')
        snprintf(text, 128, "error: not an expression, at: %.40s", r.at);
    else if (!isfinite(value))
        snprintf(text, 128, "error: the result is no number");
    else
        snprintf(text, 128, "%.15g", value);
    return text;
}

/* ---- Running ------------------------------------------------------------- */

static char *tell_time(void)
{
    const time_t now = time(NULL);
    char *text = need_memory(NULL, 64, 1);
    struct tm t;

    if (localtime_r(&now, &t) == NULL || strftime(text, 64, "%Y-%m-%d %H:%M", &t) == 0)
        snprintf(text, 64, "error: the clock stands still");
    return text;
}

char *run_tool(const char *name, const char *arguments)
{
    char *text, *expression;

    if (strcmp(name, "clock") == 0)
        return tell_time();
    if (strcmp(name, "calculator") == 0) {
        expression = json_member(arguments, strlen(arguments), "expression");
        if (expression != NULL) {
            text = calculate(expression);
            free(expression);
            return text;
        }
    }
    text = need_memory(NULL, 160, 1);
    snprintf(text, 160, strcmp(name, "calculator") == 0 ? "error: no expression given to %s"
                                                        : "error: no tool named %.100s", name);
    return text;
}
