/* Changes: what is in the body of a journal entry, with all that is needed to do it and to undo it.
 *
 * The same struct is filled by a master from a caller's wish and by a replica from an entry's
 * bytes, and carried out by the same code (mailbox/apply.h). Nothing here touches a store.
 */
#ifndef SHIPLOG_MAILBOX_CHANGE_H
#define SHIPLOG_MAILBOX_CHANGE_H

#include "base/uidset.h"
#include "journal/entry.h"
#include "mailbox/header.h"
#include "mailbox/record.h"

#define CHANGE_MAX_RECORDS 4096u /* in one entry, and in all of one commit */
#define USER_MAX_SIZE 400u       /* bytes of a user's name */
#define META_KEY_MAX_SIZE 255u   /* bytes: key and user must fit one LMDB key */
#define META_VALUE_MAX_SIZE 65536u

/* What a record (or a user's seen set, or a meta value) had before: needed to undo. */
struct former {
    uint64_t modseq;
    int64_t changed;
};

/* A value that may be absent, be a tombstone, or be there. */
enum value_state { VALUE_NONE, VALUE_REMOVED, VALUE_SET };
struct versioned {
    enum value_state state;
    struct bytes value;
    struct former version;
};

struct change {
    enum entry_kind kind;
    uint64_t mailbox; /* id; 0: about the store */
    uint64_t modseq;  /* of its entry */
    int64_t time;     /* of its entry */

    /* The header's facts; `facts_changed` are FACT_… bits, only these are meaningful after
     * decoding. */
    struct facts before;
    struct facts after;
    uint32_t facts_changed;

    /* flags, seen, touch, purge: which UIDs */
    struct uidset uids;
    /* flags, seen, touch: what each of these had before, in UID order */
    struct former *former;
    size_t former_count;
    size_t former_capacity;

    /* flags: what all of them had before and have now */
    uint32_t system_before;
    uint32_t system_after;
    struct bytes keywords_before; /* canonical sets */
    struct bytes keywords_after;

    /* append: records as they became. expunge: as they were before. bury: the tombstones as they
     * became, `buried_before` what was there (uid 0: nothing). Their keyword sets are in `sets`. */
    struct record *records;
    size_t record_count;
    size_t record_capacity;
    struct record *buried_before;
    size_t buried_capacity;
    struct bytes *sets; /* canonical keyword sets that the records use, without duplicates */
    size_t set_count;
    size_t set_capacity;
    bool introduces;    /* append: no record referred to this content before */
    uint32_t successor; /* expunge of a single record: the UID under which it goes on; 0: none */

    /* seen, meta */
    struct bytes user;
    bool seen_after;               /* seen: whether the UIDs became seen, or ceased to be */
    struct versioned value_before; /* seen: only its version matters */
    /* meta */
    struct bytes key;
    enum value_state value_after_state;
    struct bytes value_after;

    struct bytes mark; /* mark: its body (journal/epoch.h) */
};

void change_reset(struct change *change); /* empties it, keeps its memory */
void change_free(struct change *change);

/* ERR_NOMEM. Views that are stored must outlive the change. */
int change_add_former(struct change *change, uint64_t modseq, int64_t changed);
int change_add_record(struct change *change, const struct record *record);
int change_add_buried(struct change *change, const struct record *tombstone,
                      const struct record *before);
/* Makes `set` (canonical) known to the change; needed for every record with keywords. */
int change_add_set(struct change *change, struct bytes set);

/* Appends the body's bytes. */
int change_encode(const struct change *change, struct buf *out);
/* From an entry that entry_decode() accepted. Views point into the entry's bytes. ERR_CORRUPT. */
int change_decode(const struct entry *entry, struct change *change);

/* How many records it is about. */
uint64_t change_size(const struct change *change);
/* The UIDs that it is about, for people. ERR_NOMEM. */
int change_uids(const struct change *change, struct uidset *uids);

#endif
