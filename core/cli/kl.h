/* kl.h: what `kl P Q` and `kl RUN` share. */
#ifndef FMCORE_CORE_CLI_KL_H
#define FMCORE_CORE_CLI_KL_H

#include "cli/cli.h"
#include "flow/kl.h"

/* A number as a metric; a standard error that is 0 or NAN is left out; what NULL: no detail. */
void kl_add(GArray *metrics, const FmKl *kl, const char *name, FmNumber v, const char *unit, const char *what);
/* What is infinite or undefined, or has no bar that holds, has no number and a reason. */
void kl_add_none(GArray *metrics, const char *name, const char *why);
/* The member `name`: a side as it was given, its net, data set and path. */
void kl_side_json(JsonBuilder *b, const char *name, const char *text, const FmRun *run);
/* The members "seed", "n", "times", "dtype" and "time". */
void kl_common_json(JsonBuilder *b, const Cli *cli, const FmKl *kl);
/* The members "words" and "files", and the object's end: its text, owned. */
char *kl_end_json(JsonBuilder *b, const char *words);
/* result.json in dir, and with --json on stdout. */
gboolean kl_write(const Cli *cli, const char *dir, const char *json, GError **error);

/* fm_kl_new() with its progress on a terminal as `what`. */
FmKl *kl_measure(const Cli *cli, const char *what, FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error);

/* Measure one flow's way to its end; result.json and kl.svg in dir, the rest on stdout. */
gboolean kl_profile(Cli *cli, const Side *side, const FmKlOptions *options, const char *dir, GError **error);

#endif
