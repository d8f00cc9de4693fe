/* What the window keeps, what slots hold, and that nothing of the past is lost on its way to the
 * archive, wherever that is cut off. */
#include "base/err.h"
#include "base/times.h"
#include "journal/archive.h"
#include "journal/slots.h"
#include "mailbox/check.h"
#include "mailbox/header.h"
#include "mailbox/retain.h"
#include "mailbox/view.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define MESSAGES 20u
#define MOMENTS 4096u
#define HOUR (INT64_C(3600) * TIMES_SECOND)
#define EVENTS_MOST 400u /* that one archiving makes, with room */
#define CALLS_MOST 100000u

struct place {
    char root[PATH_MAX];
    char path[PATH_MAX];
    struct store *store;
    uint64_t inbox;
    unsigned changes;
    /* the INBOX's digest as it was after these entries */
    uint64_t modseqs[MOMENTS];
    uint64_t digests[MOMENTS];
    size_t count;
};

static uint64_t inbox_digest(struct place *place, uint64_t modseq)
{
    struct view *view;
    assert_int_equal(view_open(place->store, place->inbox, &view), ERR_OK);
    int rc = modseq ? view_back(view, modseq) : ERR_OK;
    if (rc)
        fail_msg("at %" PRIu64 ": %s", modseq, err_message());
    uint64_t digest = header_digest(view_header(view));
    view_close(view);
    return digest;
}

static void change(struct place *place, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct post_facts facts;
        char uid[16], flag[16];
        unsigned number = place->changes++;
        snprintf(uid, sizeof uid, "%u", 1 + number % MESSAGES);
        snprintf(flag, sizeof flag, "k%u", number / MESSAGES);
        assert_int_equal(post_flag(place->store, "INBOX", uid, flag), ERR_OK);
        assert_int_equal(post_facts(place->store, &facts), ERR_OK);
        assert_true(place->count < MOMENTS);
        place->modseqs[place->count] = facts.position.modseq;
        place->digests[place->count++] = inbox_digest(place, 0);
    }
}

static void past_is_whole(struct place *place)
{
    size_t step = place->count > 60 ? place->count / 30 : 1;
    for (size_t i = 0; i < place->count; i += step)
        if (inbox_digest(place, place->modseqs[i]) != place->digests[i])
            fail_msg("not as it was at %" PRIu64, place->modseqs[i]);
}

