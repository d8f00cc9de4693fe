/* The archive: what is written comes back byte for byte, by every way of asking; what is damaged,
 * cut short, missing or of another journal is told and never shown. */
#include "base/err.h"
#include "base/hash.h"
#include "journal/archive.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define STORE_ID UINT64_C(0x1234)
#define FILES 3u
#define ENTRIES 3000u /* in one file: more than one block */
#define JUMP 1000u    /* modseqs that an epoch jumps over */
#define GOLDEN_ENTRIES 24u
#define STRING_AT 3u

/* A made-up journal: the same for the same numbers. */
struct made {
    struct dice dice;
    struct journal_point at;
    struct buf bytes; /* of all entries */
    size_t offsets[FILES * ENTRIES + 1];
    uint64_t modseqs[FILES * ENTRIES];
    int64_t times[FILES * ENTRIES];
    size_t count;
};

static void make_entry(struct made *made, bool jump, bool end)
{
    static const char *const actors[] = {"ann", "imap", "", "a mail server with a long name"};
    uint8_t body[200];
    size_t size = dice_below(&made->dice, sizeof body);
    for (size_t i = 0; i < size; i++)
        body[i] = i < size / 2 ? (uint8_t)dice_next(&made->dice) : (uint8_t)i;
    /* Strings that come again, where find_strings() looks for them. */
    uint64_t string = 1 + dice_below(&made->dice, 50);
    for (size_t i = 0; size >= 2 * ARCHIVE_STRING_SIZE && i < ARCHIVE_STRING_SIZE; i++)
        body[STRING_AT + i] = (uint8_t)(string * (i + 1) * 7);
    struct entry entry = {
        .modseq = made->at.position.modseq + (jump ? JUMP : 1),
        .time = made->at.time + dice_below(&made->dice, 3) * 1000,
        .mailbox = 7 + dice_below(&made->dice, 3),
        .epoch = jump ? 2 : 1,
        .kind = jump ? ENTRY_EPOCH : (enum entry_kind)(1 + dice_below(&made->dice, 12)),
        .digest = dice_next(&made->dice),
        .end_of_commit = end,
        .actor = bytes_text(actors[dice_below(&made->dice, 4)]),
        .body = bytes_of(body, size),
    };
    entry.previous = entry.modseq - 1 - dice_below(&made->dice, (uint32_t)entry.modseq);
    assert_int_equal(entry_encode(&made->bytes, &entry, made->at.position.chain), ERR_OK);
    made->at = (struct journal_point){{entry.modseq, entry.chain}, entry.time};
    made->modseqs[made->count] = entry.modseq;
    made->times[made->count++] = entry.time;
    made->offsets[made->count] = made->bytes.size;
}

static int find_strings(const struct entry *entry, struct buf *offsets)
{
    if (entry->body.size < 2 * ARCHIVE_STRING_SIZE)
        return ERR_OK;
    buf_u32(offsets, STRING_AT);
    /* And one of its own, at the end. */
    if (entry->body.size >= 4 * ARCHIVE_STRING_SIZE)
        buf_u32(offsets, (uint32_t)entry->body.size - ARCHIVE_STRING_SIZE);
    return ERR_OK;
}

static struct bytes made_entry(const struct made *made, size_t at)
{
    return bytes_of(made->bytes.data + made->offsets[at],
                    made->offsets[at + 1] - made->offsets[at]);
}

static struct made *make(void)
{
    struct made *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->dice.state = 1;
    made->at = (struct journal_point){{0, entry_chain_start(STORE_ID)}, 1000000};
    return made;
}

static void made_free(struct made *made)
{
    buf_free(&made->bytes);
    free(made);
}

struct place {
    char path[PATH_MAX];
    int directory;
    struct made *made;
    struct journal_point ends[FILES + 1]; /* of the files */
};

