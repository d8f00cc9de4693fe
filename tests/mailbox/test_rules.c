/* Each row of the table of docs/MERGE.md both ways round, and the histories that broke earlier
 * rules.
 *
 * Records are written as text: `1g@5` is UID 1 with GUID g, appended at modseq 5. Behind it, in
 * this order, what is not as usual: `~7` last changed at 7; `x7` a tombstone since 7; `>3` its
 * successor;
 * `[Seen,work]` its flags (\ is left out); `{Seen}` the flags at the base, if known; `!9` the time
 * of its last change; `s9` that of its append (else its modseq). Plans are printed alike: `add
 * 5g<1` is R's UID 1 appended as 5, `renumber 5g<1` M's.
 */
#include "mailbox/rules.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORDS 16

struct end_text {
    const char *records;
    uint32_t next; /* UIDNEXT; 0: one above the highest UID */
    uint64_t base; /* 0: 10 */
    uint32_t base_next;
    uint64_t forgotten;
    bool damaged;
    bool merged;
};

struct scene {
    struct end_text m;
    struct end_text r;
    bool base_unknown;
};

struct list {
    struct merge_record records[RECORDS];
    struct flags flags[RECORDS];
    struct flags before[RECORDS];
    size_t count;
};

static struct guid guid_of(char letter)
{
    struct guid guid = {{0}};
    guid.bytes[0] = (uint8_t)letter;
    return guid;
}

/* "Seen,work]" up to the closing bracket; names in capitals are system flags. */
static const char *scan_flags(const char *text, char closing, struct flags *flags)
{
    while (*text != closing) {
        char name[32];
        size_t size = strcspn(text, ",]}");
        bool system = *text >= 'A' && *text <= 'Z' && text[1] >= 'a';
        int used = snprintf(name, sizeof name, "%s%.*s", system ? "\\" : "", (int)size, text);
        assert_int_equal(flags_add(flags, name, (size_t)used), ERR_OK);
        text += size + (text[size] == ',');
    }
    return text + 1;
}

static const char *scan_number(const char *text, uint64_t *value)
{
    char *end;
    *value = strtoull(text, &end, 10);
    return end;
}

static const char *scan_extra(const char *text, struct list *list)
{
    struct merge_record *item = &list->records[list->count];
    struct record *record = &item->record;
    uint64_t value = 0;
    char what = *text++;
    if (what == '[')
        return scan_flags(text, ']', &list->flags[list->count]);
    if (what == '{') {
        item->has_base = true;
        return scan_flags(text, '}', &list->before[list->count]);
    }
    text = scan_number(text, &value);
    if (what == '~' || what == 'x')
        record->modseq = value;
    if (what == 'x')
        record->flags |= RECORD_EXPUNGED;
    if (what == '>')
        record->successor = (uint32_t)value;
    if (what == '!')
        record->changed = (int64_t)value;
    if (what == 's')
        record->save_date = (int64_t)value;
    return text;
}

static const char *scan_record(const char *text, struct list *list)
{
    assert_true(list->count < RECORDS);
    struct record *record = &list->records[list->count].record;
    uint64_t uid;
    text = scan_number(text, &uid);
    record->uid = (uint32_t)uid;
    record->guid = guid_of(*text++);
    assert_int_equal(*text, '@');
    text = scan_number(text + 1, &record->append_modseq);
    record->modseq = record->append_modseq;
    record->save_date = (int64_t)record->append_modseq;
    while (*text && *text != ' ')
        text = scan_extra(text, list);
    return text;
}

static void scan_list(const char *text, struct list *list)
{
    for (; *text; list->count++) {
        text = scan_record(text, list);
        struct merge_record *item = &list->records[list->count];
        item->record.flags |= list->flags[list->count].system;
        item->keywords = buf_view(&list->flags[list->count].keywords);
        item->base_system = list->before[list->count].system;
        item->base_keywords = buf_view(&list->before[list->count].keywords);
        while (*text == ' ')
            text++;
    }
}

static void free_list(struct list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        flags_free(&list->flags[i]);
        flags_free(&list->before[i]);
    }
}

static void fill_end(const struct end_text *text, struct list *list, struct merge_end *end)
{
    scan_list(text->records ? text->records : "", list);
    *end = (struct merge_end){.records = list->records,
                              .count = list->count,
                              .uidnext = text->next,
                              .base_uidnext = text->base_next,
                              .base = text->base ? text->base : 10,
                              .forgotten = text->forgotten,
                              .merged = text->merged,
                              .sound = !text->damaged};
    if (!end->uidnext)
        end->uidnext = list->count ? list->records[list->count - 1].record.uid + 1 : 1;
}

