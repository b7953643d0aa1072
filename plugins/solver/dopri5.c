/* dopri5: Dormand-Prince 5(4), adaptive.
 * Dense output: the quartic of Shampine 1986, doi:10.1090/S0025-5718-1986-0815836-3.
 * Source: Dormand & Prince 1980, doi:10.1016/0771-050X(80)90013-3. */
#include <fmcore/solver.h>

/* clang-format off */
static const double dopri5_c[7] = {0.0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1.0, 1.0};
static const double dopri5_a[7 * 7] = {
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    1.0 / 5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    3.0 / 40, 9.0 / 40, 0.0, 0.0, 0.0, 0.0, 0.0,
    44.0 / 45, -56.0 / 15, 32.0 / 9, 0.0, 0.0, 0.0, 0.0,
    19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729, 0.0, 0.0, 0.0,
    9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656, 0.0, 0.0,
    35.0 / 384, 0.0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84, 0.0,
};
static const double dopri5_b[7] = {
    35.0 / 384, 0.0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84, 0.0,
};
static const double dopri5_e[7] = {
    35.0 / 384 - 1951.0 / 21600,
    0.0,
    500.0 / 1113 - 22642.0 / 50085,
    125.0 / 192 - 451.0 / 720,
    -2187.0 / 6784 + 12231.0 / 42400,
    11.0 / 84 - 649.0 / 6300,
    -1.0 / 60,
};

static const double dopri5_dense[7 * 4] = {
    1.0, -8048581381.0 / 2820520608, 8663915743.0 / 2820520608, -12715105075.0 / 11282082432,
    0.0, 0.0, 0.0, 0.0,
    0.0, 131558114200.0 / 32700410799, -68118460800.0 / 10900136933, 87487479700.0 / 32700410799,
    0.0, -1754552775.0 / 470086768, 14199869525.0 / 1410260304, -10690763975.0 / 1880347072,
    0.0, 127303824393.0 / 49829197408, -318862633887.0 / 49829197408, 701980252875.0 / 199316789632,
    0.0, -282668133.0 / 205662961, 2019193451.0 / 616988883, -1453857185.0 / 822651844,
    0.0, 40617522.0 / 29380423, -110615467.0 / 29380423, 69997945.0 / 29380423,
};
/* clang-format on */

static const FmTableau dopri5_tableau = {
    .stages = 7,
    .order = 5,
    .order_embedded = 4,
    .fsal = TRUE,
    .c = dopri5_c,
    .a = dopri5_a,
    .b = dopri5_b,
    .e = dopri5_e,
    .dense_degree = 4,
    .dense = dopri5_dense,
};

static const FmOption dopri5_options[] = {FM_ADAPTIVE_OPTIONS};

static const FmFact dopri5_facts[] = {
    {"evaluations", "6 per step (first same as last)"},
    {"dense output", "quartic, order 4 (Shampine 1986)"},
    {"error estimate", "Shampine's variant, as torchdiffeq"},
    {NULL, NULL},
};

static const FmSolverOps dopri5_ops = {.tableau = &dopri5_tableau, .adaptive = TRUE};

FM_PLUGIN_DECLARE(SOLVER, dopri5, "dopri5", dopri5_ops, .self_size = sizeof(FmAdaptiveOptions),
                  .options = dopri5_options, .summary = "Dormand-Prince 5(4), adaptive",
                  .source = "Dormand & Prince 1980, doi:10.1016/0771-050X(80)90013-3", .facts = dopri5_facts);
