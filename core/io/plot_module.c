/* plot_module.c: the drawing itself, with Cairo. Loaded by plot.c. */
#include "io/plot.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>

extern const FmPlotModule fmplot_module;

/* Cairo's side of FmPlotTarget. */
static cairo_status_t
put(void *to, const unsigned char *bytes, unsigned int size)
{
    const FmPlotTarget *target = to;

    return target->write(target->ctx, bytes, size) ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static const char *
finish(cairo_t *cr, cairo_surface_t *s, const FmPlotTarget *to)
{
    cairo_status_t status = cairo_status(cr);

    cairo_destroy(cr);
    if (status == CAIRO_STATUS_SUCCESS && !to->svg)
        status = cairo_surface_write_to_png_stream(s, put, (void *)to);
    cairo_surface_finish(s);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_status(s);
    cairo_surface_destroy(s);
    return status == CAIRO_STATUS_SUCCESS ? NULL : cairo_status_to_string(status);
}

static cairo_surface_t *
canvas(const FmPlotTarget *to, int w, int h, cairo_t **cr)
{
    cairo_surface_t *s = to->svg ? cairo_svg_surface_create_for_stream(put, (void *)to, w, h)
                                 : cairo_image_surface_create(CAIRO_FORMAT_RGB24, w, h);

    *cr = cairo_create(s);
    cairo_set_source_rgb(*cr, 1, 1, 1);
    cairo_paint(*cr);
    cairo_set_font_size(*cr, 13);
    cairo_set_source_rgb(*cr, 0, 0, 0);
    return s;
}

static void
text(cairo_t *cr, double x, double y, double align, const char *string)
{
    cairo_text_extents_t e;

    cairo_text_extents(cr, string, &e);
    cairo_move_to(cr, x - align * e.width, y);
    cairo_show_text(cr, string);
    cairo_new_path(cr);
}

static const char *
images(const FmPlotTarget *to, const double *x, size_t n, size_t H, size_t W, size_t C, size_t columns)
{
    const size_t cols = MAX(MIN(columns, n), 1), rows = (n + cols - 1) / cols;
    const int z = (int)MAX(1, 84 / MAX(MAX(H, W), 1));
    cairo_t *cr;
    cairo_surface_t *s = canvas(to, (int)(cols * (W * (size_t)z + 4)) + 4, (int)(rows * (H * (size_t)z + 4)) + 4, &cr);

    cairo_set_antialias(cr, CAIRO_ANTIALIAS_NONE);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < H * W; p++) {
            const double *c = x + (i * H * W + p) * C;

            cairo_set_source_rgb(cr, c[0], c[C > 2 ? 1 : 0], c[C > 2 ? 2 : 0]);
            cairo_rectangle(cr, 4 + (double)(i % cols) * (double)(W * (size_t)z + 4) + (double)(p % W) * z,
                            4 + (double)(i / cols) * (double)(H * (size_t)z + 4) + (double)(p / W) * z, z, z);
            cairo_fill(cr);
        }
    return finish(cr, s, to);
}

typedef struct Axes {
    double left, top, w, h, x0, x1, y0, y1;
} Axes;

static double
px(const Axes *a, double x)
{
    return a->left + a->w * (x - a->x0) / (a->x1 - a->x0);
}

static double
py(const Axes *a, double y)
{
    return a->top + a->h * (a->y1 - y) / (a->y1 - a->y0);
}

/* The distance of ticks: 1, 2 or 5 times a power of ten, four to nine over the range; whole decades
 * on a logarithmic axis where they are enough. */
static double
tick_step(double lo, double hi, gboolean logarithmic)
{
    const double raw = (hi - lo) / 5, power = pow(10, floor(log10(raw))), m = raw / power;
    const double step = power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);

    return logarithmic && hi - lo >= 2 ? MAX(1, round(step)) : step;
}

static void
tick_label(char *label, size_t size, double v, double step, gboolean logarithmic)
{
    const double shown = fabs(v) < 1e-6 * step ? 0 : v;

    g_snprintf(label, size, "%.6g", logarithmic ? pow(10, shown) : shown);
    if (logarithmic)
        g_snprintf(label, size, "%.2g", pow(10, shown));
}

