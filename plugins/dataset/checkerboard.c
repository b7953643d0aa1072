/* checkerboard: uniform on the dark squares of a 4 x 4 board of side 8.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

enum { CHECKERBOARD_SQUARES = 8 };

typedef struct Checkerboard {
    double scale;  /* option */
    FmBoxes boxes; /* the dark squares, in the arrays below */
    double weight[CHECKERBOARD_SQUARES];
    double lo[2 * CHECKERBOARD_SQUARES], hi[2 * CHECKERBOARD_SQUARES];
} Checkerboard;

static const FmOption checkerboard_options[] = {
    FM_OPT_POSITIVE(Checkerboard, scale, 2.0, 1e6, "side of a square"),
    FM_OPT_END,
};

static gboolean
checkerboard_open(void *self, FmDataInfo *info, GError **error)
{
    Checkerboard *s = self;

    for (int k = 0; k < CHECKERBOARD_SQUARES; k++) {
        const int column = k / 2 - 2, row = 2 * (k % 2) - 2 + (k / 2) % 2;

        s->weight[k] = 1.0 / CHECKERBOARD_SQUARES;
        s->lo[2 * k] = s->scale * column;
        s->lo[2 * k + 1] = s->scale * row;
        for (int d = 0; d < 2; d++)
            s->hi[2 * k + d] = s->lo[2 * k + d] + s->scale;
    }
    s->boxes = (FmBoxes){.K = CHECKERBOARD_SQUARES, .D = 2, .weight = s->weight, .lo = s->lo, .hi = s->hi};
    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 0};
    return TRUE;
}

/* One point; its class. */
static int
checkerboard_point(const Checkerboard *s, FmRng *rng, double *x)
{
    const double u = 4.0 * fm_rng_uniform(rng) - 2.0, column = floor(u);
    const double even = fmod(column + 4.0, 2.0);

    x[0] = s->scale * u;
    x[1] = s->scale * (fm_rng_uniform(rng) - 2.0 * (double)fm_rng_below(rng, 2) + even);
    return 0;
}

static void
checkerboard_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = checkerboard_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

/* Eight squares of side `scale`: density 1 / (8 scale^2) on them, 0 elsewhere. */
static void
checkerboard_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    const double scale = ((const Checkerboard *)self)->scale, inside = -log(8.0 * scale * scale);

    for (size_t i = 0; i < n; i++) {
        const double u = x[2 * i] / scale, v = x[2 * i + 1] / scale;
        const gboolean dark = fmod(floor(u) + floor(v) + 8.0, 2.0) == 0.0;

        log_p[i] = u >= -2.0 && u < 2.0 && v >= -2.0 && v < 2.0 && dark ? inside : -INFINITY;
    }
}

static double
checkerboard_entropy(const void *self)
{
    const double scale = ((const Checkerboard *)self)->scale;

    return log(8.0 * scale * scale);
}

static const FmBoxes *
checkerboard_boxes(const void *self)
{
    return &((const Checkerboard *)self)->boxes;
}

static const FmDatasetOps checkerboard_ops = {.open = checkerboard_open,
                                              .draw = checkerboard_draw,
                                              .log_density = checkerboard_log_density,
                                              .entropy = checkerboard_entropy,
                                              .boxes = checkerboard_boxes};

static const FmFact checkerboard_facts[] = {
    {"entropy", "log(8 scale^2) = log 32 = 3.4657 nats at the default scale"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, checkerboard, "checkerboard", checkerboard_ops, .self_size = sizeof(Checkerboard),
                  .options = checkerboard_options, .facts = checkerboard_facts,
                  .summary = "uniform on the dark squares of a board",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
