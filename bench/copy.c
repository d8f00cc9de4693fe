/* A base copy against the disk: as many bytes written one after another and synced.
 *
 * usage: copy DIRECTORY [MEGABYTES [ROUNDS]]
 * The store holds messages of 100 KB that do not deflate, in the order in which they came. Rounds
 * of both alternate; what is cold is read from the disk first.
 */
#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/copy.h"
#include "mailbox/mailbox.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE_SIZE 100000u
#define BATCH 64u
#define PIECE (1u << 20)

struct fill {
    struct name name;
    struct draft *drafts[BATCH];
    bool fresh;
};

static int append(struct tx *tx, void *arg)
{
    struct fill *fill = arg;
    struct mailbox *mailbox;
    int rc = fill->fresh ? mailbox_create(tx, &fill->name, NULL) : ERR_OK;
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &fill->name, NULL, &mailbox);
    for (unsigned i = 0; i < BATCH && rc == ERR_OK; i++) {
        struct append message = {.draft = fill->drafts[i]};
        rc = mailbox_append(mailbox, &message, NULL);
    }
    return rc;
}

static void noise(uint8_t *to, size_t size, uint64_t *state)
{
    for (size_t i = 0; i < size; i++) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        to[i] = (uint8_t)(*state >> 56);
    }
}

static void fill_store(struct store *store, unsigned megabytes)
{
    static uint8_t message[MESSAGE_SIZE];
    struct owner owner = {.user = "owner"};
    struct fill fill = {.fresh = true};
    uint64_t state = 1;
    bench_require(name_parse("box", 3, &owner, &fill.name), "name", err_message());
    for (uint64_t done = 0; done < (uint64_t)megabytes << 20; done += BATCH * MESSAGE_SIZE) {
        for (unsigned i = 0; i < BATCH; i++) {
            noise(message, sizeof message, &state);
            bench_require(draft_open(store_db(store), DRAFT_RAW, &fill.drafts[i]), "draft",
                          err_message());
            bench_require(draft_write(fill.drafts[i], message, sizeof message), "draft",
                          err_message());
            bench_require(draft_finish(fill.drafts[i]), "draft", err_message());
        }
        bench_require(store_commit(store, append, &fill, NULL), "commit", err_message());
        fill.fresh = false;
        for (unsigned i = 0; i < BATCH; i++)
            draft_close(fill.drafts[i]);
    }
}

/* Both ways start with the pages of the store out of memory. */
static void forget(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
}

static double write_plainly(const char *path, uint64_t size)
{
    static uint8_t piece[PIECE];
    uint64_t state = 2;
    noise(piece, sizeof piece, &state);
    double start = bench_now();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bench_require(fd < 0, "open", path);
    for (uint64_t done = 0; done < size; done += sizeof piece)
        bench_require(write(fd, piece, sizeof piece) != (ssize_t)sizeof piece, "write", path);
    bench_require(fsync(fd), "sync", path);
    close(fd);
    double seconds = bench_now() - start;
    unlink(path);
    return seconds;
}

static double copy_once(const char *original, const char *directory, const char *data)
{
    struct store *store;
    bench_require(store_open(original, NULL, &store), "open", err_message());
    double start = bench_now();
    struct store_copy copy = {.directory = directory};
    bench_require(store_copy(store, &copy), "copy", err_message());
    double seconds = bench_now() - start;
    store_close(store);
    unlink(data);
    rmdir(directory);
    return seconds;
}

int main(int argc, char **argv)
{
    char original[4096], directory[4096], data[4096], plain[4096], from[4096];
    struct store *store;
    struct stat st;
    unsigned megabytes = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 512;
    unsigned rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 5;
    if (argc < 2) {
        fprintf(stderr, "usage: copy DIRECTORY [MEGABYTES [ROUNDS]]\n");
        return 2;
    }
    mkdir(argv[1], 0700);
    snprintf(original, sizeof original, "%s/original", argv[1]);
    snprintf(directory, sizeof directory, "%s/copy", argv[1]);
    snprintf(data, sizeof data, "%s/copy/data.mdb", argv[1]);
    snprintf(from, sizeof from, "%s/original/data.mdb", argv[1]);
    snprintf(plain, sizeof plain, "%s/plain", argv[1]);
    bench_require(store_init(original, ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_open(original, NULL, &store), "open", err_message());
    fill_store(store, megabytes);
    store_close(store);
    bench_require(stat(from, &st), "stat", from);
    double *ratios = calloc(rounds ? rounds : 1, sizeof *ratios);
    double size = (double)st.st_size / 1e6;
    for (unsigned i = 0; i < rounds && ratios; i++) {
        bool cold = i % 2;
        if (cold)
            forget(from);
        double copied = copy_once(original, directory, data);
        double plainly = write_plainly(plain, (uint64_t)st.st_size);
        ratios[i] = plainly / copied;
        printf("copy %.0f MB/s (%s), plain writing %.0f MB/s, ratio %.2f\n", size / copied,
               cold ? "cold" : "warm", size / plainly, ratios[i]);
    }
    if (rounds && ratios)
        printf("median ratio %.2f (%.0f MB)\n", bench_quantile(ratios, rounds, 0.5), size);
    free(ratios);
    return 0;
}
