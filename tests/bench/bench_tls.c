#include "tests/bench/bench_tls.h"

#include <stdint.h>

static struct config_text text_of(const char *text)
{
    return (struct config_text){.text = (char *)(uintptr_t)text}; /* only read */
}

struct tls_contexts *bench_tls_new(const char *certificate, const char *key)
{
    struct config_certificate pair = {text_of(certificate), text_of(key), text_of("1.2")};
    const struct config config = {.path = (char *)(uintptr_t) "bench",
                                  .certificates = &pair,
                                  .certificate_count = certificate ? 1 : 0};
    struct diag_list *diags = diag_list_new();
    struct tls_contexts *contexts = tls_contexts_renew(NULL, &config, diags);

    diag_print(diags, stderr);
    diag_list_free(diags);
    return contexts;
}
