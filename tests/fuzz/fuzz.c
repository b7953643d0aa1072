/* fuzz.c: every reader of foreign bytes on damaged input: it must refuse in a sentence or give
 * something sound, without a crash and without memory that the input does not bear out.
 *
 *   tests/fuzz/fuzz [FACTOR [TARGET [SEED]]]    FACTOR times the inputs of `make check`
 *
 * Deterministic: the inputs follow from SEED. With clang, each target is a libFuzzer entry point:
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DFM_FUZZ_TARGET='"npz"' -Icore -Iinclude \
 *       $(pkg-config --cflags --libs glib-2.0) tests/fuzz/fuzz.c -L.libs -lfmcore -lz -lm -o fuzz-npz */
#include "flow/run.h"
#include "io/array_file.h"
#include "io/safetensors.h"
#include "io/zip.h"

#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>

typedef struct Target {
    const char *name;
    int inputs;                           /* of one `make check` */
    void (*seed)(GByteArray *out, int i); /* a sound input */
    void (*one)(const guint8 *bytes, size_t size);
} Target;

static char *scratch; /* folder of targets that read files */

#define REQUIRE(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort(); \
        } \
    } while (0)

/* Exactly one of a result and a sentence. */
static void
settled(gboolean got, GError *error)
{
    REQUIRE(got == (error == NULL));
    REQUIRE(error == NULL || (error->domain == FM_ERROR && strlen(error->message) > 3));
    g_clear_error(&error);
}

static void
put(GByteArray *out, const void *bytes, size_t size)
{
    g_byte_array_append(out, bytes, (guint)size);
}

static void
put_text(GByteArray *out, const char *text)
{
    put(out, text, strlen(text));
}

static char *
in_scratch(const char *name)
{
    return g_build_filename(scratch, name, NULL);
}

static void
write_scratch(const char *name, const void *bytes, size_t size)
{
    g_autofree char *file = in_scratch(name);
    FILE *out = fopen(file, "wb"); /* g_file_set_contents() waits for the disk */

    REQUIRE(out && fwrite(bytes, 1, size, out) == size && fclose(out) == 0);
}

/* ---- arrays ---- */

static void
sound_array(FmArray *a, GError *error)
{
    settled(a != NULL, error);
    if (!a)
        return;
    REQUIRE(a->ndim >= 0 && a->ndim <= FM_ARRAY_MAX_NDIM);
    (void)fm_array_first_nonfinite(a); /* touches every element */
    fm_array_free(a);
}

static void
seed_npy(GByteArray *out, int i)
{
    static const char *const heads[] = {"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }      \n",
                                        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2), }\n",
                                        "{'descr': '|u1', 'fortran_order': False, 'shape': (48,), }"};
    const char *head = heads[i % 3];
    const guint8 start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (guint8)strlen(head), 0};
    guint8 data[48];

    for (int k = 0; k < 48; k++)
        data[k] = (guint8)(k * 7 + i);
    put(out, start, sizeof start);
    put_text(out, head);
    put(out, data, sizeof data);
}

static void
one_npy(const guint8 *bytes, size_t size)
{
    g_autoptr(FmReader) r = fm__reader_memory("fuzz", bytes, size);
    GError *error = NULL;
    FmArray *a = fm__npy_read(r, &error);

    sound_array(a, error);
}

static void
seed_csv(GByteArray *out, int i)
{
    static const char *const texts[] = {"x,y\n1.5,2\n# note\n-3,4e2\n", "1 2 3\n4\t5 6\r\n", "a;b\n1;2\n3;nan\n"};

    put_text(out, texts[i % 3]);
}

static void
one_csv(const guint8 *bytes, size_t size)
{
    g_autoptr(FmReader) r = fm__reader_memory("fuzz", bytes, size);
    GError *error = NULL;
    FmArray *a = fm__csv_read(r, &error);

    sound_array(a, error);
}

