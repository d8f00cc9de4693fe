#include "mailbox/name.h"

#include "base/err.h"
#include "base/text.h"

#include <assert.h>
#include <string.h>

/* The parts of an encoded name. */
#define DOMAIN 0u
#define USER 1u
#define FIRST_COMPONENT 2u

static const char too_long[] = "longer than 480 bytes";

/* The bytes of `rest` before `separator`, which `rest` then begins behind. False when `rest` was
 * used up by the part before. */
static bool next_part(struct bytes *rest, uint8_t separator, struct bytes *part)
{
    if (!rest->data)
        return false;
    *part = *rest;
    const uint8_t *at = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    if (at) {
        part->size = (size_t)(at - rest->data);
        *rest = bytes_of(at + 1, rest->size - part->size - 1);
    } else {
        *rest = bytes_of(NULL, 0);
    }
    return true;
}

/* Data is NULL beyond the last part. */
static struct bytes part_of(const struct name *name, size_t index)
{
    struct bytes rest = name_encoded(name);
    struct bytes part = {0};
    for (size_t i = 0; i <= index; i++) {
        if (!next_part(&rest, '\0', &part))
            return bytes_of(NULL, 0);
    }
    return part;
}

/* NULL, or what is wrong with a component, user or domain. */
static const char *why_not_part(struct bytes part)
{
    if (part.size == 0)
        return "a part of it is empty";
    for (size_t i = 0; i < part.size;) {
        uint32_t code_point = 0;
        size_t length = text_utf8(part.data + i, part.size - i, &code_point);
        if (length == 0)
            return "not UTF-8";
        if (text_is_control(code_point))
            return "a control character";
        if (code_point == '/')
            return "a slash where none may be";
        i += length;
    }
    return NULL;
}

static bool holds_at(struct bytes part)
{
    return part.size && memchr(part.data, '@', part.size);
}

/* `domain` is empty where there is none. */
static const char *make_owner(struct bytes user, struct bytes domain, struct owner *owner)
{
    const char *wrong = why_not_part(user);
    if (!wrong && domain.size)
        wrong = why_not_part(domain);
    if (wrong)
        return wrong;
    if (holds_at(user) || holds_at(domain))
        return "more than one @ in the owner";
    if (user.size >= sizeof owner->user)
        return "the user is longer than 127 bytes";
    if (domain.size >= sizeof owner->domain)
        return "the domain is longer than 255 bytes";
    *owner = (struct owner){0};
    if (user.size)
        memcpy(owner->user, user.data, user.size);
    if (domain.size)
        memcpy(owner->domain, domain.data, domain.size);
    return NULL;
}

static const char *parse_owner(struct bytes text, struct owner *owner)
{
    struct bytes user = {0};
    struct bytes domain = {0};
    if (!next_part(&text, '@', &user))
        return "it is empty";
    if (text.data) {
        domain = text;
        if (domain.size == 0)
            return "nothing follows the @";
    }
    return make_owner(user, domain, owner);
}

int owner_parse(const char *text, struct owner *owner)
{
    const char *wrong = parse_owner(bytes_text(text), owner);
    char shown[TEXT_QUOTE_SIZE];
    if (wrong)
        return fail(ERR_INVALID, "owner %s: %s", text_quote(text, strlen(text), shown), wrong);
    return ERR_OK;
}

static char *put(char *out, struct bytes part)
{
    if (part.size)
        memcpy(out, part.data, part.size);
    return out + part.size;
}

static char *put_owner(char *out, const struct owner *owner)
{
    out = put(out, bytes_text(owner->user));
    if (owner->domain[0]) {
        *out++ = '@';
        out = put(out, bytes_text(owner->domain));
    }
    return out;
}

void owner_print(const struct owner *owner, char out[400])
{
    *put_owner(out, owner) = '\0';
}

bool owner_equal(const struct owner *a, const struct owner *b)
{
    return strcmp(a->user, b->user) == 0 && strcmp(a->domain, b->domain) == 0;
}

