#include "tls/why.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define NAMES_TOLD 3

/* Names in certificates are ASCII (RFC 5280 4.2.1.6); what is not, is not shown. */
static void put_scrubbed(struct text *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        text_putc(out, text.ptr[i] > ' ' && text.ptr[i] < 0x7f ? text.ptr[i] : '?');
    }
}

static struct span asn1_span(const ASN1_STRING *string)
{
    return span_make((const char *)ASN1_STRING_get0_data(string),
                     (size_t)ASN1_STRING_length(string));
}

/* False when it is of a kind that names no host. */
static bool put_name(struct text *out, const GENERAL_NAME *name, bool first)
{
    char address[INET6_ADDRSTRLEN];
    struct span text;

    if (name->type == GEN_DNS) {
        text = asn1_span(name->d.dNSName);
    } else if (name->type == GEN_IPADD) {
        const struct span bytes = asn1_span(name->d.iPAddress);
        const int family = bytes.len == 4 ? AF_INET : AF_INET6;
        if ((bytes.len != 4 && bytes.len != 16) ||
            !inet_ntop(family, bytes.ptr, address, sizeof(address))) {
            return false;
        }
        text = span_of(address);
    } else {
        return false;
    }
    text_puts(out, first ? "" : ", ");
    put_scrubbed(out, text);
    return true;
}

/* The common name, or else the organisation. */
static void put_subject(struct text *out, const X509_NAME *subject)
{
    static const int parts[] = {NID_commonName, NID_organizationName};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const int at = X509_NAME_get_index_by_NID(subject, parts[i], -1);
        if (at >= 0) {
            put_scrubbed(out,
                         asn1_span(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
            return;
        }
    }
    text_puts(out, "nobody");
}

/* Whom the certificate is for. */
static void put_names(struct text *out, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int told = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        if (told == NAMES_TOLD) {
            text_puts(out, " and others");
            break;
        }
        told += put_name(out, sk_GENERAL_NAME_value(names, i), told == 0) ? 1 : 0;
    }
    if (told == 0) {
        put_subject(out, X509_get_subject_name(certificate));
    }
    GENERAL_NAMES_free(names);
}

void why_certificate(X509_STORE_CTX *verification, const char *wanted, struct text *out)
{
    const int error = X509_STORE_CTX_get_error(verification);
    X509 *certificate = X509_STORE_CTX_get_current_cert(verification);

    if (certificate &&
        (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH)) {
        text_puts(out, "the certificate is for ");
        put_names(out, certificate);
        text_puts(out, ", not ");
        put_scrubbed(out, span_of(wanted));
        return;
    }
    text_puts(out, X509_verify_cert_error_string(error));
    if (certificate && error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY) {
        text_puts(out, ", ");
        put_subject(out, X509_get_issuer_name(certificate));
    }
}

/* What a peer's first bytes give when they are no TLS. */
static bool is_not_tls(int reason)
{
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_UNKNOWN_PROTOCOL ||
           reason == SSL_R_BAD_RECORD_TYPE || reason == SSL_R_UNEXPECTED_MESSAGE ||
           reason == SSL_R_LENGTH_TOO_SHORT || reason == SSL_R_PACKET_LENGTH_TOO_LONG ||
           reason == SSL_R_RECORD_LENGTH_MISMATCH;
}

/* An alert is one byte (RFC 8446 6); the library's own reasons, "internal error" and such, are
 * above. */
#define ALERT_LAST (SSL_AD_REASON_OFFSET + 255)

void why_error(bool speaks, struct text *out)
{
    const unsigned long error = ERR_peek_error();
    const char *words = ERR_reason_error_string(error);
    const int reason = ERR_GET_REASON(error);
    const bool ssl = ERR_GET_LIB(error) == ERR_LIB_SSL;

    if (ssl && reason >= SSL_AD_REASON_OFFSET && reason <= ALERT_LAST) {
        text_puts(out, "alert: ");
        text_puts(out, SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    } else if (ssl && !speaks && is_not_tls(reason)) {
        text_puts(out, "the peer does not speak TLS");
    } else {
        text_puts(out, words ? words : "TLS failed");
    }
}
