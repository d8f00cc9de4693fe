/* What a pass hands on: the master takes in what the replica did, and when the pass has come to its
 * end, nothing of what the replica knew is lost and both ends show the same. */
#include "tests/support/oracle_private.h"

#include <stdlib.h>
#include <string.h>

/* --- what the master took in --- */

/* Of a mailbox that this node never had only the id came, as that of a purged one. */
static bool only_id_came(const struct look *look, unsigned at)
{
    return look->changed[at] && !look->before[at].there &&
           look->oracle->nodes[look->node].sights[at].now.facts.state == MAILBOX_PURGED;
}

static bool same_name(const struct sight *a, const struct sight *b)
{
    return a->now.there && b->now.there && a->now.facts.state == MAILBOX_LIVE &&
           b->now.facts.state == MAILBOX_LIVE && name_equal(&a->now.facts.name, &b->now.facts.name);
}

/* A mailbox that the replica made under a name that this one bears here; 0: none. */
static unsigned find_absorbed(const struct look *look, unsigned at)
{
    const struct oracle_node *master = &look->oracle->nodes[look->pass->master];
    const struct oracle_node *replica = &look->oracle->nodes[look->pass->replica];
    for (unsigned i = 1; i < look->oracle->box_count; i++)
        if (i != at && only_id_came(look, i) && same_name(&replica->sights[i], &master->sights[at]))
            return i;
    return 0;
}

/* What the replica had in a mailbox that is not to be here: it went on in another, or the mailbox
 * was deleted there. */
static void take_id(const struct look *look, unsigned at)
{
    struct oracle *oracle = look->oracle;
    struct oracle_box *box = &oracle->boxes[at];
    const struct sight *theirs = &oracle->nodes[look->pass->replica].sights[at];
    struct oracle_node *master = &oracle->nodes[look->pass->master];
    struct knowledge *known = &master->sights[at].knowledge;
    bool absorbed = false;
    for (unsigned i = 1; i < oracle->box_count; i++)
        absorbed |= i != at && look->before[i].there && same_name(theirs, &master->sights[i]);
    REQUIRE(oracle, absorbed || theirs->now.facts.state != MAILBOX_LIVE,
            "box %u: live there, and purged here", at);
    knowledge_unite(known, &theirs->knowledge);
    struct standing *all = oracle_stand(box, known, NULL);
    for (uint32_t i = 0; i < box->message_count; i++)
        if (oracle_root(box, i) == i && oracle_is_there(&all[i]))
            oracle_happen(box, known, EVENT_EXPUNGE, i, 0);
    free(all);
}

void oracle_take_in(const struct look *look, unsigned at)
{
    struct oracle *oracle = look->oracle;
    const struct listing *before = &look->before[at];
    struct sight *mine = &oracle->nodes[look->pass->master].sights[at];
    const struct sight *replica = oracle->nodes[look->pass->replica].sights;
    bool purged = mine->now.facts.state == MAILBOX_PURGED;
    if (at && purged && (!before->there || replica[at].now.facts.state != MAILBOX_LIVE)) {
        take_id(look, at);
        return;
    }
    bool news = !knowledge_is_subset(&replica[at].knowledge, &mine->knowledge);
    unsigned other = news ? 0 : find_absorbed(look, at);
    struct knowledge old = {0};
    knowledge_unite(&old, &mine->knowledge);
    struct merging work = {.oracle = oracle,
                           .pass = look->pass,
                           .at = at,
                           .box = &oracle->boxes[at],
                           .master = before,
                           .replica = &replica[other ? other : at].now,
                           .now = &mine->now,
                           .known_master = &old,
                           .known_replica = &replica[at].knowledge,
                           .known = &mine->knowledge};
    if (other)
        oracle_check_absorbed(&work);
    else
        oracle_check_merge(&work);
    knowledge_free(&old);
}

void oracle_follow_purge(const struct look *look, unsigned at)
{
    const struct oracle_box *box = &look->oracle->boxes[at];
    const struct listing *before = &look->before[at];
    struct knowledge *known = &look->oracle->nodes[look->pass->replica].sights[at].knowledge;
    const struct knowledge *master = &look->oracle->nodes[look->pass->master].sights[at].knowledge;
    REQUIRE(look->oracle,
            look->pass->discard || before->facts.state != MAILBOX_LIVE ||
                !oracle_find_news(box, before, known, master).shows,
            "box %u: it is purged, although it had something to show", at);
    knowledge_assign(known, master);
}

