#include "proxy/admin/status_page.h"

#include <openssl/evp.h>

#include "config/text.h"

#define DIGEST 32
#define BASE64 (4 * ((DIGEST + 2) / 3) + 1)

struct span status_page_html(void)
{
    return (struct span){(const char *)status_page_bytes, status_page_bytes_size};
}

/* What is between the first `open` and the next `close`; null where there is none. */
static struct span between(struct span html, const char *open, const char *close)
{
    const size_t length = strlen(open);
    const char *from = memmem(html.ptr, html.len, open, length);
    if (from == NULL) {
        return (struct span){0};
    }
    from += length;
    const char *end = memmem(from, (size_t)(html.ptr + html.len - from), close, strlen(close));
    return end == NULL ? (struct span){0} : (struct span){from, (size_t)(end - from)};
}

static bool hash(struct span text, char base64[static BASE64])
{
    unsigned char digest[DIGEST];
    if (text.ptr == NULL || EVP_Digest(text.ptr, text.len, digest, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    EVP_EncodeBlock((unsigned char *)base64, digest, DIGEST);
    return true;
}

bool status_page_policy(char text[static STATUS_PAGE_POLICY])
{
    char style[BASE64], script[BASE64];
    struct text out = text_over(text, STATUS_PAGE_POLICY);
    if (!hash(between(status_page_html(), "<style>", "</style>"), style) ||
        !hash(between(status_page_html(), "<script type=\"module\">", "</script>"), script)) {
        return false;
    }
    /* Images: only the icon, which the page draws itself. */
    text_printf(&out,
                "default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; "
                "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
                "form-action 'none'",
                style, script);
    return !out.full;
}
