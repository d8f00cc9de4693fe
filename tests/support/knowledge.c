#include "tests/support/knowledge.h"

#include <stdlib.h>
#include <string.h>

bool knowledge_has(const struct knowledge *knowledge, size_t event)
{
    size_t word = event / 64;
    return word < knowledge->words && knowledge->bits[word] >> event % 64 & 1;
}

static void make_words(struct knowledge *knowledge, size_t words)
{
    if (words <= knowledge->words)
        return;
    uint64_t *bits = realloc(knowledge->bits, words * sizeof *bits);
    if (!bits)
        abort();
    memset(bits + knowledge->words, 0, (words - knowledge->words) * sizeof *bits);
    knowledge->bits = bits;
    knowledge->words = words;
}

void knowledge_add(struct knowledge *knowledge, size_t event)
{
    make_words(knowledge, event / 64 + 1);
    knowledge->bits[event / 64] |= UINT64_C(1) << event % 64;
}

void knowledge_unite(struct knowledge *knowledge, const struct knowledge *more)
{
    make_words(knowledge, more->words);
    for (size_t i = 0; i < more->words; i++)
        knowledge->bits[i] |= more->bits[i];
}

void knowledge_assign(struct knowledge *to, const struct knowledge *from)
{
    knowledge_free(to);
    knowledge_unite(to, from);
}

bool knowledge_is_subset(const struct knowledge *less, const struct knowledge *more)
{
    for (size_t i = 0; i < less->words; i++)
        if (less->bits[i] & ~(i < more->words ? more->bits[i] : 0))
            return false;
    return true;
}

void knowledge_free(struct knowledge *knowledge)
{
    free(knowledge->bits);
    *knowledge = (struct knowledge){0};
}