/* One deflated, one stored member. */
static void
seed_npz(GByteArray *out, int i)
{
    g_autoptr(GByteArray) npy = g_byte_array_new(), before = NULL, after = NULL;
    guint8 packed[512];
    uLongf n = sizeof packed;
    z_stream z = {0};

    seed_npy(npy, i);
    if (i % 2 == 0) {
        REQUIRE(fm__zip_wrap("a.npy", npy->len, (guint32)crc32(0, npy->data, npy->len), &before, &after));
        put(out, before->data, before->len);
        put(out, npy->data, npy->len);
    } else {
        deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
        z.next_in = npy->data;
        z.avail_in = npy->len;
        z.next_out = packed;
        z.avail_out = (uInt)n;
        REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
        n = sizeof packed - z.avail_out;
        deflateEnd(&z);
        REQUIRE(fm__zip_wrap("a.npy", n, (guint32)crc32(0, npy->data, npy->len), &before, &after));
        before->data[8] = after->data[10] = 8; /* method */
        for (int k = 0; k < 4; k++)            /* length before packing */
            before->data[22 + k] = after->data[24 + k] = (guint8)(npy->len >> (8 * k));
        put(out, before->data, before->len);
        put(out, packed, n);
    }
    put(out, after->data, after->len);
}

static void
one_npz(const guint8 *bytes, size_t size)
{
    for (int named = 0; named < 2; named++) {
        GError *error = NULL;
        FmArray *a = fm__npz_read("fuzz", bytes, size, named ? "a" : NULL, &error);

        sound_array(a, error);
    }
}

static void
seed_gzip(GByteArray *out, int i)
{
    g_autofree char *file = in_scratch("seed.gz"), *bytes = NULL;
    g_autoptr(GByteArray) npy = g_byte_array_new();
    gsize size;
    gzFile gz = gzopen(file, "wb");

    (i % 2 ? seed_csv : seed_npy)(npy, i);
    gzwrite(gz, npy->data, npy->len);
    gzclose(gz);
    REQUIRE(g_file_get_contents(file, &bytes, &size, NULL));
    put(out, bytes, size);
}

static void
one_gzip(const guint8 *bytes, size_t size)
{
    g_autofree char *file = in_scratch("input.gz");
    GError *error = NULL;
    FmArray *a;

    write_scratch("input.gz", bytes, size);
    a = fm_array_load(file, &error);
    sound_array(a, error);
}

/* ---- data sets ---- */

/* Open, and read the first and the last row. */
static void
read_dataset(const char *spec)
{
    GError *error = NULL;
    g_autoptr(FmPlugin) dataset = fm_plugin_new(FM_KIND_DATASET, spec, &error);
    FmDataInfo info;
    const gboolean ok = dataset && fm_dataset_open(dataset, &info, &error);

    settled(ok, error);
    if (ok) {
        const size_t rows[2] = {0, info.rows - 1};
        g_autofree double *x = g_new(double, 2 * info.D);
        gboolean got;
        int y[2];

        REQUIRE(info.rows > 0 && info.D > 0);
        error = NULL;
        got = fm_dataset_read(dataset, rows, 2, x, y, &error);
        settled(got, error);
    }
}

static void
put_word(GByteArray *out, guint32 v)
{
    v = GUINT32_TO_BE(v);
    put(out, &v, 4);
}

/* The images, then the labels. */
static void
seed_idx(GByteArray *out, int i)
{
    for (guint32 k = 0; k < 4; k++)
        put_word(out, k == 0 ? 0x803 : k == 1 ? 3 : 4);
    for (int k = 0; k < 3 * 16; k++)
        put(out, &(guint8){(guint8)(5 * k + i)}, 1);
    put_word(out, 0x801);
    put_word(out, 3);
    put(out, "\001\002\011", 3);
}

static void
one_idx(const guint8 *bytes, size_t size)
{
    const size_t images = MIN(size, 16 + 48);
    g_autofree char *spec = g_strconcat("mnist:dir=\"", scratch, "\"", NULL);

    write_scratch("t10k-images-idx3-ubyte", bytes, images);
    write_scratch("t10k-labels-idx1-ubyte", bytes + images, size - images);
    read_dataset(spec);
}

