#include "bench_report.h"

#include <string.h>

#include "bench_machine.h"
#include "common.h"

const char *const part_names[N_PARTS] = {"index", "select", "attention", "moe", "rest"};

static int is_load(const struct result *r)
{
    return strcmp(r->name, "load") == 0;
}

/* ---- JSON ---------------------------------------------------------------- */

/* A number, or null where none is known. */
static void put_number(FILE *out, const char *key, double x, int known)
{
    if (known)
        fprintf(out, "\"%s\": %.4f", key, x);
    else
        fprintf(out, "\"%s\": null", key);
}

static void put_result(const struct report *report, const struct result *r, FILE *out)
{
    const int load = is_load(r);

    fprintf(out, "{\"name\": \"%s\", \"depth\": %llu, \"tokens\": %llu, \"batch\": 1, "
            "\"threads\": %u, ", r->name, (unsigned long long)r->depth,
            (unsigned long long)(load ? 0 : r->tokens), (unsigned)report->n_threads);
    put_number(out, "tok_s", r->rate, !load);
    fprintf(out, ", \"spread\": %.4f, ", r->spread);
    put_number(out, "limit_tok_s", r->limit, !load && r->limit > 0);
    fprintf(out, ", ");
    put_number(out, "fraction", r->rate / (r->limit > 0 ? r->limit : 1), r->limit > 0);
    fprintf(out, ", \"peak_bytes\": %lld, \"ms\": {", (long long)report->peak_bytes);
    for (int i = 0; i < N_PARTS; i++) {
        fprintf(out, "%s", i > 0 ? ", " : "");
        put_number(out, part_names[i], r->ms[i], r->ms[i] >= 0);
    }
    fprintf(out, "}");
    if (load) {
        fprintf(out, ", \"bytes\": %llu, \"gb_s\": %.4f, ", (unsigned long long)r->tokens,
                r->rate * 1e-9);
        put_number(out, "limit_gb_s", r->limit * 1e-9, r->limit > 0);
    }
    fprintf(out, "}");
}

void report_json(const struct report *r, FILE *out)
{
    char cpu[128];

    machine_cpu(cpu, sizeof cpu);
    fprintf(out, "{\"machine\": {\"read_gb_s\": %.3f, \"int8_gop_s\": %.1f, \"threads\": %u, "
            "\"cpu\": ", r->read_gb_s, r->int8_gop_s, (unsigned)r->n_threads);
    json_string(out, cpu, strlen(cpu));
    fprintf(out, "}, \"model\": {\"type\": \"%s\", \"weights\": \"%s\", \"kernels\": \"%s\", ",
            r->model_type, r->weights, r->kernels);
    fprintf(out, "\"n_params\": %lld, \"n_params_active\": %lld, \"weight_bytes\": %lld, "
            "\"decode_bytes\": %lld}, \"results\": [", (long long)r->n_params,
            (long long)r->n_params_active, (long long)r->weight_bytes,
            (long long)r->decode_bytes);
    for (int i = 0; i < r->n_results; i++) {
        fprintf(out, "%s", i > 0 ? ", " : "");
        put_result(r, &r->results[i], out);
    }
    fprintf(out, "]}\n");
}

/* ---- Table --------------------------------------------------------------- */

static void print_load(const struct result *r, FILE *out)
{
    fprintf(out, "%-10s %.2f s, %.2f GB/s", r->name, r->ms[PART_REST] * 1e-3, r->rate * 1e-9);
    if (r->limit > 0)
        fprintf(out, ", %.2f of reading the file (%.2f GB/s)", r->rate / r->limit,
                r->limit * 1e-9);
    fprintf(out, "\n");
}

static void print_result(const struct result *r, FILE *out)
{
    fprintf(out, "%-10s %8llu %8llu %10.2f %6.1f%%", r->name, (unsigned long long)r->depth,
            (unsigned long long)r->tokens, r->rate, 100 * r->spread);
    if (r->limit > 0)
        fprintf(out, " %10.2f %9.3f", r->limit, r->rate / r->limit);
    for (int i = 0; r->limit > 0 && i < N_PARTS; i++)
        if (r->ms[i] >= 0)
            fprintf(out, " %9.3f", r->ms[i]);
    fprintf(out, "\n");
}