/* --- a whole pass --- */

struct oracle_before {
    struct knowledge known[ORACLE_BOXES];  /* by the replica */
    struct listing lists[2][ORACLE_BOXES]; /* the master's, the replica's */
};

static void copy_listing(struct listing *to, const struct listing *from)
{
    *to = *from;
    to->items = malloc((from->count + 1) * sizeof *to->items);
    if (!to->items)
        abort();
    if (from->count)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
}

struct oracle_before *oracle_before(const struct oracle *oracle, const struct oracle_pass *pass)
{
    struct oracle_before *before = calloc(1, sizeof *before);
    if (!before)
        abort();
    for (unsigned i = 0; i < oracle->box_count; i++) {
        knowledge_unite(&before->known[i], &oracle->nodes[pass->replica].sights[i].knowledge);
        copy_listing(&before->lists[0][i], &oracle->nodes[pass->master].sights[i].now);
        copy_listing(&before->lists[1][i], &oracle->nodes[pass->replica].sights[i].now);
    }
    return before;
}

void oracle_before_free(struct oracle_before *before)
{
    for (unsigned i = 0; i < ORACLE_BOXES; i++) {
        knowledge_free(&before->known[i]);
        listing_free(&before->lists[0][i]);
        listing_free(&before->lists[1][i]);
    }
    free(before);
}

/* Nothing that a mailbox would be brought back for. */
static bool is_bare(const struct listing *listing)
{
    bool bare = true;
    for (size_t i = 0; i < listing->count; i++)
        bare = bare && !listing->items[i].live;
    for (unsigned i = 0; i < LISTING_METAS; i++)
        bare = bare && !listing->metas[i];
    return bare;
}

/* Of one that was purged only the id is left, and that may be unknown. */
static bool may_lack(const struct listing *listing)
{
    return !listing->there || listing->facts.state == MAILBOX_PURGED;
}

/* Deleted at both ends, or purged with nothing to be kept for. */
static bool is_gone(const struct oracle_box *box, const struct listing *was,
                    const struct knowledge *known, const struct sight *master)
{
    if (was->facts.state != MAILBOX_LIVE && master->now.facts.state != MAILBOX_LIVE)
        return true;
    /* As in oracle_check_merge(): an expunge is nothing that a purged mailbox comes back for. */
    return master->now.facts.state == MAILBOX_PURGED &&
           (is_bare(was) || !oracle_find_news(box, was, known, &master->knowledge).shows);
}

static void check_same(struct oracle *oracle, const struct oracle_pass *pass,
                       const struct oracle_before *before, unsigned at)
{
    const struct sight *m = &oracle->nodes[pass->master].sights[at];
    const struct sight *r = &oracle->nodes[pass->replica].sights[at];
    const struct knowledge *known = &before->known[at];
    REQUIRE(oracle, m->now.digest == r->now.digest, "box %u: digests differ", at);
    REQUIRE(oracle,
            pass->discard || is_gone(&oracle->boxes[at], &before->lists[1][at], known, m) ||
                knowledge_is_subset(known, &m->knowledge),
            "box %u: what the replica knew was not taken in", at);
    for (unsigned end = 0; end < 2; end++) {
        oracle_check_client(oracle, pass->master, at, &before->lists[end][at], &m->now);
        oracle_check_client(oracle, pass->replica, at, &before->lists[end][at], &r->now);
    }
}

void oracle_after(struct oracle *oracle, const struct oracle_pass *pass,
                  const struct oracle_before *before)
{
    for (unsigned i = 1; i < oracle->box_count; i++) {
        const struct listing *m = &oracle->nodes[pass->master].sights[i].now;
        const struct listing *r = &oracle->nodes[pass->replica].sights[i].now;
        if (m->there && r->there)
            check_same(oracle, pass, before, i);
        else
            REQUIRE(oracle, may_lack(m) && may_lack(r), "box %u: at one end only", i);
    }
}
