/* Questions of a repair, as any peer may ask them, to a small store: what is answered fits, and the
 * store is read only. */
#include "agent/answer.h"
#include "agent/ask.h"
#include "base/err.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[PATH_MAX];
static struct store *store;

static void end(void)
{
    store_close(store);
    scratch_remove(directory);
}

/* Mailboxes, live messages and a tombstone, values; its ids are not those of the corpus, but an id
 * of 0 stands for any mailbox below. */
static void begin(void)
{
    char path[PATH_MAX];
    scratch_make(directory);
    atexit(end);
    scratch_path(path, directory, "store");
    int rc = store_init(path, ROLE_MASTER, NULL, NULL);
    if (rc == ERR_OK)
        rc = store_open(path, NULL, &store);
    if (rc == ERR_OK)
        rc = post_create(store, "INBOX");
    for (unsigned i = 0; rc == ERR_OK && i < 5; i++)
        rc = post_append(store, "INBOX", i, 500);
    if (rc == ERR_OK)
        rc = post_flag(store, "INBOX", "2:3", "work");
    if (rc == ERR_OK)
        rc = post_expunge(store, "INBOX", "4", false);
    if (rc == ERR_OK)
        rc = post_meta(store, "color", "blue");
    if (rc) {
        fprintf(stderr, "%s\n", err_message());
        abort();
    }
}

static int first_mailbox(struct tx *tx, void *arg)
{
    struct header header;
    uint64_t id = 0;
    int rc = header_next(tx_db(tx), &id, &header);
    *(uint64_t *)arg = header.id;
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf question = {0};
    struct buf out = {0};
    static uint64_t id;
    if (!store) {
        begin();
        if (store_read(store, first_mailbox, &id) != ERR_OK)
            abort();
    }
    buf_put(&question, data, size);
    if (!question.failed && size >= 9 && load_u64(data + 1) == 0 && data[0] != ASK_CONTENT)
        save_u64(question.data + 1, id);
    if (answer(store, buf_view(&question), &out) == ERR_OK && (!out.size || out.size > ANSWER_MAX))
        abort();
    buf_free(&question);
    buf_free(&out);
    return 0;
}
