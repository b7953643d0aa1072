/* cpu.h: which instructions the processor has, and functions compiled for several of them.
 *
 * One binary runs everywhere: a hot loop is written once, in plain C, compiled for each level and
 * chosen when it is called. */
#ifndef FMCORE_CPU_H
#define FMCORE_CPU_H

#include <glib.h>

G_BEGIN_DECLS

/* Levels, each including the one before. */
typedef enum FmCpuLevel {
    FM_CPU_BASE,   /* what the compiler was told: SSE2 on x86-64, NEON on arm64 */
    FM_CPU_AVX2,   /* AVX2 and FMA */
    FM_CPU_AVX512, /* AVX-512 F, BW, DQ and VL */
    FM_N_CPU_LEVELS
} FmCpuLevel;

/* The level to use: the processor's, or less where the environment's FMCORE_CPU says base, avx2 or
 * avx512 (for tests; a level that the processor lacks is not used). Constant in a process. */
FmCpuLevel fm_cpu_level(void);
const char *fm_cpu_level_name(FmCpuLevel level); /* "base", "avx2", "avx512" */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FM_CPU_LEVELS 1 /* there is more than FM_CPU_BASE */
#define FM_TARGET_AVX2 "avx2,fma"
#define FM_TARGET_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"
#endif

/* Between BEGIN and END everything is compiled for that level. */
#ifdef FM_CPU_LEVELS
#define FM_BEGIN_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma\")")
#define FM_BEGIN_AVX512 \
    _Pragma("GCC push_options") \
        _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512\")")
#define FM_END_LEVEL _Pragma("GCC pop_options")
#endif

#define FM_INLINE static inline __attribute__((always_inline))
#define FM_CPU_AT_BASE(name, params, args) \
    static void name##_base params \
    { \
        name##_any args; \
    }

/* FM_CPU_VARIANTS: define the static function NAME PARAMS as the fastest of several compilations of
 * NAME_any, an FM_INLINE function with the same parameters; ARGS are their names in brackets. The file is
 * compiled for speed by FM_FAST_FILE at its top.
 * FM_CPU_DISPATCH: the same from NAME_avx512, NAME_avx2 (both where FM_CPU_LEVELS) and NAME_base, which
 * are written apart; FM_CPU_AT_AVX512 makes such a one of NAME_any, FM_CPU_AT_BASE too. */
#ifdef FM_CPU_LEVELS
#define FM_CPU_AT_AVX512(name, params, args) \
    static __attribute__((target(FM_TARGET_AVX512))) void name##_avx512 params \
    { \
        name##_any args; \
    }
#define FM_CPU_DISPATCH(name, params, args) \
    static void name params \
    { \
        switch (fm_cpu_level()) { \
        case FM_CPU_AVX512: \
            name##_avx512 args; \
            break; \
        case FM_CPU_AVX2: \
            name##_avx2 args; \
            break; \
        default: \
            name##_base args; \
        } \
    }
#define FM_CPU_VARIANTS(name, params, args) \
    FM_CPU_AT_AVX512(name, params, args) \
    static __attribute__((target(FM_TARGET_AVX2))) void name##_avx2 params \
    { \
        name##_any args; \
    } \
    FM_CPU_AT_BASE(name, params, args) \
    FM_CPU_DISPATCH(name, params, args)
#define FM_FAST_FILE _Pragma("GCC optimize(\"O3\", \"no-math-errno\", \"no-trapping-math\")")
#else
#define FM_CPU_AT_AVX512(name, params, args)
#define FM_CPU_DISPATCH(name, params, args) \
    static void name params \
    { \
        name##_base args; \
    }
#define FM_CPU_VARIANTS(name, params, args) \
    static void name params \
    { \
        name##_any args; \
    }
#define FM_FAST_FILE
#endif

G_END_DECLS
#endif
