/* profile.c: where the time of a training or a benchmark went. Times are those of all threads
 * together, for one repetition; what no part accounts for is the solver's own arithmetic, copies
 * and waiting. */
#include "cli/cli.h"

/* Thread-seconds of one repetition: of a part, or (FM_N_WORKS) of all. */
static double
part_ms(const FmProfile *p, guint64 n, int work)
{
    const double all = p->wall * (double)p->threads;

    return (work < FM_N_WORKS ? p->seconds[work] : all) * 1e3 / (double)MAX(n, 1);
}

/* As if all threads did nothing else, 1e9 operations a second; 0: not counted. */
static double
part_rate(const FmProfile *p, int work)
{
    if (!(p->flops[work] > 0 && p->seconds[work] > 0))
        return 0.0;
    return p->flops[work] / p->seconds[work] * (double)p->threads * 1e-9;
}

static double
rest_ms(const FmProfile *p, guint64 n)
{
    double rest = part_ms(p, n, FM_N_WORKS);

    for (int w = 0; w < FM_N_WORKS; w++)
        rest -= part_ms(p, n, w);
    return MAX(rest, 0.0);
}

void
profile_print(FILE *to, const FmProfile *p, guint64 n, double peak)
{
    const double all = part_ms(p, n, FM_N_WORKS);

    fprintf(to, "    %-12s %10.4f ms of %d threads in one repetition", "all", all, p->threads);
    fprintf(to, peak > 0 ? "; GEMM peak %.1f GFLOP/s\n" : "\n", peak);
    for (int w = 0; w < FM_N_WORKS; w++) {
        const double rate = part_rate(p, w), ms = part_ms(p, n, w);

        if (p->calls[w] == 0)
            continue;
        fprintf(to, "    %-12s %10.4f ms %5.1f %%", fm_work_name((FmWork)w), ms, 100.0 * ms / all);
        if (rate > 0)
            fprintf(to, " %8.1f GFLOP/s", rate);
        if (rate > 0 && peak > 0)
            fprintf(to, ", %.0f %% of the GEMM peak", 100.0 * rate / peak);
        fputc('\n', to);
    }
    fprintf(to, "    %-12s %10.4f ms %5.1f %%\n", "rest", rest_ms(p, n), 100.0 * rest_ms(p, n) / all);
}

void
profile_json(JsonBuilder *json, const FmProfile *p, guint64 n, double peak)
{
    out_open(json, "profile");
    out_real(json, "thread_ms", part_ms(p, n, FM_N_WORKS));
    out_int(json, "threads", p->threads);
    if (peak > 0)
        out_real(json, "gemm_peak_gflops", peak);
    out_array(json, "parts");
    for (int w = 0; w < FM_N_WORKS; w++) {
        if (p->calls[w] == 0)
            continue;
        json_builder_begin_object(json);
        out_text(json, "name", fm_work_name((FmWork)w));
        out_real(json, "thread_ms", part_ms(p, n, w));
        out_real(json, "calls", (double)p->calls[w] / (double)MAX(n, 1));
        if (part_rate(p, w) > 0)
            out_real(json, "gflops", part_rate(p, w));
        json_builder_end_object(json);
    }
    json_builder_begin_object(json);
    out_text(json, "name", "rest");
    out_real(json, "thread_ms", rest_ms(p, n));
    json_builder_end_object(json);
    json_builder_end_array(json);
    json_builder_end_object(json);
}