static void complain(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

static void is_proved(struct place *place)
{
    uint64_t wrong;
    assert_int_equal(check_journal(place->store, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
}

static void nothing_is_wrong(struct place *place)
{
    uint64_t wrong;
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
}

static int open_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    struct owner owner = {.user = "owner"};
    struct name name;
    assert_non_null(place);
    scratch_make(place->root);
    scratch_path(place->path, place->root, "store");
    assert_int_equal(store_init(place->path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
    assert_int_equal(post_create(place->store, "INBOX"), ERR_OK);
    assert_int_equal(name_parse("INBOX", 5, &owner, &name), ERR_OK);
    assert_int_equal(view_mailbox_id(place->store, &name, 0, &place->inbox), ERR_OK);
    for (unsigned i = 0; i < MESSAGES; i++)
        assert_int_equal(post_append(place->store, "INBOX", i, 100), ERR_OK);
    *state = place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    faults_disarm();
    faults_watch(NULL);
    store_close(place->store);
    scratch_remove(place->root);
    free(place);
    return 0;
}

static int get_window(struct tx *tx, void *arg)
{
    *(struct journal_window *)arg = *tx_window(tx);
    return ERR_OK;
}

static struct journal_window window_of(struct place *place)
{
    struct journal_window window;
    assert_int_equal(store_read(place->store, get_window, &window), ERR_OK);
    return window;
}

static int save(struct tx *tx, void *arg)
{
    return retention_save(tx_db(tx), arg);
}

static int load(struct tx *tx, void *arg)
{
    return retention_load(tx_db(tx), arg);
}

static struct retained retain(struct place *place, struct retention policy, int64_t now)
{
    struct retained done;
    assert_int_equal(store_maintain(place->store, save, &policy), ERR_OK);
    int rc = store_retain(place->store, now, true, &done);
    if (rc)
        fail_msg("%s", err_message());
    return done;
}

static int cut_to(struct place *place, uint64_t keep, bool archive, struct retained *done)
{
    const struct cut cut = {.entries = keep,
                            .bytes = UINT64_MAX,
                            .before = INT64_MIN,
                            .up_to = UINT64_MAX,
                            .held_from = UINT64_MAX};
    return store_cut(place->store, &cut, archive, done);
}

static void policy_is_kept_in_the_store(void **state)
{
    struct place *place = *state;
    struct retention policy;
    assert_int_equal(store_read(place->store, load, &policy), ERR_OK);
    assert_true(!policy.entries && !policy.bytes && !policy.age && !policy.archive);
    retain(place,
           (struct retention){
               .entries = 1000, .bytes = 2000000, .age = HOUR, .slot_bound = 5, .archive = true},
           times_now());
    store_close(place->store);
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
    assert_int_equal(store_read(place->store, load, &policy), ERR_OK);
    assert_true(policy.entries == 1000 && policy.bytes == 2000000 && policy.age == HOUR &&
                policy.slot_bound == 5 && policy.archive);
}

static void window_is_cut_by_entries_bytes_and_age(void **state)
{
    struct place *place = *state;
    change(place, 300);
    struct journal_window before = window_of(place);
    assert_int_equal(retain(place, (struct retention){0}, INT64_MAX / 2).trimmed, 0);
    struct retained done = retain(place, (struct retention){.entries = 200}, times_now());
    struct journal_window after = window_of(place);
    assert_int_equal(after.entries, 200);
    assert_int_equal(done.trimmed, before.entries - 200);
    retain(place, (struct retention){.bytes = 9000}, times_now());
    after = window_of(place);
    assert_true(after.bytes >= 9000 && after.bytes < 9000 + 300);
    uint64_t left = after.entries;
    retain(place, (struct retention){.age = HOUR}, after.last_time + HOUR);
    after = window_of(place);
    assert_true(after.entries > 0 && after.entries < left);
    retain(place, (struct retention){.age = HOUR}, after.last_time + HOUR + 1);
    after = window_of(place);
    assert_int_equal(after.entries, 0);
    assert_int_equal(after.bytes, 0);
    change(place, 1);
    assert_int_equal(post_check(place->store), 0);
}

/* A restored data file is noticed by the first transaction that writes: its epoch's entry and what
 * is trimmed with it are both in the window. */
static void restored_store_is_trimmed_at_once(void **state)
{
    struct place *place = *state;
    struct retained done;
    char data[PATH_MAX], copy[PATH_MAX];
    change(place, 50);
    scratch_path(data, place->path, "data.mdb");
    scratch_path(copy, place->path, "copy.mdb");
    store_close(place->store);
    scratch_copy_file(data, copy);
    assert_int_equal(rename(copy, data), 0);
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
    struct journal_window before = window_of(place);
    assert_int_equal(cut_to(place, 10, false, &done), ERR_OK);
    struct journal_window after = window_of(place);
    assert_int_equal(done.trimmed, before.entries + 1 - 10);
    assert_int_equal(after.entries, 10);
    assert_int_equal(after.last.modseq, before.last.modseq + 1);
    assert_int_equal(post_check(place->store), 0);
    is_proved(place);
}

static int put_slot(struct tx *tx, void *arg)
{
    return slot_put(tx_db(tx), arg);
}

struct asked {
    const char *name;
    struct slot slot;
    struct slot_lag lag;
};

static int ask(struct tx *tx, void *arg)
{
    struct asked *asked = arg;
    int rc = slot_get(tx_db(tx), asked->name, &asked->slot);
    return rc ? rc : slot_lag(tx_db(tx), &asked->slot, times_now() + HOUR, &asked->lag);
}

static void slots_hold_the_window_up_to_the_bound(void **state)
{
    struct place *place = *state;
    struct slot slow = {.name = "slow", .time = times_now()};
    struct slot near = {.name = "near", .connected = true};
    struct asked asked = {.name = "slow"};
    change(place, 50);
    slow.position = window_of(place).last;
    change(place, 200);
    near.position = window_of(place).last;
    change(place, 10);
    assert_int_equal(store_maintain(place->store, put_slot, &slow), ERR_OK);
    assert_int_equal(store_maintain(place->store, put_slot, &near), ERR_OK);
    struct retention policy = {.entries = 5};
    retain(place, policy, times_now());
    struct journal_window window = window_of(place);
    assert_int_equal(window.base.modseq, slow.position.modseq);
    assert_int_equal(store_read(place->store, ask, &asked), ERR_OK);
    assert_int_equal(asked.lag.state, SLOT_AWAY);
    assert_int_equal(asked.lag.tail.entries, 210);
    assert_int_equal(asked.lag.tail.bytes, window.bytes);
    assert_true(asked.lag.age >= HOUR && asked.lag.age < 2 * HOUR);
    /* The window grows to the bound, and not beyond it. */
    policy.slot_bound = window.bytes;
    assert_int_equal(retain(place, policy, times_now()).trimmed, 0);
    change(place, 10);
    assert_true(retain(place, policy, times_now()).trimmed > 0);
    window = window_of(place);
    assert_true(window.bytes <= policy.slot_bound || window.entries == 20);
    assert_int_equal(window.base.modseq, near.position.modseq);
    assert_int_equal(store_read(place->store, ask, &asked), ERR_OK);
    assert_int_equal(asked.lag.state, SLOT_LOST);
    asked.name = "near";
    assert_int_equal(store_read(place->store, ask, &asked), ERR_OK);
    assert_int_equal(asked.lag.state, SLOT_CONNECTED);
    assert_int_equal(asked.lag.tail.entries, 20);
}

static void past_is_read_through_the_archive(void **state)
{
    struct place *place = *state;
    struct retained done;
    change(place, 100);
    for (uint64_t keep = 80; keep > 0; keep -= 20) {
        assert_int_equal(cut_to(place, keep, true, &done), ERR_OK);
        assert_int_equal(done.files, 1);
        assert_int_equal(done.archived, done.trimmed);
        assert_int_equal(window_of(place).entries, keep);
        past_is_whole(place);
    }
    assert_int_equal(cut_to(place, 20, true, &done), ERR_OK);
    assert_int_equal(done.files + done.trimmed, 0);
    is_proved(place);
    uint64_t wrong;
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
    /* Cut without archiving, the past ends there. */
    assert_int_equal(cut_to(place, 10, false, &done), ERR_OK);
    struct view *view;
    assert_int_equal(view_open(place->store, place->inbox, &view), ERR_OK);
    assert_int_equal(view_back(view, place->modseqs[95]), ERR_OK);
    assert_int_equal(view_back(view, place->modseqs[5]), ERR_TRIMMED);
    assert_non_null(strstr(err_message(), "trimmed"));
    view_close(view);
    nothing_is_wrong(place);
}

static void newest_file(struct place *place, char path[PATH_MAX])
{
    char folder[PATH_MAX], newest[NAME_MAX + 1] = "";
    scratch_path(folder, place->path, ARCHIVE_DIRECTORY);
    DIR *list = opendir(folder);
    const struct dirent *item;
    assert_non_null(list);
    while ((item = readdir(list)))
        if (strcmp(item->d_name, newest) > 0)
            snprintf(newest, sizeof newest, "%s", item->d_name);
    closedir(list);
    scratch_path(path, folder, newest);
}

static void take_newest_file(struct place *place)
{
    char path[PATH_MAX];
    newest_file(place, path);
    assert_int_equal(unlink(path), 0);
}

static void says_at(struct place *place, size_t moment, const char *why)
{
    struct view *view;
    assert_int_equal(view_open(place->store, place->inbox, &view), ERR_OK);
    assert_int_equal(view_back(view, place->modseqs[moment]), ERR_TRIMMED);
    assert_non_null(strstr(err_message(), why));
    view_close(view);
}

/* Whichever it is, and if it is the only one. */
static void every_missing_file_is_named(void **state)
{
    struct place *place = *state;
    struct retained done;
    uint64_t wrong;
    change(place, 30);
    assert_int_equal(cut_to(place, 20, true, &done), ERR_OK);
    nothing_is_wrong(place);
    take_newest_file(place);
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 1);
    assert_int_equal(cut_to(place, 10, true, &done), ERR_OK);
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 1); /* the oldest */
    says_at(place, 5, ARCHIVE_DIRECTORY "/ lacks the entries");
}

/* By a repair, once: what else goes is told again, and what is put back is there again. */
static void missing_files_are_accepted_as_gone(void **state)
{
    struct place *place = *state;
    struct retained done;
    struct check_result result;
    char path[PATH_MAX], elsewhere[PATH_MAX];
    change(place, 30);
    assert_int_equal(cut_to(place, 20, true, &done), ERR_OK);
    scratch_path(elsewhere, place->root, "elsewhere");
    newest_file(place, path);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(cut_to(place, 10, true, &done), ERR_OK);
    assert_int_equal(check_repair(place->store, complain, NULL, &result), ERR_OK);
    assert_int_equal(result.wrong, 1);
    assert_int_equal(result.mended, 1);
    nothing_is_wrong(place);
    is_proved(place);
    says_at(place, 5, "trimmed");
    assert_int_equal(inbox_digest(place, place->modseqs[15]), place->digests[15]);
    assert_int_equal(rename(elsewhere, path), 0);
    nothing_is_wrong(place);
    past_is_whole(place);
    newest_file(place, path);
    assert_int_equal(unlink(path), 0);
    uint64_t wrong;
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 1);
}

/* Archived, thrown away, archived, archived: what was thrown away is not missed, a file is. */
static void what_was_thrown_away_is_no_missing_file(void **state)
{
    struct place *place = *state;
    struct retained done;
    uint64_t wrong;
    change(place, 100);
    assert_int_equal(cut_to(place, 80, true, &done), ERR_OK);
    assert_int_equal(cut_to(place, 60, false, &done), ERR_OK);
    nothing_is_wrong(place);
    assert_int_equal(cut_to(place, 40, true, &done), ERR_OK);
    assert_int_equal(cut_to(place, 20, true, &done), ERR_OK);
    nothing_is_wrong(place);
    is_proved(place);
    assert_int_equal(inbox_digest(place, place->modseqs[45]), place->digests[45]);
    says_at(place, 30, "trimmed");
    says_at(place, 10, "trimmed");
    take_newest_file(place);
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 1);
    says_at(place, 70, ARCHIVE_DIRECTORY "/ lacks the entries");
    /* Thrown away later, it is not missed any more. */
    assert_int_equal(cut_to(place, 10, false, &done), ERR_OK);
    nothing_is_wrong(place);
}

