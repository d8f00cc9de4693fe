/* The tables of a store, each with its key and value. Bytes are in docs/FORMAT.md. */
#ifndef SHIPLOG_JOURNAL_TABLES_H
#define SHIPLOG_JOURNAL_TABLES_H

/* symbol, name on disk, key → value */
#define TABLE_MAP(X)                                                                               \
    X(STATE, "state")         /* "node", "journal" → the node's own facts, the window's */       \
    X(EPOCHS, "epochs")       /* number, node id → where the epoch began */                      \
    X(JOURNAL, "journal")     /* modseq → entry */                                               \
    X(SLOTS, "slots")         /* peer → its acknowledged position */                             \
    X(MAILBOXES, "mailboxes") /* mailbox id → header */                                          \
    X(NAMES, "names")         /* encoded name → mailbox id */                                    \
    X(RECORDS, "records")     /* local number, UID → record */                                   \
    X(GUIDS, "guids")         /* GUID → references, sizes, content number */                     \
    X(CONTENT, "content")     /* content number, chunk → deflated bytes with their CRC-32 */     \
    X(STAGED, "staged")       /* content number → owner of content that no GUID names yet */     \
    X(KEYWORDS, "keywords")   /* hash of a keyword set → its names */                            \
    X(SEEN, "seen")           /* mailbox id, user → UIDs that this user has seen */              \
    X(META, "meta")           /* mailbox id or 0, user, key → value */                           \
    X(STOPS, "stops")         /* mailbox id → why and from which entry on it is not followed */  \
    X(MARKS, "marks")         /* mailbox id or 0, modseq → what a merge took in */               \
    X(GARBAGE, "garbage")     /* local number → whose records are left to be removed */

enum table {
#define X(symbol, name) TABLE_##symbol,
    TABLE_MAP(X)
#undef X
        TABLE_COUNT
};

extern const char *const table_names[TABLE_COUNT];

#endif
