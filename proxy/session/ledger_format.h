/*
 * ledger_format: a set of the ledger as the bytes that are kept of it, and back. Pure.
 *
 * Little endian: version, when it was touched, the sender; then leg by leg in order of turn its
 * label, what it has on record, its members; at the end a checksum of all before it.
 */
#ifndef SPLITMX_PROXY_SESSION_LEDGER_FORMAT_H
#define SPLITMX_PROXY_SESSION_LEDGER_FORMAT_H

#include "proxy/session/ledger_set.h"

/* Into a buffer that grows (*buffer, *cap; the caller frees it). Length 0: no memory. */
struct span ledger_format(const struct ledger_set *set, char **buffer, size_t *cap);

enum ledger_parse { LEDGER_PARSED, LEDGER_DAMAGED, LEDGER_NO_MEMORY };

/* The set, with its members in `members`; its links and number are the caller's. Any bytes are
 * judged; a recipient that is in a set already is damage. */
enum ledger_parse ledger_parse(struct ledger_members *members, struct span record,
                               struct ledger_set **out);

#endif