static void
seed_cifar(GByteArray *out, int i)
{
    g_byte_array_set_size(out, 2 * 3073);
    memset(out->data, i + 1, out->len);
}

static void
one_cifar(const guint8 *bytes, size_t size)
{
    g_autofree char *spec = g_strconcat("cifar10:dir=\"", scratch, "\"", NULL);

    write_scratch("data_batch_1.bin", bytes, size);
    read_dataset(spec);
}

/* ---- weights and runs ---- */

static void
seed_safetensors(GByteArray *out, int i)
{
    static const char *const heads[] = {"{\"__metadata__\":{\"format\":\"pt\",\"k\":\"v\\u00e9\\n\"},"
                                        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                        "\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[24,32]}}",
                                        "{\"h\":{\"data_offsets\":[0,16],\"shape\":[8],\"dtype\":\"BF16\"},"
                                        "\"i\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[16,32]}}  "};
    const char *head = heads[i % 2];
    const guint64 length = GUINT64_TO_LE((guint64)strlen(head));

    put(out, &length, 8);
    put_text(out, head);
    for (int k = 0; k < 32; k++)
        put(out, &(guint8){(guint8)(11 * k)}, 1);
}

static void
one_safetensors(const guint8 *bytes, size_t size)
{
    GError *error = NULL;
    g_autoptr(FmTensors) t = fm__tensors_parse("fuzz", bytes, size, &error);
    size_t sum = 0;

    settled(t != NULL, error);
    for (size_t i = 0; t && i < fm__tensors_count(t); i++) {
        const FmTensor *e = fm__tensors_nth(t, i);
        g_autofree double *v = g_new(double, e->size + 1);

        REQUIRE(fm__tensors_find(t, e->name) == e);
        fm__tensor_convert(e, FM_F64, v);
        sum += e->bytes;
    }
    REQUIRE(!t || sum == fm__tensors_bytes(t));
}

/* A whole run directory: one of its three files is damaged, by turns. */
static const char *const run_files[] = {"config.ini", "model.safetensors", "checkpoint.safetensors"};
static char *run_bytes[3];
static gsize run_size[3];

static void
make_run(void)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;
    FmTrainResult result;
    FmRun *run;

    c->spec[FM_KIND_DATASET] = g_strdup("moons");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=4,depth=1");
    c->steps = 2;
    c->batch_size = 8;
    c->threads = 1;
    run = fm_run_new(c, &error);
    REQUIRE(run != NULL);
    run->dir = g_strdup(scratch);
    REQUIRE(fm_run_train(run, NULL, NULL, &result, &error));
    g_array_unref(result.loss_curve);
    fm_run_free(run);
    for (int i = 0; i < 3; i++) {
        g_autofree char *file = in_scratch(run_files[i]);

        REQUIRE(g_file_get_contents(file, &run_bytes[i], &run_size[i], NULL));
    }
}

static void
seed_run(GByteArray *out, int i)
{
    const guint8 which = (guint8)(i % 3);

    if (!run_bytes[0])
        make_run();
    put(out, &which, 1);
    put(out, run_bytes[which], run_size[which]);
}

static void
one_run(const guint8 *bytes, size_t size)
{
    const int which = size > 0 ? bytes[0] % 3 : 0;
    GError *error = NULL;
    FmRun *run;

    if (!run_bytes[0])
        make_run();
    for (int i = 0; i < 3; i++)
        if (i != which)
            write_scratch(run_files[i], run_bytes[i], run_size[i]);
    write_scratch(run_files[which], bytes + MIN(size, 1), size - MIN(size, 1));
    run = fm_run_load(scratch, &error);
    settled(run != NULL, error);
    error = NULL;
    if (run) {
        const gboolean got = fm_run_resume(run, &error);

        settled(got, error);
    }
    fm_run_free(run);
}

/* ---- text ---- */

