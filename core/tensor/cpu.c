/* cpu.c: the instructions that loops may use. */
#include <fmcore/cpu.h>

#include <string.h>

static const char *const level_names[FM_N_CPU_LEVELS] = {"base", "avx2", "avx512"};

static FmCpuLevel
level_of_processor(void)
{
#ifdef FM_CPU_LEVELS
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return FM_CPU_BASE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return FM_CPU_AVX512;
    return FM_CPU_AVX2;
#else
    return FM_CPU_BASE;
#endif
}

FmCpuLevel
fm_cpu_level(void)
{
    static gsize level_plus_1; /* 0: not asked yet */

    if (g_once_init_enter(&level_plus_1)) {
        const char *mask = g_getenv("FMCORE_CPU");
        FmCpuLevel level = level_of_processor();

        for (int i = 0; mask && i < (int)level; i++)
            if (strcmp(mask, level_names[i]) == 0)
                level = (FmCpuLevel)i;
        g_once_init_leave(&level_plus_1, (gsize)level + 1);
    }
    return (FmCpuLevel)(level_plus_1 - 1);
}

const char *
fm_cpu_level_name(FmCpuLevel level)
{
    g_return_val_if_fail((unsigned)level < FM_N_CPU_LEVELS, "");
    return level_names[level];
}
