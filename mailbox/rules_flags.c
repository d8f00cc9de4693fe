#include "mailbox/rules_flags.h"

#include "base/err.h"
#include "mailbox/ruling.h"

static int out_of_memory(void)
{
    return fail(ERR_NOMEM, "merging flags: out of memory");
}

struct flag_view rules_flags_now(const struct merge_record *record)
{
    return (struct flag_view){record->record.flags & FLAG_SYSTEM, record->keywords};
}

/* The flags at the end's base, or as appended after it. A modseq that has not moved since is as
 * good as a journal. */
static bool then(const struct merge_end *end, const struct merge_record *record,
                 struct flag_view *flags)
{
    uint64_t since = end->base;
    if (!rules_old(end, record))
        since = record->record.append_modseq;
    *flags = rules_flags_now(record);
    if (record->record.modseq <= since)
        return true;
    *flags = (struct flag_view){record->base_system & FLAG_SYSTEM, record->base_keywords};
    return record->has_base;
}

int rules_flags_copy(struct flag_view from, struct flags *to)
{
    to->system = from.system;
    buf_reset(&to->keywords);
    buf_put(&to->keywords, from.keywords.data, from.keywords.size);
    return to->keywords.failed ? out_of_memory() : ERR_OK;
}

/* What two appends had in common. */
static int common(struct flag_view a, struct flag_view b, struct flags *out)
{
    struct buf alone = {0};
    out->system = a.system & b.system;
    int rc = keywords_without(a.keywords, b.keywords, &alone);
    if (rc == ERR_OK)
        rc = keywords_without(a.keywords, buf_view(&alone), &out->keywords);
    buf_free(&alone);
    return rc;
}

/* `flags` and what became of `before` on the way to `after`. A set of keywords that would be too
 * large stays as it is. */
static int apply_delta(struct flag_view flags, struct flag_view before, struct flag_view after,
                       struct flags *out)
{
    struct buf removed = {0};
    struct buf added = {0};
    struct buf kept = {0};
    out->system =
        (flags.system & ~(before.system & ~after.system)) | (after.system & ~before.system);
    int rc = keywords_without(before.keywords, after.keywords, &removed);
    if (rc == ERR_OK)
        rc = keywords_without(after.keywords, before.keywords, &added);
    if (rc == ERR_OK)
        rc = keywords_without(flags.keywords, buf_view(&removed), &kept);
    if (rc == ERR_OK)
        rc = keywords_merge(buf_view(&kept), buf_view(&added), &out->keywords);
    if (rc == ERR_INVALID) {
        uint32_t system = out->system;
        rc = rules_flags_copy(flags, out);
        out->system = system;
    }
    buf_free(&removed);
    buf_free(&added);
    buf_free(&kept);
    return rc;
}

/* The last clause of row 1. */
static int take_newer(const struct merge_record *m, const struct merge_record *r, struct flags *out)
{
    bool newer = r->record.modseq > m->record.modseq && r->record.changed >= m->record.changed;
    return rules_flags_copy(rules_flags_now(newer ? r : m), out);
}

/* Row 3: each end's changes since its append, against what both appends had in common. */
static int appended_twice(const struct merge_input *input, const struct merge_record *m,
                          const struct merge_record *r, struct flags *out)
{
    struct flag_view at_m, at_r;
    struct flags before = {0};
    bool has_m = then(&input->master, m, &at_m);
    bool has_r = then(&input->replica, r, &at_r);
    if (!has_m && !has_r)
        return take_newer(m, r, out);
    int rc = common(has_m ? at_m : at_r, has_r ? at_r : at_m, &before);
    if (rc == ERR_OK)
        rc = apply_delta(rules_flags_now(m),
                         (struct flag_view){before.system, buf_view(&before.keywords)},
                         rules_flags_now(r), out);
    flags_free(&before);
    return rc;
}

/* Row 1: if one end alone changed the flags that end wins; if both did, flag by flag: the end with
 * the lower base adds what it did since to what the other has, which knows that base. */
static int changed_since(const struct merge_input *input, const struct merge_record *m,
                         const struct merge_record *r, struct flags *out)
{
    bool same_bases = input->master.base == input->replica.base;
    bool master_lower = input->master.base < input->replica.base;
    const struct merge_end *lower = master_lower ? &input->master : &input->replica;
    const struct merge_end *higher = master_lower ? &input->replica : &input->master;
    const struct merge_record *of_lower = master_lower ? m : r;
    const struct merge_record *of_higher = master_lower ? r : m;
    struct flag_view before;
    bool found = input->base_known && rules_old(lower, of_lower) && then(lower, of_lower, &before);
    if (!found && input->base_known && same_bases && rules_old(higher, of_higher))
        found = then(higher, of_higher, &before);
    if (found)
        return apply_delta(rules_flags_now(of_higher), before, rules_flags_now(of_lower), out);
    if (!rules_changed(higher, of_higher))
        return rules_flags_copy(rules_flags_now(of_lower), out);
    return take_newer(m, r, out);
}

int rules_flags_settle(const struct merge_input *input, const struct merge_record *m,
                       const struct merge_record *r, bool deliveries, struct flags *out)
{
    return deliveries ? appended_twice(input, m, r, out) : changed_since(input, m, r, out);
}

int rules_flags_unite(const struct merge_record *m, const struct merge_record *r, struct flags *out)
{
    return apply_delta(rules_flags_now(m), (struct flag_view){0, {NULL, 0}}, rules_flags_now(r),
                       out);
}

int rules_flags_equal(struct flag_view a, struct flag_view b, bool *equal)
{
    struct buf rest = {0};
    *equal = a.system == b.system;
    int rc = keywords_without(a.keywords, b.keywords, &rest);
    *equal = *equal && rest.size == 0;
    if (rc == ERR_OK)
        rc = keywords_without(b.keywords, a.keywords, &rest);
    *equal = *equal && rest.size == 0;
    buf_free(&rest);
    return rc;
}
