/* plot.c: opens the drawing module on demand. */
#include "io/plot.h"

#include "plugin/instance.h"

#include <dlfcn.h>

static const FmPlotModule *
plot_module(GError **error)
{
    static gsize once;
    static const FmPlotModule *module;

    if (g_once_init_enter(&once)) {
        g_autofree char *file = fm__own_file("core/io/.libs/fmplot.so", "fmplot.so");
        void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);

        module = handle ? dlsym(handle, "fmplot_module") : NULL;
        g_once_init_leave(&once, 1);
    }
    if (!module)
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "no picture was drawn: the module fmplot.so (Cairo) cannot be loaded");
    return module;
}

/* A picture that is being drawn: it replaces `file` when all went well. */
typedef struct Picture {
    const FmPlotModule *module;
    FmAtomic *atomic;
    FmPlotTarget to;
} Picture;

static gboolean
picture_begin(Picture *p, const char *file, GError **error)
{
    p->module = plot_module(error);
    p->atomic = p->module ? fm__atomic_new(file, error) : NULL;
    p->to = (FmPlotTarget){.write = fm__atomic_write, .ctx = p->atomic, .svg = g_str_has_suffix(file, ".svg")};
    return p->atomic != NULL;
}

static gboolean
picture_end(Picture *p, const char *file, const char *why, GError **error)
{
    g_autoptr(GError) disk = NULL;

    if (fm__atomic_finish(p->atomic, why == NULL, &disk))
        return TRUE;
    if (disk)
        g_propagate_error(error, g_steal_pointer(&disk));
    else
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be drawn: %s", file, why);
    return FALSE;
}

gboolean
fm_plot_images(const char *file, const double *x, size_t n, size_t H, size_t W, size_t C, size_t columns,
               GError **error)
{
    Picture p;

    return picture_begin(&p, file, error) &&
           picture_end(&p, file, p.module->images(&p.to, x, n, H, W, C, columns), error);
}

gboolean
fm_plot_scatter2(const char *file, const double *data, size_t n, const double *samples, size_t m, const double *density,
                 size_t nx, size_t ny, const double *box, GError **error)
{
    Picture p;

    return picture_begin(&p, file, error) &&
           picture_end(&p, file, p.module->scatter2(&p.to, data, n, samples, m, density, nx, ny, box), error);
}

gboolean
fm_plot_curves(const char *file, const char *title, const char *xlabel, const char *ylabel, const FmCurve *series,
               size_t n_series, int flags, GError **error)
{
    Picture p;

    return picture_begin(&p, file, error) &&
           picture_end(&p, file, p.module->curves(&p.to, title, xlabel, ylabel, series, n_series, flags), error);
}

gboolean
fm_plot_panels(const char *file, const char *xlabel, const FmPanel *panels, size_t n, GError **error)
{
    Picture p;

    return picture_begin(&p, file, error) && picture_end(&p, file, p.module->panels(&p.to, xlabel, panels, n), error);
}
