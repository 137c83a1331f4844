/* minke-inspect's drawings, as SVG. */
#include "inspect_maps.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CELLS 160u      /* a heat map's side; longer prompts put several tokens in a cell */
#define N_SHADES 9u
#define INK "#24292f"
#define FAINT "#8c959f"

/* From nothing to all, as ColorBrewer's Blues. */
static const char *const shades[N_SHADES] = {
    "#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c",
    "#08306b"};

/* What the observer counts. */
struct counts {
    size_t n;               /* tokens of the prompt */
    size_t n_layers;
    size_t step, side;      /* attention: tokens in a cell, cells of a side */
    size_t n_columns;       /* of a layer: side * side, or experts */
    uint32_t *at;           /* (n_layers, n_columns) */
    int *seen;              /* (n_layers,) */
    struct progress progress;
};

/* ---- Evaluating ---------------------------------------------------------- */

static int64_t fact(const struct drawing *d, int32_t key)
{
    int64_t value = 0;
    minke_context_info(d->ctx, key, &value);
    return value;
}

/* The prompt's ids, with the beginning-of-sentence token in front once. */
static int32_t *read_prompt(const struct drawing *d, size_t *n)
{
    size_t size = 0;
    const int32_t bos = (int32_t)fact(d, MINKE_INFO_TOKEN_BOS);
    char *text = read_file(d->program, d->prompt, &size);
    const int32_t status = minke_tokenize(d->ctx, text, size, MINKE_TOKENIZE_SPECIAL, NULL, 0, n);
    if (status < 0 && status != MINKE_ENOSPC)
        fail_call(d->program, d->prompt);
    int32_t *ids = need_memory(NULL, *n + 1, sizeof *ids);
    if (minke_tokenize(d->ctx, text, size, MINKE_TOKENIZE_SPECIAL, ids + 1, *n, n) < 0)
        fail_call(d->program, d->prompt);
    free(text);
    ids[0] = bos;
    if (bos >= 0 && (*n == 0 || ids[1] != bos))
        ++*n;
    else
        memmove(ids, ids + 1, *n * sizeof *ids);
    if (*n == 0)
        fail_text(d->program, "nothing to read in", d->prompt);
    return ids;
}

static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    struct counts *c = user;
    progress_draw(&c->progress, done, total);
    return 0;
}

static int32_t on_selected(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                           const int32_t *ids, const float *values, size_t n)
{
    struct counts *c = user;
    (void)kind;
    (void)values;
    uint32_t *row = c->at + layer * c->n_columns + (size_t)token / c->step * c->side;
    for (size_t i = 0; i < n; i++)
        row[(size_t)ids[i] / c->step]++;
    c->seen[layer] = 1;
    return 0;
}

static int32_t on_experts(void *user, uint32_t kind, uint32_t layer, uint64_t token,
                          const int32_t *ids, const float *values, size_t n)
{
    struct counts *c = user;
    (void)kind;
    (void)token;
    (void)values;
    for (size_t i = 0; i < n; i++)
        c->at[layer * c->n_columns + (size_t)ids[i]]++;
    c->seen[layer] = 1;
    return 0;
}

/* Read the prompt through the model; c knows its sizes. */
static void evaluate(const struct drawing *d, struct counts *c, const int32_t *ids,
                     uint32_t kind)
{
    minke_session_params p = *d->session;
    minke_session *s = NULL;
    c->at = need_memory(NULL, c->n_layers * c->n_columns, sizeof *c->at);
    c->seen = need_memory(NULL, c->n_layers, sizeof *c->seen);
    memset(c->at, 0, c->n_layers * c->n_columns * sizeof *c->at);
    memset(c->seen, 0, c->n_layers * sizeof *c->seen);
    c->progress = (struct progress){.label = "reading", .shown = is_terminal(stderr)};
    p.max_tokens = (uint32_t)c->n;
    p.progress = on_progress;
    p.progress_user = c;
    p.observer = kind == MINKE_OBSERVE_SELECTED ? on_selected : on_experts;
    p.observer_user = c;
    p.observe = kind;
    if (minke_session_open(&s, d->ctx, &p) < 0 || minke_session_eval(s, ids, c->n) < 0)
        fail_call(d->program, d->prompt);
    progress_end(&c->progress);
    minke_session_free(s);
}

/* ---- SVG ----------------------------------------------------------------- */

static FILE *svg_begin(const struct drawing *d, double width, double height)
{
    FILE *f = d->out != NULL ? fopen(d->out, "wb") : stdout;
    if (f == NULL)
        fail_text(d->program, "cannot write", d->out);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
               "width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"11\" "
               "fill=\"%s\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            width, height, width, height, INK);
    return f;
}