static void
seed_config(GByteArray *out, int i)
{
    static const char *const texts[] = {
        "[dataset]\nname=moons\nnoise=0.1\n[train]\nsteps=20\nlr=1e-3\nschedule=linear\n",
        "[net]\nname=mlp\nwidth=32\n[divergence.1]\nname=knn-kl\nk=3\n[run]\nseed=4\nthreads=2\n",
        "[solver]\nname=dopri5\nrtol=1e-4\n[eval]\nsamples=7\nlikelihood=exact\n[source]\nname=gaussian\n"};

    put_text(out, texts[i % 3]);
}

/* What is read can be written and read again. */
static void
one_config(const guint8 *bytes, size_t size)
{
    g_autofree char *text = g_strndup((const char *)bytes, size), *once = NULL, *twice = NULL;
    g_autoptr(FmConfig) c = fm_config_new(), again = fm_config_new();
    GError *error = NULL;
    const gboolean ok = fm_config_parse(c, text, "fuzz", &error);

    settled(ok, error);
    if (!ok)
        return;
    once = fm_config_format(c);
    error = NULL;
    if (!fm_config_parse(again, once, "again", &error)) {
        g_clear_error(&error); /* names with a line's end in them */
        return;
    }
    twice = fm_config_format(again);
    REQUIRE(strlen(twice) > 0);
}

static void
seed_spec(GByteArray *out, int i)
{
    static const char *const specs[] = {"dopri5:rtol=1e-5,atol=1e-6,control=pi",
                                        "mlp:width=32,depth=2,activation=silu",
                                        "conv:channels=8,mult=[1,2],attention=[7]",
                                        "mixture:k=3,dim=2,sd=0.1",
                                        "knn-kl:k=5",
                                        "8gaussians:variant=torchcfm",
                                        "ot:sigma_min=0.1",
                                        "adam:beta1=0.9"};

    put_text(out, specs[i % 8]);
}

static void
one_spec(const guint8 *bytes, size_t size)
{
    g_autofree char *text = g_strndup((const char *)bytes, size);

    for (int kind = 0; kind < FM_N_KINDS; kind++) {
        GError *error = NULL;
        g_autoptr(FmPlugin) p = fm_plugin_new((FmKind)kind, text, &error);
        g_autoptr(FmPlugin) q = NULL;
        g_autofree char *spec = p ? fm_plugin_spec(p) : NULL;

        settled(p != NULL, error);
        error = NULL;
        if (spec) {
            q = fm_plugin_new((FmKind)kind, spec, &error);
            settled(q != NULL, error);
        }
        REQUIRE(!spec || q || strchr(spec, '"') || strchr(spec, '\''));
    }
}

static const Target targets[] = {
    {"npy", 20000, seed_npy, one_npy},
    {"npz", 8000, seed_npz, one_npz},
    {"csv", 20000, seed_csv, one_csv},
    {"gzip", 400, seed_gzip, one_gzip},
    {"idx", 400, seed_idx, one_idx},
    {"cifar", 200, seed_cifar, one_cifar},
    {"safetensors", 20000, seed_safetensors, one_safetensors},
    {"run", 300, seed_run, one_run},
    {"config", 5000, seed_config, one_config},
    {"spec", 1500, seed_spec, one_spec},
};

/* ---- damage ---- */

static const char *const tokens[] = {"0",
                                     "-1",
                                     "1e308",
                                     "nan",
                                     "inf",
                                     "9999999999999999999",
                                     "4294967296",
                                     "18446744073709551615",
                                     "[",
                                     "]",
                                     "{",
                                     "}",
                                     "\"",
                                     "'",
                                     ",",
                                     ":",
                                     "=",
                                     "\n",
                                     "#",
                                     "\\u0000",
                                     "__metadata__",
                                     "data_offsets",
                                     "name=",
                                     "[]",
                                     "(0,)",
                                     "()",
                                     "\xff\xff\xff\xff",
                                     "PK\001\002",
                                     "PK\005\006",
                                     "PK\006\006",
                                     "\x1f\x8b"};

