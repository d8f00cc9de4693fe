/* Text from outside: where UTF-8 is well formed (RFC 3629), and how doubtful text is shown in a
 * message. Nothing here depends on the locale. */
#ifndef SHIPLOG_BASE_TEXT_H
#define SHIPLOG_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes the well-formed sequence at the start of `data` has (1 to 4), and its code point;
 * 0 when there is none: bad bytes, an overlong form, a surrogate, cut short, or `size` is 0. */
size_t text_utf8(const void *data, size_t size, uint32_t *code_point);

bool text_is_control(uint32_t code_point); /* C0, DEL, C1 */

/* Whatever a user or a peer put into it, it becomes one line: '?' for C0 and DEL. */
void text_to_line(char *text);

#define TEXT_QUOTE_SIZE 160

/* The text in double quotes, on one line, for a message: control characters and bytes that are not
 * UTF-8 as \xNN, and "..." for what does not fit. Returns `out`. */
const char *text_quote(const void *data, size_t size, char out[TEXT_QUOTE_SIZE]);

#endif
