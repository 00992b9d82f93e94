/*
 * command: SMTP command lines and their parameters, as a server reads them (RFC 5321 4.1). Pure,
 * sans-I/O.
 */
#ifndef SPLITMX_PROXY_WIRE_COMMAND_H
#define SPLITMX_PROXY_WIRE_COMMAND_H

#include <stdint.h>

#include "config/span.h"

#define COMMAND_LINE_MAX 2048 /* octets with CRLF */

enum command_verb {
    VERB_HELO,
    VERB_EHLO,
    VERB_STARTTLS,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_RSET,
    VERB_NOOP,
    VERB_VRFY,
    VERB_HELP,
    VERB_QUIT,
    VERB_UNKNOWN, /* EXPN, AUTH, XCLIENT, BDAT and whatever else */
    VERB_HTTP,    /* an HTTP method or header: cross-protocol attack */
    VERB_COUNT
};

struct command {
    enum command_verb verb;
    struct span argument; /* trimmed, behind the verb; empty when there is none */
};

enum line_status {
    LINE_MORE, /* no end of line yet */
    LINE_OK,
    LINE_TOO_LONG, /* over COMMAND_LINE_MAX octets: `consumed` covers its last piece */
    LINE_BARE_LF,  /* a line that ends in LF without CR, or holds a bare CR */
    LINE_NUL,      /* a line that holds a NUL */
    LINE_TLS,      /* no line: a TLS handshake (RFC 8446 5.1) where one should begin */
};

/*
 * Takes the next line off the front of input. LINE_OK: *line is without CRLF, *consumed with it.
 * LINE_BARE_LF, LINE_NUL: *consumed covers the broken line up to its LF. LINE_TLS: *consumed covers
 * what tells it; what follows is no SMTP. A line that grows past the maximum is thrown away piece
 * by piece: `reader` remembers that, and LINE_TOO_LONG is told once, at its end. The result does
 * not depend on how input is cut, provided unconsumed bytes are presented again.
 */
struct line_reader {
    bool skipping; /* inside an over-long line */
};
enum line_status line_take(struct line_reader *reader, struct span input, struct span *line,
                           size_t *consumed);

/* Never fails: what it does not know is VERB_UNKNOWN. */
struct command command_parse(struct span line);

/* HELO and EHLO argument: a host name or address literal, printable; false otherwise (501 5.5.4).
 * Lenient as real clients need: any printable ASCII without spaces, at most 255. */
bool helo_valid(struct span argument);

struct mail_command {
    struct span path; /* between the angle brackets; empty: the null sender */
    uint64_t size;    /* SIZE=, 0 when absent, UINT64_MAX when over 64 bits */
    bool body_8bit;   /* BODY=8BITMIME */
    bool body_given;
    bool smtputf8;
    struct span wrong; /* PARSE_VALUE: the parameter's keyword */
};

struct rcpt_command {
    struct span path;
};

enum parse_status {
    PARSE_OK,
    PARSE_SYNTAX,    /* 501 5.5.4 (argument malformed) */
    PARSE_PARAMETER, /* 555 5.5.4 (unknown parameter) */
    PARSE_VALUE,     /* 501 5.5.4 (a known parameter with a bad value, or given twice) */
};

/* argument: behind "MAIL". "FROM:" in any case, spaces after the colon tolerated, the brackets
 * required. A quoted local part may hold '>' and spaces. */
enum parse_status mail_parse(struct span argument, struct mail_command *out);
enum parse_status rcpt_parse(struct span argument, struct rcpt_command *out);

#endif
