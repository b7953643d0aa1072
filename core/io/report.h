/* report.h: one self-contained page per run. */
#ifndef FMCORE_IO_REPORT_H
#define FMCORE_IO_REPORT_H

#include <fmcore/error.h>

G_BEGIN_DECLS

/* Write run_dir/report.html from run_dir/result.json and the .png and .svg files beside it, which
 * are embedded. Errors: FM_ERROR_FILE. */
gboolean fm_report_write(const char *run_dir, GError **error);

G_END_DECLS
#endif
