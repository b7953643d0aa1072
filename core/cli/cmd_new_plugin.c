/* cmd_new_plugin.c: a folder with a plugin that builds against the installed headers and works. */
#include "cli/cli.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

/* The slots of a minimal working plugin of each kind; NAME_ is replaced by the identifier. */
static const char *const bodies[FM_N_KINDS] = {
    [FM_KIND_DATASET] =
        "typedef struct NAME_State {\n    double sd; /* option */\n} NAME_State;\n\n"
        "static const FmOption NAME__options[] = {\n"
        "    FM_OPT_POSITIVE(NAME_State, sd, 1.0, 1e6, \"standard deviation\"),\n    FM_OPT_END,\n};\n\n"
        "static gboolean\nNAME__open(void *self, FmDataInfo *info, GError **error)\n{\n"
        "    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2};\n    return TRUE;\n}\n\n"
        "static void\nNAME__draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)\n{\n"
        "    const NAME_State *s = self;\n\n    for (size_t i = 0; i < n; i++) {\n"
        "        FmRng rng = fm_rng(key, row0 + i);\n\n"
        "        x[2 * i] = s->sd * fm_rng_normal(&rng);\n        x[2 * i + 1] = s->sd * fm_rng_normal(&rng);\n    "
        "}\n}\n\n"
        "static const FmDatasetOps NAME__ops = {.open = NAME__open, .draw = NAME__draw};\n",
    [FM_KIND_COUPLING] =
        "static gboolean\nNAME__pair(void *self, const FmPool *pool, FmPairs *pairs, GError **error)\n{\n"
        "    for (size_t b = 0; b < pairs->B; b++) {\n        pairs->i0[b] = b % pool->n0;\n"
        "        pairs->i1[b] = b % pool->n1;\n    }\n    return TRUE;\n}\n\n"
        "static const FmCouplingOps NAME__ops = {.pair = NAME__pair};\n",
    [FM_KIND_PATH] = "static void\nNAME__coefficients(const void *self, double t, FmAffine *c)\n{\n"
                     "    *c = (FmAffine){.alpha = t, .dalpha = 1.0, .sigma = 1.0 - t, .dsigma = -1.0};\n}\n\n"
                     "static const FmPathOps NAME__ops = {.coefficients = NAME__coefficients};\n",
    [FM_KIND_NET] =
        "static FmNode *\nNAME__velocity(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t,\n"
        "             FmNode *y)\n{\n    const FmShape *s = fm_node_shape(x);\n"
        "    FmNode *flat = fm_reshape(x, s->rows, 1, &info->data->D);\n"
        "    FmNode *time = fm_reshape(t, 1, 1, (const size_t[]){1});\n"
        "    FmNode *h = fm_silu(fm_linear(fm_concat((FmNode *[]){flat, time}, 2, 0), \"layers.0\", 32));\n\n"
        "    return fm_reshape(fm_linear(h, \"layers.1\", info->data->D), s->rows, s->ndim, s->dim);\n}\n\n"
        "static const FmNetOps NAME__ops = {.velocity = NAME__velocity};\n",
    [FM_KIND_OBJECTIVE] =
        "static FmNode *\nNAME__loss(void *self, FmLoss *loss)\n{\n"
        "    FmNode *v = fm_loss_velocity(loss, \"model\", NULL, FALSE, fm_loss_xt(loss), fm_loss_t(loss));\n"
        "    FmNode *gap = fm_sub(v, fm_loss_ut(loss));\n"
        "    const unsigned all = gap ? (1u << fm_node_shape(gap)->ndim) - 1 : 0;\n\n"
        "    return fm_mean(gap ? fm_square(gap) : NULL, all, FALSE);\n}\n\n"
        "static const FmObjectiveOps NAME__ops = {.loss = NAME__loss};\n",
    [FM_KIND_OPTIMIZER] =
        "static void\nNAME__update(const void *self, const FmUpdate *u)\n{\n"
        "    for (size_t i = 0; i < u->n; i++) {\n        if (u->dtype == FM_F64)\n"
        "            ((double *)u->param)[i] -= u->lr * u->grad_scale * ((const double *)u->grad)[i];\n"
        "        else\n            ((float *)u->param)[i] -=\n"
        "                (float)(u->lr * u->grad_scale * ((const float *)u->grad)[i]);\n    }\n}\n\n"
        "static const FmOptimizerOps NAME__ops = {.update = NAME__update, .default_lr = 1e-2};\n",
    [FM_KIND_SOLVER] = "/* Ralston's second-order method, doi:10.1090/S0025-5718-1962-0150954-0. */\n"
                       "static const double NAME__c[] = {0.0, 2.0 / 3.0};\n"
                       "static const double NAME__a[] = {0.0, 0.0, 2.0 / 3.0, 0.0};\n"
                       "static const double NAME__b[] = {1.0 / 4.0, 3.0 / 4.0};\n"
                       "static const FmTableau NAME__tableau = {\n"
                       "    .stages = 2, .order = 2, .c = NAME__c, .a = NAME__a, .b = NAME__b};\n"
                       "static const FmOption NAME__options[] = {FM_FIXED_OPTIONS(0.05)};\n"
                       "typedef FmFixedOptions NAME_State;\n\n"
                       "static const FmSolverOps NAME__ops = {.tableau = &NAME__tableau};\n",
    [FM_KIND_DIVERGENCE] =
        "/* Squared distance of the means. */\n"
        "static gboolean\nNAME__estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int "
        "threads,\n"
        "             FmEstimate *out, GError **error)\n{\n    double sum = 0.0;\n\n"
        "    for (size_t d = 0; d < p->D; d++) {\n        double mp = 0.0, mq = 0.0;\n\n"
        "        for (size_t i = 0; i < p->n; i++)\n            mp += p->x[i * p->D + d];\n"
        "        for (size_t i = 0; i < q->n; i++)\n            mq += q->x[i * q->D + d];\n"
        "        mp = mp / (double)p->n - mq / (double)q->n;\n        sum += mp * mp;\n    }\n"
        "    *out = (FmEstimate){.value = sum, .se = NAN, .n = p->n + q->n, .unit = \"\"};\n    return TRUE;\n}\n\n"
        "static const FmDivergenceOps NAME__ops = {.estimate = NAME__estimate};\n",
    [FM_KIND_BACKEND] =
        "/* Hands every operation to the backend `reference`. */\n"
        "typedef struct NAME_State {\n    FmPlugin *base;\n} NAME_State;\n\n"
        "static gboolean\nNAME__prepare(void *self, GError **error)\n{\n"
        "    NAME_State *s = self;\n\n    s->base = fm_backend_new(\"reference\", error);\n"
        "    return s->base != NULL;\n}\n\n"
        "static void\nNAME__clear(void *self)\n{\n    fm_plugin_free(((NAME_State *)self)->base);\n}\n\n"
        "static const FmKernel *\nNAME__lookup(const void *self, const char *op, FmDtype dtype)\n{\n"
        "    return fm_backend_kernel(((const NAME_State *)self)->base, op, dtype);\n}\n\n"
        "static const FmBackendOps NAME__ops = {\n"
        "    .lookup = NAME__lookup, .prepare = NAME__prepare, .clear = NAME__clear};\n",
};

