/* parallel.c: fm_parallel(): a loop over items on threads that are kept between calls, and spare work for those
 * that wait.
 *
 * Threads are started on first use, once per process, and sleep when there is nothing to do. A
 * call does not wait for a helper that has not begun: the caller itself takes items from the
 * counter, and closes the gate when none are left. With OpenMP's regions, which wait for the whole
 * team, a step of 0.16 ms took 3 to 5 ms in the median as soon as another program was on one of
 * two cores. */
#include "graph/spare.h"

#include <fmcore/plan.h>

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

#define MAX_HELPERS 255
#define SPIN_NS 300000 /* a helper looks for the next call so long before it sleeps; waking takes 50 us */

/* The gate of the call under way: number of the call << 16 | helpers inside << 8 | places left. */
#define GATE_INSIDE(gate) ((gate) >> 8 & 0xff)
#define GATE_PLACES(gate) ((gate)&0xff)

static struct {
    pthread_mutex_t call; /* held by the caller from start to end; others do their work alone */
    _Atomic guint64 gate;
    int helpers; /* threads that exist; under `call` */
    pthread_t thread[MAX_HELPERS];
    atomic_bool ending; /* the process exits: helpers return */
    /* the call under way; written before the gate opens */
    int places;
    size_t n;
    void (*work)(void *ctx, int worker, size_t i);
    void *ctx;
    atomic_size_t next;
    /* sleep */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_int sleepers;
} pool = {.call = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* Items on offer. A thread that looks for one is inside, so that the owner can wait for it. */
static struct {
    void *_Atomic owner;
    _Atomic(size_t) next, n; /* n is 0 while nothing is on offer */
    atomic_int inside;
    int threads;
    FmSpareWork work;
} spare;

static gint64
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- spare work ---- */

/* FALSE: there was nothing to do. */
static gboolean
spare_take(int thread)
{
    gboolean took = FALSE;

    if (atomic_load(&spare.next) >= atomic_load(&spare.n))
        return FALSE;
    atomic_fetch_add(&spare.inside, 1);
    if (atomic_load(&spare.n) > 0 && thread < spare.threads) {
        const size_t i = atomic_fetch_add(&spare.next, 1);

        took = i < atomic_load(&spare.n);
        if (took)
            spare.work(atomic_load(&spare.owner), thread, i);
    }
    atomic_fetch_sub(&spare.inside, 1);
    return took;
}

gboolean
fm__spare_begin(int threads, size_t n, FmSpareWork work, void *ctx)
{
    void *nobody = NULL;

    if (!atomic_compare_exchange_strong(&spare.owner, &nobody, ctx))
        return FALSE;
    spare.threads = threads;
    spare.work = work;
    atomic_store(&spare.next, 0);
    atomic_store(&spare.n, n);
    return TRUE;
}

void
fm__spare_end(void *ctx)
{
    if (atomic_load(&spare.owner) != ctx)
        return;
    atomic_store(&spare.n, 0);
    for (int i = 1; atomic_load(&spare.inside) > 0; i++) {
        RELAX();
        if (i % 256 == 0) /* as in gate_close() */
            g_thread_yield();
    }
    atomic_store(&spare.owner, NULL);
}

/* ---- helpers ---- */

/* Until a call after `seen` has a place left, or the process ends; returns the gate. */
static guint64
helper_wait(int number, guint64 seen, gboolean spin)
{
    const gint64 until = spin ? now_ns() + SPIN_NS : 0;
    guint64 gate;

    for (int i = 1; spin; i++) {
        gate = atomic_load(&pool.gate);
        if ((gate >> 16 != seen && GATE_PLACES(gate) > 0) || atomic_load(&pool.ending))
            return gate;
        if (!spare_take(number))
            RELAX();
        if (i % 64 == 0 && now_ns() > until)
            break;
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    for (;;) {
        gate = atomic_load(&pool.gate);
        if ((gate >> 16 != seen && GATE_PLACES(gate) > 0) || atomic_load(&pool.ending))
            break;
        pthread_cond_wait(&pool.wake, &pool.lock);
    }
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
    return gate;
}

static void
take_items(int worker)
{
    for (size_t i; (i = atomic_fetch_add(&pool.next, 1)) < pool.n;)
        pool.work(pool.ctx, worker, i);
}

static void *
helper_main(void *ctx)
{
    const int number = GPOINTER_TO_INT(ctx);
    /* One that has no core to itself only takes time from the others while it looks. */
    const gboolean spin = (guint)number < g_get_num_processors();
    guint64 seen = 0;

    omp_set_num_threads(1); /* of this thread: libraries called here must not start teams */
    for (;;) {
        guint64 gate = helper_wait(number, seen, spin);

        if (atomic_load(&pool.ending))
            return NULL;
        if (!atomic_compare_exchange_strong(&pool.gate, &gate, gate + (1 << 8) - 1))
            continue;
        seen = gate >> 16;
        take_items(pool.places - (int)GATE_PLACES(gate) + 1);
        atomic_fetch_sub(&pool.gate, 1 << 8);
    }
}

/* At exit no thread of ours is left: leak checkers stumble over the local storage of sleeping ones. A
 * process that ends in the middle of a call leaves them alone. */
static void
helpers_stop(void)
{
    if (pool.helpers == 0 || pthread_mutex_trylock(&pool.call) != 0)
        return;
    atomic_store(&pool.ending, TRUE);
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (; pool.helpers > 0; pool.helpers--)
        pthread_join(pool.thread[pool.helpers - 1], NULL);
    atomic_store(&pool.ending, FALSE);
    pthread_mutex_unlock(&pool.call);
}

/* A child of fork() has no helpers, and its parent may have been in the middle of a call. */
static void
forget_helpers(void)
{
    pthread_mutex_init(&pool.call, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.sleepers, 0);
    pool.helpers = 0;
    atomic_store(&spare.n, 0);
    atomic_store(&spare.inside, 0);
    atomic_store(&spare.owner, NULL);
}

/* Up to `wanted` helpers; fewer when the system gives no more threads. */
static int
helpers_get(int wanted)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        pthread_atfork(NULL, NULL, forget_helpers);
        atexit(helpers_stop);
        g_once_init_leave(&once, 1);
    }
    while (pool.helpers < wanted &&
           pthread_create(&pool.thread[pool.helpers], NULL, helper_main, GINT_TO_POINTER(pool.helpers + 1)) == 0)
        pool.helpers++;
    return MIN(pool.helpers, wanted);
}

