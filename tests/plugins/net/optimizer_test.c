/* optimizer_test.c: seven steps of each optimizer against torch.optim. */
#include "suite.h"
#include "reference.h"
#include "torch_nets.h"

#include <fmcore/optimizer.h>

static const struct {
    const char *spec;
    double decay;
    const double *expected;
} optimizer_cases[] = {
    {"adam:beta1=0.8,beta2=0.95,eps=1e-6", 0.3, torch_adam},
    {"adamw:beta1=0.8,beta2=0.95,eps=1e-6", 0.3, torch_adamw},
    {"sgd:momentum=0.7", 0.3, torch_sgd},
    {"sgd:momentum=0.7,nesterov=yes", 0.3, torch_nesterov},
    {"sgd:momentum=0", 0.0, torch_plain},
};

START_TEST(optimizer_follows_torch)
{
    FmPlugin *opt = open_plugin(FM_KIND_OPTIMIZER, optimizer_cases[_i].spec);
    double p[9], g[9], moment[FM_MAX_MOMENTS][9] = {{0}};
    float pf[9], gf[9], momentf[FM_MAX_MOMENTS][9] = {{0}};

    for (size_t i = 0; i < 9; i++)
        pf[i] = (float)(p[i] = wave("p", i));
    for (guint64 step = 1; step <= 7; step++) {
        g_autofree char *name = g_strdup_printf("grad%d", (int)step);
        FmUpdate u = {.dtype = FM_F64,
                      .n = 9,
                      .param = p,
                      .grad = g,
                      .grad_scale = 0.7,
                      .lr = 0.02,
                      .weight_decay = optimizer_cases[_i].decay,
                      .step = step};
        FmUpdate uf = u;

        uf.dtype = FM_F32;
        uf.param = pf;
        uf.grad = gf;
        for (int m = 0; m < fm_optimizer_moments(opt); m++) {
            u.moment[m] = moment[m];
            uf.moment[m] = momentf[m];
        }
        for (size_t i = 0; i < 9; i++) {
            g[i] = p[i] + wave(name, i);
            gf[i] = (float)(pf[i] + wave(name, i));
        }
        fm_optimizer_update(opt, &u);
        fm_optimizer_update(opt, &uf);
    }
    close_to("parameters", p, optimizer_cases[_i].expected, 9, 1e-13);
    for (size_t i = 0; i < 9; i++)
        p[i] = pf[i];
    close_to("parameters in f32", p, optimizer_cases[_i].expected, 9, 2e-6);
    fm_plugin_free(opt);
}
END_TEST

int
main(void)
{
    return run_tests("optimizers", 0, {optimizer_follows_torch, G_N_ELEMENTS(optimizer_cases)});
}
