/*
 * keys: every key of splitmx.yaml: how it is read, its range and where it goes (design: section 3).
 * Internal to config/; config.c drives it.
 */
#ifndef SPLITMX_CONFIG_KEYS_H
#define SPLITMX_CONFIG_KEYS_H

#include "config/schema.h"

/* The file's own mapping, read into a struct config. */
extern const struct schema keys_of_file;

#endif
