#include "tests/bench/load_text.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/text.h"

#define LINE 72 /* octets of a line of a message's body, CRLF included */

/* What was written to text since `begin`. */
static struct span since(const struct text *text, size_t begin)
{
    return span_make(text->ptr + begin, text->len - begin);
}

static void write_envelope(struct load_text *text, const struct load_options *options,
                           struct text *out)
{
    text_printf(out, "MAIL FROM:<%s>\r\n", options->sender);
    text->mail = since(out, 0);
    for (size_t i = 0; i < options->recipient_count; i++) {
        const size_t begin = out->len;
        text_printf(out, "RCPT TO:<%s>\r\n", options->recipients[i]);
        text->recipients[i] = since(out, begin);
    }
    text->recipient_count = options->recipient_count;
    text_puts(out, "DATA\r\n");
    text->envelope = since(out, 0);
}

/* Whole lines, and a last one of 2 to LINE + 1 octets. */
static void write_body(struct text *out, size_t size)
{
    static const char letters[] =
        "the quick brown fox jumps over the lazy dog and runs home again ";
    while (size > 1) {
        const size_t line = size <= LINE + 1 ? size : LINE;
        for (size_t i = 0; i < line - 2; i++) {
            text_putc(out, letters[i % (sizeof(letters) - 1)]);
        }
        text_puts(out, "\r\n");
        size -= line;
    }
}

static void write_message(struct load_text *text, const struct load_options *options, uint64_t run,
                          struct text *out)
{
    const size_t begin = out->len;
    text_printf(out, "Message-ID: <%016" PRIx64 ".", run);
    text->before = since(out, begin);
    const size_t middle = out->len;
    text_printf(out,
                "@load.example>\r\n"
                "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
                "From: <%s>\r\n"
                "To: <%s>\r\n"
                "Subject: load\r\n"
                "\r\n",
                options->sender, options->recipients[0]);
    const size_t header = out->len - begin + LOAD_NUMBER;
    write_body(out, options->size > header ? options->size - header : 0);
    text->size = out->len - begin + LOAD_NUMBER;
    text_puts(out, ".\r\n");
    text->after = since(out, middle);
}

static size_t room(const struct load_options *options)
{
    size_t room = options->size + 1024 + 4 * strlen(options->sender);
    for (size_t i = 0; i < options->recipient_count; i++) {
        room += 16 + 2 * strlen(options->recipients[i]);
    }
    return room;
}

bool load_text_init(struct load_text *text, const struct load_options *options, uint64_t run)
{
    const size_t cap = room(options);

    *text = (struct load_text){.bytes = malloc(cap)};
    if (!text->bytes) {
        return false;
    }
    struct text out = text_over(text->bytes, cap);
    write_envelope(text, options, &out);
    write_message(text, options, run, &out);
    return !out.full;
}

void load_text_release(struct load_text *text)
{
    free(text->bytes);
}

void load_text_number(char out[LOAD_NUMBER], uint64_t number)
{
    for (unsigned i = LOAD_NUMBER; i > 0; i--) {
        out[i - 1] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}
