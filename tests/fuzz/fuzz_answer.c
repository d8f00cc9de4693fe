/* Answers to the questions of a repair, as the other end may give them. The first byte chooses the
 * question; the rest is answers, each behind two bytes that give its size. When there are no more,
 * the connection ends. */
#include "agent/compare.h"
#include "base/err.h"
#include "mailbox/draft.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAILBOX 5u
#define ITEMS 3u /* positions, ranges and GUIDs that are asked for */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int give(void *context, struct bytes question, struct buf *answer)
{
    struct reader *in = context;
    (void)question;
    size_t size = read_u8(in);
    size += (size_t)read_u8(in) << 8;
    if (size > reader_left(in))
        size = reader_left(in);
    struct bytes view = read_view(in, size);
    if (in->failed)
        return fail(ERR_PEER, "no more answers");
    buf_put(answer, view.data, view.size);
    return answer->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static void try_branch(const struct asker *asker)
{
    struct branch branch;
    if (ask_branch(asker, &branch) == ERR_OK)
        branch_free(&branch);
}

static void try_chains(const struct asker *asker)
{
    const uint64_t modseqs[ITEMS] = {1, 2, 3};
    struct position positions[ITEMS];
    ask_chains(asker, modseqs, ITEMS, positions);
}

static int see_mailbox(const struct mailbox_line *line, void *arg)
{
    uint64_t *last = arg;
    if (line->id <= *last)
        abort();
    *last = line->id;
    return ERR_OK;
}

static void try_mailboxes(const struct asker *asker)
{
    uint64_t last = 0;
    ask_mailboxes(asker, 1, see_mailbox, &last);
}

static void try_header(const struct asker *asker)
{
    struct mailbox_state_now now;
    if (ask_header(asker, MAILBOX, true, 1, &now) == ERR_OK && now.header.id != MAILBOX)
        abort();
}

/* What was decoded is read, to its last byte. */
static int see_record(const struct record_line *line, void *arg)
{
    uint32_t *last = arg;
    struct buf out = {0};
    if (line->record.uid <= *last)
        abort();
    *last = line->record.uid;
    ask_encode_record(line, &out);
    buf_free(&out);
    return ERR_OK;
}

static void try_records(const struct asker *asker)
{
    struct mailbox_state_now first, last;
    uint32_t uid = 0;
    struct uidset expunged = {0};
    const struct records_wanted wanted = {.since = 1, .base = 1, .expunged = &expunged};
    ask_records(asker, MAILBOX, &wanted, see_record, &uid, &first, &last);
    uidset_free(&expunged);
}

static void try_sums(const struct asker *asker)
{
    const struct uid_range ranges[ITEMS] = {{1, 1}, {3, 9}, {20, 400}};
    struct record_sum sums[ITEMS];
    const struct record_sums wanted = {.ranges = ranges, .count = ITEMS, .sums = sums};
    ask_sums(asker, MAILBOX, RECORD_IDENTITY, 1, &wanted, NULL);
}

static void try_changes(const struct asker *asker)
{
    const struct uid_range ranges[ITEMS] = {{1, 1}, {3, 9}, {20, 400}};
    struct record_sum sums[ITEMS];
    const struct record_sums wanted = {.ranges = ranges, .count = ITEMS, .sums = sums};
    struct record_changes changes = {.since = 7};
    ask_sums(asker, MAILBOX, RECORD_WHOLE, 0, &wanted, &changes);
    uidset_free(&changes.uids);
}

static void try_values_of(const struct asker *asker, uint64_t mailbox)
{
    struct merge_other other = {0};
    struct values_as_of as_of;
    ask_values(asker, mailbox, 0, 1, &other, &as_of);
    if (mailbox == 0 && other.seen_count)
        abort();
    merge_other_free(&other);
}

static void try_values(const struct asker *asker)
{
    try_values_of(asker, MAILBOX);
}

static void try_own_values(const struct asker *asker)
{
    try_values_of(asker, 0);
}

/* Nothing is staged, so there is no need of a store. */
static void try_content(const struct asker *asker)
{
    const struct guid guids[ITEMS] = {{{1}}, {{2}}, {{3}}};
    struct draft *drafts[ITEMS];
    uint64_t bytes = 0;
    if (ask_content(asker, NULL, guids, ITEMS, SIZE_MAX, drafts, &bytes) == ERR_OK)
        for (size_t i = 0; i < ITEMS; i++)
            draft_close(drafts[i]);
}

static int no_sums(void *context, const struct record_sums *sums)
{
    (void)context;
    memset(sums->sums, 0, sums->count * sizeof *sums->sums);
    return ERR_OK;
}

static void try_differences(const struct asker *asker)
{
    const struct comparison work = {
        .asker = asker, .mailbox = MAILBOX, .item = RECORD_IDENTITY, .sums = no_sums};
    struct uidset differing = {0};
    compare_records(&work, 1000, &differing);
    uidset_free(&differing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const struct asker *asker) = {
        try_branch, try_chains,     try_mailboxes, try_header,      try_records, try_sums,
        try_values, try_own_values, try_content,   try_differences, try_changes,
    };
    if (size == 0)
        return 0;
    struct reader in = reader_of(bytes_of(data + 1, size - 1));
    const struct asker asker = {.ask = give, .context = &in};
    tries[data[0] % (sizeof tries / sizeof *tries)](&asker);
    return 0;
}