static void print_flags(const struct merge_action *action, struct buf *out)
{
    struct buf text = {0};
    if (action->system || action->keywords.size) {
        flags_print(action->system, buf_view(&action->keywords), &text);
        buf_u8(out, '[');
        for (size_t i = 0; i < text.size; i++)
            if (text.data[i] != '\\')
                buf_u8(out, text.data[i]);
        buf_u8(out, ']');
    } else if (action->kind == MERGE_FLAGS) {
        buf_put(out, "[]", 2);
    }
    buf_free(&text);
}

static const char *const kind_names[] = {
    [MERGE_HEAL] = "heal",   [MERGE_ADD] = "add",         [MERGE_RENUMBER] = "renumber",
    [MERGE_FLAGS] = "flags", [MERGE_EXPUNGE] = "expunge", [MERGE_POINT] = "point",
    [MERGE_BURY] = "bury",   [MERGE_TOUCH] = "touch",
};

static void print_action(const struct merge_action *action, struct buf *out)
{
    char text[64];
    bool carries = action->kind <= MERGE_RENUMBER || action->kind == MERGE_BURY;
    int used = snprintf(text, sizeof text, "%s%s %u", out->size ? "; " : "",
                        kind_names[action->kind], action->uid);
    buf_put(out, text, (size_t)used);
    if (carries)
        buf_u8(out, action->from->record.guid.bytes[0]);
    if (carries && action->from->record.uid != action->uid) {
        used = snprintf(text, sizeof text, "<%u", action->from->record.uid);
        buf_put(out, text, (size_t)used);
    }
    if (action->other) {
        used = snprintf(text, sizeof text, ">%u", action->other);
        buf_put(out, text, (size_t)used);
    }
    print_flags(action, out);
}

static void make_plan(const struct scene *scene, struct list lists[2], struct merge_plan *plan)
{
    struct merge_input input = {.base_known = !scene->base_unknown};
    fill_end(&scene->m, &lists[0], &input.master);
    fill_end(&scene->r, &lists[1], &input.replica);
    assert_int_equal(merge_plan_make(&input, plan), ERR_OK);
    assert_true(plan->uidnext >= input.master.uidnext && plan->uidnext >= input.replica.uidnext);
}

static void check_text(const struct merge_plan *plan, const char *expected)
{
    struct buf text = {0};
    for (size_t i = 0; i < plan->count; i++)
        print_action(&plan->actions[i], &text);
    buf_u8(&text, 0);
    assert_false(text.failed);
    assert_string_equal((const char *)text.data, expected);
    buf_free(&text);
}

static void check(struct scene scene, const char *expected)
{
    struct list lists[2];
    struct merge_plan plan;
    memset(lists, 0, sizeof lists);
    make_plan(&scene, lists, &plan);
    check_text(&plan, expected);
    merge_plan_free(&plan);
    free_list(&lists[0]);
    free_list(&lists[1]);
}

struct counts {
    uint64_t renumbered, copied_back, expunged, damaged;
};

static void check_counts(struct scene scene, struct counts expected)
{
    struct list lists[2];
    struct merge_plan plan;
    memset(lists, 0, sizeof lists);
    make_plan(&scene, lists, &plan);
    assert_int_equal(plan.renumbered, expected.renumbered);
    assert_int_equal(plan.copied_back, expected.copied_back);
    assert_int_equal(plan.expunged, expected.expunged);
    assert_int_equal(plan.damaged, expected.damaged);
    merge_plan_free(&plan);
    free_list(&lists[0]);
    free_list(&lists[1]);
}

/* ---- Rows; the base is 10, both at M and at R ---- */

static void row_1_who_alone_changed_the_flags_wins(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5~20[Seen]"}},
          "flags 1[Seen]");
    check((struct scene){.m = {.records = "1g@5~20[Seen]"}, .r = {.records = "1g@5"}}, "touch 1");
    check((struct scene){.m = {.records = "1g@5[Seen]"}, .r = {.records = "1g@5~20!1"}},
          "flags 1[]");
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5"}}, "");
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5~20"}}, "touch 1");
    /* put back at R, as if it had been appended there */
    check((struct scene){.m = {.records = "1g@5[Seen]"}, .r = {.records = "1g@20"}}, "flags 1[]");
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@5~30[Seen]"}},
          "flags 1[Seen]");
}

static void row_1_flags_changed_at_both_ends_merge_one_by_one(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5~20[Seen,junk]{Draft,work}"},
                         .r = {.records = "1g@5~21[Draft,Flagged,work,todo]{Draft,work}"}},
          "flags 1[Flagged,Seen,junk,todo]");
    /* one journal is enough, whichever end's it is */
    check((struct scene){.m = {.records = "1g@5~20[Seen]{Draft}"},
                         .r = {.records = "1g@5~21[Draft,Flagged]"}},
          "flags 1[Flagged,Seen]");
    check((struct scene){.m = {.records = "1g@5~20[Seen]"},
                         .r = {.records = "1g@5~21[Draft,Flagged]{Draft}"}},
          "flags 1[Flagged,Seen]");
}