/* Frame, ticks at round numbers, labels. */
static void
frame(cairo_t *cr, const Axes *a, const char *title, const char *xl, const char *yl, int flags)
{
    const double dx = tick_step(a->x0, a->x1, flags & FM_PLOT_LOG_X);
    const double dy = tick_step(a->y0, a->y1, flags & FM_PLOT_LOG_Y);
    char label[32];

    cairo_set_source_rgb(cr, 0, 0, 0);
    cairo_set_line_width(cr, 1);
    cairo_rectangle(cr, a->left, a->top, a->w, a->h);
    cairo_stroke(cr);
    for (double x = ceil(a->x0 / dx) * dx; x <= a->x1; x += dx) {
        tick_label(label, sizeof label, x, dx, flags & FM_PLOT_LOG_X);
        cairo_move_to(cr, px(a, x), a->top + a->h);
        cairo_rel_line_to(cr, 0, 5);
        cairo_stroke(cr);
        text(cr, px(a, x), a->top + a->h + 20, 0.5, label);
    }
    for (double y = ceil(a->y0 / dy) * dy; y <= a->y1; y += dy) {
        tick_label(label, sizeof label, y, dy, flags & FM_PLOT_LOG_Y);
        cairo_move_to(cr, a->left, py(a, y));
        cairo_rel_line_to(cr, -5, 0);
        cairo_stroke(cr);
        text(cr, a->left - 8, py(a, y) + 4, 1, label);
    }
    text(cr, a->left + a->w / 2, a->top - 10, 0.5, title);
    text(cr, a->left + a->w / 2, a->top + a->h + 38, 0.5, xl);
    cairo_save(cr);
    cairo_translate(cr, a->left - 58, a->top + a->h / 2);
    cairo_rotate(cr, -G_PI / 2);
    text(cr, 0, 0, 0.5, yl);
    cairo_restore(cr);
}

static void
grow(double *lo, double *hi, double v)
{
    if (isfinite(v)) {
        *lo = MIN(*lo, v);
        *hi = MAX(*hi, v);
    }
}

static void
settle(double *lo, double *hi)
{
    if (!(*lo <= *hi))
        *lo = 0, *hi = 1;
    const double pad = *hi > *lo ? 0.04 * (*hi - *lo) : 0.5 + fabs(*lo) * 0.1;
    *lo -= pad;
    *hi += pad;
}

/* Points as small squares; how many lie outside. */
static size_t
draw_points(cairo_t *cr, const Axes *a, const double *x, size_t n)
{
    size_t outside = 0;

    cairo_set_source_rgba(cr, 0.1, 0.3, 0.7, 0.5);
    for (size_t i = 0; i < n; i++) {
        const double u = x[2 * i], v = x[2 * i + 1];

        if (!(u >= a->x0 && u <= a->x1 && v >= a->y0 && v <= a->y1)) {
            outside++;
            continue;
        }
        cairo_rectangle(cr, px(a, u) - 1, py(a, v) - 1, 2, 2);
        cairo_fill(cr);
    }
    return outside;
}

/* density (ny, nx) over the axes: white is 0, blue the largest. */
static void
draw_density(cairo_t *cr, const Axes *a, const double *density, size_t nx, size_t ny)
{
    const double w = a->w / (double)nx, h = a->h / (double)ny;
    double top = 0;

    for (size_t i = 0; i < nx * ny; i++)
        top = isfinite(density[i]) ? MAX(top, density[i]) : top;
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_NONE);
    for (size_t i = 0; i < nx * ny; i++) {
        const double g = top > 0 && isfinite(density[i]) ? 1 - density[i] / top : 1;
        const double left = a->left + w * (double)(i % nx);
        const double bottom = a->top + a->h - h * (double)(i / nx);

        cairo_set_source_rgb(cr, g, g, 0.3 + 0.7 * g);
        cairo_rectangle(cr, left, bottom - h, w, h);
        cairo_fill(cr);
    }
    cairo_set_antialias(cr, CAIRO_ANTIALIAS_DEFAULT);
}

