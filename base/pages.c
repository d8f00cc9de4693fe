#include "base/pages.h"

#include "base/bytes.h"
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_HEADER 16u
#define NODE_HEADER 8u
#define TREE_SIZE 48u /* of a tree's description */
#define META_SIZE 136u
#define META_TXNID 128u /* where in it the number of its commit is */
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define DEPTH_MAX 32u
#define KEY_MAX 511u
#define NO_PAGE UINT64_MAX
#define PAGE_SIZE_MIN 512u
#define PAGE_SIZE_MAX 65536u
#define META_RETRIES 1000

enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };
enum { NODE_BIG = 1, NODE_TREE = 2 };
enum { TREE_INTEGER_KEYS = 8 };

static uint16_t load_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

struct tree {
    uint16_t flags;
    uint16_t depth;
    uint64_t branches;
    uint64_t leaves;
    uint64_t overflow;
    uint64_t entries;
    uint64_t root;
};

struct meta {
    uint32_t page_size;
    struct tree spare; /* of free pages */
    struct tree main;
    uint64_t last_page;
    uint64_t txnid;
};

static struct tree load_tree(const uint8_t *at)
{
    return (struct tree){
        .flags = load_u16(at + 4),
        .depth = load_u16(at + 6),
        .branches = load_u64(at + 8),
        .leaves = load_u64(at + 16),
        .overflow = load_u64(at + 24),
        .entries = load_u64(at + 32),
        .root = load_u64(at + 40),
    };
}

static int read_at(int fd, void *to, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("data file");
        if (got == 0)
            return fail(ERR_CORRUPT, "the data file is cut short");
        done += (size_t)got;
    }
    return ERR_OK;
}

static int load_meta(const uint8_t *page, uint64_t number, struct meta *meta)
{
    const uint8_t *at = page + PAGE_HEADER;
    if (load_u64(page) != number || !(load_u16(page + 10) & PAGE_META) ||
        load_u32(at) != META_MAGIC || load_u32(at + 4) != META_VERSION)
        return fail(ERR_CORRUPT, "meta page %llu is damaged", (unsigned long long)number);
    *meta = (struct meta){
        .page_size = load_u32(at + 24),
        .spare = load_tree(at + 24),
        .main = load_tree(at + 24 + TREE_SIZE),
        .last_page = load_u64(at + 120),
        .txnid = load_u64(at + META_TXNID),
    };
    if (meta->page_size < PAGE_SIZE_MIN || meta->page_size > PAGE_SIZE_MAX ||
        (meta->page_size & (meta->page_size - 1)))
        return fail(ERR_CORRUPT, "meta page %llu is damaged: page size %u",
                    (unsigned long long)number, meta->page_size);
    return ERR_OK;
}

/* A commit between the two would tear them apart: they are read until two readings agree. */
static int load_metas(int fd, struct meta metas[2])
{
    uint8_t raw[2][PAGE_HEADER + META_SIZE];
    int rc = read_at(fd, raw[0], sizeof raw[0], 0);
    if (rc == ERR_OK)
        rc = load_meta(raw[0], 0, &metas[0]);
    if (rc == ERR_OK)
        rc = read_at(fd, raw[1], sizeof raw[1], metas[0].page_size);
    if (rc == ERR_OK)
        rc = load_meta(raw[1], 1, &metas[1]);
    if (rc == ERR_OK && metas[0].page_size != metas[1].page_size)
        rc = fail(ERR_CORRUPT, "the meta pages have two page sizes");
    return rc;
}

/* A page in memory, and what was proved of it. */
struct page {
    const uint8_t *bytes;
    uint32_t size;
    unsigned kind;
    unsigned count; /* of nodes */
};

struct node {
    struct bytes key;
    unsigned flags; /* of a leaf's */
    uint64_t child; /* of a branch's */
    uint64_t size;  /* of a leaf's value */
    const uint8_t *value;
};