static const char makefile[] =
    "# Builds %NAME%.so against the installed fmcore; 'make check' tries it, 'make install' puts it beside\n"
    "# fmcore's own. Without installing: --plugin-path $PWD/plugins, or FMCORE_PLUGIN_PATH.\n"
    "FMCORE ?= fmcore\n"
    "CFLAGS ?= -O2 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers\n\n"
    "plugins/%KIND%/%NAME%.so: %NAME%.c\n"
    "\tmkdir -p plugins/%KIND%\n"
    "\t$(CC) -std=gnu11 -fPIC -shared $(CFLAGS) $$(pkg-config --cflags fmcore) -o $@ $< \\\n"
    "\t\t$$(pkg-config --libs fmcore) -lm\n\n"
    "check: plugins/%KIND%/%NAME%.so\n"
    "\tsh ./test.sh\n\n"
    "install: plugins/%KIND%/%NAME%.so\n"
    "\tinstall -D -m 755 $< $(DESTDIR)$$(pkg-config --variable=plugindir fmcore)/%KIND%/%NAME%.so\n\n"
    "clean:\n\trm -rf plugins\n\n"
    ".PHONY: check install clean\n";

static const char test_script[] = "#!/bin/sh\n"
                                  "# The plugin loads, declares itself and, for kinds that a run is made of, runs.\n"
                                  "set -eu\n"
                                  "fmcore=${FMCORE:-fmcore}\n"
                                  "$fmcore inspect %KIND%/%NAME% --plugin-path \"$PWD/plugins\" | grep -q '%NAME%'\n"
                                  "%TRY%\n"
                                  "echo 'ok: %KIND% %NAME%'\n";

/* `text` with every %NAME%, %KIND%, NAME__ and NAME_ replaced. */
static char *
fill(const char *text, const char *kind, const char *name, const char *ident)
{
    GString *s = g_string_new(text);
    g_autofree char *prefix = g_strconcat(ident, "_", NULL);

    g_string_replace(s, "NAME_State", "State", 0);
    g_string_replace(s, "NAME__", prefix, 0);
    g_string_replace(s, "%NAME%", name, 0);
    g_string_replace(s, "%KIND%", kind, 0);
    return g_string_free(s, FALSE);
}