static void row_1_without_a_journal_the_newer_end_wins_else_the_master(void **state)
{
    (void)state;
    check(
        (struct scene){.m = {.records = "1g@5~20[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!7"}},
        "flags 1[Flagged]");
    check(
        (struct scene){.m = {.records = "1g@5~20[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!6"}},
        "touch 1");
    check(
        (struct scene){.m = {.records = "1g@5~22[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!8"}},
        "touch 1");
}

static void keyword_names_compare_without_regard_to_case(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5~20[Seen,work]{work}"},
                         .r = {.records = "1g@5~20[WORK]{wORK}"}},
          "touch 1");
    check((struct scene){.m = {.records = "1g@5~20[Seen,work]{work}"},
                         .r = {.records = "1g@5~20{WORK}"}},
          "flags 1[Seen]");
}

/* Names that differ at the two ends, and are too many together. */
static void fill_with_keywords(struct list *list, char letter)
{
    char name[KEYWORD_MAX_SIZE];
    for (char number = 0; number < 5; number++) {
        memset(name, letter, sizeof name);
        for (name[0] = 'a'; name[0] <= 'z'; name[0]++) {
            name[1] = (char)('a' + number);
            assert_int_equal(flags_add(&list->flags[0], name, sizeof name), ERR_OK);
        }
    }
    list->records[0].keywords = buf_view(&list->flags[0].keywords);
}

static void keywords_that_are_too_many_together_stay_as_the_master_has_them(void **state)
{
    (void)state;
    struct list lists[2];
    struct merge_plan plan;
    struct merge_input input = {.base_known = true};
    memset(lists, 0, sizeof lists);
    fill_end(&(struct end_text){.records = "1g@5~20[Seen]{}"}, &lists[0], &input.master);
    fill_end(&(struct end_text){.records = "1g@5~21[Flagged]{}"}, &lists[1], &input.replica);
    fill_with_keywords(&lists[0], 'm');
    fill_with_keywords(&lists[1], 'r');
    assert_int_equal(merge_plan_make(&input, &plan), ERR_OK);
    assert_int_equal(plan.count, 1);
    assert_int_equal(plan.actions[0].kind, MERGE_FLAGS);
    assert_int_equal(plan.actions[0].system, FLAG_SEEN | FLAG_FLAGGED);
    assert_true(bytes_equal(buf_view(&plan.actions[0].keywords), lists[0].records[0].keywords));
    merge_plan_free(&plan);
    free_list(&lists[0]);
    free_list(&lists[1]);
}

static void row_2_expunged_at_one_end_is_expunged_at_both(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5x20"}}, "expunge 1");
    check((struct scene){.m = {.records = "1g@5x20"}, .r = {.records = "1g@5"}}, "touch 1");
    check((struct scene){.m = {.records = "1g@5~30[Seen]"}, .r = {.records = "1g@5x20"}},
          "expunge 1");
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1h@5x20"}}, "expunge 1");
    check((struct scene){.m = {.records = "1h@5x20"}, .r = {.records = "1g@5"}}, "touch 1");
}

static void row_2_purged_with_evidence_is_expunged_at_both(void **state)
{
    (void)state;
    check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 20}},
        "expunge 1");
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 5}},
          "expunge 1");
    /* R's clients may know modseqs above what M has forgotten */
    check(
        (struct scene){.m = {.records = "", .next = 2, .forgotten = 20}, .r = {.records = "1g@5"}},
        "bury 1g");
}

static void row_2_what_was_done_to_a_uid_reaches_the_message_under_its_new_one(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                         .r = {.records = "1g@5~15[Seen]{}", .next = 2}},
          "flags 2[Seen]; touch 1");
    check(
        (struct scene){.m = {.records = "1g@5x20>2 2g@20"}, .r = {.records = "1g@5x15", .next = 2}},
        "expunge 2; touch 1");
    check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                         .r = {.records = "", .next = 2, .forgotten = 15}},
          "expunge 2; touch 1");
    /* over two hops */
    check((struct scene){.m = {.records = "1g@5x20>2 2g@20x30>3 3g@30"},
                         .r = {.records = "1g@5x15", .next = 2}},
          "expunge 3; touch 1; touch 2");
}

