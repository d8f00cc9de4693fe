/* An import against deflating and hashing the same messages on one core.
 *
 * usage: import BIN DIRECTORY MAIL [ROUNDS]
 * BIN holds the programs. The two take turns: `shiplog import` of MAIL into an empty store, from
 * the start of the program to its end, files read and commits durable; and, with every message in
 * memory already, zlib at the store's level and SHA-256.
 */
#include "base/err.h"
#include "base/hash.h"
#include "bench/programs.h"
#include "tools/mail/source.h"

#include <sys/stat.h>
#include <zlib.h>

#define DEFLATE_LEVEL 6

struct plain {
    z_stream zlib;
    struct buf raw;
    struct buf deflated;
    double seconds;
    uint64_t messages;
    uint64_t bytes;
};

static void read_message(struct mail_source *source, struct buf *raw)
{
    size_t got = 1;
    buf_reset(raw);
    while (got) {
        uint8_t *room = buf_reserve(raw, 1u << 16);
        bench_require(!room, "memory", "short");
        bench_require(mail_source_read(source, room, 1u << 16, &got), "read", err_message());
        raw->size -= (1u << 16) - got;
    }
}

static void deflate_and_hash(struct plain *plain)
{
    struct guid guid;
    buf_reset(&plain->deflated);
    size_t size = deflateBound(&plain->zlib, plain->raw.size);
    uint8_t *room = buf_reserve(&plain->deflated, size);
    bench_require(!room, "memory", "short");
    double start = bench_now();
    deflateReset(&plain->zlib);
    plain->zlib.next_in = plain->raw.data;
    plain->zlib.avail_in = (uInt)plain->raw.size;
    plain->zlib.next_out = room;
    plain->zlib.avail_out = (uInt)size;
    bench_require(deflate(&plain->zlib, Z_FINISH) != Z_STREAM_END, "deflate", "failed");
    struct guid_hash *hash = hash_guid_start();
    bench_require(!hash, "memory", "short");
    hash_guid_update(hash, plain->raw.data, plain->raw.size);
    hash_guid_finish(hash, &guid);
    plain->seconds += bench_now() - start;
    plain->messages++;
    plain->bytes += plain->raw.size;
}

static void run_plain(struct plain *plain, const char *mail)
{
    struct mail_source *source;
    struct mail_item item;
    int rc;
    plain->seconds = 0;
    plain->messages = plain->bytes = 0;
    bench_require(mail_source_open(mail, &source), "open", err_message());
    while ((rc = mail_source_next(source, &item)) == ERR_OK) {
        read_message(source, &plain->raw);
        deflate_and_hash(plain);
    }
    bench_require(rc != ERR_END, "read", err_message());
    mail_source_close(source);
}

static double run_import(const char *bin, const char *store, char *mail)
{
    char program[1024];
    char line[256];
    snprintf(program, sizeof program, "%s/shiplog", bin);
    char *init[] = {program, "-s", (char *)(uintptr_t)store, "init", NULL};
    char *import[] = {program, "-s", (char *)(uintptr_t)store, "import", "INBOX", mail, NULL};
    program_run(init, line, sizeof line);
    double start = bench_now();
    program_run(import, line, sizeof line);
    return bench_now() - start;
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 4 ? strtoul(argv[4], NULL, 10) : 5;
    char store[1024];
    struct plain plain = {0};
    if (argc < 4 || rounds == 0) {
        fputs("usage: import BIN DIRECTORY MAIL [ROUNDS]\n", stderr);
        return 2;
    }
    double *ours = calloc(rounds, sizeof *ours);
    double *theirs = calloc(rounds, sizeof *theirs);
    bench_require(!ours || !theirs, "memory", "short");
    bench_require(deflateInit(&plain.zlib, DEFLATE_LEVEL) != Z_OK, "zlib", "failed");
    mkdir(argv[2], 0700);
    for (size_t round = 0; round < rounds; round++) {
        snprintf(store, sizeof store, "%s/store%zu", argv[2], round);
        run_plain(&plain, argv[3]);
        theirs[round] = plain.seconds;
        ours[round] = run_import(argv[1], store, argv[3]);
    }
    double a = bench_quantile(ours, rounds, 0.5);
    double b = bench_quantile(theirs, rounds, 0.5);
    printf("import of %llu messages, %.1f MB: %.3f s; deflating and hashing them on one core %.3f "
           "s; speed %.2f of that (medians of %zu)\n",
           (unsigned long long)plain.messages, (double)plain.bytes / 1e6, a, b, b / a, rounds);
    deflateEnd(&plain.zlib);
    buf_free(&plain.raw);
    buf_free(&plain.deflated);
    free(ours);
    free(theirs);
    return 0;
}
