#include "tls/policy.h"

const char *tls_policy_name(enum config_relay_tls policy)
{
    switch (policy) {
    case RELAY_TLS_NONE:
        return "none";
    case RELAY_TLS_MAY:
        return "may";
    case RELAY_TLS_ENCRYPT:
        return "encrypt";
    case RELAY_TLS_VERIFY:
        return "verify";
    }
    return "none";
}

bool tls_policy_is_strict(enum config_relay_tls policy)
{
    return policy == RELAY_TLS_ENCRYPT || policy == RELAY_TLS_VERIFY;
}