/* Nobody changed it, and the ends differ: the one whose digest holds is right. */
static void a_spoilt_record_is_healed_by_the_proven_one(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5[Draft]", .damaged = true},
                         .r = {.records = "1g@5[Seen]"}},
          "heal 1g[Seen]");
    check((struct scene){.m = {.records = "1g@5~12[Draft]", .damaged = true},
                         .r = {.records = "1g@5[Seen]"}},
          "touch 1");
    check((struct scene){.m = {.records = "1g@5", .damaged = true}, .r = {.records = "1g@5"}}, "");
    /* nothing is proven, or M's as well */
    check((struct scene){.m = {.records = "1g@5[Draft]", .damaged = true},
                         .r = {.records = "1g@5[Seen]", .damaged = true}},
          "touch 1");
    check((struct scene){.m = {.records = "1g@5[Draft]"}, .r = {.records = "1g@5[Seen]"}},
          "touch 1");
    /* R knows nothing of a change that M's base has */
    check((struct scene){.m = {.records = "1g@5~20[Seen]", .base = 30, .damaged = true},
                         .r = {.records = "1g@5", .base = 15, .base_next = 2}},
          "touch 1");
}

static void damage_is_healed_under_the_same_uid(void **state)
{
    (void)state;
    check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .damaged = true}},
        "touch 1");
    check((struct scene){.m = {.records = "", .next = 2, .damaged = true},
                         .r = {.records = "1g@5[Seen]"}},
          "heal 1g[Seen]");
    /* a sound end that never forgot a tombstone of that age */
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 4}},
          "touch 1");
    check((struct scene){.m = {.records = "", .next = 2, .forgotten = 4}, .r = {.records = "1g@5"}},
          "heal 1g");
}

static void row_3_one_message_under_one_uid_at_both_ends(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22"}}, "touch 1");
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22~23[Flagged]{}"}},
          "flags 1[Flagged]");
    /* set by the delivery at both ends, cleared by one end's user */
    check((struct scene){.m = {.records = "1g@20[Seen]"}, .r = {.records = "1g@22~23{Seen}"}},
          "flags 1[]");
    check((struct scene){.m = {.records = "1g@20~23{Seen}"}, .r = {.records = "1g@22[Seen]"}},
          "touch 1");
    /* set by one delivery only */
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22[Seen]"}},
          "flags 1[Seen]");
    /* M's journal does not tell what it was delivered with: R's does */
    check((struct scene){.m = {.records = "1g@20~25[Seen]"}, .r = {.records = "1g@21~22{Seen}"}},
          "flags 1[]");
}

static void row_4_one_message_expunged_at_one_end_is_expunged_at_both(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22x23"}}, "expunge 1");
    check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1g@22"}}, "touch 1");
}

static void row_5_a_delivery_tried_at_both_ends_is_one_message(void **state)
{
    (void)state;
    /* M's is below R's UIDNEXT: renumbered; R's 3 dies */
    check((struct scene){.m = {.records = "2g@20"}, .r = {.records = "3g@22~23[Seen]{}"}},
          "renumber 5g<2[Seen]; expunge 2>5; bury 3g>5");
    /* M's is above it: it stays */
    check((struct scene){.m = {.records = "3g@20"}, .r = {.records = "2g@22", .next = 3}},
          "bury 2g>3; touch 3");
    /* in UID order, up to the higher multiplicity */
    check((struct scene){.m = {.records = "4g@20 5g@21", .next = 6},
                         .r = {.records = "2g@22", .next = 3}},
          "bury 2g>4; touch 4; touch 5");
    check((struct scene){.m = {.records = "4g@20"}, .r = {.records = "2g@22 3g@23"}},
          "add 6g<3; bury 2g>4; bury 3g>6; touch 4");
    /* and M's goes on under a new UID itself */
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@21 2g@22"}},
          "renumber 4g<1; add 5h<1; expunge 1>4; bury 2g>4");
}

static void row_5_spares_what_an_earlier_merge_renumbered(void **state)
{
    (void)state;
    /* R had 1(g) and got g again; M's 2(g) is the first one */
    check((struct scene){.m = {.records = "1g@5x20>3 3g@20"}, .r = {.records = "1g@5 2g@15"}},
          "add 5g<2; bury 2g>5; touch 1; touch 3");
}

static void row_6_a_split_brain_kills_the_uid(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@22"}},
          "renumber 3g<1; add 4h<1; expunge 1>3");
    check((struct scene){.m = {.records = "1h@20"}, .r = {.records = "1g@22"}},
          "add 3g<1; renumber 4h<1; expunge 1>4");
    /* even if both ends take it for old: two messages are never one */
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1h@5"}},
          "renumber 3g<1; add 4h<1; expunge 1>3");
}

static void row_7_a_tombstone_of_another_message_kills_the_uid(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@22x23"}},
          "renumber 3g<1; expunge 1>3");
    check((struct scene){.m = {.records = "1h@20x21"}, .r = {.records = "1g@22"}},
          "add 3g<1; point 1>3");
}

static void row_8_a_uid_that_the_other_never_gave_out_stays(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "7g@20[Seen]"}, .r = {.records = "", .next = 7}},
          "touch 7");
    check((struct scene){.m = {.records = "", .next = 7}, .r = {.records = "7g@20[Seen]"}},
          "add 7g[Seen]");
}

