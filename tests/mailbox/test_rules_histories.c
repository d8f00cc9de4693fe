/* Histories that broke earlier rules of merges. */
#include "tests/support/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_third_node_below_the_mark_brings_nothing_back(void **state)
{
    (void)state;
    /* taken in, expunged and purged at M; the third node flagged another message meanwhile */
    scene_check(
        (struct scene){.m = {.records = "2h@5", .next = 3, .base = 30, .forgotten = 41},
                       .r = {.records = "1g@12 2h@5~20[Seen]{}", .base = 15, .base_next = 3}},
        "flags 2[Seen]; bury 1g");
}

static void a_flag_that_the_master_cleared_does_not_return_with_a_third_node(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5~40", .base = 30},
                       .r = {.records = "1g@5~20[Seen,Flagged]{Seen}", .base = 15, .base_next = 2}},
        "flags 1[Flagged]");
    /* nor does the absence of one that M set before the mark */
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]", .base = 30},
                               .r = {.records = "1g@5~8", .base = 15, .base_next = 2}},
                "touch 1");
}

static void what_a_third_node_never_had_it_did_not_expunge(void **state)
{
    (void)state;
    /* R used up UID 6 for a message of its own, expunged and purged it */
    scene_check(
        (struct scene){
            .m = {.records = "6k@20", .base = 30},
            .r = {.records = "", .next = 7, .base = 15, .base_next = 6, .forgotten = 18}},
        "renumber 8k<6; expunge 6>8");
}

static void what_a_third_node_did_reaches_both_messages_of_a_split_brain(void **state)
{
    (void)state;
    const char *m = "5h@20x29>8 7g@27 8h@28";
    scene_check((struct scene){.m = {m, .base = 30},
                               .r = {.records = "5g@12~20[Seen]{}", .base = 15, .base_next = 6}},
                "flags 7[Seen]; touch 5; touch 8");
    scene_check((struct scene){.m = {m, .base = 30},
                               .r = {.records = "5g@12x20", .base = 15, .base_next = 6}},
                "expunge 7; touch 5; touch 8");
    scene_check(
        (struct scene){.m = {.records = "5h@9x29>8 7g@27 8h@28"}, .r = {.records = "5h@9x20"}},
        "expunge 8; touch 5; touch 7");
}

static void what_a_third_node_had_and_purged_it_expunged(void **state)
{
    (void)state;
    scene_check(
        (struct scene){
            .m = {.records = "3k@20", .base = 30},
            .r = {.records = "", .next = 7, .base = 15, .base_next = 6, .forgotten = 18}},
        "expunge 3");
}

/* M changed it when it took in another node, which had taken in R: another user's seen set, so that
 * the flags are the same. */
static void clients_are_told_what_an_earlier_merge_did(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5~18", .base = 30, .merged = true},
                               .r = {.records = "1g@5 2h@17", .base = 16}},
                "add 2h; touch 1");
}

/* Records are missing there, and yet the journal tells what was expunged. */
static void a_journal_is_evidence_at_a_damaged_end(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5 2h@5"},
                               .r = {.records = "", .next = 3, .expunged = "2", .damaged = true}},
                "expunge 2; touch 1");
    scene_check((struct scene){.m = {.records = "", .next = 3, .expunged = "2", .damaged = true},
                               .r = {.records = "1g@5 2h@5"}},
                "heal 1g; bury 2h");
    /* it is about the message that both had, not about another one under its UID */
    scene_check((struct scene){.m = {.records = "1g@12"},
                               .r = {.records = "", .next = 2, .expunged = "1", .damaged = true}},
                "renumber 3g<1; expunge 1>3");
}

static void without_evidence_nothing_was_expunged(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5"},
                               .r = {.records = "", .next = 2, .forgotten = 20, .damaged = true}},
                "touch 1");
    /* never given out there */
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "", .next = 1, .forgotten = 20}},
        "touch 1");
}

/* It may be an old one, and the tombstone that tells it is gone. */
static void what_may_have_moved_is_not_taken_for_a_delivery(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "2g@20", .merged = true, .forgotten = 15},
                               .r = {.records = "3g@22"}},
                "add 3g; renumber 5g<2; expunge 2>5");
    scene_check((struct scene){.m = {.records = "2g@20", .merged = true, .forgotten = 10},
                               .r = {.records = "3g@22"}},
                "renumber 5g<2; expunge 2>5; bury 3g>5");
    /* by the base of the one, and unknown to the other's */
    scene_check((struct scene){.m = {.records = "6k@20", .base = 30, .forgotten = 15},
                               .r = {.records = "7k@22", .base = 15, .base_next = 6}},
                "renumber 9k<6; expunge 6>9; bury 7k>9");
    scene_check((struct scene){.m = {.records = "6k@20", .base = 30, .forgotten = 16},
                               .r = {.records = "7k@22", .base = 15, .base_next = 6}},
                "add 7k; renumber 9k<6; expunge 6>9");
}

