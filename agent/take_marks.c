/* What the mark of a merge tells: how far the follower was taken in, and what it knows of others
 * that is not known here, so that those who come after it find their base.
 */
#include "agent/taking.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

int take_foreign_epochs(struct taking *work)
{
    work->foreign = calloc(work->theirs.epoch_count + 1, sizeof *work->foreign);
    if (!work->foreign)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < work->theirs.epoch_count; i++) {
        /* Whoever follows knows those that the journal here tells of, and no others. */
        if (!fork_on_journal(&work->mine, work->theirs.epochs[i].id) && work->fork.same_store)
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
    struct mark mark = {
        .mailbox = MARK_EPOCH, .epoch = epoch->id, .taken = {.modseq = epoch->first}};
    for (size_t k = 0; k < work->taken_count; k++)
        if (epoch_compare(work->taken[k].epoch, mark.epoch) == 0 &&
            position_equal(work->taken[k].taken, mark.taken))
            return;
    work->taken[work->taken_count++] = mark;
}

static bool is_known(const struct taking *work, const struct mark *mark)
{
    for (size_t i = 0; i < work->mine.mark_count + work->mine.doubted_count; i++)
        if (same_mark(&work->mine.marks[i], mark))
            return true;
    return false;
}

int take_foreign_marks(struct taking *work)
{
    size_t count = work->theirs.mark_count + work->theirs.doubted_count;
    work->taken = calloc(2 * count + 1, sizeof *work->taken);
    if (!work->taken)
        return fail(ERR_NOMEM, "out of memory");
    if (!work->fork.same_store)
        return ERR_OK;
    /* Notes come first: they hold even of a mailbox of which nothing else is said. */
    for (size_t i = 0; i < count; i++) {
        const struct mark *mark = &work->theirs.marks[i];
        const struct epoch *start = fork_start(&work->theirs, mark);
        if (start)
            note_start(work, start);
        else if (mark->mailbox == MARK_EPOCH && !is_known(work, mark))
            work->taken[work->taken_count++] = *mark;
    }
    work->note_count = work->taken_count;
    for (size_t i = 0; i < count; i++) {
        const struct mark *mark = &work->theirs.marks[i];
        bool nothing = fork_start(&work->theirs, mark) && !(mark->mailbox && mark->epoch.number);
        if (mark->mailbox != MARK_EPOCH && !nothing && !is_known(work, mark))
            work->taken[work->taken_count++] = *mark;
    }
    return ERR_OK;
}

void take_say(struct taking *taking, uint64_t id)
{
    struct merge_session *session = &taking->session;
    bool stopped = !id && taking->stopped_count;
    for (size_t i = 0; i < taking->stopped_count && !stopped; i++)
        stopped = taking->stopped[i] == id;
    session->taken = taking->theirs.last;
    session->mark_count = taking->taken_count;
    if (!stopped)
        return;
    session->taken = taking->fork.common_known ? taking->fork.common : (struct position){0};
    session->mark_count = taking->note_count;
}