static void row_9_a_uid_that_the_other_used_up_dies(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "6g@20[Seen]"},
                         .r = {.records = "", .next = 9, .forgotten = 30}},
          "renumber 10g<6[Seen]; expunge 6>10");
    check((struct scene){.m = {.records = "", .next = 7, .forgotten = 30},
                         .r = {.records = "6g@20[Seen]"}},
          "add 8g<6[Seen]; bury 6g>8");
}

static void row_10_a_tombstone_after_the_base_stands_at_both(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = ""}}, "touch 1");
    check((struct scene){.m = {.records = ""}, .r = {.records = "1g@20x21"}}, "bury 1g");
    check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1h@20x21"}}, "touch 1");
    check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1h@20x21>2 2h@21"}},
          "add 2h; point 1>2");
    /* M purged it before R's clients saw it go */
    check((struct scene){.m = {.records = "", .next = 2, .forgotten = 11},
                         .r = {.records = "1g@5x30"}},
          "bury 1g");
    /* and keeps its successor, whatever M has forgotten */
    check((struct scene){.m = {.records = "", .next = 3, .forgotten = 30},
                         .r = {.records = "1g@12x20>2 2g@20"}},
          "add 4g<2; bury 1g>2; bury 2g>4");
    check((struct scene){.m = {.records = "", .next = 2, .forgotten = 30},
                         .r = {.records = "1g@5x20>2 2g@20x21"}},
          "bury 1g>2; bury 2g");
    check((struct scene){.m = {.next = 2, .base = 8, .base_next = 1, .forgotten = 30},
                         .r = {.records = "1g@11x12>2 2g@12", .base = 20}},
          "add 2g; bury 1g>2");
}

static void row_11_an_old_tombstone_that_the_other_purged_is_left_alone(void **state)
{
    (void)state;
    check(
        (struct scene){.m = {.records = "1g@5x6"}, .r = {.records = "", .next = 2, .forgotten = 6}},
        "");
    check(
        (struct scene){.m = {.records = "", .next = 2, .forgotten = 6}, .r = {.records = "1g@5x6"}},
        "");
}

/* ---- Histories that broke earlier rules ---- */

static void a_third_node_below_the_mark_brings_nothing_back(void **state)
{
    (void)state;
    /* taken in, expunged and purged at M; the third node flagged another message meanwhile */
    check((struct scene){.m = {.records = "2h@5", .next = 3, .base = 30, .forgotten = 41},
                         .r = {.records = "1g@12 2h@5~20[Seen]{}", .base = 15, .base_next = 3}},
          "flags 2[Seen]; bury 1g");
}

static void a_flag_that_the_master_cleared_does_not_return_with_a_third_node(void **state)
{
    (void)state;
    check(
        (struct scene){.m = {.records = "1g@5~40", .base = 30},
                       .r = {.records = "1g@5~20[Seen,Flagged]{Seen}", .base = 15, .base_next = 2}},
        "flags 1[Flagged]");
    /* nor does the absence of one that M set before the mark */
    check((struct scene){.m = {.records = "1g@5~20[Seen]", .base = 30},
                         .r = {.records = "1g@5~8", .base = 15, .base_next = 2}},
          "touch 1");
}

static void what_a_third_node_never_had_it_did_not_expunge(void **state)
{
    (void)state;
    /* R used up UID 6 for a message of its own, expunged and purged it */
    check(
        (struct scene){
            .m = {.records = "6k@20", .base = 30},
            .r = {.records = "", .next = 7, .base = 15, .base_next = 6, .forgotten = 18}},
        "renumber 8k<6; expunge 6>8");
}

static void what_a_third_node_did_reaches_both_messages_of_a_split_brain(void **state)
{
    (void)state;
    const char *m = "5h@20x29>8 7g@27 8h@28";
    check((struct scene){.m = {m, .base = 30},
                         .r = {.records = "5g@12~20[Seen]{}", .base = 15, .base_next = 6}},
          "flags 7[Seen]; touch 5; touch 8");
    check((struct scene){.m = {m, .base = 30},
                         .r = {.records = "5g@12x20", .base = 15, .base_next = 6}},
          "expunge 7; touch 5; touch 8");
    check((struct scene){.m = {.records = "5h@9x29>8 7g@27 8h@28"}, .r = {.records = "5h@9x20"}},
          "expunge 8; touch 5; touch 7");
}

static void what_a_third_node_had_and_purged_it_expunged(void **state)
{
    (void)state;
    check(
        (struct scene){
            .m = {.records = "3k@20", .base = 30},
            .r = {.records = "", .next = 7, .base = 15, .base_next = 6, .forgotten = 18}},
        "expunge 3");
}

static void without_evidence_nothing_was_expunged(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5"},
                         .r = {.records = "", .next = 2, .forgotten = 20, .damaged = true}},
          "touch 1");
    /* never given out there */
    check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 1, .forgotten = 20}},
        "touch 1");
}

