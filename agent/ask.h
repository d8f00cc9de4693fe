/* Questions that one end of a repair asks the other about its store.
 *
 * A question is a few bytes, its answer at most ANSWER_MAX; who asks waits for the answer. Nothing
 * is remembered between two questions by the end that answers, so a repair may be cut off anywhere.
 * docs/PROTOCOL.md has the bytes. Answers are not trusted: ERR_PROTOCOL when one is malformed.
 */
#ifndef SHIPLOG_AGENT_ASK_H
#define SHIPLOG_AGENT_ASK_H

#include "journal/epoch.h"
#include "mailbox/merge.h"

#define ANSWER_MAX (2u << 20) /* bytes */
#define ASK_CHAINS_MAX 256u   /* positions in one question */
#define ASK_RANGES_MAX 4096u  /* ranges of UIDs in one question */
#define ASK_CONTENT_MAX 256u  /* GUIDs in one question */

enum question {
    ASK_BRANCH = 1,
    ASK_CHAINS,
    ASK_MAILBOXES,
    ASK_HEADER,
    ASK_RECORDS,
    ASK_SUMS,
    ASK_VALUES,
    ASK_CONTENT
};

/* The other end. `ask` waits for the answer and puts it into `answer`, which is empty; what it
 * returns when the connection is gone is passed on. */
struct asker {
    int (*ask)(void *context, struct bytes question, struct buf *answer);
    void *context;
};

/* How a node's journal came about. */
struct branch {
    uint64_t store_id;
    uint64_t node_id;
    enum role role;
    struct epoch_id epoch;
    struct position base; /* of the window */
    struct position last;
    int64_t last_time; /* of the entry there */
    uint64_t digest;
    bool discard;         /* what it changed by itself is to be thrown away */
    struct epoch *epochs; /* all that it knows */
    size_t epoch_count;
    struct mark *marks;
    size_t mark_count;
    size_t doubted_count; /* of marks behind these: not to be believed (agent/fork.h) */
    struct mark *stops;   /* a repair is going on: what is in the mailboxes that wait, as if it had
                             been taken in (mailbox/stop.h) */
    size_t stop_count;
};
int ask_branch(const struct asker *asker, struct branch *branch);
void branch_free(struct branch *branch);

/* The positions at these modseqs on the other's journal; chain 0: not held there. */
int ask_chains(const struct asker *asker, const uint64_t *modseqs, size_t count,
               struct position *positions);

/* Mailboxes in the order of ids, with their names and states as of `at`. `each` gets the header
 * (its digest is for comparison alone: 0 when the mailbox changed after `at`). */
struct mailbox_line {
    uint64_t id;
    uint64_t digest;
    uint64_t lastmodseq;
    enum mailbox_state state;
    struct name name;
    bool stopped; /* it waits to be repaired, and is of another moment than the rest */
};
int ask_mailboxes(const struct asker *asker, uint64_t at,
                  int (*each)(const struct mailbox_line *line, void *arg), void *arg);

/* One mailbox as it is now. `position`: of the journal at that moment. ERR_END: there is none. */
struct mailbox_state_now {
    struct header header;
    struct position position;
    struct epoch_id epoch;
    bool sound;          /* its records give its digest; only when it was asked for */
    bool former_known;   /* only where a base was asked for and the other's journal reaches back: */
    struct facts former; /* state, name and UIDNEXT as of the base */
};
int ask_header(const struct asker *asker, uint64_t mailbox, bool prove, uint64_t base,
               struct mailbox_state_now *now);

/* Records with a modseq above `since` among `uids` (NULL: all), tombstones included, in UID order.
 * With `base` (0: none), their flags as of that modseq come along where the other's journal reaches
 * back. `expunged` (may be NULL): what became tombstones after `since` and is not there any more,
 * as that journal tells; is added to, beside both of the others. `first` is the state at the first
 * page, `last` at the last one: what changed between the two was seen or not. ERR_END: no such
 * mailbox. */
struct records_wanted {
    uint64_t since;
    const struct uidset *uids;
    uint64_t base;
    struct uidset *expunged;
};
struct record_line {
    struct record record;
    struct bytes keywords; /* these are valid until `each` returns */
    bool has_base;
    uint32_t base_system;
    struct bytes base_keywords;
};
int ask_records(const struct asker *asker, uint64_t mailbox, const struct records_wanted *wanted,
                int (*each)(const struct record_line *line, void *arg), void *arg,
                struct mailbox_state_now *first, struct mailbox_state_now *last);

/* Sums over ranges, at most ASK_RANGES_MAX; with `changes` (may be NULL; its `since` is not 0) the
 * UIDs that were collected along the way: `more` says that they are not all. */
int ask_sums(const struct asker *asker, uint64_t mailbox, enum record_item item, uint64_t base,
             const struct record_sums *sums, struct record_changes *changes);

/* Seen sets and meta values (mailbox 0: the store's) with a modseq above `since`; what users saw
 * and unsaw after `base`, where the other's journal reaches back. Adds them to `other`. *as_of (may
 * be NULL): the modseq of the other's journal when they were all as given, and its epoch then;
 * modseq 0: they changed meanwhile.
 */
struct values_as_of {
    uint64_t modseq;
    struct epoch_id epoch;
};
int ask_values(const struct asker *asker, uint64_t mailbox, uint64_t since, uint64_t base,
               struct merge_other *other, struct values_as_of *as_of);

/* Content by GUID: finished drafts of this db for all that the other has; NULL in place of others.
 * At most ASK_CONTENT_MAX. What waits in memory is staged above `memory` bytes. */
int ask_content(const struct asker *asker, struct db *db, const struct guid *guids, size_t count,
                size_t memory, struct draft **drafts, uint64_t *bytes);

/* Bytes of what travels, for who answers. */
void ask_encode_header(const struct header *header, struct buf *out);
void ask_encode_record(const struct record_line *line, struct buf *out);

#endif