static const char *
scatter2(const FmPlotTarget *to, const double *data, size_t n, const double *samples, size_t m, const double *density,
         size_t nx, size_t ny, const double *box)
{
    static const char *const titles[3] = {"data", "samples", "density of the model"};
    const double *points[2] = {data, samples};
    const size_t count[2] = {n, m};
    const int panels = density ? 3 : 2;
    Axes a = {.top = 40, .w = 300, .h = 300, .x0 = box[0], .x1 = box[2], .y0 = box[1], .y1 = box[3]};
    cairo_t *cr;
    cairo_surface_t *s = canvas(to, panels * 380 + 20, 400, &cr);

    for (int k = 0; k < panels; k++) {
        size_t outside = 0;
        char title[64];

        a.left = 70 + 380 * k;
        if (k < 2)
            outside = draw_points(cr, &a, points[k], count[k]);
        else
            draw_density(cr, &a, density, nx, ny);
        g_strlcpy(title, titles[k], sizeof title);
        if (outside > 0)
            g_snprintf(title, sizeof title, "%s (%zu of %zu outside)", titles[k], outside, count[k]);
        frame(cr, &a, title, "x1", "x2", 0);
    }
    return finish(cr, s, to);
}

static const double series_color[6][3] = {{0.1, 0.3, 0.7}, {0.8, 0.3, 0.1}, {0.1, 0.6, 0.3},
                                          {0.5, 0.2, 0.6}, {0.2, 0.2, 0.2}, {0.7, 0.6, 0.1}};

static double
scaled(double v, int logarithmic)
{
    return logarithmic ? log10(v) : v;
}

/* A curve's value and the ends of its error bar, in the axis' units. */
typedef struct Bar {
    double x, y, lo, hi;
} Bar;

static Bar
bar_at(const FmCurve *c, size_t i, int flags)
{
    const double e = c->se ? c->se[i] : 0;

    return (Bar){scaled(c->x[i], flags & FM_PLOT_LOG_X), scaled(c->y[i], flags & FM_PLOT_LOG_Y),
                 scaled(c->y[i] - e, flags & FM_PLOT_LOG_Y), scaled(c->y[i] + e, flags & FM_PLOT_LOG_Y)};
}

static void
fit(Axes *a, const FmCurve *series, size_t n, int flags)
{
    a->x0 = a->y0 = INFINITY;
    a->x1 = a->y1 = -INFINITY;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < series[k].n; i++) {
            const Bar b = bar_at(&series[k], i, flags);

            grow(&a->x0, &a->x1, b.x);
            grow(&a->y0, &a->y1, b.y);
            grow(&a->y0, &a->y1, b.lo);
            grow(&a->y0, &a->y1, b.hi);
        }
    settle(&a->x0, &a->x1);
    settle(&a->y0, &a->y1);
}

/* The band of one curve, cut where a bar cannot be shown. */
static void
band(cairo_t *cr, const Axes *a, const FmCurve *c, int flags)
{
    for (size_t i = 0; c->se && i + 1 < c->n; i++) {
        const Bar l = bar_at(c, i, flags), r = bar_at(c, i + 1, flags);

        if (!isfinite(l.lo + l.hi + r.lo + r.hi + l.x + r.x))
            continue;
        cairo_move_to(cr, px(a, l.x), py(a, l.lo));
        cairo_line_to(cr, px(a, l.x), py(a, l.hi));
        cairo_line_to(cr, px(a, r.x), py(a, r.hi));
        cairo_line_to(cr, px(a, r.x), py(a, r.lo));
        cairo_close_path(cr);
    }
    cairo_fill(cr);
}