/* Makes `count` more entries and writes them to a file of their own. */
static void write_file(struct place *place, size_t count, size_t jump_at)
{
    struct archive_writer *writer;
    struct made *made = place->made;
    struct journal_point base = made->at;
    size_t from = made->count;
    for (size_t i = 0; i < count; i++)
        make_entry(made, i == jump_at, i + 1 == count || dice_below(&made->dice, 2));
    assert_int_equal(archive_write_begin(place->directory, 0, &writer), ERR_OK);
    archive_write_base(writer, STORE_ID, base, find_strings);
    for (size_t i = from; i < made->count; i++)
        assert_int_equal(archive_write(writer, made_entry(made, i)), ERR_OK);
    assert_int_equal(archive_write_end(writer), ERR_OK);
    archive_write_close(writer);
}

static void open_place(struct place *place)
{
    scratch_make(place->path);
    place->directory = open(place->path, O_RDONLY | O_DIRECTORY);
    assert_true(place->directory >= 0);
    place->made = make();
    place->ends[0] = place->made->at;
}

static void close_place(struct place *place)
{
    made_free(place->made);
    close(place->directory);
    scratch_remove(place->path);
}

static void write_files(struct place *place)
{
    open_place(place);
    for (unsigned i = 0; i < FILES; i++) {
        write_file(place, ENTRIES, i == 1 ? 0 : ENTRIES / 2);
        place->ends[i + 1] = place->made->at;
    }
}

static struct archive *reach(const struct place *place, struct position base)
{
    struct archive *archive;
    assert_int_equal(archive_open(place->directory, &archive), ERR_OK);
    assert_int_equal(archive_reach(archive, base, 0), ERR_OK);
    return archive;
}

static void file_path(const struct place *place, unsigned file, char path[PATH_MAX])
{
    char name[ARCHIVE_NAME_SIZE + sizeof ARCHIVE_DIRECTORY];
    snprintf(name, sizeof name, ARCHIVE_DIRECTORY "/%020llu-%020llu",
             (unsigned long long)place->ends[file].position.modseq,
             (unsigned long long)place->ends[file + 1].position.modseq);
    scratch_path(path, place->path, name);
}

static void comes_back_by_modseq(void **state)
{
    struct place place;
    struct entry entry;
    struct bytes encoded;
    (void)state;
    write_files(&place);
    const struct made *made = place.made;
    struct archive *archive = reach(&place, made->at.position);
    assert_int_equal(archive_oldest(archive), 0);
    assert_string_equal(archive_gap(archive), "");
    for (size_t i = made->count; i > 0; i--) {
        assert_true(archive_reaches(archive, made->modseqs[i - 1]));
        assert_int_equal(archive_at_or_below(archive, made->modseqs[i - 1], &entry, &encoded),
                         ERR_OK);
        assert_true(bytes_equal(encoded, made_entry(made, i - 1)));
    }
    uint64_t above = 0;
    for (size_t i = 0; i < made->count; i++) {
        assert_int_equal(archive_above(archive, above, &entry, &encoded), ERR_OK);
        assert_true(bytes_equal(encoded, made_entry(made, i)));
        above = entry.modseq;
    }
    assert_int_equal(archive_above(archive, above, &entry, &encoded), ERR_END);
    assert_int_equal(archive_at_or_below(archive, 0, &entry, &encoded), ERR_END);
    /* What an epoch jumped over is what stands before the jump. */
    for (size_t i = 1; i < made->count; i++) {
        if (made->modseqs[i] == made->modseqs[i - 1] + 1)
            continue;
        assert_int_equal(archive_at_or_below(archive, made->modseqs[i] - 1, &entry, NULL), ERR_OK);
        assert_int_equal(entry.modseq, made->modseqs[i - 1]);
        assert_int_equal(archive_above(archive, made->modseqs[i] - 1, &entry, NULL), ERR_OK);
        assert_int_equal(entry.modseq, made->modseqs[i]);
    }
    archive_close(archive);
    close_place(&place);
}

static void is_found_by_time(void **state)
{
    struct place place;
    uint64_t modseq;
    (void)state;
    write_files(&place);
    const struct made *made = place.made;
    struct archive *archive = reach(&place, made->at.position);
    size_t last = 0;
    for (int64_t time = made->times[0]; time < made->times[made->count - 1]; time += 500) {
        while (last + 1 < made->count && made->times[last + 1] <= time)
            last++;
        assert_int_equal(archive_at_time(archive, time, &modseq), ERR_OK);
        assert_int_equal(modseq, made->modseqs[last]);
    }
    assert_int_equal(archive_at_time(archive, place.ends[0].time - 1, &modseq), ERR_END);
    archive_close(archive);
    close_place(&place);
}