static void svg_end(const struct drawing *d, FILE *f)
{
    fputs("</svg>\n", f);
    if (d->out == NULL)
        end_output(d->program);
    else if (!finish_file(f, d->out, 1))
        fail_text(d->program, "cannot write", d->out);
}

/* Text that XML may take for markup or not at all. */
static void svg_escape(FILE *f, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            fputs("&amp;", f);
        else if (*text == '<')
            fputs("&lt;", f);
        else
            fputc((unsigned char)*text < 0x20 ? ' ' : *text, f);
    }
}

/* The last part of a path, which may end in slashes. */
static void svg_name(FILE *f, const char *path)
{
    char name[128];
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--)
        ;
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), path + begin);
    svg_escape(f, name);
}

/* A round number such that about four of them make n. */
static size_t tick_step(size_t n)
{
    static const size_t parts[] = {1, 2, 5};
    for (size_t ten = 1;; ten *= 10)
        for (size_t i = 0; i < 3; i++)
            if (parts[i] * ten * 5 >= n)
                return parts[i] * ten;
}

/* A scale of shades with its two ends named. */
static void svg_ramp(FILE *f, double x, double y, const char *left, const char *right)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", x - 6, y + 10, left);
    for (size_t i = 0; i < N_SHADES; i++)
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"12\" fill=\"%s\"/>",
                x + 16 * (double)i, y, shades[i]);
    fprintf(f, "\n<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" fill=\"none\" "
               "stroke=\"%s\" stroke-width=\"0.5\"/>\n<text x=\"%.1f\" y=\"%.1f\">%s</text>\n",
            x, y, 16.0 * N_SHADES, FAINT, x + 16 * N_SHADES + 6, y + 10, right);
}

/* ---- Attention ----------------------------------------------------------- */

struct grid {
    size_t columns, rows;
    double side, gap, left, top, width, height;
};

static struct grid grid_for(size_t n_layers)
{
    struct grid g = {.columns = 1, .gap = 34, .left = 66, .top = 92};
    while (g.columns * g.columns < n_layers && g.columns < 8)
        g.columns++;
    g.rows = (n_layers + g.columns - 1) / g.columns;
    g.side = g.columns <= 2 ? 340 : g.columns <= 4 ? 230 : 150;
    g.width = g.left + (double)g.columns * (g.side + g.gap);
    g.width = g.width < 640 ? 640 : g.width;
    g.height = g.top + (double)g.rows * (g.side + g.gap) + 22;
    return g;
}

/* Pairs of a query and a past token in the cell. */
static size_t cell_pairs(const struct counts *c, size_t q_cell, size_t k_cell)
{
    const size_t k = k_cell * c->step, q_end = (q_cell + 1) * c->step;
    size_t sum = 0;
    for (size_t q = q_cell * c->step; q < q_end && q < c->n; q++) {
        const size_t k_end = k + c->step < q + 1 ? k + c->step : q + 1;
        sum += k_end > k ? k_end - k : 0;
    }
    return sum;
}

/* 0 for none of the cell's pairs, N_SHADES - 1 for all, and nothing between looks like these. */
static size_t cell_shade(const struct counts *c, const uint32_t *layer, size_t q, size_t k)
{
    const size_t pairs = cell_pairs(c, q, k), n = layer[q * c->side + k];
    if (n == 0 || pairs == 0)
        return 0;
    return n >= pairs ? N_SHADES - 1 : 1 + n * (N_SHADES - 2) / pairs;
}

/* The cells of one layer: a path of horizontal strokes per shade. */
static void draw_cells(FILE *f, const struct counts *c, const uint32_t *layer)
{
    uint8_t *shade = need_memory(NULL, c->side * c->side, 1);
    for (size_t q = 0; q < c->side; q++)
        for (size_t k = 0; k < c->side; k++)
            shade[q * c->side + k] = k <= q ? (uint8_t)cell_shade(c, layer, q, k) : 0;
    for (size_t level = 1; level < N_SHADES; level++) {
        int any = 0;
        for (size_t q = 0; q < c->side; q++)
            for (size_t k = 0, run; k <= q; k += run) {
                run = 1;
                if (shade[q * c->side + k] != level)
                    continue;
                while (k + run <= q && shade[q * c->side + k + run] == level)
                    run++;
                fprintf(f, "%sM%zu %zu.5h%zu", any ? "" : "<path d=\"", k, q, run);
                any = 1;
            }
        if (any)
            fprintf(f, "\" stroke=\"%s\"/>\n", shades[level]);
    }
    free(shade);
}