void report_table(const struct report *r, FILE *out)
{
    char cpu[128], weights[32], peak[32];

    machine_cpu(cpu, sizeof cpu);
    bytes_text(weights, (uint64_t)r->weight_bytes);
    bytes_text(peak, (uint64_t)r->peak_bytes);
    fprintf(out, "%s, %u threads, %s: reads %.1f GB/s, int8 %.0f GOP/s\n", cpu,
            (unsigned)r->n_threads, r->kernels, r->read_gb_s, r->int8_gop_s);
    fprintf(out, "%s, %s: weights %s, peak %s, %.3f GB and %.2f GMAC per token\n\n",
            r->model_type, r->weights, weights, peak, (double)r->decode_bytes * 1e-9,
            r->prefill_ops * 0.5e-9);
    fprintf(out, "%-10s %8s %8s %10s %7s %10s %9s", "", "depth", "tokens", "tok/s", "spread",
            "limit", "fraction");
    for (int i = 0; i < N_PARTS; i++)
        fprintf(out, " %9s", part_names[i]);
    fprintf(out, "  ms\n");
    for (int i = 0; i < r->n_results; i++)
        if (is_load(&r->results[i]))
            print_load(&r->results[i], out);
        else
            print_result(&r->results[i], out);
}

/* ---- Chart --------------------------------------------------------------- */

static const char *const part_colours[N_PARTS] = {"#8d99ae", "#b56576", "#e9c46a", "#2a6f97",
                                                  "#94a89a"};

/* The time of a token from left to right, 200 wide. */
static void plot_parts(const struct result *r, int y, FILE *out)
{
    double total = 0, x = 560;

    for (int i = 0; i < N_PARTS; i++)
        total += r->ms[i] > 0 ? r->ms[i] : 0;
    for (int i = 0; total > 0 && i < N_PARTS; i++) {
        const double wide = r->ms[i] > 0 ? 200 * r->ms[i] / total : 0;

        if (wide > 0)
            fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"20\" fill=\"%s\"/>\n",
                    x, y, wide, part_colours[i]);
        x += wide;
    }
    fprintf(out, "<text x=\"770\" y=\"%d\">%.3g ms</text>\n", y + 15, total);
}

static void plot_key(int y, FILE *out)
{
    for (int i = 0; i < N_PARTS; i++)
        fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>\n"
                "<text x=\"%d\" y=\"%d\" font-size=\"12\">%s</text>\n", 430 + 80 * i, y,
                part_colours[i], 446 + 80 * i, y + 11, part_names[i]);
}

void report_plot(const struct report *r, FILE *out)
{
    int y = 64, n = 0;

    for (int i = 0; i < r->n_results; i++)
        n += !is_load(&r->results[i]) && r->results[i].limit > 0;
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"850\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"10\" y=\"24\" font-size=\"15\">%s %s on %u threads</text>\n"
            "<text x=\"140\" y=\"50\">tokens a second beside the limit</text>\n"
            "<text x=\"560\" y=\"50\">time of a token</text>\n", 100 + 34 * n, r->model_type,
            r->weights, (unsigned)r->n_threads);
    for (int i = 0; i < r->n_results; i++) {
        const struct result *one = &r->results[i];
        const double part = one->limit > 0 ? one->rate / one->limit : 0;

        if (is_load(one) || one->limit <= 0)
            continue;
        fprintf(out, "<text x=\"10\" y=\"%d\">%s at %llu</text>\n<rect x=\"140\" y=\"%d\" "
                "width=\"290\" height=\"20\" fill=\"#ddd\"/>\n<rect x=\"140\" y=\"%d\" "
                "width=\"%.1f\" height=\"20\" fill=\"#2a6f97\"/>\n<text x=\"438\" y=\"%d\">"
                "%.4g of %.4g</text>\n", y + 15, one->name, (unsigned long long)one->depth, y, y,
                290 * (part < 1 ? part : 1), y + 15, one->rate, one->limit);
        plot_parts(one, y, out);
        y += 34;
    }
    plot_key(y + 4, out);
    fprintf(out, "</svg>\n");
}
