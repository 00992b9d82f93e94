/*
 * reply: SMTP replies, read from an upstream and written to a client (RFC 5321 4.2, RFC 2034).
 * Pure, sans-I/O.
 */
#ifndef SPLITMX_PROXY_WIRE_REPLY_H
#define SPLITMX_PROXY_WIRE_REPLY_H

#include "config/span.h"
#include "config/text.h"

#define REPLY_TEXT     1024  /* bytes of text kept, lines together */
#define REPLY_LINES    100   /* a reply of more lines is bad */
#define REPLY_BYTES    65536 /* a reply of more bytes is bad */
#define REPLY_LINE_MAX 2048  /* what is beyond in a line is left out */
#define REPLY_ENHANCED 12

/*
 * A value. Lines of text are separated by '\n'; no control characters, nothing above 126 but what
 * is valid UTF-8, and no enhanced code in front: that is in `enhanced` ("" when the upstream gave
 * none, or one whose class is not that of the code, which then stays in the text). The text ends
 * with a NUL.
 */
struct reply {
    unsigned code; /* 200..599 */
    char enhanced[REPLY_ENHANCED];
    unsigned short text_len;
    char text[REPLY_TEXT];
};

static inline bool reply_is(const struct reply *reply, unsigned class)
{
    return reply->code / 100 == class;
}

/* A reply of ours: one line (a newline in it becomes a space), scrubbed like an upstream's.
 * enhanced may be NULL. */
void reply_set(struct reply *reply, unsigned code, const char *enhanced, const char *text);
void reply_setf(struct reply *reply, unsigned code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Writes it as a server sends it, CRLF at every line's end, lines at most 512 octets (longer text
 * is cut at the line's end). With enhanced code in every line; a missing one becomes 2.0.0, 4.0.0
 * or 5.0.0 (not for 3xx, and not when `plain`: greeting, EHLO, 354, 221 of old). An enhanced code
 * whose class is not that of the code is replaced likewise.
 */
void reply_write(const struct reply *reply, bool plain, struct text *out);

/* The first line of its text: for logs and for the words of a joint reply. */
struct span reply_first_line(const struct reply *reply);
/* "550 5.1.1 No such mailbox": code, enhanced code where there is one, first line. */
void reply_tell(const struct reply *reply, struct text *out);

enum reply_status { REPLY_MORE, REPLY_DONE, REPLY_BAD };

/* Reads one reply, cut in any way. Zero-initialise, feed until not REPLY_MORE, then zero again. */
struct reply_parser {
    unsigned code;
    unsigned lines;
    size_t bytes;           /* consumed so far in this reply */
    bool full;              /* text has been cut: what follows is left out */
    bool in_line;           /* the front of a long line has been read, its end has not come */
    enum reply_status line; /* that line's */
    void (*on_line)(
        void *context,
        struct span text); /* may be NULL: each line behind code and separator (EHLO keywords) */
    void *context;
};

/*
 * Consumes whole lines from the front of input (bare LF ends a line too, as upstreams may send),
 * and pieces of long ones; *consumed tells how many bytes. `out` is written line by line, so it
 * stays the same object until REPLY_DONE, when it is complete. REPLY_BAD: not a reply, code changes
 * in mid-reply, code outside 200..599, or one of the limits.
 */
enum reply_status reply_parse(struct reply_parser *parser, struct span input, struct reply *out,
                              size_t *consumed);

/* What an upstream says because we are wrong (design: law 3): 500-504, 530, 535, 538, 555. */
bool reply_blames_us(const struct reply *reply);

/* Nobody of that name is known there (design: section 6, unknown-recipient). */
bool reply_is_unknown_recipient(const struct reply *reply);

/* What goes to the client for what an upstream said (design: law 3, sections 5 and 6): in place. */
void reply_translate(struct reply *reply, bool of_fallback, bool to_mail);

#endif
