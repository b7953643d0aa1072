/* main.c: the program: find the command, run it, say in one sentence what went wrong. */
#include "cli/cli.h"

#include <glib/gstdio.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NET_GROUPS (CLI_COMPUTE | CLI_KERNELS)
#define RUN_GROUPS (NET_GROUPS | CLI_MODEL | CLI_TRAIN | CLI_SAMPLE | CLI_EVAL | CLI_OUT)

const CliCommand cli_commands[] = {
    {"run", "", "train, sample, evaluate, report (the default)", RUN_GROUPS | CLI_RESUME | CLI_SEEDS, 0, 0, cmd_run},
    {"train", "", "train only; --resume RUN goes on", NET_GROUPS | CLI_MODEL | CLI_TRAIN | CLI_RESUME | CLI_OUT, 0, 0,
     cmd_train},
    {"sample", "RUN", "draw samples", NET_GROUPS | CLI_SAMPLE | CLI_DRAW | CLI_OUT, 1, 1, cmd_sample},
    {"density", "RUN POINTS", "log q_1 at given points, and its gradient",
     NET_GROUPS | CLI_POINTS | CLI_SOLVE | CLI_DENSITY | CLI_OUT, 2, 2, cmd_density},
    {"velocity", "RUN POINTS", "the learned field at one time, and its divergence",
     NET_GROUPS | CLI_POINTS | CLI_VELOCITY | CLI_OUT, 2, 2, cmd_velocity},
    {"encode", "RUN POINTS", "data to noise", NET_GROUPS | CLI_POINTS | CLI_SOLVE | CLI_OUT, 2, 2, cmd_encode},
    {"eval", "RUN", "likelihood and divergences of a run", NET_GROUPS | CLI_EVAL | CLI_SPLIT | CLI_SAMPLE | CLI_DATA, 1,
     1, cmd_eval},
    {"measure", "P.npy Q.npy", "compare two sample files", CLI_COMPUTE | CLI_MEASURE, 2, 2, cmd_measure},
    {"import", "WEIGHTS.safetensors", "another tool's weights become a run",
     NET_GROUPS | CLI_MODEL | CLI_IMPORT | CLI_OUT, 1, 1, cmd_import},
    {"kl", "P [Q]", "KL(p_t||q_t) by several routes, bound and certificate; of P alone: KL(p_t||p_1)",
     CLI_COMPUTE | CLI_KL | CLI_OUT, 1, 2, cmd_kl, cmd_kl_help},
    {"compare", "", "runs over several values of --path, --net, ...; one table", RUN_GROUPS | CLI_AXES | CLI_SEEDS, 0,
     0, cmd_compare},
    {"report", "RUN...", "write report.html", 0, 1, 1000, cmd_report},
    {"list", "[KIND]", "the plugins", 0, 0, 1, cmd_list},
    {"inspect", "NAME", "everything a plugin declares; KIND/NAME where kinds share a name", 0, 1, 1, cmd_inspect},
    {"study", "NAME", "an experiment of the theory: rows, checks, a picture",
     NET_GROUPS | CLI_MODEL | CLI_TRAIN | CLI_OUT, 1, 1, cmd_study, cmd_study_help},
    {"selftest", "", "prove this installation on closed forms", CLI_SEED, 0, 0, cmd_selftest},
    {"bench", "[NAME [RUN]]", "how long a step, a sample, a kernel takes", RUN_GROUPS | CLI_BENCH, 0, 2, cmd_bench,
     cmd_bench_help},
    {"new-plugin", "KIND NAME", "a folder with a plugin that builds", CLI_OUT, 2, 2, cmd_new_plugin},
    {0},
};

static const CliCommand *
command_find(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(cli_commands)] = {NULL};
    const char *near;
    size_t n = 0;

    for (const CliCommand *c = cli_commands; c->name; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
        names[n++] = c->name;
    }
    near = fm_error_suggest(name, names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                near ? "unknown command '%s'; did you mean '%s'?"
                     : "unknown command '%s'; 'fmcore --help' lists those there are%s",
                name, near ? near : "");
    return NULL;
}

/* A program that was built and not installed uses the data of its sources. */
static void
use_build_tree(void)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = exe ? g_path_get_dirname(exe) : NULL;

    if (dir && g_str_has_suffix(dir, "/.libs") && !g_getenv("FMCORE_DATA_PATH"))
        g_setenv("FMCORE_DATA_PATH", FM_SOURCE_DATA_DIR, TRUE);
}

/* A file that is opened must not become a standard stream that was closed: progress would be written into it. */
static void
occupy_streams(void)
{
    int fd;

    do /* read only: writing to it fails, as to a closed one */
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static void
print_error(const Cli *cli, const char *command, gboolean json, const GError *error)
{
    fprintf(stderr, "fmcore: %s\n", error->message);
    if (json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        json_builder_begin_object(b);
        out_text(b, "fmcore", fm_version());
        out_int(b, "schema", 1);
        out_text(b, "command", command);
        out_text(b, "status", "error");
        out_open(b, "error");
        out_text(b, "code", fm_error_name(error->domain == FM_ERROR ? error->code : FM_ERROR_N_CODES));
        out_text(b, "message", error->message);
        json_builder_end_object(b);
        text = out_finish(b);
        puts(text);
    }
}

static gboolean
wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--json") == 0)
            return TRUE;
    return FALSE;
}

/* The exit status, unless what was printed did not arrive. */
static int
printed(int status)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fprintf(stderr, "fmcore: cannot write to standard output\n");
        status = 1;
    }
    return status;
}

static int
print_help(const CliCommand *command)
{
    g_autofree char *text = cli_help(command);

    fputs(text, stdout);
    return printed(0);
}

int
main(int argc, char **argv)
{
    g_autoptr(Cli) cli = cli_new();
    g_autoptr(GError) error = NULL;
    const char *name = "run";
    int first = 1, status = -1;

    occupy_streams();
    /* OpenBLAS' own threads are never used, and look for work for 50 ms after they start. */
    g_setenv("OPENBLAS_NUM_THREADS", "1", FALSE);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("fmcore %s\n", fm_version());
        return printed(0);
    }
    if (argc == 1 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return print_help(NULL);
    if (argv[1][0] != '-') {
        name = argv[1];
        first = 2;
    }
    use_build_tree();
    cli->command = command_find(name, &error);
    if (cli->command && cli_parse(cli, argc - first, argv + first, &error)) {
        if (cli->help)
            return print_help(cli->command);
        cli_interrupt_install();
        status = cli->command->run(cli, &error);
    }
    if (status < 0 && cli->made_dir)
        g_rmdir(cli->made_dir); /* not when something lies in it */
    if (status < 0 && !error)
        g_set_error(&error, FM_ERROR, FM_ERROR_DATA, "'%s' failed without a reason", name);
    if (error) {
        print_error(cli, name, wants_json(argc, argv), error);
        status = error->domain == FM_ERROR ? fm_error_exit_status(error->code) : 1;
    }
    return printed(status);
}
