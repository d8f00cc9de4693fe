/* Taking a replica's own changes of one mailbox in, at the master: one commit, together with the
 * mark that says so.
 *
 * What the replica has was fetched before (struct merge_other); what the master has is read within
 * the commit, so that whatever users did in between is seen. The decisions are those of
 * mailbox/rules.h. Afterwards the replica is simply made equal to the master.
 */
#ifndef SHIPLOG_MAILBOX_MERGE_H
#define SHIPLOG_MAILBOX_MERGE_H

#include "mailbox/change.h"
#include "mailbox/rules.h"
#include "mailbox/store.h"

/* Another user's seen set at the replica, changed there since the base. */
struct merge_seen {
    struct buf user;
    struct uidset seen;
    struct former version;
    bool known; /* what changed since the base is known: */
    struct uidset added;
    struct uidset removed;
};

struct merge_meta {
    struct buf user;
    struct buf key;
    struct buf value;
    enum value_state state;
    struct former version;
};

/* What the replica has of one mailbox: all that it changed since the base. Zero-initialise; free
 * with merge_other_free(). */
struct merge_other {
    struct header header;      /* id 0: the store's own values, only `metas` matter */
    struct facts facts_before; /* as of the base; only when `facts_known` */
    bool facts_known;
    bool sound;                   /* its records give its digest */
    bool mail;                    /* more than its name and state changed */
    struct merge_record *records; /* in UID order, tombstones included */
    size_t count;
    size_t capacity;
    struct buf *sets; /* keywords of the records, what their views point into */
    size_t set_count;
    size_t set_capacity;
    struct uidset expunged; /* UIDs that its journal says were expunged, and left nothing */
    struct uidset looked;   /* UIDs whose records at the replica were all given: who is not among
                               `records` is absent there */
    struct merge_seen *seen;
    size_t seen_count;
    size_t seen_capacity;
    struct merge_meta *metas;
    size_t meta_count;
    size_t meta_capacity;
};
void merge_other_free(struct merge_other *other);
/* A record with its flags as of the base (NULL: not known), copied. ERR_NOMEM. */
int merge_other_add(struct merge_other *other, const struct record *record, struct bytes keywords,
                    const uint32_t *base_system, struct bytes base_keywords);
/* Its records in UID order, once all are there. */
void merge_other_sort(struct merge_other *other);
/* After that: the record with this UID; NULL: it was not given. */
const struct merge_record *merge_other_find(const struct merge_other *other, uint32_t uid);

struct merge_counts {
    uint64_t renumbered;
    uint64_t copied_back;
    uint64_t expunged;
    uint64_t damaged;
};

/* One merge of two branches; the same for all mailboxes of it. */
struct merge_session {
    uint64_t base_master;  /* the master's last entry that the replica knows, or what it took in */
    uint64_t base_replica; /* the replica's last entry that the master knows */
    bool base_known;
    bool newer_there; /* the replica had taken the master's branch in, with others, by its base */
    uint64_t shared;  /* the last entry that both hold in their journals; 0: not known. Below the
                         bases when another node's branch was taken in */
    bool adopted;     /* the replica is of another store: nobody else comes with its ids */
    bool dry_run;     /* nothing is committed */
    bool
        heal_only; /* the replica changed nothing: only what the master lost by damage comes back */
    /* For the mark and the epoch that the merge opens. */
    struct epoch_id epoch;      /* the replica's */
    struct position position;   /* the replica's */
    struct position taken;      /* as of what the mark says that it was taken in */
    const struct epoch *epochs; /* of its branch that the master lacks */
    size_t epoch_count;
    const struct mark *marks; /* what the replica's branch had taken in before */
    size_t mark_count;
    bool master_merged;     /* an end has taken in another node after its base */
    bool replica_merged;    /* the same */
    uint64_t compared;      /* the master's last entry when the bases were found */
    struct epoch_id opened; /* by this merge; number 0: none yet */
    /* Told of every action; `what` is a word. May be NULL. */
    void (*report)(void *arg, const char *mailbox, const char *what, uint32_t uid, uint32_t other);
    void *arg;
};

/* What a first look at the master's own mailbox gave; zero when there is none. */
struct merge_look {
    bool exists;
    bool sound;
    uint64_t forgotten; /* the higher of DELETEDMODSEQ and the local floor */
    struct facts facts;
    struct uidset uids; /* whose records changed since the base */
    uint64_t seen_at;   /* modseq of the look */
};
int merge_look(struct store *store, uint64_t mailbox, uint64_t base, struct merge_look *look);
void merge_look_free(struct merge_look *look);

/* Takes it in. `drafts`: content that the master lacked. *counts is added to. `name` gets the name
 * that it has at the master. ERR_BUSY: what the replica has under the UIDs `unknown` matters, too:
 * the master's users changed them meanwhile, or messages went on under them; nothing was done.
 * ERR_DIFFERS: nor was it when another replica was taken in meanwhile: the branches are to be
 * compared anew. */
int merge_mailbox(struct store *store, struct merge_session *session,
                  const struct merge_other *other, const struct merge_look *look,
                  struct draft **drafts, size_t draft_count, struct merge_counts *counts,
                  char name[NAME_TEXT_SIZE], struct uidset *unknown);
/* Instead: what the replica did to this mailbox is thrown away. Its clients may have seen what the
 * master's never will, so UIDVALIDITY is raised, above the replica's as well: it may have been
 * raised there when something was thrown away before. */
int merge_discard(struct store *store, struct merge_session *session, uint64_t mailbox,
                  uint32_t uidvalidity);
/* The last step: a mark for the whole store, when anything was taken in. */
int merge_finish(struct store *store, struct merge_session *session);

#endif
