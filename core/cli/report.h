/* report.h: one self-contained page per run. */
#ifndef FMCORE_CORE_CLI_REPORT_H
#define FMCORE_CORE_CLI_REPORT_H

#include <fmcore/error.h>

/* Write run_dir/report.html from run_dir/result.json: its figures as tables, the .png and .svg files beside it and
 * the result as it stands, all of them within the page. Errors: FM_ERROR_FILE; FM_ERROR_DATA where the result is none.
 */
gboolean report_write(const char *run_dir, GError **error);

#endif
