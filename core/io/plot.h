/* plot.h: pictures. Cairo lives in a module that is opened when the first one is drawn; where it
 * is missing every function fails with FM_ERROR_UNSUPPORTED. */
#ifndef FMCORE_IO_PLOT_H
#define FMCORE_IO_PLOT_H

#include "io/atomic.h"

G_BEGIN_DECLS

typedef struct FmCurve {
    const char *name;
    const double *x, *y; /* (n) */
    const double *se;    /* (n), or NULL: no band */
    size_t n;
} FmCurve;

enum { FM_PLOT_LOG_X = 1, FM_PLOT_LOG_Y = 2 };

/* A grid of n images x (n, H, W, C) in [0, 1], C 1 or 3, to a .png. */
gboolean fm_plot_images(const char *file, const double *x, size_t n, size_t H, size_t W, size_t C, size_t columns,
                        GError **error);

/* data (n, 2) | samples (m, 2) | density (ny, nx; NULL: no such panel), all over the box {x0, y0, x1,
 * y1}; a title says how many points lie outside. */
gboolean fm_plot_scatter2(const char *file, const double *data, size_t n, const double *samples, size_t m,
                          const double *density, size_t nx, size_t ny, const double *box, GError **error);

/* Curves with error bands to a .png or .svg. Points a logarithmic axis cannot show are left out. */
gboolean fm_plot_curves(const char *file, const char *title, const char *xlabel, const char *ylabel,
                        const FmCurve *series, size_t n_series, int flags, GError **error);

/* One of several axes above each other with a common x axis; se is drawn as a band. */
typedef struct FmPanel {
    const char *title, *ylabel;
    const FmCurve *series;
    size_t n_series;
    int flags;
} FmPanel;

/* Panels from top to bottom to a .png or .svg. */
gboolean fm_plot_panels(const char *file, const char *xlabel, const FmPanel *panels, size_t n, GError **error);

/* Where the module draws to, piece by piece. */
typedef struct FmPlotTarget {
    FmWriteFn write;
    void *ctx;
    gboolean svg; /* else png */
} FmPlotTarget;

/* What the module exports as fmplot_module: NULL when done, else why not. */
typedef struct FmPlotModule {
    const char *(*images)(const FmPlotTarget *to, const double *x, size_t n, size_t H, size_t W, size_t C,
                          size_t columns);
    const char *(*scatter2)(const FmPlotTarget *to, const double *data, size_t n, const double *samples, size_t m,
                            const double *density, size_t nx, size_t ny, const double *box);
    const char *(*curves)(const FmPlotTarget *to, const char *title, const char *xlabel, const char *ylabel,
                          const FmCurve *series, size_t n_series, int flags);
    const char *(*panels)(const FmPlotTarget *to, const char *xlabel, const FmPanel *panels, size_t n);
} FmPlotModule;

G_END_DECLS
#endif