/* A file that was written but whose entries are in the window still, all or in part. */
static void ends_where_the_window_begins(void **state)
{
    struct place place;
    struct entry entry;
    struct position ahead;
    (void)state;
    write_files(&place);
    const struct made *made = place.made;
    size_t at = 2 * ENTRIES + ENTRIES / 3;
    assert_int_equal(entry_decode(made_entry(made, at), &entry), ERR_OK);
    struct archive *archive =
        reach(&place, (struct position){.modseq = entry.modseq, .chain = entry.chain});
    uint64_t base = entry.modseq;
    assert_int_equal(archive_at_or_below(archive, UINT64_MAX, &entry, NULL), ERR_OK);
    assert_int_equal(entry.modseq, base);
    assert_int_equal(archive_above(archive, base, &entry, NULL), ERR_END);
    assert_false(archive_reaches(archive, base + 1));
    assert_int_equal(archive_oldest(archive), 0);
    assert_int_equal(archive_ahead(archive, base, &ahead), ERR_OK);
    assert_true(position_equal(ahead, made->at.position));
    assert_int_equal(archive_ahead(archive, ahead.modseq, &ahead), ERR_END);
    archive_close(archive);
    archive = reach(&place, place.ends[2].position);
    assert_int_equal(archive_oldest(archive), 0);
    archive_close(archive);
    close_place(&place);
}

static void of_another_branch_is_not_shown(void **state)
{
    struct place place;
    struct entry entry;
    (void)state;
    write_files(&place);
    struct position base = place.made->at.position;
    base.chain++;
    struct archive *archive = reach(&place, base);
    assert_int_equal(archive_at_or_below(archive, base.modseq, &entry, NULL), ERR_END);
    assert_int_equal(archive_oldest(archive), base.modseq);
    assert_string_not_equal(archive_gap(archive), "");
    archive_close(archive);
    /* Out of sight, and no longer in the way. */
    assert_int_equal(archive_set_aside(place.directory, place.ends[1].position.modseq), ERR_OK);
    archive = reach(&place, place.ends[1].position);
    assert_int_equal(archive_ahead(archive, place.ends[1].position.modseq, &base), ERR_END);
    assert_int_equal(archive_oldest(archive), 0);
    archive_close(archive);
    close_place(&place);
}

static void remember_file(void *arg, const char *file, const char *what)
{
    (void)what;
    char **last = arg;
    snprintf(*last, PATH_MAX, "%s", file);
}

/* CRCs tell of accidents in the file; that it holds this journal's entries only the chain does. */
static void chain_proves_a_block(void **state)
{
    struct made *made = make();
    struct archive_block block = {.before = made->at};
    struct archive_place places[10];
    struct archive_packing packing = {0};
    struct buf stored = {0}, entries = {0};
    struct entry entry;
    (void)state;
    for (unsigned damaged = 0; damaged < 2; damaged++) {
        struct journal_point at = block.before;
        block.entries = 0;
        for (unsigned i = 0; i < 10; i++) {
            if (!damaged)
                make_entry(made, false, true);
            assert_int_equal(entry_decode(made_entry(made, i), &entry), ERR_OK);
            archive_pack(&packing, &entry, at, NULL, 0);
            at = (struct journal_point){{entry.modseq, entry.chain}, entry.time};
            block.entries++;
        }
        packing.columns[COLUMN_DIGEST].data[0] ^= (uint8_t)damaged;
        buf_reset(&stored);
        buf_reset(&entries);
        assert_int_equal(archive_deflate(&packing, &stored, &block), ERR_OK);
        assert_int_equal(
            archive_unpack(buf_view(&stored), &block, made->at, NULL, NULL, &entries, places),
            damaged ? ERR_CORRUPT : ERR_OK);
    }
    archive_packing_free(&packing);
    buf_free(&stored);
    buf_free(&entries);
    made_free(made);
}

