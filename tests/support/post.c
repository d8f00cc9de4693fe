#include "tests/support/post.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/tx.h"
#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct deed {
    enum { CREATE, APPEND, FLAG, EXPUNGE, META } kind;
    const char *name;
    const char *uids;
    const char *text;
    bool immediate;
    struct draft *draft;
};

static int do_to_mailbox(struct mailbox *mailbox, const struct deed *deed)
{
    struct uidset uids = {0};
    if (deed->kind == APPEND) {
        struct append append = {.draft = deed->draft, .internal_date = 1000000};
        return mailbox_append(mailbox, &append, NULL);
    }
    int rc = uidset_parse(&uids, deed->uids, mailbox_highest_uid(mailbox), NULL);
    if (rc == ERR_OK && deed->kind == FLAG) {
        struct flag_change change = {.mode = FLAGS_ADD};
        rc = flags_add_list(&change.flags, deed->text);
        if (rc == ERR_OK)
            rc = mailbox_flag(mailbox, &uids, &change, NULL);
        flags_free(&change.flags);
    } else if (rc == ERR_OK) {
        rc = mailbox_expunge(mailbox, &uids, deed->immediate, NULL);
    }
    uidset_free(&uids);
    return rc;
}

static int carry_out(struct tx *tx, void *arg)
{
    const struct deed *deed = arg;
    struct name name;
    struct mailbox *mailbox;
    if (deed->kind == META)
        return mailbox_meta_set(tx, NULL, NULL, deed->name, bytes_text(deed->text));
    int rc = name_parse(deed->name, strlen(deed->name), &tx_node(tx)->owner, &name);
    if (rc == ERR_OK && deed->kind == CREATE)
        return mailbox_create(tx, &name, NULL);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &name, NULL, &mailbox);
    return rc ? rc : do_to_mailbox(mailbox, deed);
}

int post_store(const char *directory, const char *name, enum role role, struct store **store)
{
    char path[PATH_MAX];
    scratch_path(path, directory, name);
    int rc = store_init(path, role, NULL, NULL);
    return rc ? rc : store_open(path, NULL, store);
}

int post_create(struct store *store, const char *name)
{
    struct deed deed = {.kind = CREATE, .name = name};
    return store_commit(store, carry_out, &deed, NULL);
}

static int write_noise(struct draft *draft, unsigned number, size_t size)
{
    uint8_t piece[4096];
    uint64_t state = number * UINT64_C(2654435761) + 1;
    while (size) {
        size_t some = size < sizeof piece ? size : sizeof piece;
        for (size_t i = 0; i < some; i++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            piece[i] = (uint8_t)(state >> 56);
        }
        int rc = draft_write(draft, piece, some);
        if (rc)
            return rc;
        size -= some;
    }
    return ERR_OK;
}

static int append_draft(struct store *store, const char *name, struct draft *draft)
{
    struct deed deed = {.kind = APPEND, .name = name, .draft = draft};
    int rc = draft_finish(draft);
    return rc ? rc : store_commit(store, carry_out, &deed, NULL);
}

int post_append(struct store *store, const char *name, unsigned number, size_t size)
{
    struct draft *draft;
    int rc = draft_open(store_db(store), DRAFT_RAW, &draft);
    if (rc)
        return rc;
    rc = write_noise(draft, number, size);
    if (rc == ERR_OK)
        rc = append_draft(store, name, draft);
    draft_close(draft);
    return rc;
}

int post_message(struct store *store, const char *name, struct bytes message, struct guid *guid)
{
    struct draft *draft;
    int rc = draft_open(store_db(store), DRAFT_RAW, &draft);
    if (rc)
        return rc;
    rc = draft_write(draft, message.data, message.size);
    if (rc == ERR_OK)
        rc = append_draft(store, name, draft);
    if (rc == ERR_OK && guid)
        *guid = *draft_guid(draft);
    draft_close(draft);
    return rc;
}

int post_flag(struct store *store, const char *name, const char *uids, const char *flag)
{
    struct deed deed = {.kind = FLAG, .name = name, .uids = uids, .text = flag};
    return store_commit(store, carry_out, &deed, NULL);
}

int post_expunge(struct store *store, const char *name, const char *uids, bool immediate)
{
    struct deed deed = {.kind = EXPUNGE, .name = name, .uids = uids, .immediate = immediate};
    return store_commit(store, carry_out, &deed, NULL);
}

int post_meta(struct store *store, const char *key, const char *value)
{
    struct deed deed = {.kind = META, .name = key, .text = value};
    return store_commit(store, carry_out, &deed, NULL);
}

static int read_facts(struct tx *tx, void *arg)
{
    struct post_facts *facts = arg;
    facts->node = *tx_node(tx);
    facts->position = tx_window(tx)->last;
    facts->base = tx_window(tx)->base;
    return ERR_OK;
}