/* It was merged with another of its name before, say, and the merge makes it anew. */
static void a_mailbox_that_the_master_never_had_has_lost_nothing(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "", .next = 1}, .r = {.records = "1g@5"}},
                "add 1g");
}

/* Two masters took in a third node's branch, each for itself, and purged what tells of it. */
static void one_append_that_merges_brought_to_both_is_one_message(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "2g@20s7", .merged = true, .forgotten = 15},
                               .r = {.records = "2g@22s7", .merged = true, .forgotten = 15}},
                "touch 2");
    scene_check(
        (struct scene){.m = {.records = "2g@20s7 3h@21s8", .merged = true, .forgotten = 15},
                       .r = {.records = "3g@22s7 4h@23s8", .merged = true, .forgotten = 15}},
        "renumber 6g<2; renumber 8h<3; expunge 2>6; expunge 3>8; bury 4h>8");
    scene_check((struct scene){.m = {.records = "2g@20s7", .merged = true, .forgotten = 15},
                               .r = {.records = "2g@22s8", .merged = true, .forgotten = 15}},
                "renumber 4g<2; add 5g<2; expunge 2>4");
}

static void what_lives_at_both_ends_by_one_way_is_not_expunged_by_another(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@3x12>5 2g@4x12>5 5g@11"},
                               .r = {.records = "1g@3x12 2g@4", .next = 3}},
                "touch 1; touch 2; touch 5");
}

/* Or where it went: its tombstone names a UID that has been purged, and beside that stands another
 * copy; or the tombstone that was known at both bases is another's; or nothing is there at all. */
static void what_cannot_be_followed_is_left_alone(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "5g@12x29>7 8g@28", .base = 30},
                               .r = {.records = "5g@12~20[Seen]{}", .base = 15, .base_next = 6}},
                "touch 5; touch 8");
    scene_check((struct scene){.m = {.records = "1g@5x15>3 3g@15", .base = 20},
                               .r = {.records = "1g@5x8", .base_next = 2}},
                "touch 3");
    scene_check((struct scene){.m = {.records = "1g@5x20>2 2g@20"},
                               .r = {.records = "", .next = 2, .damaged = true}},
                "touch 1; touch 2");
}

/* R's user expunged it, it was purged, and a tombstone of another message buried in its place. */
static void what_died_before_another_was_buried_there_is_dead(void **state)
{
    (void)state;
    scene_check(
        (struct scene){.m = {.records = "1g@5x14>2 2g@14"},
                       .r = {.records = "1h@20x20>3 3h@19", .forgotten = 14, .merged = true}},
        "add 3h; expunge 2; touch 1");
}

/* One delivery under one UID, and M gave it another in a merge with a third node. */
static void a_delivery_that_moved_is_still_one_message(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@12x20>3 3g@20 4g@21"},
                               .r = {.records = "1g@12~13[Seen]{}"}},
                "flags 3[Seen]; touch 1; touch 4");
    /* dead at M, but not for certain the same one */
    scene_check((struct scene){.m = {.records = "1g@12x20", .merged = true, .forgotten = 15},
                               .r = {.records = "1g@12~13s9[Seen]{}"}},
                "add 3g<1[Seen]; touch 1");
    /* unless it is one append */
    scene_check((struct scene){.m = {.records = "1g@12x20s9", .merged = true, .forgotten = 15},
                               .r = {.records = "1g@13s9"}},
                "touch 1");
}

static void an_old_message_under_a_new_uid_is_no_delivery(void **state)
{
    (void)state;
    /* of one GUID, and by chance under one UID: M's is new, R's is the one that M expunged */
    scene_check((struct scene){.m = {.records = "1g@5x14 2g@15", .base = 11, .base_next = 2},
                               .r = {.records = "1g@5x13>2 2g@13", .base = 15}},
                "renumber 4g<2; expunge 2>4; point 1>2");
    /* under two UIDs: both stay */
    scene_check((struct scene){.m = {.records = "1g@5x10 3g@14", .base = 11, .base_next = 2},
                               .r = {.records = "1g@5x15>4 4g@14", .base = 17}},
                "add 4g; renumber 6g<3; expunge 3>6; point 1>4");
    /* or under the UID that it always had, which the other end has lost */
    scene_check(
        (struct scene){.m = {.records = "1g@5"}, .r = {.records = "2g@20", .damaged = true}},
        "add 2g; touch 1");
}

static void a_new_message_beside_a_successor_is_another(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "5h@20x29>8 7g@31 8h@28", .base = 30},
                               .r = {.records = "5g@12x20", .base = 15, .base_next = 6}},
                "touch 5; touch 7; touch 8");
}

/* Two copies died under UID 1 at R, the one from M's branch and another; its tombstone names the
 * other. The save date tells which one is M's. */