static void missing_ends_what_is_reached(void **state)
{
    struct place place;
    struct entry entry;
    char path[PATH_MAX];
    char report[PATH_MAX] = "";
    char *reported = report;
    (void)state;
    write_files(&place);
    file_path(&place, 1, path);
    assert_int_equal(unlink(path), 0);
    struct archive *archive = reach(&place, place.made->at.position);
    assert_int_equal(archive_oldest(archive), place.ends[2].position.modseq);
    assert_int_equal(archive_at_or_below(archive, place.ends[2].position.modseq, &entry, NULL),
                     ERR_END);
    assert_int_equal(archive_at_or_below(archive, UINT64_MAX, &entry, NULL), ERR_OK);
    snprintf(path, sizeof path, "behind %llu ", (unsigned long long)place.ends[1].position.modseq);
    assert_non_null(strstr(archive_gap(archive), path));
    assert_int_equal(archive_prove(archive, remember_file, &reported), ERR_OK);
    assert_string_equal(report, ARCHIVE_DIRECTORY);
    archive_close(archive);
    close_place(&place);
}

/* Entries that were made already, again: from behind one of them on up to the next commit's end. */
static void write_again(const struct place *place, size_t behind, size_t last)
{
    struct archive_writer *writer;
    struct made *made = place->made;
    struct entry entry;
    assert_int_equal(entry_decode(made_entry(made, behind), &entry), ERR_OK);
    struct journal_point base = {{entry.modseq, entry.chain}, entry.time};
    assert_int_equal(archive_write_begin(place->directory, 0, &writer), ERR_OK);
    archive_write_base(writer, STORE_ID, base, find_strings);
    for (size_t i = behind + 1; i <= last || !entry.end_of_commit; i++) {
        assert_int_equal(archive_write(writer, made_entry(made, i)), ERR_OK);
        assert_int_equal(entry_decode(made_entry(made, i), &entry), ERR_OK);
    }
    assert_int_equal(archive_write_end(writer), ERR_OK);
    archive_write_close(writer);
}

static void all_comes_back(const struct place *place)
{
    const struct made *made = place->made;
    struct archive *archive = reach(place, made->at.position);
    char report[PATH_MAX] = "";
    char *reported = report;
    struct entry entry;
    struct bytes encoded;
    uint64_t above = 0;
    assert_int_equal(archive_oldest(archive), 0);
    assert_string_equal(archive_gap(archive), "");
    for (size_t i = 0; i < made->count; i++, above = entry.modseq) {
        assert_int_equal(archive_above(archive, above, &entry, &encoded), ERR_OK);
        assert_true(bytes_equal(encoded, made_entry(made, i)));
        assert_int_equal(archive_at_or_below(archive, entry.modseq, &entry, &encoded), ERR_OK);
        assert_true(bytes_equal(encoded, made_entry(made, i)));
    }
    assert_int_equal(archive_prove(archive, remember_file, &reported), ERR_OK);
    assert_string_equal(report, "");
    archive_close(archive);
}

static void files_may_overlap(void **state)
{
    struct place place;
    char path[PATH_MAX];
    (void)state;
    write_files(&place);
    write_again(&place, ENTRIES / 2, 2 * ENTRIES + ENTRIES / 2);
    all_comes_back(&place);
    file_path(&place, 1, path);
    assert_int_equal(unlink(path), 0);
    all_comes_back(&place);
    write_again(&place, ENTRIES - 2, 3 * ENTRIES - 1);
    file_path(&place, 2, path);
    assert_int_equal(unlink(path), 0);
    all_comes_back(&place);
    close_place(&place);
}

/* The same range as another branch of the journal had it: what is reached behind it is its own. */
static void files_of_two_branches_are_told(void **state)
{
    struct place place, other;
    char from[PATH_MAX], to[PATH_MAX];
    char report[PATH_MAX] = "";
    char *reported = report;
    (void)state;
    write_files(&place);
    open_place(&other);
    other.made->dice.state = 2;
    write_file(&other, ENTRIES, ENTRIES / 2);
    assert_int_equal(other.made->at.position.modseq, place.ends[1].position.modseq);
    other.ends[1] = other.made->at;
    file_path(&other, 0, from);
    file_path(&place, 0, to);
    assert_int_equal(rename(from, to), 0);
    struct archive *archive = reach(&place, place.made->at.position);
    assert_int_equal(archive_prove(archive, remember_file, &reported), ERR_OK);
    assert_string_not_equal(report, "");
    archive_close(archive);
    close_place(&other);
    close_place(&place);
}

