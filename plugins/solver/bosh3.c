/* bosh3: Bogacki-Shampine 3(2), adaptive.
 * Dense output: cubic Hermite, order 3.
 * Source: Bogacki & Shampine 1989, doi:10.1016/0893-9659(89)90079-7. */
#include <fmcore/solver.h>

static const double bosh3_c[4] = {0.0, 1.0 / 2, 3.0 / 4, 1.0};
static const double bosh3_a[4 * 4] = {
    0.0, 0.0, 0.0, 0.0, 1.0 / 2, 0.0, 0.0, 0.0, 0.0, 3.0 / 4, 0.0, 0.0, 2.0 / 9, 1.0 / 3, 4.0 / 9, 0.0,
};
static const double bosh3_b[4] = {
    2.0 / 9,
    1.0 / 3,
    4.0 / 9,
    0.0,
};
static const double bosh3_e[4] = {
    2.0 / 9 - 7.0 / 24,
    1.0 / 3 - 1.0 / 4,
    4.0 / 9 - 1.0 / 3,
    -1.0 / 8,
};

static const FmTableau bosh3_tableau = {
    .stages = 4,
    .order = 3,
    .order_embedded = 2,
    .fsal = TRUE,
    .c = bosh3_c,
    .a = bosh3_a,
    .b = bosh3_b,
    .e = bosh3_e,
};

static const FmOption bosh3_options[] = {FM_ADAPTIVE_OPTIONS};

static const FmFact bosh3_facts[] = {
    {"evaluations", "3 per step (first same as last)"},
    {"dense output", "cubic Hermite, order 3"},
    {NULL, NULL},
};

static const FmSolverOps bosh3_ops = {.tableau = &bosh3_tableau, .adaptive = TRUE};

FM_PLUGIN_DECLARE(SOLVER, bosh3, "bosh3", bosh3_ops, .self_size = sizeof(FmAdaptiveOptions), .options = bosh3_options,
                  .summary = "Bogacki-Shampine 3(2), adaptive",
                  .source = "Bogacki & Shampine 1989, doi:10.1016/0893-9659(89)90079-7", .facts = bosh3_facts);