static char *
plugin_source(FmKind kind, const char *name, const char *ident)
{
    const char *body = bodies[kind];
    const gboolean state = strstr(body, "NAME_State") != NULL;
    const gboolean options = strstr(body, "NAME__options") != NULL;
    g_autofree char *upper = g_ascii_strup(fm_kind_name(kind), -1);
    g_autofree char *code = fill(body, fm_kind_name(kind), name, ident);

    return g_strdup_printf("/* %s: what it computes, on which shapes, and where the mathematics comes from. */\n"
                           "#include <fmcore/fmcore.h>\n\n%s\n"
                           "FM_PLUGIN_DECLARE(%s, %s, \"%s\", %s_ops,%s%s%s%s\n"
                           "                  .summary = \"one line about %s\", .source = \"paper, equation\");\n",
                           name, code, upper, ident, name, ident, state ? " .self_size = sizeof(State)," : "",
                           options ? " .options = " : "", options ? ident : "", options ? "_options," : "", name);
}

static char *
test_command(FmKind kind, const char *name)
{
    const char *const with = kind == FM_KIND_DIVERGENCE ? "--divergence" : NULL;
    g_autofree char *option = with ? g_strdup(with) : g_strdup_printf("--%s", fm_kind_name(kind));
    const gboolean is_kernel = kind == FM_KIND_BACKEND;

    return g_strdup_printf("run=$(mktemp -d)\n"
                           "$fmcore run --plugin-path \"$PWD/plugins\" %s%s %s%s --steps 20 --samples 64 \\\n"
                           "    --eval-samples 64 --quiet --force --out \"$run\" >/dev/null\n"
                           "rm -rf \"$run\"",
                           kind == FM_KIND_DATASET ? "" : "--dataset moons ", option, name,
                           is_kernel ? " --batch-size 32" : "");
}

static gboolean
write_file(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *file = g_build_filename(dir, name, NULL);
    g_autoptr(GError) why = NULL;

    if (g_file_set_contents(file, text, -1, &why))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot write '%s': %s", file, fm_error_reason(why));
    return FALSE;
}

static gboolean
name_is_valid(const char *name)
{
    if (!g_ascii_islower(name[0]) && !g_ascii_isdigit(name[0]))
        return FALSE;
    for (const char *c = name; *c; c++)
        if (!g_ascii_islower(*c) && !g_ascii_isdigit(*c) && *c != '-')
            return FALSE;
    return strlen(name) < 64;
}

/* A new or an empty folder, or any with `force`. */
static gboolean
make_folder(const char *dir, gboolean force, GError **error)
{
    g_autoptr(GDir) d = NULL;

    if (g_mkdir_with_parents(dir, 0755) != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create folder '%s': %s", dir, g_strerror(errno));
        return FALSE;
    }
    d = g_dir_open(dir, 0, NULL);
    if (force || (d && !g_dir_read_name(d)))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "folder '%s' is not empty, expected a new one; --force writes into it",
                dir);
    return FALSE;
}

static void
report_folder(const Cli *cli, const char *dir, const char *source)
{
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "folder", dir);
        out_texts(b, "files", 3, (const char *const[]){source, "Makefile", "test.sh"});
        text = out_finish(b);
        puts(text);
    } else {
        printf("%s/: %s, Makefile, test.sh; 'make check' builds it and tries it\n", dir, source);
    }
}

int
cmd_new_plugin(Cli *cli, GError **error)
{
    const int kind = fm_kind_from_name(cli->args->pdata[0]);
    const char *name = cli->args->pdata[1];
    const char *dir = cli->out ? cli->out : name;
    g_autofree char *ident = g_strdelimit(g_strdup(name), "-", '_');
    g_autofree char *source_name = g_strconcat(name, ".c", NULL);
    g_autofree char *source = NULL, *make = NULL, *try = NULL, *test = NULL;
    GString *script;

    if (kind < 0 || !name_is_valid(name)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    kind < 0 ? "unknown kind '%s' of plugin '%s', expected dataset, coupling, path, net, objective, "
                               "optimizer, solver, divergence or backend"
                             : "%s name '%s' is not allowed, expected lower-case letters, digits and '-'",
                    (char *)cli->args->pdata[0], name);
        return -1;
    }
    if (!make_folder(dir, cli->force, error))
        return -1;
    source = plugin_source((FmKind)kind, name, ident);
    make = fill(makefile, fm_kind_name((FmKind)kind), name, ident);
    try = test_command((FmKind)kind, name);
    script = g_string_new(test_script);
    g_string_replace(script, "%TRY%", try, 0);
    test = fill(script->str, fm_kind_name((FmKind)kind), name, ident);
    g_string_free(script, TRUE);
    if (!write_file(dir, source_name, source, error) || !write_file(dir, "Makefile", make, error) ||
        !write_file(dir, "test.sh", test, error))
        return -1;
    report_folder(cli, dir, source_name);
    return 0;
}
