/* What the mark of a merge tells: how far the follower was taken in, and what it knows of others
 * that is not known here, so that those who come after it find their base.
 */
#include "agent/taking.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Whether the journal here tells of it: whoever follows knows these and no others. */
static bool is_on_path(const struct branch *branch, struct epoch_id id)
{
    struct epoch_id at = branch->epoch;
    for (size_t i = branch->epoch_count; i > 0; i--) {
        if (epoch_compare(branch->epochs[i - 1].id, at) != 0)
            continue;
        if (epoch_compare(at, id) == 0)
            return true;
        at = branch->epochs[i - 1].parent;
    }
    return false;
}

int take_foreign_epochs(struct taking *work)
{
    work->foreign = calloc(work->theirs.epoch_count + 1, sizeof *work->foreign);
    if (!work->foreign)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < work->theirs.epoch_count; i++) {
        if (!is_on_path(&work->mine, work->theirs.epochs[i].id) && work->fork.same_store)
            work->foreign[work->foreign_count++] = work->theirs.epochs[i];
    }
    if (work->foreign_count > MARK_BODY_EPOCHS_MAX) {
        size_t oldest = work->foreign_count - MARK_BODY_EPOCHS_MAX;
        work->foreign_count = MARK_BODY_EPOCHS_MAX;
        memmove(work->foreign, work->foreign + oldest, work->foreign_count * sizeof *work->foreign);
    }
    return ERR_OK;
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
    return a->mailbox == b->mailbox && a->modseq == b->modseq &&
           epoch_compare(a->epoch, b->epoch) == 0 && position_equal(a->taken, b->taken);
}

/* This end does not keep what an epoch of the follower's began with, only that it began anew. */
static void note_start(struct taking *work, const struct epoch *epoch)
{
    struct mark mark = {.epoch = epoch->id, .taken = {.modseq = epoch->first}};
    for (size_t k = 0; k < work->taken_count; k++)
        if (epoch_compare(work->taken[k].epoch, mark.epoch) == 0 &&
            position_equal(work->taken[k].taken, mark.taken))
            return;
    work->taken[work->taken_count++] = mark;
}

int take_foreign_marks(struct taking *work)
{
    work->taken = calloc(2 * work->theirs.mark_count + 1, sizeof *work->taken);
    if (!work->taken)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < work->theirs.mark_count; i++) {
        size_t k = 0;
        const struct epoch *start = fork_start(&work->theirs, &work->theirs.marks[i]);
        if (start) {
            note_start(work, start);
            if (!work->theirs.marks[i].mailbox || !work->theirs.marks[i].epoch.number)
                continue;
        }
        while (k < work->mine.mark_count &&
               !same_mark(&work->mine.marks[k], &work->theirs.marks[i]))
            k++;
        if (k == work->mine.mark_count && work->fork.same_store)
            work->taken[work->taken_count++] = work->theirs.marks[i];
    }
    return ERR_OK;
}

void take_say(struct taking *taking, uint64_t id)
{
    struct merge_session *session = &taking->session;
    bool stopped = !id && taking->stopped_count;
    for (size_t i = 0; i < taking->stopped_count && !stopped; i++)
        stopped = taking->stopped[i] == id;
    session->position = taking->theirs.last;
    session->mark_count = taking->taken_count;
    if (!stopped)
        return;
    session->position = taking->fork.common_known ? taking->fork.common : (struct position){0};
    session->mark_count = 0;
}