/* It may be an old one, and the tombstone that tells it is gone. */
static void what_may_have_moved_is_not_taken_for_a_delivery(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "2g@20", .merged = true, .forgotten = 15},
                         .r = {.records = "3g@22"}},
          "add 3g; renumber 5g<2; expunge 2>5");
    check((struct scene){.m = {.records = "2g@20", .merged = true, .forgotten = 10},
                         .r = {.records = "3g@22"}},
          "renumber 5g<2; expunge 2>5; bury 3g>5");
    /* by the base of the one, and unknown to the other's */
    check((struct scene){.m = {.records = "6k@20", .base = 30, .forgotten = 15},
                         .r = {.records = "7k@22", .base = 15, .base_next = 6}},
          "renumber 9k<6; expunge 6>9; bury 7k>9");
    check((struct scene){.m = {.records = "6k@20", .base = 30, .forgotten = 16},
                         .r = {.records = "7k@22", .base = 15, .base_next = 6}},
          "add 7k; renumber 9k<6; expunge 6>9");
}

/* It was merged with another of its name before, say, and the merge makes it anew. */
static void a_mailbox_that_the_master_never_had_has_lost_nothing(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "", .next = 1}, .r = {.records = "1g@5"}}, "add 1g");
}

/* Two masters took in a third node's branch, each for itself, and purged what tells of it. */
static void one_append_that_merges_brought_to_both_is_one_message(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "2g@20s7", .merged = true, .forgotten = 15},
                         .r = {.records = "2g@22s7", .merged = true, .forgotten = 15}},
          "touch 2");
    check((struct scene){.m = {.records = "2g@20s7 3h@21s8", .merged = true, .forgotten = 15},
                         .r = {.records = "3g@22s7 4h@23s8", .merged = true, .forgotten = 15}},
          "renumber 6g<2; renumber 8h<3; expunge 2>6; expunge 3>8; bury 4h>8");
    check((struct scene){.m = {.records = "2g@20s7", .merged = true, .forgotten = 15},
                         .r = {.records = "2g@22s8", .merged = true, .forgotten = 15}},
          "renumber 4g<2; add 5g<2; expunge 2>4");
}

static void what_lives_at_both_ends_by_one_way_is_not_expunged_by_another(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@3x12>5 2g@4x12>5 5g@11"},
                         .r = {.records = "1g@3x12 2g@4", .next = 3}},
          "touch 1; touch 2; touch 5");
}

/* Or where it went: its tombstone names a UID that has been purged, and beside that stands another
 * copy; or the tombstone that was known at both bases is another's; or nothing is there at all. */
static void what_cannot_be_followed_is_left_alone(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "5g@12x29>7 8g@28", .base = 30},
                         .r = {.records = "5g@12~20[Seen]{}", .base = 15, .base_next = 6}},
          "touch 5; touch 8");
    check((struct scene){.m = {.records = "1g@5x15>3 3g@15", .base = 20},
                         .r = {.records = "1g@5x8", .base_next = 2}},
          "touch 3");
    check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                         .r = {.records = "", .next = 2, .damaged = true}},
          "touch 1; touch 2");
}

/* R's user expunged it, it was purged, and a tombstone of another message buried in its place. */
static void what_died_before_another_was_buried_there_is_dead(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5x14>2 2g@14"},
                         .r = {.records = "1h@20x20>3 3h@19", .forgotten = 14, .merged = true}},
          "add 3h; expunge 2; touch 1");
}

/* One delivery under one UID, and M gave it another in a merge with a third node. */
static void a_delivery_that_moved_is_still_one_message(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@12x20>3 3g@20 4g@21"},
                         .r = {.records = "1g@12~13[Seen]{}"}},
          "flags 3[Seen]; touch 1; touch 4");
    /* dead at M, but not for certain the same one */
    check((struct scene){.m = {.records = "1g@12x20", .merged = true, .forgotten = 15},
                         .r = {.records = "1g@12~13s9[Seen]{}"}},
          "add 3g<1[Seen]; touch 1");
    /* unless it is one append */
    check((struct scene){.m = {.records = "1g@12x20s9", .merged = true, .forgotten = 15},
                         .r = {.records = "1g@13s9"}},
          "touch 1");
}

static void an_old_message_under_a_new_uid_is_no_delivery(void **state)
{
    (void)state;
    /* of one GUID, and by chance under one UID: M's is new, R's is the one that M expunged */
    check((struct scene){.m = {.records = "1g@5x14 2g@15", .base = 11, .base_next = 2},
                         .r = {.records = "1g@5x13>2 2g@13", .base = 15}},
          "renumber 4g<2; expunge 2>4; point 1>2");
    /* under two UIDs: both stay */
    check((struct scene){.m = {.records = "1g@5x10 3g@14", .base = 11, .base_next = 2},
                         .r = {.records = "1g@5x15>4 4g@14", .base = 17}},
          "add 4g; renumber 6g<3; expunge 3>6; point 1>4");
    /* or under the UID that it always had, which the other end has lost */
    check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "2g@20", .damaged = true}},
          "add 2g; touch 1");
}