/* Fills *page only if every node lies within it. NULL when it does, else what is wrong. */
static const char *page_prove(const uint8_t *bytes, uint32_t size, uint64_t number,
                              struct page *page)
{
    unsigned flags = load_u16(bytes + 10);
    uint32_t lower = load_u16(bytes + 12);
    uint32_t upper = load_u16(bytes + 14);
    if (load_u64(bytes) != number)
        return "has another page's number";
    if (flags != PAGE_BRANCH && flags != PAGE_LEAF)
        return "is neither branch nor leaf";
    if (lower < PAGE_HEADER || lower > upper || upper > size || lower % 2 || upper % 2)
        return "has bounds that cannot be";
    *page = (struct page){bytes, size, flags, (lower - PAGE_HEADER) / 2};
    uint32_t used = 0;
    for (unsigned i = 0; i < page->count; i++) {
        uint32_t at = load_u16(bytes + PAGE_HEADER + 2 * i);
        if (at < upper || at > size - NODE_HEADER || at % 2)
            return "has a node outside of it";
        const uint8_t *node = bytes + at;
        uint32_t key = load_u16(node + 6);
        uint64_t value = load_u16(node) | (uint32_t)load_u16(node + 2) << 16;
        if (flags == PAGE_BRANCH)
            value = 0;
        else if (load_u16(node + 4) & NODE_BIG)
            value = 8;
        uint64_t whole = (NODE_HEADER + key + value + 1) & ~UINT64_C(1);
        if (key > KEY_MAX || whole > size - at)
            return "has a node that does not end in it";
        used += (uint32_t)whole;
        if (used > size)
            return "has nodes that overlap";
    }
    return used == size - upper ? NULL : "has nodes that overlap";
}

static struct node page_node(const struct page *page, unsigned index)
{
    const uint8_t *at = page->bytes + load_u16(page->bytes + PAGE_HEADER + 2 * index);
    uint64_t low = load_u16(at) | (uint32_t)load_u16(at + 2) << 16;
    struct node node = {.key = bytes_of(at + NODE_HEADER, load_u16(at + 6)),
                        .flags = load_u16(at + 4)};
    node.value = node.key.data + node.key.size;
    if (page->kind == PAGE_BRANCH)
        node.child = low | (uint64_t)node.flags << 32;
    else
        node.size = low;
    return node;
}

static int compare(struct bytes a, struct bytes b, bool integers)
{
    if (integers && a.size == 8 && b.size == 8) {
        uint64_t x = load_u64(a.data);
        uint64_t y = load_u64(b.data);
        return (x > y) - (x < y);
    }
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* The number in the commit row of this meta page's tree. ERR_CORRUPT: it does not lead there. */
static int find_commit(int fd, const struct meta *meta, uint8_t *room, uint64_t *txnid)
{
    struct bytes wanted = bytes_text(PAGES_COMMIT_KEY);
    uint64_t number = meta->main.root;
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        struct page page;
        if (number < 2 || number > meta->last_page)
            break;
        int rc = read_at(fd, room, meta->page_size, number * meta->page_size);
        if (rc)
            return rc;
        if (page_prove(room, meta->page_size, number, &page) || page.count == 0)
            break;
        unsigned at = 0;
        unsigned first = page.kind == PAGE_BRANCH ? 1 : 0; /* a branch's first key is not one */
        for (unsigned i = first; i < page.count; i++)
            if (compare(page_node(&page, i).key, wanted, false) <= 0)
                at = i;
        struct node node = page_node(&page, at);
        if (page.kind == PAGE_LEAF) {
            if (!bytes_equal(node.key, wanted) || node.flags || node.size != 8)
                break;
            *txnid = load_u64(node.value);
            return ERR_OK;
        }
        number = node.child;
    }
    return fail(ERR_CORRUPT, "the tree of commit %llu is damaged or older than its meta page",
                (unsigned long long)meta->txnid);
}

