/* bench.h: what the benchmarks share. One benchmark gives one or several rows. */
#ifndef FMCORE_CORE_CLI_BENCH_H
#define FMCORE_CORE_CLI_BENCH_H

#include "cli/cli.h"

typedef struct BenchRow {
    GArray *ms; /* double: milliseconds of each repetition, warm-up left out; owned */
    double best, median;
    double flops;      /* of one repetition, multiply-adds as 2; 0: not counted */
    GPtrArray *detail; /* char *: key, value, key, value, ...; owned */
    gint64 wanted;     /* repetitions; 0: chosen by time */
    double enough;     /* milliseconds of a benchmark whose repetitions are chosen by time */
    size_t warm;       /* repetitions of the warm-up */
    double warm_ms, total_ms;
    gboolean warming;
    gboolean profiled; /* `profile` is filled, over `profile_n` repetitions */
    FmProfile profile;
    guint64 profile_n;
    double gemm_peak; /* 1e9 operations a second, all threads; measured when there is a profile */
} BenchRow;

typedef struct Bench {
    Cli *cli;
    GPtrArray *rows; /* BenchRow *, owned */
    gboolean headed; /* the table's head is printed */
} Bench;

/* ---- cmd_bench.c ---- */

GPtrArray *bench_rows_new(void); /* of BenchRow *, owned */
/* Sorts the times, sets best and median. */
void bench_row_finish(BenchRow *row);
/* A new row of `b`; borrowed. */
BenchRow *bench_row(Bench *b);
/* Took a repetition `ms` milliseconds; TRUE: another one is wanted. The first ones are warm-up. The
 * rest go on for a second (at least 5 of them, --repeat overrides), at most 20 seconds. A repetition
 * of several seconds needs no warm-up. An FmBenchFn. */
gboolean bench_more(void *row, double ms);
/* Adds "key value" to the row's description; takes over `value`. */
void bench_detail(BenchRow *row, const char *key, char *value);

/* ---- the benchmarks ---- */

typedef struct Benchmark {
    const char *name, *summary;
    gboolean (*run)(Bench *b, GError **error);
    gboolean of_run; /* takes a RUN, and --profile */
    gboolean writes; /* takes --out */
} Benchmark;

/* ---- bench_flow.c: with the parts of a run ---- */

gboolean bench_train_step(Bench *b, GError **error);
gboolean bench_sample(Bench *b, GError **error);
gboolean bench_likelihood(Bench *b, GError **error);
gboolean bench_coupling(Bench *b, GError **error);
gboolean bench_divergence(Bench *b, GError **error);

/* ---- bench_kernel.c: single kernels, through plans; the program's start ---- */

gboolean bench_gemm(Bench *b, GError **error);
/* The highest rate of the matrix products of `bench gemm`, all threads, 1e9 operations a second; 0
 * when they cannot run. Takes a few seconds. */
double bench_gemm_peak(Bench *b);
gboolean bench_conv(Bench *b, GError **error);
gboolean bench_startup(Bench *b, GError **error);

/* ---- bench_calibration.c: error bars against known divergences; a table of its own ---- */

int bench_calibration(Cli *cli, GError **error);

/* Where its rows go. */
typedef struct CalibrationOut {
    JsonBuilder *json; /* NULL: stdout */
} CalibrationOut;
/* One row of a figure with symmetric bars; value, se (seeds); truth NAN: not known. */
void calibration_row(const CalibrationOut *out, const char *name, size_t D, size_t n, const char *pair, size_t seeds,
                     double truth, const double *value, const double *se);

/* ---- bench_calibration_kl.c: the figures of `kl P Q` ---- */

gboolean bench_calibration_kl(size_t seeds, int threads, const CalibrationOut *out, GError **error);

#endif