static void a_new_message_beside_a_successor_is_another(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "5h@20x29>8 7g@31 8h@28", .base = 30},
                         .r = {.records = "5g@12x20", .base = 15, .base_next = 6}},
          "touch 5; touch 7; touch 8");
}

static void a_state_at_another_base_is_no_state_to_compare_with(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5~40[Seen]{}", .base = 30},
                         .r = {.records = "1g@5~20[Flagged]", .base = 15, .base_next = 2}},
          "touch 1");
    check((struct scene){.m = {.records = "1g@5~22[Seen]{}"},
                         .r = {.records = "1g@5~21[Flagged]{}"},
                         .base_unknown = true},
          "touch 1");
    /* nor is what a message was appended with when it moved: R's user took "work" away before */
    check((struct scene){.m = {.records = "1g@5~11[Seen,Flagged,work]{Seen,work}"},
                         .r = {.records = "1g@5x14>3 3g@13[Seen]"}},
          "renumber 5g<1[Flagged,Seen]; expunge 1>5; bury 3g>5");
}

static void expunged_and_delivered_again_is_there_once(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@20x21 2g@22"}},
          "add 2g; expunge 1");
}

static void nothing_is_expunged_on_a_guess(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "", .next = 2, .forgotten = 12},
                         .r = {.records = "1g@11"},
                         .base_unknown = true},
          "add 3g<1; bury 1g>3");
    /* but what both had is not brought back */
    check((struct scene){.m = {.records = "2h@10", .next = 3, .forgotten = 12},
                         .r = {.records = "1g@9 2h@10"},
                         .base_unknown = true},
          "bury 1g");
    check((struct scene){.m = {.records = "1g@20"},
                         .r = {.records = "2g@20", .next = 3},
                         .base_unknown = true},
          "add 2g; renumber 4g<1; expunge 1>4");
}

static void an_end_that_is_behind_takes_in_what_a_mark_made(void **state)
{
    (void)state;
    /* R took M's UID 1 in and renumbered it; M's user flagged it since */
    check((struct scene){.m = {.records = "1g@5~20[Seen]{}", .base = 15, .base_next = 2},
                         .r = {.records = "1h@6x29>3 3h@27 4g@28", .base = 30}},
          "add 3h; renumber 6g<1[Seen]; expunge 1>6; bury 4g>6");
}

static void pointers_in_circles_end(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@5x20>2 2g@20x21>1"},
                         .r = {.records = "1g@5", .next = 2}},
          "touch 1; touch 2");
    check((struct scene){.r = {.records = "1g@20x21>1"}}, "bury 1g");
}

static void new_uids_are_above_what_stands_above_uidnext(void **state)
{
    (void)state;
    check((struct scene){.m = {.records = "1g@20 9k@5", .next = 2},
                         .r = {.records = "1h@21 9k@5", .next = 2}},
          "renumber 11g<1; add 12h<1; expunge 1>11");
}

