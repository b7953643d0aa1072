/* fuse.c: which element-wise nodes run as one pass. A node joins the groups of its inputs when they
 * have its shape and nobody outside reads their members before it: then the whole group can run at
 * the place of its last member. */
#include "graph/plan_private.h"

#include <string.h>

typedef struct Fuse {
    FmGraph *graph;
    const gboolean *live, *is_output;
    FmNode *const *alias;
    guint *group;
    GArray **readers; /* per node: ids of live nodes that read it */
} Fuse;

GPtrArray *
fm__group_members(FmGraph *graph, const guint *group, guint last)
{
    GPtrArray *members = g_ptr_array_new();

    for (guint id = 0; id <= last; id++)
        if (group[id] == last)
            g_ptr_array_add(members, graph->nodes->pdata[id]);
    return members;
}

static gboolean
can_fuse(const Fuse *f, guint id, const FmPhase *phase)
{
    const FmNode *node = f->graph->nodes->pdata[id];

    return f->live[id] && fm__op_elt(node->op) >= 0 && phase[id] == FM_PHASE_TILE && node->shape.rows > 0;
}

/* Would `members` make a legal pass that runs at node `last`? */
static gboolean
group_fits(const Fuse *f, GPtrArray *members, guint last, const gboolean *inside)
{
    guint n_out = 0;
    g_autoptr(GPtrArray) inputs = g_ptr_array_new();

    if (members->len > FM_MAX_INSTRS)
        return FALSE;
    for (guint m = 0; m < members->len; m++) {
        FmNode *node = members->pdata[m];
        const GArray *readers = f->readers[node->id];
        gboolean leaves = f->is_output[node->id];

        for (guint r = 0; readers && r < readers->len; r++) {
            const guint reader = g_array_index(readers, guint, r);

            if (inside[reader])
                continue;
            if (reader < last)
                return FALSE;
            leaves = TRUE;
        }
        n_out += leaves;
        for (guint i = 0; i < node->n_in; i++) {
            FmNode *in = f->alias[node->in[i]->id];

            /* A member read under another shape would be read before it is written. */
            if (inside[in->id] && in != node->in[i])
                return FALSE;
            if (!inside[in->id] && !g_ptr_array_find(inputs, node->in[i], NULL))
                g_ptr_array_add(inputs, node->in[i]);
        }
    }
    return inputs->len <= FM_MAX_INPUTS && n_out <= FM_MAX_INPUTS;
}

/* Join node `id` with group `g` of one of its inputs when that is legal. */
static void
try_join(Fuse *f, guint id, guint g, gboolean *inside)
{
    g_autoptr(GPtrArray) members = g_ptr_array_new();
    gboolean fits;

    for (guint k = 0; k <= id; k++)
        if (f->group[k] == g || f->group[k] == id) {
            g_ptr_array_add(members, f->graph->nodes->pdata[k]);
            inside[k] = TRUE;
        }
    fits = group_fits(f, members, id, inside);
    for (guint m = 0; m < members->len; m++) {
        const guint k = ((FmNode *)members->pdata[m])->id;

        inside[k] = FALSE;
        if (fits)
            f->group[k] = id;
    }
}

static void
find_readers(Fuse *f)
{
    for (guint id = 0; id < f->graph->nodes->len; id++) {
        const FmNode *node = f->graph->nodes->pdata[id];

        for (guint i = 0; f->live[id] && i < node->n_in; i++) {
            const guint in = f->alias[node->in[i]->id]->id;

            if (!f->readers[in])
                f->readers[in] = g_array_new(FALSE, FALSE, sizeof(guint));
            g_array_append_val(f->readers[in], id);
        }
    }
}

void
fm__fuse(FmGraph *graph, const gboolean *live, FmNode *const *alias, const FmPhase *phase, const gboolean *is_output,
         guint *group)
{
    const guint n = graph->nodes->len;
    Fuse f = {.graph = graph, .live = live, .alias = alias, .is_output = is_output, .group = group};
    g_autofree gboolean *inside = g_new0(gboolean, n);

    f.readers = g_new0(GArray *, n);
    find_readers(&f);
    for (guint id = 0; id < n; id++) {
        const FmNode *node = graph->nodes->pdata[id];

        for (guint i = 0; can_fuse(&f, id, phase) && i < node->n_in; i++) {
            const FmNode *in = node->in[i];

            /* An operand behind a reshape stays an operand: its registers have another shape. */
            if (alias[in->id] == in && can_fuse(&f, in->id, phase) && group[in->id] != id &&
                fm_shape_equal(&in->shape, &node->shape))
                try_join(&f, id, group[in->id], inside);
        }
    }
    for (guint id = 0; id < n; id++)
        if (f.readers[id])
            g_array_unref(f.readers[id]);
    g_free(f.readers);
}