static void turn_byte(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Every file, at its head, in a block, in its index. */
static void check_finds_damage_of_the_archive(void **state)
{
    struct place *place = *state;
    struct retained done;
    char path[PATH_MAX], folder[PATH_MAX];
    struct stat st;
    uint64_t wrong;
    change(place, 100);
    assert_int_equal(cut_to(place, 60, true, &done), ERR_OK);
    assert_int_equal(cut_to(place, 20, true, &done), ERR_OK);
    scratch_path(folder, place->path, ARCHIVE_DIRECTORY);
    DIR *list = opendir(folder);
    const struct dirent *item;
    unsigned files = 0;
    while ((item = readdir(list))) {
        if (item->d_name[0] == '.')
            continue;
        scratch_path(path, folder, item->d_name);
        assert_int_equal(stat(path, &st), 0);
        const off_t places[] = {10, 120, st.st_size - 20};
        for (unsigned i = 0; i < 3; i++) {
            turn_byte(path, places[i]);
            assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
            assert_true(wrong > 0);
            turn_byte(path, places[i]);
        }
        files++;
    }
    assert_int_equal(files, 2);
    assert_int_equal(check_store(place->store, true, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
    closedir(list);
}

/* Entries that are few wait for more, though not for ever. */
static void small_files_wait(void **state)
{
    struct place *place = *state;
    struct retained done;
    struct retention policy = {.age = HOUR, .archive = true};
    change(place, 50);
    int64_t last = window_of(place).last_time;
    assert_int_equal(store_maintain(place->store, save, &policy), ERR_OK);
    assert_int_equal(store_retain(place->store, last + 2 * HOUR, false, &done), ERR_OK);
    assert_int_equal(done.trimmed, 0);
    assert_int_equal(store_retain(place->store, last + 26 * HOUR, false, &done), ERR_OK);
    assert_int_equal(done.files, 1);
    assert_int_equal(window_of(place).entries, 0);
    past_is_whole(place);
}

static void failing_calls_lose_nothing(void **state)
{
    static const unsigned kinds[] = {FAULT_WRITE, FAULT_SYNC, FAULT_RENAME, FAULT_ALLOCATE};
    struct place *place = *state;
    struct retained done;
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        bool failed = kinds[kind] != FAULT_ALLOCATE || faults_can_allocate();
        unsigned nth = 1;
        /* Each of the first, then ever fewer: allocations are many. */
        for (; failed && nth < CALLS_MOST; nth += 1 + nth / 16) {
            change(place, 5);
            faults_arm(kinds[kind], nth, EIO);
            int rc = cut_to(place, 0, true, &done);
            failed = faults_disarm();
            if (!failed)
                assert_int_equal(rc, ERR_OK);
            past_is_whole(place);
        }
        assert_true(nth < CALLS_MOST);
    }
    assert_int_equal(cut_to(place, 0, true, &done), ERR_OK);
    is_proved(place);
    assert_int_equal(post_check(place->store), 0);
}

static void full_disk_changes_nothing(void **state)
{
    struct place *place = *state;
    struct retained done;
    change(place, 50);
    struct journal_window before = window_of(place);
    faults_fill_disk();
    assert_int_equal(cut_to(place, 0, true, &done), ERR_FULL);
    faults_disarm();
    assert_int_equal(window_of(place).base.modseq, before.base.modseq);
    past_is_whole(place);
    assert_int_equal(cut_to(place, 0, true, &done), ERR_OK);
    past_is_whole(place);
}

/* The power goes at one of the calls that write or sync. What was not synced is lost in the worst
 * way: a file that is being written is empty, a name that is new is not there. */
static struct {
    char archive[PATH_MAX];
    unsigned left; /* calls until then */
    bool lossy;
    bool unsynced;
    int known; /* names that are durable */
} power;

static int count_names(char newest[NAME_MAX + 1])
{
    DIR *directory = opendir(power.archive);
    const struct dirent *item;
    int count = 0;
    *newest = '\0';
    while (directory && (item = readdir(directory))) {
        bool file = strchr(item->d_name, '-');
        if (file && strcmp(item->d_name, newest) > 0)
            snprintf(newest, NAME_MAX + 1, "%s", item->d_name);
        count += file;
    }
    if (directory)
        closedir(directory);
    return count;
}

static void power_goes(int status)
{
    char path[PATH_MAX];
    char newest[NAME_MAX + 1];
    bool named = count_names(newest) > power.known;
    scratch_path(path, power.archive, "new");
    if (access(path, F_OK) != 0)
        scratch_path(path, power.archive, newest);
    if (power.lossy && power.unsynced && truncate(path, 0) != 0)
        _exit(2);
    scratch_path(path, power.archive, newest);
    if (power.lossy && named && unlink(path) != 0)
        _exit(2);
    _exit(status);
}

static void on_event(const struct fault_event *event)
{
    char link[64], path[PATH_MAX], newest[NAME_MAX + 1];
    snprintf(link, sizeof link, "/proc/self/fd/%d", event->fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    if (--power.left == 0)
        power_goes(0);
    if (strcmp(path, power.archive) == 0)
        power.known = count_names(newest);
    else if (strncmp(path, power.archive, strlen(power.archive)) == 0)
        power.unsynced = event->kind != EVENT_SYNC;
}

/* In a process of its own. Whether the power went before all was done. */
static bool cut_without_power(struct place *place, unsigned nth, bool lossy)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct retained done;
        char newest[NAME_MAX + 1];
        power.left = nth;
        power.lossy = lossy;
        power.known = count_names(newest);
        if (store_open(place->path, NULL, &place->store))
            _exit(3);
        faults_watch(on_event);
        if (cut_to(place, 3, true, &done))
            _exit(4);
        power_goes(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

static void power_cuts_lose_nothing(void **state)
{
    struct place *place = *state;
    struct retained done;
    scratch_path(power.archive, place->path, ARCHIVE_DIRECTORY);
    for (unsigned lossy = 0; lossy < 2; lossy++) {
        unsigned nth = 1;
        for (bool cut = true; cut && nth < EVENTS_MOST; nth++) {
            change(place, 5);
            store_close(place->store);
            place->store = NULL;
            cut = cut_without_power(place, nth, lossy);
            assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
            past_is_whole(place);
        }
        assert_true(nth > 5 && nth < EVENTS_MOST);
    }
    assert_int_equal(cut_to(place, 0, true, &done), ERR_OK);
    past_is_whole(place);
    is_proved(place);
    assert_int_equal(post_check(place->store), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(policy_is_kept_in_the_store, open_place, close_place),
        cmocka_unit_test_setup_teardown(window_is_cut_by_entries_bytes_and_age, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(restored_store_is_trimmed_at_once, open_place, close_place),
        cmocka_unit_test_setup_teardown(slots_hold_the_window_up_to_the_bound, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(past_is_read_through_the_archive, open_place, close_place),
        cmocka_unit_test_setup_teardown(every_missing_file_is_named, open_place, close_place),
        cmocka_unit_test_setup_teardown(missing_files_are_accepted_as_gone, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(what_was_thrown_away_is_no_missing_file, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(check_finds_damage_of_the_archive, open_place, close_place),
        cmocka_unit_test_setup_teardown(small_files_wait, open_place, close_place),
        cmocka_unit_test_setup_teardown(failing_calls_lose_nothing, open_place, close_place),
        cmocka_unit_test_setup_teardown(full_disk_changes_nothing, open_place, close_place),
        cmocka_unit_test_setup_teardown(power_cuts_lose_nothing, open_place, close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