int post_facts(struct store *store, struct post_facts *facts)
{
    return store_read(store, read_facts, facts);
}

#define DRAFTS 4096u

struct shipment {
    struct position from;
    struct buf entries;
    struct position last;
    struct buf guids;
};

/* A few whole commits, and the GUIDs of what they bring. */
static int pick_entries(struct tx *tx, void *arg)
{
    struct shipment *shipment = arg;
    struct change change = {0};
    buf_reset(&shipment->entries);
    buf_reset(&shipment->guids);
    int rc = journal_copy(tx_db(tx), shipment->from.modseq, SIZE_MAX / 2, &shipment->entries,
                          &shipment->last);
    struct bytes left = buf_view(&shipment->entries);
    while (rc == ERR_OK && left.size) {
        struct entry entry;
        size_t size = entry_size(left);
        rc = entry_decode(bytes_of(left.data, size), &entry);
        if (rc == ERR_OK && entry.kind == ENTRY_APPEND)
            rc = change_decode(&entry, &change);
        for (size_t i = 0; rc == ERR_OK && entry.kind == ENTRY_APPEND && change.introduces &&
                           i < change.record_count;
             i++)
            buf_put(&shipment->guids, change.records[i].guid.bytes, GUID_SIZE);
        left = bytes_of(left.data + size, left.size - size);
    }
    change_free(&change);
    return rc;
}

struct taking {
    struct guid guid;
    struct buf deflated;
};

static int take_content(struct tx *tx, void *arg)
{
    struct taking *taking = arg;
    struct content content;
    buf_reset(&taking->deflated);
    int rc = content_get(tx_db(tx), &taking->guid, &content);
    return rc ? rc : content_copy(tx_db(tx), &content, 0, SIZE_MAX / 2, &taking->deflated);
}

static int bring(struct store *from, struct store *to, const uint8_t *guid, struct draft **draft)
{
    struct taking taking = {0};
    memcpy(taking.guid.bytes, guid, GUID_SIZE);
    *draft = NULL;
    int rc = store_read(from, take_content, &taking);
    if (rc == ERR_OK)
        rc = draft_open(store_db(to), DRAFT_DEFLATED, draft);
    if (rc == ERR_OK)
        rc = draft_write(*draft, taking.deflated.data, taking.deflated.size);
    if (rc == ERR_OK)
        rc = draft_finish(*draft);
    buf_free(&taking.deflated);
    return rc;
}

int post_ship(struct store *from, struct store *to)
{
    struct post_facts there, here = {0};
    struct shipment shipment = {0};
    struct draft **drafts = calloc(DRAFTS, sizeof(void *));
    struct batch batch = {.master = "test", .drafts = drafts};
    int rc = drafts ? post_facts(to, &there) : ERR_NOMEM;
    if (rc == ERR_OK)
        rc = post_facts(from, &here);
    shipment.from = there.position;
    if (rc == ERR_OK)
        rc = store_read(from, pick_entries, &shipment);
    for (size_t at = 0; rc == ERR_OK && at < shipment.guids.size && batch.draft_count < DRAFTS;
         at += GUID_SIZE) {
        rc = bring(from, to, shipment.guids.data + at, &drafts[batch.draft_count]);
        /* What nothing refers to any more is not there; the entries say so themselves. */
        if (rc == ERR_END)
            rc = ERR_OK;
        else
            batch.draft_count++;
    }
    batch.store_id = here.node.store_id;
    batch.entries = buf_view(&shipment.entries);
    if (rc == ERR_OK)
        rc = store_apply(to, &batch, &shipment.last);
    for (size_t i = 0; i < batch.draft_count; i++)
        draft_close(drafts[i]);
    free(drafts);
    buf_free(&shipment.entries);
    buf_free(&shipment.guids);
    return rc == ERR_END ? ERR_OK : rc;
}

static void print_wrong(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

int post_check(struct store *store)
{
    uint64_t wrong;
    int rc = check_store(store, true, print_wrong, NULL, &wrong);
    if (rc)
        printf("check: %s\n", err_message());
    return rc ? -1 : (int)wrong;
}

int post_hurt(struct tx *tx, uint32_t number, uint32_t uid, bool garble)
{
    uint8_t key[8], row[512];
    struct bytes value;
    save_be32(key, number);
    save_be32(key + 4, uid);
    if (!garble)
        return db_delete(tx_db(tx), TABLE_RECORDS, bytes_of(key, sizeof key));
    int rc = db_get(tx_db(tx), TABLE_RECORDS, bytes_of(key, sizeof key), &value);
    if (rc || value.size > sizeof row)
        return rc;
    memcpy(row, value.data, value.size);
    row[value.size / 2] ^= 0x40;
    return db_put(tx_db(tx), TABLE_RECORDS, bytes_of(key, sizeof key), bytes_of(row, value.size));
}
