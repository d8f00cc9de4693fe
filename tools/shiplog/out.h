/* What commands print: items of typed fields, as text (a line an item, TAB between fields) or JSON
 * (an object a line).
 *
 * Fields are printed in the order in which they are given. Text has no header: a field's name is
 * for JSON alone. Whoever needs both forms says things once.
 */
#ifndef SHIPLOG_TOOLS_OUT_H
#define SHIPLOG_TOOLS_OUT_H

#include "base/hash.h"
#include "journal/entry.h"

struct out;

struct out *out_open(bool json); /* to standard output; ends the process when memory is short */
int out_close(struct out *out);  /* flushes; ERR_IO when not all could be written. Frees */

void out_number(struct out *out, const char *name, uint64_t value);
void out_hex(struct out *out, const char *name,
             uint64_t value); /* ids, digests, chains: 16 digits */
void out_text(struct out *out, const char *name,
              const char *value); /* NULL or "": "-" in text, null in JSON */
void out_bytes(struct out *out, const char *name,
               struct bytes value); /* as text; bytes that are not UTF-8 are escaped */
void out_time(struct out *out, const char *name, int64_t value);
void out_bool(struct out *out, const char *name, bool value); /* text: yes, no */
void out_guid(struct out *out, const char *name, const struct guid *value);
void out_position(struct out *out, const char *name,
                  struct position value); /* text: modseq:chain */
void out_array(
    struct out *out,
    const char *name); /* begins an array of texts: out_element() each, then out_array_end() */
void out_element(struct out *out, struct bytes value);
void out_array_end(struct out *out);
void out_end(struct out *out); /* the item is complete */

#endif
