/* Each row of the table of docs/MERGE.md both ways round, and what holds for every plan. */
#include "mailbox/rules.h"

#include "base/err.h"
#include "tests/support/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- Rows; the base is 10, both at M and at R ---- */

static void row_1_who_alone_changed_the_flags_wins(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5~20[Seen]"}},
                "flags 1[Seen]");
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]"}, .r = {.records = "1g@5"}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5[Seen]"}, .r = {.records = "1g@5~20!1"}},
                "flags 1[]");
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5"}}, "");
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5~20"}}, "touch 1");
    /* put back at R, as if it had been appended there */
    scene_check((struct scene){.m = {.records = "1g@5[Seen]"}, .r = {.records = "1g@20"}},
                "flags 1[]");
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@5~30[Seen]"}},
                "flags 1[Seen]");
}

static void row_1_flags_changed_at_both_ends_merge_one_by_one(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen,junk]{Draft,work}"},
                               .r = {.records = "1g@5~21[Draft,Flagged,work,todo]{Draft,work}"}},
                "flags 1[Flagged,Seen,junk,todo]");
    /* one journal is enough, whichever end's it is */
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]{Draft}"},
                               .r = {.records = "1g@5~21[Draft,Flagged]"}},
                "flags 1[Flagged,Seen]");
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]"},
                               .r = {.records = "1g@5~21[Draft,Flagged]{Draft}"}},
                "flags 1[Flagged,Seen]");
}

static void row_1_without_a_journal_the_newer_end_wins_else_the_master(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5~20[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!7"}},
        "flags 1[Flagged]");
    scene_check(
        (struct scene){.m = {.records = "1g@5~20[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!6"}},
        "touch 1");
    scene_check(
        (struct scene){.m = {.records = "1g@5~22[Seen]!7"}, .r = {.records = "1g@5~21[Flagged]!8"}},
        "touch 1");
}

static void keyword_names_compare_without_regard_to_case(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen,work]{work}"},
                               .r = {.records = "1g@5~20[WORK]{wORK}"}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen,work]{work}"},
                               .r = {.records = "1g@5~20{WORK}"}},
                "flags 1[Seen]");
}

/* Names that differ at the two ends, and are too many together. */
static void fill_with_keywords(struct flags *flags, char letter)
{
    char name[KEYWORD_MAX_SIZE];
    for (char number = 0; number < 5; number++) {
        memset(name, letter, sizeof name);
        for (name[0] = 'a'; name[0] <= 'z'; name[0]++) {
            name[1] = (char)('a' + number);
            assert_int_equal(flags_add(flags, name, sizeof name), ERR_OK);
        }
    }
}

static void keywords_that_are_too_many_together_stay_as_the_master_has_them(void **state)
{
    (void)state;
    struct flags m = {.system = FLAG_SEEN}, r = {.system = FLAG_FLAGGED};
    struct merge_plan plan;
    fill_with_keywords(&m, 'm');
    fill_with_keywords(&r, 'r');
    struct merge_record records[2] = {
        {.record = {.uid = 1, .append_modseq = 5, .modseq = 20, .flags = m.system},
         .keywords = buf_view(&m.keywords),
         .has_base = true},
        {.record = {.uid = 1, .append_modseq = 5, .modseq = 21, .flags = r.system},
         .keywords = buf_view(&r.keywords),
         .has_base = true}};
    struct merge_end end = {.count = 1, .uidnext = 2, .base = 10, .sound = true};
    struct merge_input input = {.base_known = true, .master = end, .replica = end};
    input.master.records = &records[0];
    input.replica.records = &records[1];
    assert_int_equal(merge_plan_make(&input, &plan), ERR_OK);
    assert_int_equal(plan.count, 1);
    assert_int_equal(plan.actions[0].kind, MERGE_FLAGS);
    assert_int_equal(plan.actions[0].system, FLAG_SEEN | FLAG_FLAGGED);
    assert_true(bytes_equal(buf_view(&plan.actions[0].keywords), buf_view(&m.keywords)));
    merge_plan_free(&plan);
    flags_free(&m);
    flags_free(&r);
}

static void row_2_expunged_at_one_end_is_expunged_at_both(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5x20"}}, "expunge 1");
    scene_check((struct scene){.m = {.records = "1g@5x20"}, .r = {.records = "1g@5"}}, "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5~30[Seen]"}, .r = {.records = "1g@5x20"}},
                "expunge 1");
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1h@5x20"}}, "expunge 1");
    scene_check((struct scene){.m = {.records = "1h@5x20"}, .r = {.records = "1g@5"}}, "touch 1");
}

static void row_2_purged_with_evidence_is_expunged_at_both(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 20}},
        "expunge 1");
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 5}},
        "expunge 1");
    /* R's clients may know modseqs above what M has forgotten */
    scene_check(
        (struct scene){.m = {.records = "", .next = 2, .forgotten = 20}, .r = {.records = "1g@5"}},
        "bury 1g");
}

