/* Opening mailboxes and reading them as a user. Changes are in mailbox/edit.c, expiry in
 * mailbox/expire.c. */
#include "mailbox/mailbox.h"

#include "base/err.h"
#include "mailbox/tx.h"

#include <stdlib.h>
#include <string.h>

static int open_box(struct tx *tx, struct box *box, const char *user, struct mailbox **out)
{
    char owner_text[USER_MAX_SIZE];
    struct owner owner;
    name_owner(&box->header.facts.name, &owner);
    owner_print(&owner, owner_text);
    if (user && (!*user || strlen(user) > USER_MAX_SIZE / 2))
        return fail(ERR_INVALID, "user \"%s\": not 1 to %u bytes", user, USER_MAX_SIZE / 2);
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    char *text = strdup(user ? user : owner_text);
    if (!mailbox || !text) {
        free(mailbox);
        free(text);
        return fail(ERR_NOMEM, "out of memory");
    }
    mailbox->tx = tx;
    mailbox->box = box;
    mailbox->user_text = text;
    mailbox->user = bytes_text(text);
    mailbox->as_owner = strcmp(text, owner_text) == 0;
    mailbox->next = tx->mailboxes;
    tx->mailboxes = mailbox;
    *out = mailbox;
    return ERR_OK;
}

/* Before a mailbox is said to be unknown: no header is missing, and none bears `name` (NULL: only
 * an id was asked for). */
static int prove_unknown(struct tx *tx, const struct name *name)
{
    struct header header;
    uint64_t id = 0;
    uint64_t shares = 0;
    int rc;
    while ((rc = header_next(tx->db, &id, &header)) == ERR_OK) {
        shares += header_store_share(&header);
        if (name && header.facts.state == MAILBOX_LIVE && name_equal(&header.facts.name, name))
            return fail(ERR_CORRUPT, "the table of names does not lead to mailbox id:%016llx",
                        (unsigned long long)id);
    }
    /* What this transaction changed is not in the sum yet. */
    if (rc == ERR_END && !tx->boxes && shares != tx->node.mailboxes)
        return fail(ERR_CORRUPT, "the mailboxes are not those that the store's digest was made of");
    return rc == ERR_END ? ERR_OK : rc;
}

int mailbox_unknown(struct tx *tx, uint64_t id)
{
    int rc = prove_unknown(tx, NULL);
    return rc ? rc
              : fail(ERR_NOTFOUND, "mailbox id:%016llx: there is none", (unsigned long long)id);
}

int mailbox_open_id(struct tx *tx, uint64_t id, const char *user, struct mailbox **mailbox)
{
    struct box *box;
    int rc = tx_box(tx, id, &box);
    /* A repair may have brought what is in it before the entry that makes it. */
    if (rc == ERR_OK && box->header.facts.state == MAILBOX_NONE)
        rc = ERR_END;
    if (rc == ERR_END)
        return mailbox_unknown(tx, id);
    return rc ? rc : open_box(tx, box, user, mailbox);
}

int mailbox_open(struct tx *tx, const struct name *name, const char *user, struct mailbox **mailbox)
{
    uint64_t id;
    int rc = header_id_of(tx->db, name, &id);
    if (rc == ERR_END && (rc = prove_unknown(tx, name)) == ERR_OK) {
        char text[NAME_TEXT_SIZE];
        name_print(name, &tx->node.owner, text);
        return fail(ERR_NOTFOUND, "mailbox %s: there is none", text);
    }
    return rc ? rc : mailbox_open_id(tx, id, user, mailbox);
}

const struct header *mailbox_header(const struct mailbox *mailbox)
{
    return &mailbox->box->header;
}

static int load_seen(struct mailbox *mailbox)
{
    struct versioned version;
    if (mailbox->seen_loaded)
        return ERR_OK;
    int rc =
        seen_get(mailbox->tx->db, mailbox->box->header.id, mailbox->user, &mailbox->seen, &version);
    mailbox->seen_loaded = rc == ERR_OK;
    return rc;
}

static int as_user(struct mailbox *mailbox, struct record *records, size_t count)
{
    if (mailbox->as_owner)
        return ERR_OK;
    int rc = load_seen(mailbox);
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        records[i].flags &= ~FLAG_SEEN;
        if (uidset_contains(&mailbox->seen, records[i].uid))
            records[i].flags |= FLAG_SEEN;
    }
    return rc;
}

int mailbox_record(struct mailbox *mailbox, uint32_t uid, struct record *record)
{
    int rc = record_get(mailbox->tx->db, mailbox->box->header.number, uid, record);
    return rc ? rc : as_user(mailbox, record, 1);
}

int mailbox_batch(struct mailbox *mailbox, uint32_t first, struct record *records, size_t most,
                  size_t *count)
{
    int rc =
        record_batch(mailbox->tx->db, mailbox->box->header.number, first, records, most, count);
    return rc ? rc : as_user(mailbox, records, *count);
}

#define SELECT_BATCH 64u

int mailbox_select(struct mailbox *mailbox, const struct uidset *wanted, struct uidset *live)
{
    struct record records[SELECT_BATCH];
    uint32_t from = 1;
    uidset_clear(live);
    do {
        size_t count;
        int rc = record_batch_in(mailbox->tx->db, mailbox->box->header.number, wanted, &from,
                                 records, SELECT_BATCH, &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++)
            if (record_live(&records[i]))
                rc = uidset_add(live, records[i].uid);
        if (rc)
            return rc;
    } while (from);
    return ERR_OK;
}

uint32_t mailbox_highest_uid(const struct mailbox *mailbox)
{
    return mailbox->box->header.facts.uidnext - 1;
}