static void
damage(GRand *random, GByteArray *b)
{
    const gint32 n = (gint32)b->len, at = n > 0 ? g_rand_int_range(random, 0, n) : 0;
    const gint32 most = MIN(n - at, 40), span = most > 1 ? g_rand_int_range(random, 1, most) : most;
    const char *token = tokens[g_rand_int_range(random, 0, G_N_ELEMENTS(tokens))];
    g_autofree guint8 *tail = NULL;
    gint32 tail_size;

    switch (n > 0 ? g_rand_int_range(random, 0, 8) : 6) {
    case 0:
        b->data[at] ^= (guint8)(1 << g_rand_int_range(random, 0, 8));
        break;
    case 1:
        b->data[at] = (guint8)g_rand_int_range(random, 0, 256);
        break;
    case 2:
        memset(b->data + at, g_rand_boolean(random) ? 0xff : 0, (size_t)span);
        break;
    case 3:
        g_byte_array_set_size(b, (guint)at);
        break;
    case 4:
        g_byte_array_remove_range(b, (guint)at, (guint)span);
        break;
    case 5: /* a piece twice */
        tail = g_memdup2(b->data + at, (gsize)(n - at));
        g_byte_array_set_size(b, (guint)(at + span));
        put(b, tail, (size_t)(n - at));
        break;
    case 6: /* a token more */
        tail_size = n - at;
        tail = g_memdup2(b->data + at, (gsize)tail_size);
        g_byte_array_set_size(b, (guint)at);
        put_text(b, token);
        put(b, tail, (size_t)tail_size);
        break;
    default: /* a token instead */
        memcpy(b->data + at, token, MIN(strlen(token), (size_t)(n - at)));
        break;
    }
}

static void
run_target(const Target *t, double factor, guint32 seed)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);

    for (int i = 0; i < MAX(1, (int)(t->inputs * factor)); i++) {
        g_autoptr(GByteArray) b = g_byte_array_new();
        const int hits = g_rand_int_range(random, 0, 6);
        g_autofree guint8 *exact = NULL;

        t->seed(b, i);
        for (int k = 0; k < hits; k++)
            damage(random, b);
        exact = g_malloc(MAX(b->len, 1)); /* so that a sanitizer sees the first byte too far */
        if (b->len > 0)
            memcpy(exact, b->data, b->len);
        t->one(exact, b->len);
    }
    printf("%-12s %d inputs\n", t->name, (int)(t->inputs * factor));
}

static void
begin(void)
{
    scratch = g_dir_make_tmp("fmcore-fuzz-XXXXXX", NULL);
    REQUIRE(scratch != NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(FM_FUZZ_TARGET)
    /* Memory that an input of a few bytes asks for must not be there. */
    setrlimit(RLIMIT_AS, &(struct rlimit){(rlim_t)3 << 30, (rlim_t)3 << 30});
#endif
}

#ifdef FM_FUZZ_TARGET
int LLVMFuzzerTestOneInput(const guint8 *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const guint8 *bytes, size_t size)
{
    if (!scratch)
        begin();
    for (size_t i = 0; i < G_N_ELEMENTS(targets); i++)
        if (strcmp(targets[i].name, FM_FUZZ_TARGET) == 0)
            targets[i].one(bytes, size);
    return 0;
}
#else
static void
end(void)
{
    g_autoptr(GDir) d = g_dir_open(scratch, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *file = in_scratch(name);

        g_unlink(file);
    }
    g_rmdir(scratch);
    g_free(scratch);
    for (int i = 0; i < 3; i++)
        g_free(run_bytes[i]);
}

int
main(int argc, char **argv)
{
    const double factor = argc > 1 ? g_ascii_strtod(argv[1], NULL) : 1.0;
    const guint32 seed = argc > 3 ? (guint32)g_ascii_strtoull(argv[3], NULL, 10) : 2385;

    begin();
    for (size_t i = 0; i < G_N_ELEMENTS(targets); i++)
        if (argc < 3 || strcmp(argv[2], targets[i].name) == 0)
            run_target(&targets[i], factor, seed);
    end();
    return 0;
}
#endif
