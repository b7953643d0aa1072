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

/* Levenshtein distance of two short names; long ones are cut. */
static size_t
edit_distance(const char *a, const char *b)
{
    size_t row[65];
    const size_t la = MIN(strlen(a), 64), lb = MIN(strlen(b), 64);

    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = MIN(MIN(row[j], row[j - 1]) + 1, substitute);
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