static void refuses_what_is_not_chained(void **state)
{
    struct place place;
    struct archive_writer *writer;
    (void)state;
    open_place(&place);
    make_entry(place.made, false, true);
    make_entry(place.made, false, true);
    make_entry(place.made, false, false);
    assert_int_equal(archive_write_begin(place.directory, 0, &writer), ERR_OK);
    archive_write_base(writer, STORE_ID, place.ends[0], find_strings);
    assert_int_equal(archive_write(writer, made_entry(place.made, 0)), ERR_OK);
    assert_int_equal(archive_write(writer, made_entry(place.made, 2)), ERR_CORRUPT);
    assert_int_equal(archive_write(writer, made_entry(place.made, 1)), ERR_OK);
    assert_int_equal(archive_write(writer, made_entry(place.made, 2)), ERR_OK);
    /* In the midst of a commit. */
    assert_int_equal(archive_write_end(writer), ERR_CORRUPT);
    archive_write_close(writer);
    struct archive *archive = reach(&place, place.made->at.position);
    assert_int_equal(archive_oldest(archive), place.made->at.position.modseq);
    archive_close(archive);
    close_place(&place);
}

static void *end_soon(void *arg)
{
    const struct timespec soon = {.tv_nsec = 20000000};
    nanosleep(&soon, NULL);
    archive_write_close(arg);
    return NULL;
}

