#include "mailbox/when.h"

#include "base/err.h"
#include "base/times.h"
#include "journal/history.h"

#include <stdlib.h>
#include <string.h>

int when_parse(const char *text, struct when *when)
{
    *when = (struct when){0};
    size_t digits = strspn(text, "0123456789");
    if (digits && !text[digits]) {
        if (digits > 19)
            return fail(ERR_INVALID, "%s: not a modseq", text);
        when->is_modseq = true;
        when->modseq = strtoull(text, NULL, 10);
        return ERR_OK;
    }
    when->is_age = times_parse_age(text, true, &when->time) == ERR_OK;
    if (when->is_age)
        return ERR_OK;
    /* A date alone might mean its first moment or its last. */
    if (strchr(text, ':') && times_parse_rfc3339(text, &when->time) == ERR_OK)
        return ERR_OK;
    return fail(ERR_INVALID, "%s: not a modseq, a time (2026-11-23T10:00:00Z) or an age (10m ago)",
                text);
}

static int64_t before(int64_t now, int64_t age)
{
    return now < INT64_MIN + age ? INT64_MIN : now - age;
}

int64_t when_time(const struct when *when)
{
    return when->is_age ? before(times_now(), when->time) : when->time;
}

/* Of a clock that was put back, the journal's last time is the present: so that an age of nothing
 * is what there is now. */
static int64_t time_of(struct tx *tx, const struct when *when)
{
    int64_t now = times_now();
    int64_t last = tx_window(tx)->last_time;
    return when->is_age ? before(now > last ? now : last, when->time) : when->time;
}

int when_resolve(struct tx *tx, const struct when *when, uint64_t *modseq)
{
    struct history *history;
    int rc = history_open(db_directory_fd(store_db(tx_store(tx))), &history);
    if (rc)
        return rc;
    rc = when->is_modseq ? history_round_down(history, tx_db(tx), when->modseq, modseq)
                         : history_at_time(history, tx_db(tx), time_of(tx, when), modseq);
    history_close(history);
    return rc;
}
