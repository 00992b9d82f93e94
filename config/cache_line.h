/*
 * cache_line: so many bytes two threads must lie apart that write without waiting for each other.
 */
#ifndef SPLITMX_CONFIG_CACHE_LINE_H
#define SPLITMX_CONFIG_CACHE_LINE_H

#define CACHE_LINE 64

#endif
