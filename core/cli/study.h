/* study.h: what the studies of the theory share: rows, checks, pictures and sentences. */
#ifndef FMCORE_CORE_CLI_STUDY_H
#define FMCORE_CORE_CLI_STUDY_H

#include "cli/cli.h"
#include "io/plot.h"

typedef struct Study {
    Cli *cli;
    const char *dir; /* pictures and result.json go here */
    int threads;
    guint64 seed;
    GArray *checks;   /* checks_add() */
    GPtrArray *rows;  /* each an array of cells */
    GPtrArray *files; /* char *, names within dir */
    GPtrArray *words; /* char *, sentences for the end of the table */
} Study;

/* Begin a row, then fill it; rows with the same cells make one table. */
void study_row(Study *s);
void study_text(Study *s, const char *name, const char *value); /* name is static */
void study_number(Study *s, const char *name, double value);    /* null in JSON when not finite */
/* A sentence for the reader, kept in the result too. */
void study_say(Study *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Curves as DIR/name (.svg or .png), as fm_plot_curves(). */
gboolean study_curves(Study *s, const char *name, const char *title, const char *xlabel, const char *ylabel,
                      const FmCurve *curves, size_t n, int flags, GError **error);
/* A line of progress on stderr, unless --quiet. */
void study_progress(const Study *s, const char *format, ...) G_GNUC_PRINTF(2, 3);

gboolean study_panels(Study *s, const char *name, const char *xlabel, const FmPanel *panels, size_t n, GError **error);

/* A run in double of the closed-form net `net` on `dataset` (NULL: --dataset, else 8gaussians) under
 * `path`; the caller owns it. */
FmRun *study_oracle_run(const Study *s, const char *net, const char *dataset, const char *path, GError **error);

/* FALSE with a sentence when an option was given that this study does not use; `taken` lists those it
 * uses beside --seed, --threads, --out and the like, NULL closes. */
gboolean study_takes(const Study *s, const char *const *taken, GError **error);

/* Least squares y = a + b x: the slope b and half its 95 % confidence interval (t with n - 2). */
typedef struct StudySlope {
    double slope, half_width;
} StudySlope;
StudySlope study_slope(size_t n, const double *x, const double *y);

/* One file each. FALSE with *error set; a check that does not hold is no error. */
gboolean study_entropy(Study *s, GError **error);
gboolean study_paths(Study *s, GError **error);
gboolean study_tv_rate(Study *s, GError **error);
gboolean study_kl_identity(Study *s, GError **error);
gboolean study_kl_bound(Study *s, GError **error);
gboolean study_kl_bound_linear(Study *s, GError **error);

#endif