static void a_second_writer_waits_for_the_first(void **state)
{
    struct place place;
    struct archive_writer *writer, *other;
    pthread_t thread;
    (void)state;
    open_place(&place);
    assert_int_equal(archive_write_begin(place.directory, 0, &writer), ERR_OK);
    assert_int_equal(archive_write_begin(place.directory, 0, &other), ERR_BUSY);
    assert_null(other);
    assert_int_equal(pthread_create(&thread, NULL, end_soon, writer), 0);
    assert_int_equal(archive_write_begin(place.directory, ARCHIVE_WAIT, &other), ERR_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    archive_write_close(other);
    close_place(&place);
}

/* Everything that can be asked of the file: each entry is as it was, or there is an error that
 * names the file. */
static bool all_right(const struct place *place, const char *name)
{
    const struct made *made = place->made;
    struct archive *archive = reach(place, made->at.position);
    bool right = true;
    for (size_t i = 0; i < made->count; i++) {
        struct entry entry;
        struct bytes encoded;
        int rc = archive_at_or_below(archive, made->modseqs[i], &entry, &encoded);
        if (rc == ERR_OK) {
            assert_true(bytes_equal(encoded, made_entry(made, i)));
            continue;
        }
        right = false;
        if (rc == ERR_END)
            assert_non_null(strstr(archive_gap(archive), name));
        else
            assert_non_null(strstr(err_message(), name));
    }
    archive_close(archive);
    return right;
}

static void put_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static size_t get_file(const char *path, uint8_t *data, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(data, 1, room, file);
    assert_int_equal(fclose(file), 0);
    assert_true(size < room);
    return size;
}

static void no_damage_goes_unnoticed(void **state)
{
    static uint8_t bytes[1 << 16];
    struct place place;
    char path[PATH_MAX];
    (void)state;
    open_place(&place);
    write_file(&place, 40, 20);
    place.ends[1] = place.made->at;
    file_path(&place, 0, path);
    const char *name = strrchr(path, '/') + 1;
    size_t size = get_file(path, bytes, sizeof bytes);
    assert_true(all_right(&place, name));
    for (size_t at = 0; at < size; at++) {
        uint8_t bit = (uint8_t)(1u << (at % 8));
        bytes[at] ^= bit;
        put_file(path, bytes, size);
        if (all_right(&place, name))
            fail_msg("byte %zu of %zu is damaged, and nothing was said", at, size);
        bytes[at] ^= bit;
    }
    for (size_t cut = 0; cut < size; cut++) {
        put_file(path, bytes, cut);
        assert_false(all_right(&place, name));
    }
    put_file(path, bytes, size);
    assert_true(all_right(&place, name));
    close_place(&place);
}

static void damage_stays_in_its_file(void **state)
{
    struct place place;
    struct entry entry;
    char path[PATH_MAX];
    char report[PATH_MAX] = "";
    char *reported = report;
    (void)state;
    write_files(&place);
    file_path(&place, 1, path);
    assert_int_equal(truncate(path, 5000), 0);
    struct archive *archive = reach(&place, place.made->at.position);
    uint64_t last = place.ends[1].position.modseq;
    assert_int_equal(archive_at_or_below(archive, UINT64_MAX, &entry, NULL), ERR_OK);
    assert_int_equal(archive_at_or_below(archive, last + JUMP, &entry, NULL), ERR_CORRUPT);
    assert_non_null(strstr(err_message(), strrchr(path, '/') + 1));
    assert_int_equal(archive_at_or_below(archive, last, &entry, NULL), ERR_OK);
    assert_int_equal(entry.modseq, last);
    assert_int_equal(archive_prove(archive, remember_file, &reported), ERR_OK);
    assert_non_null(strstr(path, report));
    archive_close(archive);
    close_place(&place);
}

/* Written once and never again: whatever becomes of the code, it must read this. */
static void reads_format_1(void **state)
{
    char path[PATH_MAX];
    const char *source = getenv("SHIPLOG_SOURCE");
    struct place place = {.made = make()};
    struct entry entry;
    struct bytes encoded;
    (void)state;
    assert_non_null(source);
    scratch_path(path, source, "tests/journal/golden");
    for (unsigned i = 0; i < GOLDEN_ENTRIES; i++)
        make_entry(place.made, i == GOLDEN_ENTRIES / 2, i % 2);
    place.directory = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(place.directory >= 0);
    struct archive *archive = reach(&place, place.made->at.position);
    for (unsigned i = 0; i < GOLDEN_ENTRIES; i++) {
        assert_int_equal(archive_at_or_below(archive, place.made->modseqs[i], &entry, &encoded),
                         ERR_OK);
        assert_true(bytes_equal(encoded, made_entry(place.made, i)));
    }
    archive_close(archive);
    close(place.directory);
    made_free(place.made);
}

/* `test_archive golden DIRECTORY`: makes that file. */
static int write_golden(const char *directory)
{
    struct place place = {.directory = open(directory, O_RDONLY | O_DIRECTORY), .made = make()};
    struct archive_writer *writer;
    struct journal_point base = place.made->at;
    for (unsigned i = 0; i < GOLDEN_ENTRIES; i++)
        make_entry(place.made, i == GOLDEN_ENTRIES / 2, i % 2);
    int rc = archive_write_begin(place.directory, 0, &writer);
    if (rc)
        return 1;
    archive_write_base(writer, STORE_ID, base, find_strings);
    for (unsigned i = 0; i < GOLDEN_ENTRIES && rc == ERR_OK; i++)
        rc = archive_write(writer, made_entry(place.made, i));
    if (rc == ERR_OK)
        rc = archive_write_end(writer);
    archive_write_close(writer);
    return rc != ERR_OK;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "golden") == 0)
        return write_golden(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_by_modseq),
        cmocka_unit_test(is_found_by_time),
        cmocka_unit_test(ends_where_the_window_begins),
        cmocka_unit_test(of_another_branch_is_not_shown),
        cmocka_unit_test(chain_proves_a_block),
        cmocka_unit_test(missing_ends_what_is_reached),
        cmocka_unit_test(files_may_overlap),
        cmocka_unit_test(files_of_two_branches_are_told),
        cmocka_unit_test(refuses_what_is_not_chained),
        cmocka_unit_test(a_second_writer_waits_for_the_first),
        cmocka_unit_test(no_damage_goes_unnoticed),
        cmocka_unit_test(damage_stays_in_its_file),
        cmocka_unit_test(reads_format_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