/* Whether a meta page leads to the tree of its own commit. */
static int prove_meta(int fd, const struct meta *meta)
{
    uint64_t txnid = 0;
    if (meta->txnid == 0 && meta->main.root == NO_PAGE)
        return ERR_OK;
    uint8_t *room = malloc(meta->page_size);
    int rc = room ? find_commit(fd, meta, room, &txnid) : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && txnid != meta->txnid)
        rc = fail(ERR_CORRUPT, "the meta page of commit %llu leads to the tree of commit %llu",
                  (unsigned long long)meta->txnid, (unsigned long long)txnid);
    free(room);
    return rc;
}

/* The older of the two is not proved here: it may lead to a commit that failed at its last step. */
static int prove_metas(int fd, const struct meta metas[2])
{
    int newest = metas[1].txnid > metas[0].txnid;
    /* Commit n goes to meta page n % 2, so these are always two that follow each other. */
    if (metas[newest].txnid != metas[!newest].txnid + 1 ||
        (metas[newest].txnid & 1) != (unsigned)newest)
        return fail(ERR_CORRUPT, "the meta pages say that they are of commits %llu and %llu",
                    (unsigned long long)metas[0].txnid, (unsigned long long)metas[1].txnid);
    return prove_meta(fd, &metas[newest]);
}

int pages_check_metas(int fd, const char *where)
{
    int rc = ERR_OK;
    for (int attempt = 0; attempt < META_RETRIES; attempt++) {
        struct meta metas[2] = {0};
        struct meta again[2] = {0};
        rc = load_metas(fd, metas);
        if (rc == ERR_OK)
            rc = prove_metas(fd, metas);
        if (rc != ERR_CORRUPT)
            return rc;
        char why[256];
        snprintf(why, sizeof why, "%s", err_message());
        /* Commits may have come between; damage stays as it is. */
        bool same = load_metas(fd, again) != ERR_OK ||
                    (metas[0].txnid == again[0].txnid && metas[1].txnid == again[1].txnid);
        rc = fail(ERR_CORRUPT, "%s: %s", where, why);
        if (same && attempt > 1)
            return rc;
    }
    return fail(ERR_BUSY, "%s: too many commits while it was opened", where);
}

int pages_number_metas(int fd, uint64_t last)
{
    struct meta metas[2];
    int rc = load_metas(fd, metas);
    if (rc)
        return rc;
    unsigned newest = metas[1].txnid > metas[0].txnid;
    if (newest != (last & 1) || last < metas[newest].txnid)
        return fail(ERR_CORRUPT, "the meta pages do not fit commit %llu", (unsigned long long)last);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t number[8];
        off_t at = (off_t)(i * (size_t)metas[0].page_size + PAGE_HEADER + META_TXNID);
        save_u64(number, i == newest ? last : last - 1);
        if (pwrite(fd, number, sizeof number, at) != (ssize_t)sizeof number)
            return fail_errno("data file");
    }
    return ERR_OK;
}

struct pages {
    int fd;
    struct meta meta;
    pages_report *report;
    void *arg;
    uint8_t *seen;       /* a bit for each page */
    uint8_t *rooms;      /* a page for each depth */
    struct tree counted; /* of the tree that is walked */
};

