/* error.c: the error domain, its names and exit statuses, and near misses of names. */
#include <fmcore/error.h>
#include <string.h>

GQuark
fm_error_quark(void)
{
    return g_quark_from_static_string("fm-error-quark");
}

static const struct {
    const char *name;
    int exit_status;
} codes[] = {
#define FM_ERROR_ROW(id, text, status) {text, status},
    FM_ERROR_LIST(FM_ERROR_ROW)
#undef FM_ERROR_ROW
};

const char *
fm_error_name(int code)
{
    return code >= 0 && code < FM_ERROR_N_CODES ? codes[code].name : "failed";
}

int
fm_error_exit_status(int code)
{
    return code >= 0 && code < FM_ERROR_N_CODES ? codes[code].exit_status : 1;
}

/* Edits between two short names (long ones are cut): a letter changed, missing, too much, or two
 * neighbours exchanged. Damerau 1964, doi:10.1145/363958.363994, its restricted form. */
static size_t
edit_distance(const char *a, const char *b)
{
    const size_t la = MIN(strlen(a), 64), lb = MIN(strlen(b), 64);
    size_t rows[3][65], *older = rows[0], *last = rows[1], *row = rows[2];

    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t *const free_row = older;

        older = last;
        last = row;
        row = free_row;
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            row[j] = MIN(MIN(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], older[j - 2] + 1);
        }
    }
    return row[lb];
}

const char *
fm_error_suggest(const char *given, const char *const *names)
{
    const char *best = NULL;
    size_t best_distance = MAX(1, strlen(given) / 3) + 1;

    for (; *names; names++) {
        const size_t d = edit_distance(given, *names);

        if (d < best_distance) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}

const char *
fm_error_reason(const GError *error)
{
    const char *last = strrchr(error->message, ':');

    return last && last[1] == ' ' && last[2] != '\0' ? last + 2 : error->message;
}