/* Always fits: a user and a domain are shorter than a name may be. */
static void start_name(struct name *name, const struct owner *owner)
{
    _Static_assert(sizeof owner->user + sizeof owner->domain < NAME_MAX_SIZE, "room for an owner");
    size_t domain = strlen(owner->domain);
    size_t user = strlen(owner->user);
    *name = (struct name){.size = (uint16_t)(domain + 1 + user)};
    memcpy(name->encoded, owner->domain, domain);
    memcpy(name->encoded + domain + 1, owner->user, user);
}

static bool append(struct name *name, struct bytes component)
{
    if (component.size >= NAME_MAX_SIZE - name->size)
        return false;
    name->encoded[name->size] = '\0';
    memcpy(name->encoded + name->size + 1, component.data, component.size);
    name->size = (uint16_t)(name->size + 1 + component.size);
    return true;
}

static bool is_inbox(struct bytes component)
{
    static const char inbox[] = "inbox";
    if (component.size != sizeof inbox - 1)
        return false;
    for (size_t i = 0; i < component.size; i++) {
        uint8_t c = component.data[i];
        if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != inbox[i])
            return false;
    }
    return true;
}

/* The components in `rest`, with `separator` between them, below the owner that `name` begins with.
 * NULL, or what is wrong. */
static const char *append_all(struct name *name, struct bytes rest, uint8_t separator)
{
    struct bytes component;
    for (bool first = true; next_part(&rest, separator, &component); first = false) {
        const char *wrong = why_not_part(component);
        if (wrong)
            return wrong;
        if (first && is_inbox(component))
            component = bytes_text("INBOX");
        if (!append(name, component))
            return too_long;
    }
    return NULL;
}

static const char *parse(struct bytes text, const struct owner *store_owner, struct name *name)
{
    struct owner owner = *store_owner;
    if (text.size == 0)
        return "it is empty";
    if (text.data[0] == '~') {
        struct bytes who = {0};
        text = bytes_of(text.data + 1, text.size - 1);
        next_part(&text, '/', &who);
        const char *wrong = parse_owner(who, &owner);
        if (wrong)
            return wrong;
        if (!text.data)
            return "an owner alone is no mailbox";
    }
    start_name(name, &owner);
    return append_all(name, text, '/');
}

int name_parse(const char *text, size_t size, const struct owner *store_owner, struct name *name)
{
    struct name fresh;
    const char *wrong = parse(bytes_of(text, size), store_owner, &fresh);
    char shown[TEXT_QUOTE_SIZE];
    if (wrong)
        return fail(ERR_INVALID, "mailbox name %s: %s", text_quote(text, size, shown), wrong);
    *name = fresh;
    return ERR_OK;
}

static char *put_components(char *out, const struct name *name)
{
    struct bytes rest = name_encoded(name);
    struct bytes part;
    for (size_t i = 0; next_part(&rest, '\0', &part); i++) {
        if (i > FIRST_COMPONENT)
            *out++ = '/';
        if (i >= FIRST_COMPONENT)
            out = put(out, part);
    }
    return out;
}

void name_print(const struct name *name, const struct owner *store_owner, char out[NAME_TEXT_SIZE])
{
    struct owner owner;
    struct bytes first = name_component(name, 0);
    name_owner(name, &owner);
    if (!owner_equal(&owner, store_owner) || (first.size && first.data[0] == '~')) {
        *out++ = '~';
        out = put_owner(out, &owner);
        *out++ = '/';
    }
    *put_components(out, name) = '\0';
}

static const char *decode(struct bytes encoded, struct name *name)
{
    struct bytes rest = encoded;
    struct bytes domain;
    struct bytes user;
    struct owner owner;
    if (!next_part(&rest, '\0', &domain) || !next_part(&rest, '\0', &user) || !rest.data)
        return "cut short";
    const char *wrong = make_owner(user, domain, &owner);
    if (wrong)
        return wrong;
    start_name(name, &owner);
    wrong = append_all(name, rest, '\0');
    if (wrong)
        return wrong;
    return bytes_equal(name_encoded(name), encoded) ? NULL : "INBOX in lower case";
}

