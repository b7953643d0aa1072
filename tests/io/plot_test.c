/* plot_test.c: pictures decoded again: their size, colours where they must be, nothing left of one that
 * could not be drawn. */
#include "suite.h"
#include "io/plot.h"

#include <cairo.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

static char *dir;

static char *
path_of(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

/* 0xrrggbb of one pixel. */
static guint32
pixel(cairo_surface_t *s, int x, int y)
{
    const unsigned char *row = cairo_image_surface_get_data(s) + y * cairo_image_surface_get_stride(s);

    return *(const guint32 *)(const void *)(row + 4 * x) & 0xffffff;
}

static cairo_surface_t *
decoded(const char *file, int width, int height)
{
    cairo_surface_t *s = cairo_image_surface_create_from_png(file);

    ck_assert_int_eq(cairo_surface_status(s), CAIRO_STATUS_SUCCESS);
    ck_assert_int_eq(cairo_image_surface_get_width(s), width);
    ck_assert_int_eq(cairo_image_surface_get_height(s), height);
    return s;
}

START_TEST(images_have_their_colours)
{
    /* Two images of 2 x 1 pixels: black and white; red and blue. */
    const double x[12] = {0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1};
    g_autofree char *file = path_of("i.png");
    cairo_surface_t *s;

    ck_assert(fm_plot_images(file, x, 2, 1, 2, 3, 2, NULL));
    s = decoded(file, 2 * (2 * 42 + 4) + 4, 42 + 8);
    ck_assert_uint_eq(pixel(s, 4 + 20, 20), 0x000000);
    ck_assert_uint_eq(pixel(s, 4 + 60, 20), 0xffffff);
    ck_assert_uint_eq(pixel(s, 4 + 88 + 20, 20), 0xff0000);
    ck_assert_uint_eq(pixel(s, 4 + 88 + 60, 20), 0x0000ff);
    cairo_surface_destroy(s);
    g_unlink(file);
}
END_TEST

START_TEST(scatter_puts_points_where_they_are)
{
    const double data[4] = {0.5, 0.5, -0.5, 0.25}, samples[4] = {0.0, -0.5, 7.0, 7.0};
    const double density[4] = {0, 0, 0, 2}, box[4] = {-1, -1, 1, 1};
    g_autofree char *file = path_of("s.png");
    cairo_surface_t *s;

    ck_assert(fm_plot_scatter2(file, data, 2, samples, 2, density, 2, 2, box, NULL));
    s = decoded(file, 3 * 380 + 20, 400);
    /* Panels of 300 x 300 pixels from (70, 40), (450, 40), (830, 40); y points up. */
    ck_assert_uint_ne(pixel(s, 70 + 225, 40 + 75), 0xffffff);
    ck_assert_uint_ne(pixel(s, 70 + 75, 40 + 112), 0xffffff);
    ck_assert_uint_eq(pixel(s, 70 + 150, 40 + 200), 0xffffff);
    ck_assert_uint_ne(pixel(s, 450 + 150, 40 + 225), 0xffffff);
    ck_assert_uint_eq(pixel(s, 450 + 225, 40 + 75), 0xffffff);
    ck_assert_uint_eq(pixel(s, 830 + 225, 40 + 75) >> 8, 0x0000); /* the upper right cell */
    ck_assert_uint_eq(pixel(s, 830 + 75, 40 + 75), 0xffffff);
    ck_assert_uint_eq(pixel(s, 830 + 225, 40 + 225), 0xffffff);
    cairo_surface_destroy(s);
    g_unlink(file);
}
END_TEST

START_TEST(curves_are_drawn)
{
    const double x[3] = {0, 1, 2}, y[3] = {1, 10, 100};
    const FmCurve curve = {.name = "loss & more", .x = x, .y = y, .n = 3};
    g_autofree char *svg = path_of("c.svg"), *png = path_of("c.png"), *text = NULL;
    cairo_surface_t *s;
    int inked = 0;

    ck_assert(fm_plot_curves(svg, "t", "x", "y", &curve, 1, FM_PLOT_LOG_Y, NULL));
    ck_assert(g_file_get_contents(svg, &text, NULL, NULL));
    ck_assert(g_str_has_prefix(text, "<?xml") && strstr(text, "width=\"640") && strstr(text, "</svg>"));
    ck_assert(fm_plot_curves(png, "t", "x", "y", &curve, 1, FM_PLOT_LOG_Y, NULL));
    s = decoded(png, 640, 420);
    for (int i = 0; i < 640 * 420; i++)
        inked += pixel(s, i % 640, i / 640) != 0xffffff;
    ck_assert_int_gt(inked, 1000);
    /* On a logarithmic axis the three points lie on a line: its middle is the panel's. */
    inked = 0;
    for (int dy = -3; dy <= 3; dy++)
        inked += pixel(s, 80 + 260, 40 + 160 + dy) != 0xffffff;
    ck_assert_int_gt(inked, 0);
    /* It ends in the upper right corner, so its name stands in the upper left one. */
    inked = 0;
    for (int i = 0; i < 60 * 20; i++)
        inked += pixel(s, 80 + 8 + i % 60, 40 + 6 + i / 60) != 0xffffff;
    ck_assert_int_gt(inked, 30);
    cairo_surface_destroy(s);
    g_unlink(svg);
    g_unlink(png);
}
END_TEST

START_TEST(a_picture_that_cannot_be_written_leaves_nothing)
{
    const double x[1] = {0.5};
    g_autofree char *file = path_of("absent/i.png");
    g_autoptr(GError) error = NULL;

    ck_assert(!fm_plot_images(file, x, 1, 1, 1, 1, 1, &error));
    ck_assert_int_eq(error->code, FM_ERROR_FILE);
    ck_assert_int_eq(g_rmdir(dir), 0); /* it was empty */
    ck_assert_int_eq(g_mkdir(dir, 0700), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pictures");
    TCase *tcase = tcase_create("all");

    dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    tcase_add_test(tcase, images_have_their_colours);
    tcase_add_test(tcase, scatter_puts_points_where_they_are);
    tcase_add_test(tcase, curves_are_drawn);
    tcase_add_test(tcase, a_picture_that_cannot_be_written_leaves_nothing);
    suite_add_tcase(suite, tcase);
    const int failed = run_suite(suite, CK_FORK);
    g_rmdir(dir);
    g_free(dir);
    return failed != 0;
}