/* Ticks of past tokens below and of queries on the left. */
static void draw_ticks(FILE *f, const struct counts *c, double x, double y, double side,
                       int below, int on_left)
{
    const size_t step = tick_step(c->n);
    for (size_t t = 0; t < c->n; t += step) {
        const double at = side * (double)t / (double)c->n;
        if (below)
            fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" text-anchor=\"middle\">%zu</text>",
                    x + at, y + side + 14, FAINT, t);
        if (on_left)
            fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" text-anchor=\"end\">%zu</text>",
                    x - 6, y + at + 4, FAINT, t);
    }
    if (below)
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">past token</text>",
                x + side / 2, y + side + 29);
    if (on_left)
        fprintf(f, "<text transform=\"translate(%.1f %.1f) rotate(-90)\" "
                   "text-anchor=\"middle\">query</text>", x - 44, y + side / 2);
    fputc('\n', f);
}

static void draw_layer(FILE *f, const struct counts *c, const struct grid *g, size_t l,
                       size_t top_k)
{
    const double x = g->left + (double)(l % g->columns) * (g->side + g->gap);
    const double y = g->top + (double)(l / g->columns) * (g->side + g->gap);
    /* The last cell may hold fewer tokens than the others: scale by tokens. */
    const double scale = g->side * (double)c->step / (double)c->n;
    const double first = g->side * (double)top_k / (double)c->n;
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">layer %zu</text>\n", x, y - 6, l);
    fprintf(f, "<path d=\"M%.1f %.1fv%.1fh%.1fz\" fill=\"%s\" stroke=\"%s\" "
               "stroke-width=\"0.5\"/>\n", x, y, g->side, g->side, shades[0], FAINT);
    fprintf(f, "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
               "<g transform=\"scale(%.5f)\" fill=\"none\" stroke-width=\"1.02\">\n",
            x, y, g->side, g->side, scale);
    draw_cells(f, c, c->at + l * c->n_columns);
    fprintf(f, "</g></svg>\n");
    if (top_k < c->n)
        fprintf(f, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#cf222e\" stroke-width=\"1\" "
                   "stroke-dasharray=\"4 3\"/>\n", x, y + first, x + g->side);
    draw_ticks(f, c, x, y, g->side, l + g->columns >= c->n_layers, l % g->columns == 0);
}

void draw_attention(const struct drawing *d)
{
    struct counts c = {.n_layers = (size_t)fact(d, MINKE_INFO_N_LAYERS)};
    const size_t top_k = (size_t)fact(d, MINKE_INFO_INDEX_TOPK);
    const struct grid g = grid_for(c.n_layers);
    if (top_k == 0)
        fail_text(d->program, "--attention: every token is attended to, there is no indexer in",
                  d->model);
    int32_t *ids = read_prompt(d, &c.n);
    c.step = (c.n + MAX_CELLS - 1) / MAX_CELLS;
    c.side = (c.n + c.step - 1) / c.step;
    c.n_columns = c.side * c.side;
    evaluate(d, &c, ids, MINKE_OBSERVE_SELECTED);
    FILE *f = svg_begin(d, g.width, g.height);
    fputs("<text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"bold\">What each query of ", f);
    svg_name(f, d->model);
    fprintf(f, " attends to</text>\n<text x=\"20\" y=\"47\">%zu tokens; a row is a query, a column "
               "a past token", c.n);
    if (c.step > 1)
        fprintf(f, ", a cell %zu x %zu of them", c.step, c.step);
    fprintf(f, ".</text>\n<text x=\"20\" y=\"62\">");
    if (top_k < c.n)
        fprintf(f, "Above the red line a query sees no more than %zu and keeps them all; below it "
                   "the indexer keeps %zu.</text>\n", top_k, top_k);
    else
        fprintf(f, "The indexer keeps %zu: here no query sees more.</text>\n", top_k);
    svg_ramp(f, g.width - g.gap - 16 * N_SHADES - 28, 20, "kept: none", "all");
    for (size_t l = 0; l < c.n_layers; l++)
        draw_layer(f, &c, &g, l, top_k);
    svg_end(d, f);
    free(c.at);
    free(c.seen);
    free(ids);
}

/* ---- Experts ------------------------------------------------------------- */

/* Classes of use against an even share, each twice the one before. */
static const char *const load_names[N_SHADES] = {
    "never", "1/8", "1/4", "1/2", "1", "2", "4", "8", "more"};

static size_t load_shade(double load)
{
    static const double limits[] = {0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0};
    size_t i = 0;
    if (load == 0.0)
        return 0;
    while (i < 7 && load > limits[i])
        i++;
    return i + 1;
}

struct loads {
    size_t n_experts, per_token;
    double left, top, cell, row, right;
};