/* ---- the caller ---- */

static void
gate_open(int places)
{
    const guint64 number = (atomic_load(&pool.gate) >> 16) + 1;

    atomic_store(&pool.next, 0);
    pool.places = places;
    atomic_store(&pool.gate, number << 16 | (guint64)places);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
}

/* No helper may enter any more; wait for those inside. */
static void
gate_close(void)
{
    guint64 gate = atomic_load(&pool.gate);

    while (!atomic_compare_exchange_weak(&pool.gate, &gate, gate & ~(guint64)0xff))
        ;
    for (int i = 1; GATE_INSIDE(atomic_load(&pool.gate)) > 0; i++) {
        if (!spare_take(0)) /* pool.call is held: there is one such thread */
            RELAX();
        if (i % 256 == 0) /* a helper may have lost its core to another program */
            g_thread_yield();
    }
}

void
fm_parallel(int threads, size_t n, void (*work)(void *ctx, int worker, size_t i), void *ctx)
{
    const int before = omp_get_max_threads();
    const size_t wanted = MIN(MIN((size_t)MAX(threads, 1), n), MAX_HELPERS + 1);

    if (before != 1)
        omp_set_num_threads(1);
    /* Called from inside an item, or by a second thread at once: alone. */
    if (wanted > 1 && pthread_mutex_trylock(&pool.call) == 0) {
        const int places = helpers_get((int)wanted - 1);

        pool.n = n;
        pool.work = work;
        pool.ctx = ctx;
        gate_open(places);
        take_items(0);
        gate_close();
        pthread_mutex_unlock(&pool.call);
    } else {
        for (size_t i = 0; i < n; i++)
            work(ctx, 0, i);
    }
    if (before != 1)
        omp_set_num_threads(before);
}