static void row_2_what_was_done_to_a_uid_reaches_the_message_under_its_new_one(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                               .r = {.records = "1g@5~15[Seen]{}", .next = 2}},
                "flags 2[Seen]; touch 1");
    scene_check(
        (struct scene){.m = {.records = "1g@5x20>2 2g@20"}, .r = {.records = "1g@5x15", .next = 2}},
        "expunge 2; touch 1");
    scene_check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                               .r = {.records = "", .next = 2, .forgotten = 15}},
                "expunge 2; touch 1");
    /* over two hops */
    scene_check((struct scene){.m = {.records = "1g@5x20>2 2g@20x30>3 3g@30"},
                               .r = {.records = "1g@5x15", .next = 2}},
                "expunge 3; touch 1; touch 2");
}

/* Nobody changed it, and the ends differ: the one whose digest holds is right. */
static void a_spoilt_record_is_healed_by_the_proven_one(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5[Draft]", .damaged = true},
                               .r = {.records = "1g@5[Seen]"}},
                "heal 1g[Seen]");
    scene_check((struct scene){.m = {.records = "1g@5~12[Draft]", .damaged = true},
                               .r = {.records = "1g@5[Seen]"}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5", .damaged = true}, .r = {.records = "1g@5"}},
                "");
    /* nothing is proven, or M's as well */
    scene_check((struct scene){.m = {.records = "1g@5[Draft]", .damaged = true},
                               .r = {.records = "1g@5[Seen]", .damaged = true}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5[Draft]"}, .r = {.records = "1g@5[Seen]"}},
                "touch 1");
    /* R knows nothing of a change that M's base has */
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]", .base = 30, .damaged = true},
                               .r = {.records = "1g@5", .base = 15, .base_next = 2}},
                "touch 1");
}

static void damage_is_healed_under_the_same_uid(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .damaged = true}},
        "touch 1");
    scene_check((struct scene){.m = {.records = "", .next = 2, .damaged = true},
                               .r = {.records = "1g@5[Seen]"}},
                "heal 1g[Seen]");
    /* a sound end that never forgot a tombstone of that age */
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 2, .forgotten = 4}},
        "touch 1");
    scene_check(
        (struct scene){.m = {.records = "", .next = 2, .forgotten = 4}, .r = {.records = "1g@5"}},
        "heal 1g");
}

static void row_3_one_message_under_one_uid_at_both_ends(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22"}}, "touch 1");
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22~23[Flagged]{}"}},
                "flags 1[Flagged]");
    /* set by the delivery at both ends, cleared by one end's user */
    scene_check((struct scene){.m = {.records = "1g@20[Seen]"}, .r = {.records = "1g@22~23{Seen}"}},
                "flags 1[]");
    scene_check((struct scene){.m = {.records = "1g@20~23{Seen}"}, .r = {.records = "1g@22[Seen]"}},
                "touch 1");
    /* set by one delivery only */
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22[Seen]"}},
                "flags 1[Seen]");
    /* M's journal does not tell what it was delivered with: R's does */
    scene_check(
        (struct scene){.m = {.records = "1g@20~25[Seen]"}, .r = {.records = "1g@21~22{Seen}"}},
        "flags 1[]");
}

static void row_4_one_message_expunged_at_one_end_is_expunged_at_both(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@22x23"}},
                "expunge 1");
    scene_check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1g@22"}}, "touch 1");
}

static void row_5_a_delivery_tried_at_both_ends_is_one_message(void **state)
{
    (void)state;
    /* M's is below R's UIDNEXT: renumbered; R's 3 dies */
    scene_check((struct scene){.m = {.records = "2g@20"}, .r = {.records = "3g@22~23[Seen]{}"}},
                "renumber 5g<2[Seen]; expunge 2>5; bury 3g>5");
    /* M's is above it: it stays */
    scene_check((struct scene){.m = {.records = "3g@20"}, .r = {.records = "2g@22", .next = 3}},
                "bury 2g>3; touch 3");
    /* in UID order, up to the higher multiplicity */
    scene_check((struct scene){.m = {.records = "4g@20 5g@21", .next = 6},
                               .r = {.records = "2g@22", .next = 3}},
                "bury 2g>4; touch 4; touch 5");
    scene_check((struct scene){.m = {.records = "4g@20"}, .r = {.records = "2g@22 3g@23"}},
                "add 6g<3; bury 2g>4; bury 3g>6; touch 4");
    /* and M's goes on under a new UID itself */
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@21 2g@22"}},
                "renumber 4g<1; add 5h<1; expunge 1>4; bury 2g>4");
}

static void row_5_spares_what_an_earlier_merge_renumbered(void **state)
{
    (void)state;
    /* R had 1(g) and got g again; M's 2(g) is the first one */
    scene_check((struct scene){.m = {.records = "1g@5x20>3 3g@20"}, .r = {.records = "1g@5 2g@15"}},
                "add 5g<2; bury 2g>5; touch 1; touch 3");
}

static void row_6_a_split_brain_kills_the_uid(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@22"}},
                "renumber 3g<1; add 4h<1; expunge 1>3");
    scene_check((struct scene){.m = {.records = "1h@20"}, .r = {.records = "1g@22"}},
                "add 3g<1; renumber 4h<1; expunge 1>4");
    /* even if both ends take it for old: two messages are never one */
    scene_check((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1h@5"}},
                "renumber 3g<1; add 4h<1; expunge 1>3");
}

