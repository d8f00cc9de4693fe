/* Mailbox names from text and from stored bytes: what is accepted prints, parses and decodes back
 * to itself, and what is derived from it is a name again. */
#include "mailbox/name.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct owner store_owner = {.user = "owner", .domain = "example.org"};

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_decodes(const struct name *name)
{
    struct name again;
    check(name_decode(name_encoded(name), &again) == ERR_OK);
    check(name_equal(name, &again));
}

static void check_name(const struct name *name)
{
    char text[NAME_TEXT_SIZE];
    struct name again;
    struct name other;
    check_decodes(name);
    name_print(name, &store_owner, text);
    check(name_parse(text, strlen(text), &store_owner, &again) == ERR_OK);
    check(name_equal(name, &again));

    size_t depth = name_depth(name);
    check(depth > 0);
    for (size_t i = 0; i < depth; i++)
        check(name_component(name, i).size > 0);
    check(name_component(name, depth).size == 0);

    name_with_suffix(name, "0123456789abcdef", &other);
    check_decodes(&other);
    check(!name_equal(name, &other));
    if (name_child(name, "child", 5, &other) == ERR_OK) {
        check(name_is_below(&other, name));
        check(name_depth(&other) == depth + 1);
        check_decodes(&other);
        check(name_rebase(&other, name, name, &again) == ERR_OK);
        check(name_equal(&other, &again));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct name name;
    struct owner owner;
    if (name_parse((const char *)data, size, &store_owner, &name) == ERR_OK)
        check_name(&name);
    if (name_decode(bytes_of(data, size), &name) == ERR_OK) {
        check(bytes_equal(name_encoded(&name), bytes_of(data, size)));
        check_name(&name);
        char text[400];
        struct owner again;
        name_owner(&name, &owner);
        owner_print(&owner, text);
        check(owner_parse(text, &again) == ERR_OK);
        check(owner_equal(&owner, &again));
    }
    return 0;
}