static void messages_of_either_end_are_counted_by_what_became_of_them(void **state)
{
    (void)state;
    check_counts((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@21"}},
                 (struct counts){.renumbered = 2, .copied_back = 1});
    check_counts((struct scene){.m = {.records = "4g@20"}, .r = {.records = "2g@22"}},
                 (struct counts){.renumbered = 1});
    check_counts((struct scene){.r = {.records = "1g@20"}}, (struct counts){.copied_back = 1});
    check_counts((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5x20"}},
                 (struct counts){.expunged = 1});
    check_counts((struct scene){.m = {.records = "1g@5x20"}, .r = {.records = "1g@5"}},
                 (struct counts){.expunged = 1});
    check_counts((struct scene){.m = {.next = 2}, .r = {.records = "1g@5"}},
                 (struct counts){.damaged = 1});
    check_counts((struct scene){.m = {.records = "1g@5"}, .r = {.next = 2}},
                 (struct counts){.damaged = 1});
}

static void lists_out_of_order_and_used_up_uids_are_refused(void **state)
{
    (void)state;
    struct merge_record twice[2] = {{.record = {.uid = 4, .append_modseq = 1}},
                                    {.record = {.uid = 4, .append_modseq = 1}}};
    struct merge_input input = {.master = {.records = twice, .count = 2, .uidnext = 5}};
    struct merge_plan plan;
    assert_int_equal(merge_plan_make(&input, &plan), ERR_CORRUPT);
    input.master.count = 1;
    input.replica.uidnext = UINT32_MAX;
    assert_int_equal(merge_plan_make(&input, &plan), ERR_REFUSED);
    assert_int_equal(plan.count, 0);
}

static void mailboxes_made_independently_match_by_guid(void **state)
{
    (void)state;
    struct list lists[2];
    struct merge_plan plan;
    struct merge_input input = {0};
    memset(lists, 0, sizeof lists);
    const struct end_text m = {.records = "1g@5[Seen] 2h@6 3k@7x8"};
    const struct end_text r = {.records = "1h@5[work] 2g@6 4k@7[Draft] 5g@8"};
    fill_end(&m, &lists[0], &input.master);
    fill_end(&r, &lists[1], &input.replica);
    assert_int_equal(merge_plan_independent(&input, &plan), ERR_OK);
    check_text(&plan, "add 6k<4[Draft]; add 7g<5; flags 2[work]");
    assert_int_equal(plan.renumbered, 2);
    assert_int_equal(plan.copied_back, 2);
    merge_plan_free(&plan);
    free_list(&lists[0]);
    free_list(&lists[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_1_who_alone_changed_the_flags_wins),
        cmocka_unit_test(row_1_flags_changed_at_both_ends_merge_one_by_one),
        cmocka_unit_test(row_1_without_a_journal_the_newer_end_wins_else_the_master),
        cmocka_unit_test(keyword_names_compare_without_regard_to_case),
        cmocka_unit_test(keywords_that_are_too_many_together_stay_as_the_master_has_them),
        cmocka_unit_test(row_2_expunged_at_one_end_is_expunged_at_both),
        cmocka_unit_test(row_2_purged_with_evidence_is_expunged_at_both),
        cmocka_unit_test(row_2_what_was_done_to_a_uid_reaches_the_message_under_its_new_one),
        cmocka_unit_test(a_spoilt_record_is_healed_by_the_proven_one),
        cmocka_unit_test(damage_is_healed_under_the_same_uid),
        cmocka_unit_test(row_3_one_message_under_one_uid_at_both_ends),
        cmocka_unit_test(row_4_one_message_expunged_at_one_end_is_expunged_at_both),
        cmocka_unit_test(row_5_a_delivery_tried_at_both_ends_is_one_message),
        cmocka_unit_test(row_5_spares_what_an_earlier_merge_renumbered),
        cmocka_unit_test(row_6_a_split_brain_kills_the_uid),
        cmocka_unit_test(row_7_a_tombstone_of_another_message_kills_the_uid),
        cmocka_unit_test(row_8_a_uid_that_the_other_never_gave_out_stays),
        cmocka_unit_test(row_9_a_uid_that_the_other_used_up_dies),
        cmocka_unit_test(row_10_a_tombstone_after_the_base_stands_at_both),
        cmocka_unit_test(row_11_an_old_tombstone_that_the_other_purged_is_left_alone),
        cmocka_unit_test(a_third_node_below_the_mark_brings_nothing_back),
        cmocka_unit_test(a_flag_that_the_master_cleared_does_not_return_with_a_third_node),
        cmocka_unit_test(what_a_third_node_never_had_it_did_not_expunge),
        cmocka_unit_test(what_a_third_node_did_reaches_both_messages_of_a_split_brain),
        cmocka_unit_test(what_a_third_node_had_and_purged_it_expunged),
        cmocka_unit_test(without_evidence_nothing_was_expunged),
        cmocka_unit_test(what_may_have_moved_is_not_taken_for_a_delivery),
        cmocka_unit_test(a_mailbox_that_the_master_never_had_has_lost_nothing),
        cmocka_unit_test(one_append_that_merges_brought_to_both_is_one_message),
        cmocka_unit_test(what_lives_at_both_ends_by_one_way_is_not_expunged_by_another),
        cmocka_unit_test(what_cannot_be_followed_is_left_alone),
        cmocka_unit_test(what_died_before_another_was_buried_there_is_dead),
        cmocka_unit_test(a_delivery_that_moved_is_still_one_message),
        cmocka_unit_test(an_old_message_under_a_new_uid_is_no_delivery),
        cmocka_unit_test(a_new_message_beside_a_successor_is_another),
        cmocka_unit_test(a_state_at_another_base_is_no_state_to_compare_with),
        cmocka_unit_test(expunged_and_delivered_again_is_there_once),
        cmocka_unit_test(nothing_is_expunged_on_a_guess),
        cmocka_unit_test(an_end_that_is_behind_takes_in_what_a_mark_made),
        cmocka_unit_test(pointers_in_circles_end),
        cmocka_unit_test(new_uids_are_above_what_stands_above_uidnext),
        cmocka_unit_test(messages_of_either_end_are_counted_by_what_became_of_them),
        cmocka_unit_test(lists_out_of_order_and_used_up_uids_are_refused),
        cmocka_unit_test(mailboxes_made_independently_match_by_guid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