int name_decode(struct bytes encoded, struct name *name)
{
    struct name fresh;
    const char *wrong = decode(encoded, &fresh);
    char shown[TEXT_QUOTE_SIZE];
    if (wrong)
        return fail(ERR_CORRUPT, "stored mailbox name %s: %s",
                    text_quote(encoded.data, encoded.size, shown), wrong);
    *name = fresh;
    return ERR_OK;
}

struct bytes name_encoded(const struct name *name)
{
    return bytes_of(name->encoded, name->size);
}

void name_owner(const struct name *name, struct owner *owner)
{
    struct bytes domain = part_of(name, DOMAIN);
    struct bytes user = part_of(name, USER);
    *owner = (struct owner){0};
    put(owner->domain, domain);
    put(owner->user, user);
}

bool name_equal(const struct name *a, const struct name *b)
{
    return bytes_equal(name_encoded(a), name_encoded(b));
}

size_t name_depth(const struct name *name)
{
    size_t parts = 0;
    struct bytes rest = name_encoded(name);
    struct bytes part;
    while (next_part(&rest, '\0', &part))
        parts++;
    return parts > FIRST_COMPONENT ? parts - FIRST_COMPONENT : 0;
}

struct bytes name_component(const struct name *name, size_t index)
{
    return part_of(name, index + FIRST_COMPONENT);
}

bool name_is_below(const struct name *name, const struct name *parent)
{
    return name->size > parent->size && name->encoded[parent->size] == '\0' &&
           memcmp(name->encoded, parent->encoded, parent->size) == 0;
}

int name_rebase(const struct name *child, const struct name *from, const struct name *to,
                struct name *moved)
{
    char text[NAME_TEXT_SIZE];
    char shown[TEXT_QUOTE_SIZE];
    assert(name_is_below(child, from));
    size_t below = (size_t)(child->size - from->size);
    if (below > NAME_MAX_SIZE - to->size) {
        size_t length = (size_t)(put_components(text, child) - text);
        return fail(ERR_INVALID, "mailbox name %s: its new name would be %s",
                    text_quote(text, length, shown), too_long);
    }
    struct name fresh = *to;
    memcpy(fresh.encoded + to->size, child->encoded + from->size, below);
    fresh.size = (uint16_t)(to->size + below);
    *moved = fresh;
    return ERR_OK;
}

/* How many bytes of a component may stay, at most `room`, without cutting a character. */
static size_t cut(struct bytes component, size_t room)
{
    if (component.size <= room)
        return component.size;
    while (room > 0 && (component.data[room] & 0xc0) == 0x80)
        room--;
    return room;
}

void name_with_suffix(const struct name *name, const char *suffix, struct name *out)
{
    size_t depth = name_depth(name);
    size_t tail = 1 + strlen(suffix);
    assert(depth > 0 && tail > 1 && tail <= NAME_SUFFIX_MAX + 1);

    /* Where the parents leave no room, it becomes a sibling of one of them. */
    struct bytes last = name_component(name, depth - 1);
    size_t before = (size_t)(last.data - name->encoded);
    while (before + tail > NAME_MAX_SIZE) {
        last = name_component(name, --depth - 1);
        before = (size_t)(last.data - name->encoded);
    }
    size_t kept = cut(last, NAME_MAX_SIZE - before - tail);
    struct name fresh = {.size = (uint16_t)(before + kept + tail)};
    memcpy(fresh.encoded, name->encoded, before + kept);
    fresh.encoded[before + kept] = '~';
    memcpy(fresh.encoded + before + kept + 1, suffix, tail - 1);
    *out = fresh;
}

int name_child(const struct name *parent, const char *component, size_t size, struct name *child)
{
    struct name fresh = *parent;
    char shown[TEXT_QUOTE_SIZE];
    const char *wrong = why_not_part(bytes_of(component, size));
    if (!wrong && !append(&fresh, bytes_of(component, size)))
        wrong = "with its parents it is longer than 480 bytes";
    if (wrong)
        return fail(ERR_INVALID, "mailbox name %s: %s", text_quote(component, size, shown), wrong);
    *child = fresh;
    return ERR_OK;
}