static void
line(cairo_t *cr, const Axes *a, const FmCurve *c, int flags, gboolean bars)
{
    gboolean down = FALSE;

    for (size_t i = 0; i < c->n; i++) {
        const Bar b = bar_at(c, i, flags);

        if (!isfinite(b.x) || !isfinite(b.y)) {
            down = FALSE;
            continue;
        }
        (down ? cairo_line_to : cairo_move_to)(cr, px(a, b.x), py(a, b.y));
        down = TRUE;
        if (bars && c->se && c->se[i] > 0 && isfinite(b.lo) && isfinite(b.hi)) {
            cairo_move_to(cr, px(a, b.x), py(a, b.lo));
            cairo_line_to(cr, px(a, b.x), py(a, b.hi));
            cairo_move_to(cr, px(a, b.x), py(a, b.y));
        }
    }
    cairo_stroke(cr);
}

/* Points, and ends of their bars, where n names in this corner would stand. */
static size_t
crowd(const Axes *a, const FmCurve *series, size_t n, int flags, gboolean left, gboolean low)
{
    const double w = a->w / 3, h = 20 + 18 * (double)n;
    const double x = left ? a->left : a->left + a->w - w, y = low ? a->top + a->h - h : a->top;
    size_t met = 0;

    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < series[k].n; i++) {
            const Bar b = bar_at(&series[k], i, flags);
            const double at[3] = {py(a, b.y), py(a, b.lo), py(a, b.hi)};

            for (int j = 0; j < 3 && px(a, b.x) >= x && px(a, b.x) <= x + w; j++)
                met += at[j] >= y && at[j] <= y + h;
        }
    return met;
}

/* Curves with bars or bands, their names in the emptiest corner. */
static void
draw_series(cairo_t *cr, const Axes *a, const FmCurve *series, size_t n, int flags, gboolean bands)
{
    size_t corner = 0, met[4]; /* right, left, and the same below */

    for (size_t k = 0; k < 4; k++) {
        met[k] = crowd(a, series, n, flags, k & 1, k & 2);
        corner = met[k] < met[corner] ? k : corner;
    }
    const double x = corner & 1 ? a->left + 10 : a->left + a->w - 10;
    const double y = corner & 2 ? a->top + a->h - 18 * (double)n : a->top + 20;
    for (size_t k = 0; k < n; k++) {
        const double *c = series_color[k % 6];

        cairo_set_source_rgba(cr, c[0], c[1], c[2], 0.2);
        if (bands)
            band(cr, a, &series[k], flags);
        cairo_set_source_rgb(cr, c[0], c[1], c[2]);
        line(cr, a, &series[k], flags, !bands);
        text(cr, x, y + 18 * (double)k, corner & 1 ? 0 : 1, series[k].name);
    }
}

static const char *
curves(const FmPlotTarget *to, const char *title, const char *xlabel, const char *ylabel, const FmCurve *series,
       size_t n_series, int flags)
{
    Axes a = {.left = 80, .top = 40, .w = 520, .h = 320};
    cairo_t *cr;
    cairo_surface_t *s = canvas(to, 640, 420, &cr);

    fit(&a, series, n_series, flags);
    frame(cr, &a, title, xlabel, ylabel, flags);
    draw_series(cr, &a, series, n_series, flags, FALSE);
    return finish(cr, s, to);
}

static const char *
panels(const FmPlotTarget *to, const char *xlabel, const FmPanel *p, size_t n)
{
    enum { HEIGHT = 230, GAP = 70 };
    cairo_t *cr;
    cairo_surface_t *s = canvas(to, 720, 40 + (int)n * (HEIGHT + GAP), &cr);

    for (size_t k = 0; k < n; k++) {
        Axes a = {.left = 90, .top = 40 + (double)k * (HEIGHT + GAP), .w = 600, .h = HEIGHT};

        fit(&a, p[k].series, p[k].n_series, p[k].flags);
        frame(cr, &a, p[k].title, k + 1 == n ? xlabel : "", p[k].ylabel, p[k].flags);
        draw_series(cr, &a, p[k].series, p[k].n_series, p[k].flags, TRUE);
    }
    return finish(cr, s, to);
}

const FmPlotModule fmplot_module = {.images = images, .scatter2 = scatter2, .curves = curves, .panels = panels};