static void row_7_a_tombstone_of_another_message_kills_the_uid(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@22x23"}},
                "renumber 3g<1; expunge 1>3");
    scene_check((struct scene){.m = {.records = "1h@20x21"}, .r = {.records = "1g@22"}},
                "add 3g<1; point 1>3");
}

static void row_8_a_uid_that_the_other_never_gave_out_stays(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "7g@20[Seen]"}, .r = {.records = "", .next = 7}},
                "touch 7");
    scene_check((struct scene){.m = {.records = "", .next = 7}, .r = {.records = "7g@20[Seen]"}},
                "add 7g[Seen]");
}

static void row_9_a_uid_that_the_other_used_up_dies(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "6g@20[Seen]"},
                               .r = {.records = "", .next = 9, .forgotten = 30}},
                "renumber 10g<6[Seen]; expunge 6>10");
    scene_check((struct scene){.m = {.records = "", .next = 7, .forgotten = 30},
                               .r = {.records = "6g@20[Seen]"}},
                "add 8g<6[Seen]; bury 6g>8");
}

static void row_10_a_tombstone_after_the_base_stands_at_both(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = ""}}, "touch 1");
    scene_check((struct scene){.m = {.records = ""}, .r = {.records = "1g@20x21"}}, "bury 1g");
    scene_check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1h@20x21"}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@20x21"}, .r = {.records = "1h@20x21>2 2h@21"}},
                "add 2h; point 1>2");
    /* M purged it before R's clients saw it go */
    scene_check((struct scene){.m = {.records = "", .next = 2, .forgotten = 11},
                               .r = {.records = "1g@5x30"}},
                "bury 1g");
    /* and keeps its successor, whatever M has forgotten */
    scene_check((struct scene){.m = {.records = "", .next = 3, .forgotten = 30},
                               .r = {.records = "1g@12x20>2 2g@20"}},
                "add 4g<2; bury 1g>2; bury 2g>4");
    scene_check((struct scene){.m = {.records = "", .next = 2, .forgotten = 30},
                               .r = {.records = "1g@5x20>2 2g@20x21"}},
                "bury 1g>2; bury 2g");
    scene_check((struct scene){.m = {.next = 2, .base = 8, .base_next = 1, .forgotten = 30},
                               .r = {.records = "1g@11x12>2 2g@12", .base = 20}},
                "add 2g; bury 1g>2");
}

static void row_11_an_old_tombstone_that_the_other_purged_is_left_alone(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5x6"}, .r = {.records = "", .next = 2, .forgotten = 6}},
        "");
    scene_check(
        (struct scene){.m = {.records = "", .next = 2, .forgotten = 6}, .r = {.records = "1g@5x6"}},
        "");
}

/* ---- The plan ---- */

static void new_uids_are_above_what_stands_above_uidnext(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20 9k@5", .next = 2},
                               .r = {.records = "1h@21 9k@5", .next = 2}},
                "renumber 11g<1; add 12h<1; expunge 1>11");
}

static void messages_of_either_end_are_counted_by_what_became_of_them(void **state)
{
    (void)state;
    scene_check_counts((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1h@21"}},
                       (struct scene_counts){.renumbered = 2, .copied_back = 1});
    scene_check_counts((struct scene){.m = {.records = "4g@20"}, .r = {.records = "2g@22"}},
                       (struct scene_counts){.renumbered = 1});
    scene_check_counts((struct scene){.r = {.records = "1g@20"}},
                       (struct scene_counts){.copied_back = 1});
    scene_check_counts((struct scene){.m = {.records = "1g@5"}, .r = {.records = "1g@5x20"}},
                       (struct scene_counts){.expunged = 1});
    scene_check_counts((struct scene){.m = {.records = "1g@5x20"}, .r = {.records = "1g@5"}},
                       (struct scene_counts){.expunged = 1});
    scene_check_counts((struct scene){.m = {.next = 2}, .r = {.records = "1g@5"}},
                       (struct scene_counts){.damaged = 1});
    scene_check_counts((struct scene){.m = {.records = "1g@5"}, .r = {.next = 2}},
                       (struct scene_counts){.damaged = 1});
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
    const struct scene scene = {.m = {.records = "1g@5[Seen] 2h@6 3k@7x8"},
                                .r = {.records = "1h@5[work] 2g@6 4k@7[Draft] 5g@8"},
                                .independent = true};
    scene_check(scene, "add 6k<4[Draft]; add 7g<5; flags 2[work]");
    scene_check_counts(scene, (struct scene_counts){.renumbered = 2, .copied_back = 2});
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
        cmocka_unit_test(new_uids_are_above_what_stands_above_uidnext),
        cmocka_unit_test(messages_of_either_end_are_counted_by_what_became_of_them),
        cmocka_unit_test(lists_out_of_order_and_used_up_uids_are_refused),
        cmocka_unit_test(mailboxes_made_independently_match_by_guid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
