/* assignment.c: the assignment problem by shortest augmenting paths with potentials.
 * Jonker & Volgenant 1987, doi:10.1007/BF02278710; Crouse 2016, doi:10.1109/TAES.2016.140952. */
#include <fmcore/coupling.h>

#include <math.h>
#include <string.h>

/* Work space: potentials, distances, predecessor, matching of columns, columns still open. */
typedef struct Work {
    double *u, *v, *distance;
    size_t *from, *row_of, *open;
} Work;

size_t
fm_assignment_work(size_t n)
{
    return n * (3 * sizeof(double) + 3 * sizeof(size_t));
}

static Work
work_at(void *memory, size_t n)
{
    double *d = memory;
    size_t *s = (size_t *)(void *)(d + 3 * n);

    return (Work){.u = d, .v = d + n, .distance = d + 2 * n, .from = s, .row_of = s + n, .open = s + 2 * n};
}

/* Column reduction: v[j] = min of column j, and the rows that are free to take their minimum do. */
static void
start_duals(size_t n, const double *cost, Work *w, size_t *to)
{
    for (size_t j = 0; j < n; j++) {
        w->v[j] = cost[j];
        w->from[j] = 0;
        w->row_of[j] = n;
        to[j] = n;
    }
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (cost[i * n + j] < w->v[j]) {
                w->v[j] = cost[i * n + j];
                w->from[j] = i;
            }
    for (size_t j = n; j-- > 0;)
        if (to[w->from[j]] == n) {
            to[w->from[j]] = j;
            w->row_of[j] = w->from[j];
        }
    for (size_t i = 0; i < n; i++) {
        w->u[i] = INFINITY;
        for (size_t j = 0; j < n; j++)
            w->u[i] = MIN(w->u[i], cost[i * n + j] - w->v[j]);
        /* A matched edge must be tight. */
        if (to[i] < n && cost[i * n + to[i]] - w->v[to[i]] > w->u[i]) {
            w->row_of[to[i]] = n;
            to[i] = n;
        }
    }
}

/* Dijkstra from a free row over reduced costs to the nearest free column. `scanned` columns end up at
 * the end of open[]; returns that column and the length of the path. */
static size_t
shortest_path(size_t n, const double *cost, Work *w, size_t row, size_t *n_open, double *length)
{
    size_t left = n, sink = n;
    double shortest = 0.0;

    for (size_t j = 0; j < n; j++) {
        w->distance[j] = INFINITY;
        w->open[j] = j;
    }
    while (sink == n) {
        const double *c = cost + row * n;
        const double base = shortest - w->u[row];
        double least = INFINITY;
        size_t at = 0;

        for (size_t k = 0; k < left; k++) {
            const size_t j = w->open[k];
            const double d = base + c[j] - w->v[j];

            if (d < w->distance[j]) {
                w->distance[j] = d;
                w->from[j] = row;
            }
            if (w->distance[j] < least || (w->distance[j] == least && w->row_of[j] == n)) {
                least = w->distance[j];
                at = k;
            }
        }
        shortest = least;
        row = w->open[at];
        w->open[at] = w->open[--left];
        w->open[left] = row;
        if (w->row_of[row] == n)
            sink = row;
        else
            row = w->row_of[row];
    }
    *n_open = left;
    *length = shortest;
    return sink;
}

double
fm_assignment(size_t n, const double *cost, size_t *to, void *memory)
{
    Work w = work_at(memory, n);
    double total = 0.0;

    start_duals(n, cost, &w, to);
    for (size_t i = 0; i < n; i++) {
        size_t left, column;
        double length;

        if (to[i] < n)
            continue;
        column = shortest_path(n, cost, &w, i, &left, &length);
        w.u[i] += length;
        for (size_t k = left; k < n; k++) {
            const size_t j = w.open[k];

            if (w.row_of[j] < n)
                w.u[w.row_of[j]] += length - w.distance[j];
            w.v[j] -= length - w.distance[j];
        }
        for (size_t row = n; row != i;) {
            const size_t next = column;

            row = w.from[next];
            w.row_of[next] = row;
            column = to[row];
            to[row] = next;
        }
    }
    for (size_t i = 0; i < n; i++)
        total += cost[i * n + to[i]];
    return total;
}
