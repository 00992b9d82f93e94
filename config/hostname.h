/*
 * hostname: the machine's fully qualified name, without asking DNS (which could block for a
 * minute).
 */
#ifndef SPLITMX_CONFIG_HOSTNAME_H
#define SPLITMX_CONFIG_HOSTNAME_H

#include <stdio.h>

#include "config/span.h"

#define HOSTNAME_MAX 254 /* with the NUL */

/*
 * The dotted name that a hosts(5) file has for the bare name: the line's first name when it has a
 * dot, else one that begins with "bare.". Names of localhost do not count. False when there is
 * none.
 */
bool hostname_canonical(FILE *hosts, struct span bare, char *out, size_t cap);

/* gethostname(), made whole from /etc/hosts when it has no dot. False when there is no valid name.
 */
bool hostname_of_machine(char *out, size_t cap);

#endif