static void draw_loads_head(FILE *f, const struct drawing *d, const struct counts *c,
                            const struct loads *g)
{
    fputs("<text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"bold\">Experts that ", f);
    svg_name(f, d->model);
    fprintf(f, " uses</text>\n<text x=\"20\" y=\"47\">%zu tokens, %zu of %zu experts each; shades "
               "say how often, against an even share of %.1f tokens per expert</text>\n",
            c->n, g->per_token, g->n_experts,
            (double)c->n * (double)g->per_token / (double)g->n_experts);
    for (size_t i = 0; i < N_SHADES; i++)
        fprintf(f, "<rect x=\"%.1f\" y=\"58\" width=\"44\" height=\"12\" fill=\"%s\" stroke=\"%s\" "
                   "stroke-width=\"0.5\"/><text x=\"%.1f\" y=\"83\" text-anchor=\"middle\" "
                   "fill=\"%s\">%s%s%s</text>\n", 20 + 46 * (double)i, shades[i], FAINT,
                42 + 46 * (double)i, FAINT, i > 0 && i < 8 ? "to " : "", load_names[i],
                i > 0 && i < 8 ? "x" : "");
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">busiest</text><text x=\"%.1f\" y=\"%.1f\" "
               "fill=\"%s\">never used</text>\n", g->right, g->top - 8, FAINT, g->right + 60,
            g->top - 8, FAINT);
}

static void draw_loads_row(FILE *f, const struct counts *c, const struct loads *g, size_t l,
                           double y)
{
    const uint32_t *row = c->at + l * c->n_columns;
    const double even = (double)c->n * (double)g->per_token / (double)g->n_experts;
    double most = 0.0;
    size_t idle = 0;
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">layer %zu</text>\n", g->left - 6,
            y + g->row / 2 + 4, l);
    for (size_t e = 0; e < g->n_experts; e++) {
        const double load = row[e] / even;
        most = load > most ? load : most;
        idle += row[e] == 0;
        fprintf(f, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"><title>"
                   "layer %zu, expert %zu: %lu tokens, %.2fx</title></rect>\n",
                g->left + (double)e * g->cell, y, g->cell * 0.96, g->row - 1,
                shades[load_shade(load)], l, e, (unsigned long)row[e], load);
    }
    fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" "
               "stroke=\"%s\" stroke-width=\"0.4\"/>", g->left, y,
            g->cell * (double)g->n_experts, g->row - 1, FAINT);
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\">%.1fx</text><text x=\"%.1f\" y=\"%.1f\">%zu</text>\n",
            g->right, y + g->row / 2 + 4, most, g->right + 60, y + g->row / 2 + 4, idle);
}

void draw_experts(const struct drawing *d)
{
    struct counts c = {.n_layers = (size_t)fact(d, MINKE_INFO_N_LAYERS)};
    struct loads g = {.n_experts = (size_t)fact(d, MINKE_INFO_N_EXPERTS),
                      .per_token = (size_t)fact(d, MINKE_INFO_N_EXPERTS_USED),
                      .left = 70, .top = 116};
    size_t n_rows = 0;
    if (g.n_experts == 0)
        fail_text(d->program, "--experts: there are none in", d->model);
    int32_t *ids = read_prompt(d, &c.n);
    c.n_columns = g.n_experts;
    evaluate(d, &c, ids, MINKE_OBSERVE_EXPERTS);
    for (size_t l = 0; l < c.n_layers; l++)
        n_rows += c.seen[l] != 0;
    g.cell = 720.0 / (double)g.n_experts;
    g.cell = g.cell > 48 ? 48 : g.cell < 3 ? 3 : g.cell;
    g.row = n_rows > 20 ? 15 : 24;
    g.right = g.left + g.cell * (double)g.n_experts + 14;
    const double width = g.right + 140, y_end = g.top + g.row * (double)n_rows;
    FILE *f = svg_begin(d, width < 620 ? 620 : width, y_end + 44);
    draw_loads_head(f, d, &c, &g);
    double y = g.top;
    for (size_t l = 0; l < c.n_layers; l++) {
        if (!c.seen[l])
            continue;
        draw_loads_row(f, &c, &g, l, y);
        y += g.row;
    }
    for (size_t e = 0; e < g.n_experts; e += g.n_experts > 16 ? tick_step(g.n_experts) : 1)
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"%s\">%zu</text>",
                g.left + ((double)e + 0.5) * g.cell, y_end + 14, FAINT, e);
    fprintf(f, "\n<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">expert</text>\n",
            g.left + g.cell * (double)g.n_experts / 2, y_end + 30);
    svg_end(d, f);
    free(c.at);
    free(c.seen);
    free(ids);
}
