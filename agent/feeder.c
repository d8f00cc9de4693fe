#include "agent/feeder.h"

#include "agent/log.h"
#include "base/err.h"
#include "mailbox/change.h"
#include "mailbox/content.h"
#include "mailbox/lacking.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE (192u << 10) /* bytes of content in one frame */

/* Content that is being sent. */
struct sending {
    bool active;
    enum content_purpose purpose;
    struct guid guid;
    uint64_t number; /* as the store counts it; another one: it was purged and came again */
    uint64_t offset;
};

struct feeder {
    struct store *store;
    struct position after; /* the last entry that was sent */
    bool ready;            /* the entry behind `after` has had its content */
    struct damage damage;  /* that the follower could not mend */
    struct sending sending;
    struct buf wants; /* GUIDs */
    size_t wanted;    /* bytes of these that were dealt with */
    struct change change;
    /* of one fill */
    struct buf *out;
    size_t limit;
    bool all;
};

void feeder_refuse(struct verdict *verdict, enum refusal why, const char *format, ...)
{
    va_list args;
    *verdict = (struct verdict){.judgement = JUDGE_REFUSE, .why = why};
    va_start(args, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, args);
    va_end(args);
}

/* The follower must be made equal first; printf-style. */
static void demand_repair(struct verdict *verdict, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void demand_repair(struct verdict *verdict, const char *format, ...)
{
    va_list args;
    verdict->judgement = JUDGE_REPAIR;
    va_start(args, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, args);
    va_end(args);
}

struct checking {
    const struct hello *hello;
    struct tried tried;
    struct verdict *verdict;
    bool fenced; /* by what the greeting shows */
};

static int check_position(struct tx *tx, struct position position, struct verdict *verdict)
{
    int rc = journal_holds(tx_db(tx), position);
    if (rc == ERR_TRIMMED)
        demand_repair(verdict, "gap: the follower is at %llu, the journal here begins behind %llu",
                      (unsigned long long)position.modseq,
                      (unsigned long long)tx_window(tx)->base.modseq);
    else if (rc == ERR_END)
        demand_repair(verdict,
                      "fork: the follower's position %llu:%016llx is not on the journal here, "
                      "which ends at %llu",
                      (unsigned long long)position.modseq, (unsigned long long)position.chain,
                      (unsigned long long)tx_window(tx)->last.modseq);
    else
        return rc;
    return ERR_OK;
}

static int look_for_damage(struct tx *tx, struct damage *damage)
{
    int rc = stop_any(tx_db(tx), &damage->stops);
    return rc ? rc : lacking_count(tx_db(tx), &damage->lacking);
}

/* Damage at either end: what cannot be mended is not tried again and again, and does not keep the
 * other mailboxes from being followed. */
static int check_damage(struct tx *tx, const struct checking *work)
{
    const struct hello *hello = work->hello;
    struct damage *damage = &work->verdict->damage;
    int rc = look_for_damage(tx, damage);
    bool stops = damage->stops;
    if (rc)
        return rc;
    if (stops && tx_node(tx)->role == ROLE_REPLICA)
        feeder_refuse(work->verdict, REFUSAL_NOT_READY, "this node is being repaired itself");
    else if (work->verdict->judgement != JUDGE_WELCOME)
        return ERR_OK;
    else if (!work->tried.repair && hello->repairing)
        demand_repair(work->verdict, "mailboxes of the follower wait to be repaired");
    else if (!work->tried.repair && stops)
        demand_repair(work->verdict, "mailboxes of the master are damaged");
    else if (!work->tried.repair && position_equal(hello->position, tx_window(tx)->last) &&
             hello->digest != node_digest(tx_node(tx)))
        demand_repair(work->verdict, "at the same position the digests differ");
    else if (!work->tried.heal && damage->lacking && !hello->dry_run)
        work->verdict->judgement = JUDGE_HEAL;
    return ERR_OK;
}

static int knows(struct tx *tx, struct epoch_id id, bool *known)
{
    struct epoch epoch;
    int rc = epoch_get(tx_db(tx), id, &epoch);
    *known = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

/* Two masters of one store meet: the one of the earlier epoch learns of it. */
static int check_master(struct tx *tx, struct checking *work)
{
    struct epoch_id mine = tx_node(tx)->epoch;
    struct epoch_id theirs = work->hello->epoch;
    bool known;
    int rc = knows(tx, theirs, &known);
    if (rc)
        return rc;
    if (epoch_compare(mine, theirs) > 0) {
        feeder_refuse(work->verdict, REFUSAL_EPOCH, "there is a later epoch than %u: %u:%016llx",
                      theirs.number, mine.number, (unsigned long long)mine.node);
        work->verdict->epoch = mine.number;
        return ERR_OK;
    }
    work->fenced = !known && tx_node(tx)->role == ROLE_MASTER;
    feeder_refuse(work->verdict, REFUSAL_STORE,
                  work->fenced ? "this node is fenced by your epoch" : "a master follows nobody");
    return ERR_OK;
}

static int check(struct tx *tx, void *arg)
{
    struct checking *work = arg;
    const struct hello *hello = work->hello;
    const struct node *node = tx_node(tx);
    struct verdict *verdict = work->verdict;
    struct position position = hello->position;
    if (node->store_id == 0) {
        feeder_refuse(verdict, REFUSAL_NOT_READY, "this node has met no master yet");
        return ERR_OK;
    }
    if (hello->node_id == node->node_id) {
        feeder_refuse(verdict, REFUSAL_STORE, "a node cannot follow itself");
        return ERR_OK;
    }
    if (hello->store_id && hello->store_id != node->store_id && hello->adopt && !hello->master &&
        !work->tried.repair) {
        demand_repair(verdict, "a store with a history of its own");
        return ERR_OK;
    }
    if (hello->store_id && hello->store_id != node->store_id) {
        feeder_refuse(verdict, REFUSAL_STORE, "another store: %016llx here, %016llx there",
                      (unsigned long long)node->store_id, (unsigned long long)hello->store_id);
        return ERR_OK;
    }
    if (hello->master)
        return check_master(tx, work);
    if (hello->store_id == 0)
        position = (struct position){.chain = entry_chain_start(node->store_id)};
    *verdict = (struct verdict){.welcome = {.store_id = node->store_id,
                                            .node_id = node->node_id,
                                            .base = tx_window(tx)->base,
                                            .last = tx_window(tx)->last,
                                            .digest = node_digest(node)}};
    int rc = check_position(tx, position, verdict);
    return rc ? rc : check_damage(tx, work);
}

void feeder_check(struct store *store, const struct hello *hello, struct tried tried,
                  struct verdict *verdict)
{
    struct checking work = {.hello = hello, .tried = tried, .verdict = verdict};
    if (hello->oldest > PROTOCOL_VERSION || hello->newest < PROTOCOL_VERSION) {
        feeder_refuse(verdict, REFUSAL_VERSION,
                      "version %u of the protocol is spoken here, %u to %u there", PROTOCOL_VERSION,
                      hello->oldest, hello->newest);
        return;
    }
    int rc = store_read(store, check, &work);
    if (rc == ERR_OK && work.fenced)
        rc = store_fence(store, FENCE_EPOCH, hello->epoch.number);
    if (rc)
        feeder_refuse(verdict, REFUSAL_OTHER, "%s", err_message());
}

int feeder_open(struct store *store, const struct hello *hello, const struct verdict *verdict,
                struct feeder **out)
{
    struct feeder *feeder = calloc(1, sizeof *feeder);
    *out = feeder;
    if (!feeder)
        return fail(ERR_NOMEM, "out of memory");
    feeder->store = store;
    feeder->after = hello->position;
    if (hello->store_id == 0)
        feeder->after = (struct position){.chain = entry_chain_start(verdict->welcome.store_id)};
    feeder->damage = verdict->damage;
    return ERR_OK;
}

void feeder_close(struct feeder *feeder)
{
    if (!feeder)
        return;
    buf_free(&feeder->wants);
    change_free(&feeder->change);
    free(feeder);
}

int feeder_want(struct feeder *feeder, struct bytes guids)
{
    if (feeder->wants.size - feeder->wanted + guids.size > SOURCE_WANTS_MAX * GUID_SIZE)
        return fail(ERR_PROTOCOL, "more content asked for than one can wait for");
    buf_put(&feeder->wants, guids.data, guids.size);
    return feeder->wants.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static bool is_full(const struct feeder *feeder)
{
    return feeder->out->size >= feeder->limit;
}

/* The content is not sent, or no further. */
static void give_up_content(struct feeder *feeder, enum content_state state)
{
    struct content_part part = {
        .guid = feeder->sending.guid, .purpose = feeder->sending.purpose, .state = state};
    message_encode_content(&part, feeder->out);
    feeder->sending.active = false;
}

static int send_piece(struct feeder *feeder, struct db_txn *txn, const struct content *content)
{
    struct sending *sending = &feeder->sending;
    struct buf data = {0};
    int rc = content_copy(txn, content, sending->offset, PIECE_SIZE, &data);
    if (rc == ERR_CORRUPT || rc == ERR_END) {
        char text[GUID_TEXT_SIZE];
        guid_print(&sending->guid, text);
        log_warning("content-unreadable", "guid=%s reason=\"%s\"", text,
                    rc == ERR_END ? "it is empty" : err_message());
        give_up_content(feeder, CONTENT_MISSING);
        rc = ERR_OK;
    } else if (rc == ERR_OK) {
        uint64_t end = sending->offset + data.size;
        struct content_part part = {.guid = sending->guid,
                                    .purpose = sending->purpose,
                                    .state = end == content->stored ? CONTENT_LAST : CONTENT_PART,
                                    .size = content->size,
                                    .stored = content->stored,
                                    .offset = sending->offset,
                                    .data = buf_view(&data)};
        message_encode_content(&part, feeder->out);
        sending->offset = end;
        sending->active = end < content->stored;
    }
    buf_free(&data);
    return rc;
}

/* Goes on with the content until it is all sent or the fill is full. */
static int send_content(struct feeder *feeder, struct tx *tx)
{
    struct sending *sending = &feeder->sending;
    struct content content;
    int rc = content_find(tx_db(tx), &sending->guid, &content);
    if (rc == ERR_END || (rc == ERR_OK && content.references == 0)) {
        give_up_content(feeder, CONTENT_GONE);
        return ERR_OK;
    }
    if (rc == ERR_CORRUPT || (rc == ERR_OK && content.number == 0)) {
        give_up_content(feeder, CONTENT_MISSING);
        return ERR_OK;
    }
    if (rc == ERR_OK && content.number != sending->number) {
        sending->number = content.number;
        sending->offset = 0;
    }
    while (rc == ERR_OK && sending->active && !is_full(feeder))
        rc = send_piece(feeder, tx_db(tx), &content);
    return rc;
}

static void begin_content(struct feeder *feeder, enum content_purpose purpose, const void *guid)
{
    feeder->sending = (struct sending){.active = true, .purpose = purpose};
    memcpy(feeder->sending.guid.bytes, guid, GUID_SIZE);
}

static int send_wanted(struct feeder *feeder, struct tx *tx)
{
    int rc = ERR_OK;
    while (rc == ERR_OK && feeder->wanted < feeder->wants.size && !is_full(feeder)) {
        begin_content(feeder, CONTENT_WANTED, feeder->wants.data + feeder->wanted);
        feeder->wanted += GUID_SIZE;
        rc = send_content(feeder, tx);
    }
    if (feeder->wanted == feeder->wants.size) {
        buf_reset(&feeder->wants);
        feeder->wanted = 0;
    }
    return rc;
}

/* Whether content goes before this entry that was not sent yet; it is begun then. */
static int look_for_content(struct feeder *feeder, const struct entry *entry)
{
    if (feeder->ready || entry->kind != ENTRY_APPEND)
        return ERR_OK;
    int rc = change_decode(entry, &feeder->change);
    if (rc || !feeder->change.introduces || feeder->change.record_count == 0)
        return rc;
    begin_content(feeder, CONTENT_AHEAD, feeder->change.records[0].guid.bytes);
    feeder->ready = true;
    return ERR_OK;
}

struct run {
    size_t begun; /* of the frame of entries that is open */
    bool open;
};

static void close_run(struct run *run, struct buf *out)
{
    if (run->open)
        frame_end(out, run->begun);
    run->open = false;
}

static void add_entry(struct run *run, struct buf *out, struct bytes encoded)
{
    /* A frame holds one entry of the largest size, or many small ones. */
    if (run->open && out->size - run->begun + encoded.size > FRAME_MAX_PAYLOAD)
        close_run(run, out);
    if (!run->open)
        run->begun = frame_begin(out, FRAME_ENTRIES);
    run->open = true;
    buf_put(out, encoded.data, encoded.size);
}

static int send_entries(struct feeder *feeder, struct tx *tx)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    struct run run = {0};
    int rc = journal_cursor_open(tx_db(tx), &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, feeder->after.modseq + 1, &entry, &encoded); rc == ERR_OK;
         rc = journal_next(cursor, &entry, &encoded)) {
        if (is_full(feeder))
            break;
        rc = look_for_content(feeder, &entry);
        if (rc == ERR_OK && feeder->sending.active) {
            close_run(&run, feeder->out);
            rc = send_content(feeder, tx);
        }
        if (rc || feeder->sending.active)
            break;
        add_entry(&run, feeder->out, encoded);
        feeder->after = (struct position){.modseq = entry.modseq, .chain = entry.chain};
        feeder->ready = false;
    }
    close_run(&run, feeder->out);
    journal_cursor_close(cursor);
    feeder->all = rc == ERR_END;
    return rc == ERR_END ? ERR_OK : rc;
}

/* The journal may have been trimmed or replaced since the last time. */
static int check_after(struct feeder *feeder, struct tx *tx)
{
    if (position_equal(feeder->after, tx_window(tx)->last))
        return ERR_OK;
    int rc = journal_holds(tx_db(tx), feeder->after);
    return rc == ERR_END ? fail(ERR_DIFFERS, "the journal here was replaced") : rc;
}

/* Damage that was found here since the follower came: it may have what is lost, so it is to come
 * again. A replica has its own upstream to ask. */
static int check_sound(struct feeder *feeder, struct tx *tx)
{
    struct damage now;
    int rc = look_for_damage(tx, &now);
    if (rc || tx_node(tx)->role != ROLE_MASTER)
        return rc;
    bool more = now.lacking > feeder->damage.lacking || (now.stops && !feeder->damage.stops);
    feeder->damage = now;
    return more ? fail(ERR_DIFFERS, "damage was found here that a follower may mend") : ERR_OK;
}

static int fill(struct tx *tx, void *arg)
{
    struct feeder *feeder = arg;
    int rc = check_after(feeder, tx);
    if (rc == ERR_OK)
        rc = check_sound(feeder, tx);
    if (rc == ERR_OK && feeder->sending.active)
        rc = send_content(feeder, tx);
    if (rc == ERR_OK && !feeder->sending.active)
        rc = send_wanted(feeder, tx);
    if (rc == ERR_OK && !feeder->sending.active && !feeder->wants.size && !is_full(feeder))
        rc = send_entries(feeder, tx);
    return rc;
}

int feeder_fill(struct feeder *feeder, size_t most, struct buf *out, bool *all)
{
    feeder->out = out;
    feeder->limit = out->size + most;
    feeder->all = false;
    int rc = store_read(feeder->store, fill, feeder);
    *all = feeder->all;
    if (rc == ERR_OK && out->failed)
        rc = fail(ERR_NOMEM, "out of memory");
    return rc;
}