static void a_copy_that_died_under_the_same_uid_is_another(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@3", .base = 19, .forgotten = 7, .merged = true},
                               .r = {.records = "1g@5x21>6 6g@19s5 7g@20s3",
                                     .base = 3,
                                     .base_next = 1,
                                     .forgotten = 7,
                                     .merged = true}},
                "add 6g; renumber 9g<1; expunge 1>9; bury 7g>9");
}

/* R's tombstone is another copy's, and names that one; M's is its neighbour. */
static void of_two_copies_that_died_under_one_uid_each_is_followed(void **state)
{
    (void)state;
    const char *r = "3g@11x34>11s9 11g@30s9 12g@31s7";
    scene_check((struct scene){.m = {.records = "3g@7", .base = 12, .base_next = 7},
                               .r = {.records = r, .base = 44}},
                "add 11g; renumber 14g<3; expunge 3>14; bury 12g>14");
    /* none has the save date of M's: it is the one that the tombstone names */
    scene_check((struct scene){.m = {.records = "3g@7s6", .base = 12, .base_next = 7},
                               .r = {.records = r, .base = 44}},
                "add 12g; renumber 14g<3; expunge 3>14; bury 11g>14");
}

static void a_state_at_another_base_is_no_state_to_compare_with(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5~40[Seen]{}", .base = 30},
                               .r = {.records = "1g@5~20[Flagged]", .base = 15, .base_next = 2}},
                "touch 1");
    scene_check((struct scene){.m = {.records = "1g@5~22[Seen]{}"},
                               .r = {.records = "1g@5~21[Flagged]{}"},
                               .base_unknown = true},
                "touch 1");
    /* nor is what a message was appended with when it moved: R's user took "work" away before */
    scene_check((struct scene){.m = {.records = "1g@5~11[Seen,Flagged,work]{Seen,work}"},
                               .r = {.records = "1g@5x14>3 3g@13[Seen]"}},
                "renumber 5g<1[Flagged,Seen]; expunge 1>5; bury 3g>5");
}

static void expunged_and_delivered_again_is_there_once(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@20"}, .r = {.records = "1g@20x21 2g@22"}},
                "add 2g; expunge 1");
}

static void nothing_is_expunged_on_a_guess(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "", .next = 2, .forgotten = 12},
                               .r = {.records = "1g@11"},
                               .base_unknown = true},
                "add 3g<1; bury 1g>3");
    /* but what both had is not brought back */
    scene_check((struct scene){.m = {.records = "2h@10", .next = 3, .forgotten = 12},
                               .r = {.records = "1g@9 2h@10"},
                               .base_unknown = true},
                "bury 1g");
    scene_check((struct scene){.m = {.records = "1g@20"},
                               .r = {.records = "2g@20", .next = 3},
                               .base_unknown = true},
                "add 2g; renumber 4g<1; expunge 1>4");
}

static void an_end_that_is_behind_takes_in_what_a_mark_made(void **state)
{
    (void)state;
    /* R took M's UID 1 in and renumbered it; M's user flagged it since */
    scene_check((struct scene){.m = {.records = "1g@5~20[Seen]{}", .base = 15, .base_next = 2},
                               .r = {.records = "1h@6x29>3 3h@27 4g@28", .base = 30}},
                "add 3h; renumber 6g<1[Seen]; expunge 1>6; bury 4g>6");
}

static void pointers_in_circles_end(void **state)
{
    (void)state;
    scene_check((struct scene){.m = {.records = "1g@5x20>2 2g@20x21>1"},
                               .r = {.records = "1g@5", .next = 2}},
                "touch 1; touch 2");
    scene_check((struct scene){.r = {.records = "1g@20x21>1"}}, "bury 1g");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_third_node_below_the_mark_brings_nothing_back),
        cmocka_unit_test(a_flag_that_the_master_cleared_does_not_return_with_a_third_node),
        cmocka_unit_test(what_a_third_node_never_had_it_did_not_expunge),
        cmocka_unit_test(what_a_third_node_did_reaches_both_messages_of_a_split_brain),
        cmocka_unit_test(what_a_third_node_had_and_purged_it_expunged),
        cmocka_unit_test(clients_are_told_what_an_earlier_merge_did),
        cmocka_unit_test(a_journal_is_evidence_at_a_damaged_end),
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
        cmocka_unit_test(a_copy_that_died_under_the_same_uid_is_another),
        cmocka_unit_test(of_two_copies_that_died_under_one_uid_each_is_followed),
        cmocka_unit_test(a_state_at_another_base_is_no_state_to_compare_with),
        cmocka_unit_test(expunged_and_delivered_again_is_there_once),
        cmocka_unit_test(nothing_is_expunged_on_a_guess),
        cmocka_unit_test(an_end_that_is_behind_takes_in_what_a_mark_made),
        cmocka_unit_test(pointers_in_circles_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
