#include "tls/store.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    X509_NAME *subject;
    unsigned char *der;
    size_t len;
    bool trusted; /* OpenSSL's own form */
};

struct index {
    struct entry *entries; /* by name, once all are there */
    size_t count, cap;
};

static void index_free(struct index *index)
{
    for (size_t i = 0; i < index->count; i++) {
        X509_NAME_free(index->entries[i].subject);
        free(index->entries[i].der);
    }
    free(index->entries);
    free(index);
}

/* ---- filling ---- */

/* Into the next element, which has to be what it is made of; or behind it. The length stands for
 * nothing that is not there: ASN1_get_object checks it. */
static bool element(const unsigned char **at, const unsigned char *end, bool into, int *tag)
{
    long len = 0;
    int class = 0;
    const unsigned char *content = *at;

    if ((ASN1_get_object(&content, &len, tag, &class, end - content) & 0x80) != 0) {
        return false;
    }
    *at = into ? content : content + len;
    return true;
}

/*
 * RFC 5280 4.1: Certificate { TBSCertificate { [0] version, serialNumber, signature, issuer,
 * validity, subject ...: the one thing that is looked for.
 */
static X509_NAME *subject_of(const unsigned char *der, size_t len)
{
    const unsigned char *at = der, *end = der + len;
    int tag = 0;

    if (!element(&at, end, true, &tag) || !element(&at, end, true, &tag)) {
        return NULL;
    }
    const unsigned char *version = at;
    if (!element(&at, end, false, &tag)) {
        return NULL;
    }
    if (tag != 0) { /* version 1: that was the serial number */
        at = version;
    }
    for (int i = 0; i < 4; i++) {
        if (!element(&at, end, false, &tag)) {
            return NULL;
        }
    }
    return d2i_X509_NAME(NULL, &at, end - at);
}

static bool add_entry(void *context, const unsigned char *der, size_t len, bool trusted)
{
    struct index *index = context;

    if (index->count == index->cap) {
        const size_t cap = index->cap ? index->cap * 2 : 64;
        struct entry *grown = realloc(index->entries, cap * sizeof(*grown));
        if (!grown) {
            return false;
        }
        index->entries = grown;
        index->cap = cap;
    }
    struct entry *entry = &index->entries[index->count];
    *entry = (struct entry){subject_of(der, len), malloc(len), len, trusted};
    if (!entry->subject || !entry->der) {
        X509_NAME_free(entry->subject);
        free(entry->der);
        return false;
    }
    memcpy(entry->der, der, len);
    index->count++;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return X509_NAME_cmp(x->subject, y->subject);
}

/* False: it is broken, or memory is short; then it is as if it were not there. */
static bool decode(X509_STORE *store, const struct entry *entry)
{
    const unsigned char *der = entry->der;
    X509 *certificate = entry->trusted ? d2i_X509_AUX(NULL, &der, (long)entry->len)
                                       : d2i_X509(NULL, &der, (long)entry->len);
    const bool added = certificate && X509_STORE_add_cert(store, certificate) == 1;
    X509_free(certificate);
    return added;
}

/* Those that share a name are decoded at once: a verifier that finds one in the store looks there
 * for the others, which another thread might be about to add. */
static void decode_namesakes(X509_STORE *store, const struct index *index)
{
    for (size_t i = 0; i < index->count; i++) {
        const struct entry *entry = &index->entries[i];
        if ((i > 0 && compare(entry - 1, entry) == 0) ||
            (i + 1 < index->count && compare(entry, entry + 1) == 0)) {
            (void)decode(store, entry);
        }
    }
}

bool store_fill(X509_STORE *store, X509_LOOKUP_METHOD *lookup, const struct pem_file *file,
                struct diag_place place, struct diag_list *diags)
{
    struct index *index = calloc(1, sizeof(*index));

    if (!index) {
        diag_error(diags, place, "out of memory");
        return false;
    }
    if (!pem_each(file, add_entry, index, place, diags)) {
        index_free(index);
        return false;
    }
    qsort(index->entries, index->count, sizeof(*index->entries), compare);
    X509_LOOKUP *added = X509_STORE_add_lookup(store, lookup);
    if (!added || X509_LOOKUP_set_method_data(added, index) != 1) {
        index_free(index);
        diag_error(diags, place, "out of memory");
        return false;
    }
    decode_namesakes(store, index);
    return true;
}

/* ---- looking up: by all threads, since the index does not change and the store has a lock ---- */

static int on_subject(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name,
                      X509_OBJECT *out)
{
    const struct index *index = X509_LOOKUP_get_method_data(lookup);
    const struct entry wanted = {.subject = (X509_NAME *)name}; /* only compared */
    const struct entry *entry =
        bsearch(&wanted, index->entries, index->count, sizeof(wanted), compare);
    X509_STORE *store = X509_LOOKUP_get_store(lookup);
    X509 *certificate = NULL;

    if (type != X509_LU_X509 || !entry || !decode(store, entry)) {
        return 0;
    }
    X509_STORE_lock(store);
    const X509_OBJECT *object =
        X509_OBJECT_retrieve_by_subject(X509_STORE_get0_objects(store), type, name);
    certificate = object ? X509_OBJECT_get0_X509(object) : NULL;
    X509_STORE_unlock(store);
    if (!certificate || X509_OBJECT_set1_X509(out, certificate) != 1) {
        return 0;
    }
    /* The caller takes a reference for itself and lets go of none: this one stays the store's,
     * which never lets go of what it has. */
    X509_free(certificate);
    return 1;
}

static void on_free(X509_LOOKUP *lookup)
{
    struct index *index = X509_LOOKUP_get_method_data(lookup);
    if (index) {
        index_free(index);
    }
}

X509_LOOKUP_METHOD *store_lookup(void)
{
    X509_LOOKUP_METHOD *lookup = X509_LOOKUP_meth_new("authorities by name");

    if (lookup && (X509_LOOKUP_meth_set_get_by_subject(lookup, on_subject) != 1 ||
                   X509_LOOKUP_meth_set_free(lookup, on_free) != 1)) {
        X509_LOOKUP_meth_free(lookup);
        lookup = NULL;
    }
    return lookup;
}
