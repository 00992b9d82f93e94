/*
 * page: what one HTTP request is answered with.
 */
#ifndef SPLITMX_PROXY_ADMIN_PAGE_H
#define SPLITMX_PROXY_ADMIN_PAGE_H

#include <stddef.h>

#define PAGE_JSON "application/json"
#define PAGE_TEXT "text/plain; charset=utf-8"

struct page {
    unsigned status; /* of HTTP */
    const char *type;
    const char *policy; /* Content-Security-Policy; NULL: nothing at all */
    char *body;         /* owned; NULL: memory was short, and the connection is closed */
    size_t size;
};

/* A copy of the text. */
void page_text(struct page *page, unsigned status, const char *text);
/* Takes the body over. */
void page_body(struct page *page, unsigned status, const char *type, char *body);

#endif
