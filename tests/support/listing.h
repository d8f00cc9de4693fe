/* A mailbox as its clients see it, read in one go: what is compared before and after. */
#ifndef SHIPLOG_TESTS_SUPPORT_LISTING_H
#define SHIPLOG_TESTS_SUPPORT_LISTING_H

#include "mailbox/store.h"

#include "mailbox/header.h"
#include "mailbox/record.h"

#define LISTING_METAS 6u      /* keys "/0" to "/5" */
#define LISTING_KEYWORDS 3u   /* bits of `flags` behind the system flags */
#define LISTING_BOB (1u << 8) /* bit of `flags`: the user bob has seen it */
extern const char *const listing_keywords[LISTING_KEYWORDS];

struct item {
    uint32_t uid;
    bool live;
    uint32_t flags; /* system flags, keywords, bob's \Seen */
    uint32_t successor;
    uint64_t modseq;
    uint64_t message; /* its internal date, by which tests tell messages apart */
    struct guid guid;
};

struct listing {
    bool there; /* false: this node has no such mailbox, or nothing of it yet */
    struct facts facts;
    uint64_t forgotten; /* the higher of DELETEDMODSEQ and the local floor */
    uint64_t digest;    /* of everything but name and state, which come first in a repair */
    uint64_t stamp;     /* differs when anything here does */
    struct item *items; /* in UID order, tombstones included */
    size_t count;
    uint64_t metas[LISTING_METAS]; /* 0: not set */
};

/* Reads mailbox `id` (0: the store's values). Records that cannot be read are left out. */
int listing_read(struct tx *tx, uint64_t id, struct listing *listing);
uint64_t listing_digest(const struct header *header); /* a listing's `digest` */
uint64_t listing_stamp(const struct header *header);
void listing_free(struct listing *listing);
const struct item *listing_find(const struct listing *listing, uint32_t uid);
const struct item *listing_live(const struct listing *listing, uint64_t message);
/* How many live messages have this content. */
unsigned listing_like(const struct listing *listing, const struct guid *guid);

#endif
