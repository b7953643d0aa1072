/* neighbours_bf16.c: products of bfloat16 with sums in float, by the tile registers of AMX: 32 x 32 results from
 * four of the eight tiles, 16 x 16 x 32 multiply-adds in 16 cycles.
 * Intel Architecture Instruction Set Extensions Programming Reference, chapter 3. */
#include "flow/neighbours_private.h"

#include <fmcore/cpu.h>

#if defined(FM_CPU_LEVELS) && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TILE_ROWS = 16,
    TILE_BYTES = 64,
    TILE = TILE_ROWS * TILE_BYTES / 2, /* values of one tile */
    PART = 13                          /* tiles of columns: 26 KiB of the rows of a */
};

/* The processor has the instructions and the system grants the registers. */
static gboolean
probe(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    const unsigned need = 1u << 22 | 1u << 24; /* bfloat16 and tiles */
    unsigned a, b, c, d;

    return fm_cpu_level() == FM_CPU_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & need) == need &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

gboolean
nb_bf16_usable(void)
{
    static gsize known;

    if (g_once_init_enter(&known))
        g_once_init_leave(&known, probe() ? 2 : 1);
    return known == 2;
}

#define TILES __attribute__((target("amx-tile,amx-bf16,avx512f")))

/* Eight tiles of 16 rows of 64 bytes. Static: gcc 12 takes only its first bytes for read by the instruction. */
static const struct {
    guint8 palette, start, reserved[14];
    guint16 bytes[16];
    guint8 rows[16];
} tiles = {
    .palette = 1,
    .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

TILES void
nb_bf16_begin(void)
{
    _tile_loadconfig(&tiles);
}

TILES void
nb_bf16_end(void)
{
    _tile_release();
}

/* Tiles 0 to 3: results; 4, 5: a; 6, 7: b. The columns are taken in parts whose 32 rows of a stay in the first
 * cache while b passes. */
TILES void
nb_bf16_product(size_t columns, size_t blocks, const guint16 *a, const guint16 *b, float *c)
{
    const size_t stride = blocks * NB_LEAF, bytes = stride * sizeof(float), step = columns * TILE;
    const size_t parts = (columns + PART - 1) / PART;

    for (size_t part = 0; part < parts; part++) {
        const size_t begin = part * columns / parts, end = (part + 1) * columns / parts;

        for (size_t j = 0; j < blocks; j += 2) { /* one block that is left: twice the same */
            const guint16 *b0 = b + j * step, *b1 = j + 1 < blocks ? b0 + step : b0;
            float *c0 = c + j * NB_LEAF, *c1 = j + 1 < blocks ? c0 + NB_LEAF : c0;

            if (part == 0) {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            } else {
                _tile_loadd(0, c0, bytes);
                _tile_loadd(1, c0 + TILE_ROWS * stride, bytes);
                _tile_loadd(2, c1, bytes);
                _tile_loadd(3, c1 + TILE_ROWS * stride, bytes);
            }
            for (size_t k = begin; k < end; k++) {
                _tile_loadd(4, a + k * TILE, TILE_BYTES);
                _tile_loadd(6, b0 + k * TILE, TILE_BYTES);
                _tile_loadd(5, a + step + k * TILE, TILE_BYTES);
                _tile_loadd(7, b1 + k * TILE, TILE_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 5, 6);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(2, c1, bytes);
            _tile_stored(3, c1 + TILE_ROWS * stride, bytes);
            _tile_stored(0, c0, bytes);
            _tile_stored(1, c0 + TILE_ROWS * stride, bytes);
        }
    }
}

#else

gboolean
nb_bf16_usable(void)
{
    return FALSE;
}

void
nb_bf16_begin(void)
{
}

void
nb_bf16_end(void)
{
}

void
nb_bf16_product(size_t columns, size_t blocks, const guint16 *a, const guint16 *b, float *c)
{
}

#endif
