/* presets.c: settings of known experiments, as configuration files that --config and the command line
 * go over. */
#include "cli/cli.h"

#include <string.h>

static const struct {
    const char *name, *summary, *text;
} presets[] = {
    {"quick", "a first look at any two-dimensional data, in seconds",
     "[net]\nname=mlp\n[train]\nsteps=3000\nlr=5e-3\nwarmup=100\n[eval]\nsamples=1000\neval_samples=1000\n"},
    {"torchcfm-2d",
     "torchcfm's tutorial: 8gaussians to moons by minibatch optimal transport (without its sigma of 0.1)",
     "[dataset]\nname=moons\nvariant=torchcfm\n[source]\nname=8gaussians\nvariant=torchcfm\n"
     "[coupling]\nname=ot\n[net]\nname=mlp\nwidth=64\ndepth=3\nactivation=selu\ntime=raw\n"
     "[optimizer]\nname=adam\n[train]\nsteps=20000\nbatch_size=256\nlr=1e-3\nwarmup=0\nschedule=constant\n"
     "ema_decay=0\ngrad_clip=0\n"},
    {"torchcfm-mnist",
     "torchcfm's U-Net for digits: 32 channels, one block, minibatch optimal transport, 3 epochs of 60,000",
     "[dataset]\nname=mnist\n[coupling]\nname=ot\n[net]\nname=conv\nchannels=32\nmult=[1,2,2]\nblocks=1\nattention=[16]"
     "\ngroups=32\n"
     "[optimizer]\nname=adam\n[train]\nconditional=no\nsteps=1404\nbatch_size=128\nlr=1e-3\nwarmup=0\nschedule="
     "constant\n"
     "ema_decay=0\ngrad_clip=0\n[solver]\nname=dopri5\nrtol=1e-4\natol=1e-4\n"},
};

gboolean
cli_preset(FmConfig *config, const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(presets) + 1] = {NULL};
    g_autofree char *who = g_strdup_printf("preset '%s'", name), *all = NULL;
    const char *near;

    for (size_t i = 0; i < G_N_ELEMENTS(presets); i++) {
        if (strcmp(presets[i].name, name) == 0)
            return fm_config_parse(config, presets[i].text, who, error);
        names[i] = presets[i].name;
    }
    near = fm_error_suggest(name, names);
    all = g_strjoinv(", ", (char **)names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "unknown %s, %s%s%s", who,
                near ? "did you mean '" : "expected one of ", near ? near : all, near ? "'?" : "");
    return FALSE;
}

void
cli_preset_help(GString *out)
{
    g_string_append(out, "\nPresets\n");
    for (size_t i = 0; i < G_N_ELEMENTS(presets); i++)
        g_string_append_printf(out, "    %-26s %s\n", presets[i].name, presets[i].summary);
}
