/* update.c: clipping's norm, optimizer and moving average over blocks of the weights.
 *
 * A block stays in the first-level cache for all of them; blocks and their sums are the same for
 * any number of threads. */
#include "flow/update.h"

#include <fmcore/cpu.h>
#include <math.h>

FM_FAST_FILE

/* Weights of a block, and from how many on threads pay: a call of fm_parallel() costs 1 to 2 us. */
enum { UPDATE_BLOCK = 2048, UPDATE_PARALLEL = 1 << 15 };

typedef struct Block {
    const char *grad;
    size_t first, n; /* weights */
    double squares;
} Block;

struct FmUpdater {
    FmRun *run;
    FmTrainState *state;
    FmDtype dtype;
    size_t size;    /* bytes of a number */
    GArray *blocks; /* Block */
    size_t n;
    void *zero;   /* a gradient for weights that have none */
    FmUpdate how; /* of the step under way */
    double decay;
};

FmUpdater *
fm__updater_new(FmRun *run, FmTrainState *state)
{
    FmUpdater *u = g_new0(FmUpdater, 1);

    u->run = run;
    u->state = state;
    u->dtype = run->config->dtype;
    u->size = fm_dtype_size(u->dtype);
    u->blocks = g_array_new(FALSE, FALSE, sizeof(Block));
    u->zero = g_malloc0(UPDATE_BLOCK * u->size);
    return u;
}

void
fm__updater_free(FmUpdater *u)
{
    if (u == NULL)
        return;
    g_array_unref(u->blocks);
    g_free(u->zero);
    g_free(u);
}

void
fm__updater_add(FmUpdater *u, const FmParam *param, const void *grad)
{
    for (size_t at = 0; at < param->size; at += UPDATE_BLOCK) {
        const Block b = {.grad = grad != NULL ? (const char *)grad + at * u->size : u->zero,
                         .first = param->offset + at,
                         .n = MIN((size_t)UPDATE_BLOCK, param->size - at)};
        g_array_append_val(u->blocks, b);
    }
    u->n += param->size;
}

/* ---- loops, the same order of sums at every level ---- */

#define SQUARES(NAME, T) \
    FM_INLINE void NAME##_any(const T *g, size_t n, double *result) \
    { \
        double sum[16] = {0}; \
        size_t i = 0; \
        for (; i + 16 <= n; i += 16) \
            for (int k = 0; k < 16; k++) \
                sum[k] += (double)g[i + k] * (double)g[i + k]; \
        for (; i < n; i++) \
            sum[i & 15] += (double)g[i] * (double)g[i]; \
        for (int half = 8; half > 0; half /= 2) \
            for (int k = 0; k < half; k++) \
                sum[k] += sum[k + half]; \
        *result = sum[0]; \
    } \
    FM_CPU_VARIANTS(NAME, (const T *g, size_t n, double *result), (g, n, result))
SQUARES(squares_f32, float)
SQUARES(squares_f64, double)

#define AVERAGE(NAME, T) \
    FM_INLINE void NAME##_any(T *restrict a, const T *restrict w, size_t n, double keep) \
    { \
        const T rate = (T)(1.0 - keep); \
        for (size_t i = 0; i < n; i++) \
            a[i] += rate * (w[i] - a[i]); \
    } \
    FM_CPU_VARIANTS(NAME, (T *restrict a, const T *restrict w, size_t n, double keep), (a, w, n, keep))
AVERAGE(average_f32, float)
AVERAGE(average_f64, double)

/* ---- blocks ---- */

static void
square_block(void *ctx, int worker, size_t i)
{
    Block *b = &g_array_index(((FmUpdater *)ctx)->blocks, Block, i);

    if (((FmUpdater *)ctx)->dtype == FM_F32)
        squares_f32((const void *)b->grad, b->n, &b->squares);
    else
        squares_f64((const void *)b->grad, b->n, &b->squares);
}

static void
update_block(void *ctx, int worker, size_t i)
{
    FmUpdater *u = ctx;
    const Block *b = &g_array_index(u->blocks, Block, i);
    const size_t at = b->first * u->size;
    FmUpdate how = u->how;
    void *raw = (char *)fm_params_block(u->state->raw) + at;
    void *average = (char *)fm_params_block(u->run->params) + at;

    how.n = b->n;
    how.param = raw;
    how.grad = b->grad;
    for (int k = 0; k < u->state->n_moments; k++)
        how.moment[k] = (char *)u->state->moment[k] + at;
    fm_optimizer_update(u->run->plugin[FM_KIND_OPTIMIZER], &how);
    if (u->run->config->ema_decay <= 0)
        return;
    if (u->dtype == FM_F32)
        average_f32(average, raw, b->n, u->decay);
    else
        average_f64(average, raw, b->n, u->decay);
}

static void
over_blocks(FmUpdater *u, void (*work)(void *, int, size_t))
{
    fm_parallel(u->n >= UPDATE_PARALLEL ? u->run->config->threads : 1, u->blocks->len, work, u);
}

double
fm__updater_norm(FmUpdater *u)
{
    double sum = 0;

    over_blocks(u, square_block);
    for (guint i = 0; i < u->blocks->len; i++)
        sum += g_array_index(u->blocks, Block, i).squares;
    return sqrt(sum);
}

void
fm__updater_apply(FmUpdater *u, const FmUpdate *how, double decay)
{
    u->how = *how;
    u->decay = decay;
    over_blocks(u, update_block);
}