static void wrong(struct pages *pages, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void wrong(struct pages *pages, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    pages->report(pages->arg, what);
}

/* Whether the run of pages is within the file and nobody else's; then it is taken. */
static bool take(struct pages *pages, uint64_t first, uint64_t count)
{
    if (first < 2 || count == 0 || first > pages->meta.last_page ||
        count > pages->meta.last_page - first + 1) {
        wrong(pages, "page %llu is referred to, and is not in the file", (unsigned long long)first);
        return false;
    }
    for (uint64_t page = first; page < first + count; page++) {
        uint8_t bit = (uint8_t)(1u << (page % 8));
        if (pages->seen[page / 8] & bit) {
            wrong(pages, "page %llu is used twice", (unsigned long long)page);
            return false;
        }
        pages->seen[page / 8] |= bit;
    }
    return true;
}

static int read_page(struct pages *pages, uint64_t number, unsigned depth, struct page *page,
                     bool *good)
{
    uint32_t size = pages->meta.page_size;
    uint8_t *room = pages->rooms + (size_t)depth * size;
    *good = false;
    int rc = read_at(pages->fd, room, size, number * size);
    if (rc)
        return rc;
    const char *what = page_prove(room, size, number, page);
    *good = !what;
    if (what)
        wrong(pages, "page %llu %s", (unsigned long long)number, what);
    return ERR_OK;
}

/* A value on pages of its own. A run may be longer than its value needs. */
static int check_big(struct pages *pages, const struct node *node, const uint8_t **value)
{
    uint8_t head[PAGE_HEADER];
    uint64_t number = load_u64(node->value);
    uint32_t size = pages->meta.page_size;
    uint64_t least = (PAGE_HEADER - 1 + node->size) / size + 1;
    *value = NULL;
    if (number < 2 || number > pages->meta.last_page) {
        wrong(pages, "page %llu is referred to, and is not in the file",
              (unsigned long long)number);
        return ERR_OK;
    }
    int rc = read_at(pages->fd, head, sizeof head, number * size);
    if (rc)
        return rc;
    uint32_t count = load_u32(head + 12);
    if (load_u64(head) != number || load_u16(head + 10) != PAGE_OVERFLOW || count < least) {
        wrong(pages, "page %llu does not begin a value of %llu bytes", (unsigned long long)number,
              (unsigned long long)node->size);
        return ERR_OK;
    }
    pages->counted.overflow += count;
    (void)take(pages, number, count);
    return ERR_OK;
}

struct span { /* of the keys that a page may have */
    struct bytes from;
    struct bytes to;
    bool bounded; /* above */
};

typedef int each_leaf(struct pages *pages, const struct node *node);

/* The keys ascend and stay within what the branch above says. */
static bool check_keys(struct pages *pages, const struct page *page, uint64_t number,
                       const struct span *span, bool integers)
{
    struct bytes before = span->from;
    bool any = before.size > 0;
    for (unsigned i = page->kind == PAGE_BRANCH ? 1 : 0; i < page->count; i++) {
        struct bytes key = page_node(page, i).key;
        int order = any ? compare(key, before, integers) : 1;
        bool may_equal = i == 0; /* the branch above repeats a leaf's first key */
        if (key.size == 0 || order < 0 || (order == 0 && !may_equal) ||
            (span->bounded && compare(key, span->to, integers) >= 0)) {
            wrong(pages, "page %llu has keys out of order", (unsigned long long)number);
            return false;
        }
        before = key;
        any = true;
    }
    return true;
}

static int check_leaf(struct pages *pages, const struct page *page, each_leaf *each)
{
    pages->counted.leaves++;
    pages->counted.entries += page->count;
    for (unsigned i = 0; i < page->count; i++) {
        struct node node = page_node(page, i);
        int rc = each(pages, &node);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int walk(struct pages *pages, uint64_t number, unsigned depth, const struct tree *tree,
                const struct span *span, each_leaf *each)
{
    struct page page;
    bool good;
    if (!take(pages, number, 1))
        return ERR_OK;
    int rc = read_page(pages, number, depth, &page, &good);
    if (rc || !good)
        return rc;
    bool leaf = depth + 1 == tree->depth;
    if (leaf != (page.kind == PAGE_LEAF) || page.count < (leaf ? 1u : 2u)) {
        wrong(pages, "page %llu is not what its tree has at this depth",
              (unsigned long long)number);
        return ERR_OK;
    }
    if (!check_keys(pages, &page, number, span, tree->flags & TREE_INTEGER_KEYS))
        return ERR_OK;
    if (leaf)
        return check_leaf(pages, &page, each);
    pages->counted.branches++;
    for (unsigned i = 0; i < page.count && rc == ERR_OK; i++) {
        struct span below = *span;
        if (i > 0)
            below.from = page_node(&page, i).key;
        if (i + 1 < page.count) {
            below.to = page_node(&page, i + 1).key;
            below.bounded = true;
        }
        rc = walk(pages, page_node(&page, i).child, depth + 1, tree, &below, each);
    }
    return rc;
}

static int check_tree(struct pages *pages, const char *name, const struct tree *tree,
                      each_leaf *each)
{
    struct span all = {0};
    pages->counted = (struct tree){0};
    if (tree->depth > DEPTH_MAX || (tree->root == NO_PAGE) != (tree->depth == 0)) {
        wrong(pages, "%s: a tree of depth %u that cannot be", name, tree->depth);
        return ERR_OK;
    }
    int rc = tree->root == NO_PAGE ? ERR_OK : walk(pages, tree->root, 0, tree, &all, each);
    const struct tree *counted = &pages->counted;
    uint64_t on_pages = counted->leaves + counted->branches + counted->overflow;
    uint64_t as_it_says = tree->leaves + tree->branches + tree->overflow;
    if (rc == ERR_OK &&
        (counted->entries != tree->entries || counted->leaves != tree->leaves ||
         counted->branches != tree->branches || counted->overflow != tree->overflow))
        wrong(pages, "%s: %llu rows on %llu pages, not %llu on %llu as it says", name,
              (unsigned long long)counted->entries, (unsigned long long)on_pages,
              (unsigned long long)tree->entries, (unsigned long long)as_it_says);
    return rc;
}

static int each_row(struct pages *pages, const struct node *node)
{
    const uint8_t *value;
    if (node->flags & ~(unsigned)NODE_BIG)
        wrong(pages, "a row of a kind that this store does not have");
    return node->flags == NODE_BIG ? check_big(pages, node, &value) : ERR_OK;
}

/* Pages to be used again: a count, then as many numbers, descending. */
static void take_spare(struct pages *pages, const uint8_t *value, uint64_t size)
{
    uint64_t count = size >= 8 ? load_u64(value) : UINT64_MAX;
    uint64_t before = NO_PAGE;
    if (count > size / 8 || (count + 1) * 8 > size) {
        wrong(pages, "a list of free pages has a wrong size");
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = load_u64(value + 8 * i);
        if (page >= before) {
            wrong(pages, "a list of free pages is out of order");
            return;
        }
        before = page;
        (void)take(pages, page, 1);
    }
}

static int each_spare(struct pages *pages, const struct node *node)
{
    const uint8_t *unused;
    if (node->key.size != 8 || load_u64(node->key.data) > pages->meta.txnid ||
        (node->flags & ~(unsigned)NODE_BIG)) {
        wrong(pages, "a list of free pages is malformed");
        return ERR_OK;
    }
    if (node->flags != NODE_BIG) {
        take_spare(pages, node->value, node->size);
        return ERR_OK;
    }
    uint64_t offset = load_u64(node->value) * pages->meta.page_size + PAGE_HEADER;
    int rc = check_big(pages, node, &unused);
    uint8_t *value = rc ? NULL : malloc(node->size);
    if (!value)
        return rc ? rc : fail(ERR_NOMEM, "out of memory");
    rc = read_at(pages->fd, value, node->size, offset);
    if (rc == ERR_OK)
        take_spare(pages, value, node->size);
    free(value);
    return rc;
}

#define TREES_MAX 32u
struct named {
    char name[KEY_MAX + 1];
    struct tree tree;
};

/* The main table's rows are the other tables, and the number of the commit. */
struct main_walk {
    struct pages pages; /* first, so that one leads to the other */
    struct named named[TREES_MAX];
    size_t count;
};

static int each_table(struct pages *pages, const struct node *node)
{
    struct main_walk *walk_ = (struct main_walk *)pages;
    if (bytes_equal(node->key, bytes_text(PAGES_COMMIT_KEY)) && node->flags == 0)
        return ERR_OK;
    if (node->flags != NODE_TREE || node->size != TREE_SIZE || walk_->count == TREES_MAX) {
        wrong(pages, "the list of tables has a row that is none");
        return ERR_OK;
    }
    struct named *named = &walk_->named[walk_->count++];
    memcpy(named->name, node->key.data, node->key.size);
    named->name[node->key.size] = '\0';
    named->tree = load_tree(node->value);
    if (named->tree.flags)
        wrong(pages, "table %s is of a kind that this store does not have", named->name);
    return ERR_OK;
}

static void check_coverage(struct pages *pages)
{
    uint64_t lost = 0;
    uint64_t first = 0;
    for (uint64_t page = 2; page <= pages->meta.last_page; page++) {
        if (pages->seen[page / 8] & (1u << (page % 8)))
            continue;
        first = lost ? first : page;
        lost++;
    }
    if (lost)
        wrong(pages, "%llu pages are neither used nor free, page %llu the first of them",
              (unsigned long long)lost, (unsigned long long)first);
}

/* The meta page that is not the newest: where the newest has lost its number to damage, this is the
 * one with the later tree. */
static int check_older(struct pages *pages, const struct meta *older)
{
    struct meta now[2];
    int rc = prove_meta(pages->fd, older);
    if (rc != ERR_CORRUPT)
        return rc;
    char why[256];
    snprintf(why, sizeof why, "%s", err_message());
    bool same = load_metas(pages->fd, now) == ERR_OK && now[older->txnid & 1].txnid == older->txnid;
    if (same)
        wrong(pages, "%s: either that commit failed, or it is lost", why);
    return ERR_OK;
}

static int check_all(struct main_walk *work)
{
    struct pages *pages = &work->pages;
    if (!(pages->meta.spare.flags & TREE_INTEGER_KEYS) || pages->meta.main.flags)
        wrong(pages, "the meta page says that its tables are of other kinds");
    int rc = check_tree(pages, "free pages", &pages->meta.spare, each_spare);
    if (rc == ERR_OK)
        rc = check_tree(pages, "list of tables", &pages->meta.main, each_table);
    for (size_t i = 0; i < work->count && rc == ERR_OK; i++)
        rc = check_tree(pages, work->named[i].name, &work->named[i].tree, each_row);
    if (rc == ERR_OK)
        check_coverage(pages);
    return rc;
}

int pages_check(int fd, uint64_t txnid, bool older, pages_report *report, void *arg)
{
    struct meta metas[2];
    struct stat st;
    int rc = load_metas(fd, metas);
    if (rc == ERR_OK && metas[txnid & 1].txnid != txnid)
        rc = metas[txnid & 1].txnid > txnid
                 ? fail(ERR_BUSY, "commits came too quickly")
                 : fail(ERR_CORRUPT, "there is no meta page of commit %llu",
                        (unsigned long long)txnid);
    if (rc == ERR_OK && fstat(fd, &st) != 0)
        rc = fail_errno("data file");
    if (rc)
        return rc;
    struct main_walk *work = calloc(1, sizeof *work);
    if (!work)
        return fail(ERR_NOMEM, "out of memory");
    struct pages *pages = &work->pages;
    *pages = (struct pages){.fd = fd, .meta = metas[txnid & 1], .report = report, .arg = arg};
    if ((uint64_t)st.st_size / pages->meta.page_size <= pages->meta.last_page) {
        rc = fail(ERR_CORRUPT, "the data file is cut short");
        goto done;
    }
    pages->seen = calloc(pages->meta.last_page / 8 + 1, 1);
    pages->rooms = malloc((size_t)(DEPTH_MAX + 1) * pages->meta.page_size);
    rc = pages->seen && pages->rooms ? check_all(work) : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && older && metas[!(txnid & 1)].txnid + 1 == txnid)
        rc = check_older(pages, &metas[!(txnid & 1)]);
done:
    free(pages->seen);
    free(pages->rooms);
    free(work);
    return rc;
}
