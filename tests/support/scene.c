#include "tests/support/scene.h"

#include "base/err.h"
#include "mailbox/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORDS 16

struct list {
    struct merge_record records[RECORDS];
    struct flags flags[RECORDS];
    struct flags before[RECORDS];
    size_t count;
    struct uidset expunged;
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
    uidset_free(&list->expunged);
}

static void fill_end(const struct scene_end *text, struct list *list, struct merge_end *end)
{
    scan_list(text->records ? text->records : "", list);
    if (text->expunged)
        assert_int_equal(uidset_parse(&list->expunged, text->expunged, 0, NULL), ERR_OK);
    *end = (struct merge_end){.records = list->records,
                              .count = list->count,
                              .uidnext = text->next,
                              .base_uidnext = text->base_next,
                              .base = text->base ? text->base : 10,
                              .forgotten = text->forgotten,
                              .expunged = &list->expunged,
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
    memset(lists, 0, 2 * sizeof *lists);
    fill_end(&scene->m, &lists[0], &input.master);
    fill_end(&scene->r, &lists[1], &input.replica);
    int rc =
        scene->independent ? merge_plan_independent(&input, plan) : merge_plan_make(&input, plan);
    assert_int_equal(rc, ERR_OK);
    assert_true(plan->uidnext >= input.master.uidnext && plan->uidnext >= input.replica.uidnext);
}

static void free_plan(struct list lists[2], struct merge_plan *plan)
{
    merge_plan_free(plan);
    free_list(&lists[0]);
    free_list(&lists[1]);
}

void scene_check(struct scene scene, const char *expected)
{
    struct list lists[2];
    struct merge_plan plan = {0};
    struct buf text = {0};
    make_plan(&scene, lists, &plan);
    for (size_t i = 0; i < plan.count; i++)
        print_action(&plan.actions[i], &text);
    buf_u8(&text, 0);
    assert_false(text.failed);
    assert_string_equal((const char *)text.data, expected);
    buf_free(&text);
    free_plan(lists, &plan);
}

void scene_check_counts(struct scene scene, struct scene_counts expected)
{
    struct list lists[2];
    struct merge_plan plan = {0};
    make_plan(&scene, lists, &plan);
    assert_int_equal(plan.renumbered, expected.renumbered);
    assert_int_equal(plan.copied_back, expected.copied_back);
    assert_int_equal(plan.expunged, expected.expunged);
    assert_int_equal(plan.damaged, expected.damaged);
    free_plan(lists, &plan);
}
