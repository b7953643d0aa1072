/* plot.c: opens the drawing module on demand. */
#include "io/plot.h"

#include <dlfcn.h>

static const FmPlotModule *
plot_module(GError **error)
{
    static gsize once;
    static const FmPlotModule *module;

    if (g_once_init_enter(&once)) {
        const char *plugins = g_getenv("FMCORE_PLUGIN_PATH");
        g_autofree char *built = g_strconcat(plugins ? plugins : "", "/../core/io/.libs/fmplot.so", NULL);
        void *handle = plugins && *plugins ? dlopen(built, RTLD_NOW | RTLD_LOCAL) : NULL;

        if (!handle)
            handle = dlopen(FM_PLUGIN_DIR "/../fmplot.so", RTLD_NOW | RTLD_LOCAL);
        module = handle ? dlsym(handle, "fmplot_module") : NULL;
        g_once_init_leave(&once, 1);
    }
    if (!module)
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "no picture was drawn: the module fmplot.so (Cairo) cannot be loaded");
    return module;
}

static gboolean
plot_done(const char *file, const char *why, GError **error)
{
    if (why)
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be drawn: %s", file, why);
    return why == NULL;
}

gboolean
fm_plot_images(const char *file, const double *x, size_t n, size_t H, size_t W, size_t C,
               size_t columns, GError **error)
{
    const FmPlotModule *m = plot_module(error);

    return m && plot_done(file, m->images(file, x, n, H, W, C, columns), error);
}

gboolean
fm_plot_scatter2(const char *file, const double *data, size_t n, const double *samples, size_t m,
                 const double *density, size_t nx, size_t ny, const double *box, GError **error)
{
    const FmPlotModule *p = plot_module(error);

    return p && plot_done(file, p->scatter2(file, data, n, samples, m, density, nx, ny, box), error);
}

gboolean
fm_plot_curves(const char *file, const char *title, const char *xlabel, const char *ylabel,
               const FmCurve *series, size_t n_series, int flags, GError **error)
{
    const FmPlotModule *m = plot_module(error);

    return m &&
           plot_done(file, m->curves(file, title, xlabel, ylabel, series, n_series, flags), error);
}
