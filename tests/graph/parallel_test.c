/* parallel_test.c: loops over items: every item once, workers apart, nested, from several threads,
 * after fork; spare items at most once, none after their end; profiles count what ran. */
#include "suite.h"

#include <fmcore/fmcore.h>

#include "graph/spare.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define ITEMS 1000

typedef struct Loop {
    atomic_int done[ITEMS];
    atomic_int busy[16]; /* items under way per worker: never two */
    atomic_int wrong;
    int threads;
    gboolean nested;
} Loop;

static void
inner_item(void *ctx, int worker, size_t i)
{
    Loop *l = ctx;

    if (worker != 0)
        atomic_fetch_add(&l->wrong, 1);
    atomic_fetch_add(&l->done[i], 1);
}

static void
item(void *ctx, int worker, size_t i)
{
    Loop *l = ctx;

    if (worker < 0 || worker >= l->threads || atomic_fetch_add(&l->busy[worker], 1) != 0)
        atomic_fetch_add(&l->wrong, 1);
    if (l->nested)
        fm_parallel(4, 2, inner_item, l);
    atomic_fetch_add(&l->done[i], 1);
    atomic_fetch_sub(&l->busy[worker], 1);
}

static gboolean
loop_is_right(int threads, size_t n, gboolean nested)
{
    g_autofree Loop *l = g_new0(Loop, 1);
    gboolean right;

    l->threads = threads;
    l->nested = nested;
    fm_parallel(threads, n, item, l);
    right = atomic_load(&l->wrong) == 0;
    for (size_t i = 0; i < ITEMS; i++)
        right = right && atomic_load(&l->done[i]) == (i < n) + (nested && i < 2 ? (int)n : 0);
    return right;
}

START_TEST(every_item_runs_once)
{
    for (int threads = 1; threads <= 8; threads++)
        for (size_t n = 0; n <= ITEMS; n = n * 3 + 1)
            ck_assert(loop_is_right(threads, n, FALSE));
    for (int i = 0; i < 2000; i++)
        ck_assert(loop_is_right(1 + i % 4, 3, FALSE));
}
END_TEST

START_TEST(loops_inside_items)
{
    ck_assert(loop_is_right(3, 40, TRUE));
}
END_TEST

static gpointer
caller(gpointer unused)
{
    for (int i = 0; i < 300; i++)
        if (!loop_is_right(1 + i % 3, 50, FALSE))
            return GINT_TO_POINTER(1);
    return NULL;
}

START_TEST(callers_in_several_threads)
{
    GThread *thread[3];

    for (int i = 0; i < 3; i++)
        thread[i] = g_thread_new("caller", caller, NULL);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_null(g_thread_join(thread[i]));
}
END_TEST

START_TEST(after_fork)
{
    int status = -1;
    pid_t child;

    ck_assert(loop_is_right(2, 100, FALSE));
    child = fork();
    if (child == 0)
        _exit(loop_is_right(2, 100, FALSE) ? 0 : 1);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(loop_is_right(2, 100, FALSE));
}
END_TEST

static void
slow_item(void *ctx, int worker, size_t i)
{
    g_usleep(i == 0 ? 2000 : 0);
}

/* Items that were done; none twice. */
static int
done_once(const Loop *l)
{
    int sum = 0;

    for (int i = 0; i < ITEMS; i++) {
        ck_assert_int_le(atomic_load(&l->done[i]), 1);
        sum += atomic_load(&l->done[i]);
    }
    return sum;
}

/* Offered while a loop has one slow item: who waits for it takes them. */
START_TEST(spare_items_while_others_wait)
{
    int other, taken = 0;

    for (int round = 0; round < 50 || (taken == 0 && round < 2000); round++) {
        g_autofree Loop *l = g_new0(Loop, 1);

        l->threads = 3;
        ck_assert(fm__spare_begin(3, ITEMS, item, l));
        ck_assert(!fm__spare_begin(3, ITEMS, item, &other));
        fm__spare_end(&other); /* has none */
        fm_parallel(2, 2, slow_item, NULL);
        fm__spare_end(l);

        const int done = done_once(l);

        fm_parallel(2, 2, slow_item, NULL);
        ck_assert_int_eq(done_once(l), done);
        ck_assert_int_eq(atomic_load(&l->wrong), 0);
        taken += done;
    }
    ck_assert_int_gt(taken, 0);
}
END_TEST

START_TEST(a_profile_counts_what_ran)
{
    const size_t dim[2] = {8, 8}, rows = 200;
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *x = fm_input(graph, "x", 1, 1, dim);
    FmNode *y = fm_tanh(fm_matmul(x, fm_param(graph, "w", 2, dim, (FmInit){FM_INIT_NORMAL, 1})));
    FmNode *out = fm_sum_batch(y);
    g_autoptr(FmPlan) plan = fm_plan_new(graph, &out, 1, &(FmPlanOptions){.dtype = FM_F64, .tile = 50}, NULL);
    g_autoptr(FmParams) params = fm_params_new(graph, FM_F64, 1, NULL);
    g_autoptr(FmExec) exec = fm_exec_new(plan, params, 2, NULL);
    g_autofree double *data = g_new0(double, rows * 8);
    double sum[8];
    FmProfile p;

    fm_exec_profile_read(exec, &p);
    ck_assert(p.wall == 0 && p.calls[FM_WORK_GEMM] == 0);
    for (int round = 0; round < 2; round++) { /* starting again forgets */
        fm_exec_profile_start(exec);
        ck_assert(fm_exec_run(exec, rows, (const void *[]){data}, NULL, NULL, (void *[]){sum},
                              (FmKey){.stream = FM_STREAM_USER}, NULL));
    }
    fm_exec_profile_read(exec, &p);
    ck_assert_uint_eq(p.calls[FM_WORK_GEMM], 4);
    ck_assert_double_eq_tol(p.flops[FM_WORK_GEMM], 2.0 * 8 * 8 * (double)rows, 1e-6);
    ck_assert_uint_eq(p.calls[FM_WORK_ELEMENTWISE], 4);
    ck_assert_uint_eq(p.calls[FM_WORK_CONV], 0);
    ck_assert(p.wall > 0 && p.seconds[FM_WORK_GEMM] > 0 && p.threads == 2);
    ck_assert_str_eq(fm_work_name(FM_WORK_GEMM), "gemm");
}
END_TEST

int
main(void)
{
    return run_tests("parallel", 120, {every_item_runs_once}, {loops_inside_items}, {callers_in_several_threads},
                     {after_fork}, {spare_items_while_others_wait}, {a_profile_counts_what_ran});
}
