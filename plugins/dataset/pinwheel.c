/* pinwheel: arms of normal points, turned the more the further out they lie.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Pinwheel {
    int arms; /* options */
    double radial, tangential, rate;
} Pinwheel;

static const FmOption pinwheel_options[] = {
    FM_OPT_INT(Pinwheel, arms, 5, 1, 1000, "arms"),
    FM_OPT_POSITIVE(Pinwheel, radial, 0.3, 100.0, "standard deviation along an arm"),
    FM_OPT_POSITIVE(Pinwheel, tangential, 0.1, 100.0, "standard deviation across an arm"),
    FM_OPT_REAL(Pinwheel, rate, 0.25, -10.0, 10.0, "turning per e-folding of the radius"),
    FM_OPT_END,
};

static gboolean
pinwheel_open(void *self, FmDataInfo *info, GError **error)
{
    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = (size_t)((const Pinwheel *)self)->arms};
    return TRUE;
}

/* One point; its class. */
static int
pinwheel_point(const Pinwheel *s, FmRng *rng, double *x)
{
    const int arm = (int)fm_rng_below(rng, (guint32)s->arms);
    const double r = 1.0 + s->radial * fm_rng_normal(rng), u = s->tangential * fm_rng_normal(rng);
    const double a = 2.0 * G_PI * arm / s->arms + s->rate * exp(r);

    /* Row vector times rotation, as there. */
    x[0] = 2.0 * (r * cos(a) + u * sin(a));
    x[1] = 2.0 * (-r * sin(a) + u * cos(a));
    return arm;
}

static void
pinwheel_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = pinwheel_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps pinwheel_ops = {.open = pinwheel_open, .draw = pinwheel_draw};

static const FmFact pinwheel_facts[] = {
    {"ffjord", "radial sd 0.3, tangential sd 0.1, 5 arms, rate 0.25, times 2"},
    {"density", "none in closed form, nor an oracle: a warped normal is no mixture of fixed width"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, pinwheel, "pinwheel", pinwheel_ops, .self_size = sizeof(Pinwheel),
                  .options = pinwheel_options, .facts = pinwheel_facts, .summary = "arms turned by their radius",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
