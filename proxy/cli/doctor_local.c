/* What is looked at without asking anybody: certificates, where postmaster's mail goes. */
#include <stdlib.h>
#include <time.h>

#include "proxy/cli/doctor_state.h"

#define DAY_SECONDS 86400
#define RENEW_DAYS  14 /* of 90: what renews itself has done so long before */

static void plain_free(struct check *check)
{
    free(check);
}

/* A check of one stage; NULL: memory is short. */
static struct check *plain_new(struct doctor *doctor, bool (*step)(struct check *check))
{
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL) {
        doctor->broken = true;
        return NULL;
    }
    check->step = step;
    check->free = plain_free;
    return check;
}

/* ---- certificates ---- */

bool doctor_certified(const struct doctor *doctor, const char *name)
{
    size_t count = doctor_config(doctor)->certificate_count;
    for (size_t i = 0; doctor->certificates != NULL && i < count; i++) {
        if (doctor->certificates[i] != NULL &&
            tls_inspection_covers(doctor->certificates[i], name)) {
            return true;
        }
    }
    return count == 0;
}

static void say_certificate(struct check *check, const char *path,
                            const struct tls_inspection *inspection)
{
    char names[600], untrusted[200];
    struct text text = TEXT(names), why = TEXT(untrusted);
    long long left = tls_inspection_left(inspection, (long long)time(NULL));
    long long days = (left < 0 ? -left : left) / DAY_SECONDS;
    tls_inspection_names(inspection, &text);
    if (left < 0) {
        check_say(check, LEVEL_ERROR, "%s expired %lld day%s ago; renew it, then splitmx reload",
                  path, days, days == 1 ? "" : "s");
    } else if (days < RENEW_DAYS) {
        check_say(check, LEVEL_WARNING, "%s expires in %lld day%s; renew it, then splitmx reload",
                  path, days, days == 1 ? "" : "s");
    } else {
        check_say(check, LEVEL_OK, "%s is for %s, for another %lld days", path, names, days);
    }
    if (!tls_inspection_trusted(inspection, check->doctor->prepared->tls, &why)) {
        check_say(check, LEVEL_WARNING,
                  "%s is not trusted by the authorities of this system (%s): servers that verify "
                  "will not deliver; a public one has its issuer's certificates behind it "
                  "(fullchain.pem)",
                  path, untrusted);
    }
}

static bool certificate_step(struct check *check)
{
    struct doctor *doctor = check->doctor;
    const struct config *config = doctor_config(doctor);
    if (config->certificate_count == 0) {
        check_say(check, LEVEL_WARNING,
                  "there is none, so mail comes in clear text; say `tls:` with `certificate` and "
                  "`private-key`");
    }
    for (size_t i = 0; i < config->certificate_count; i++) {
        doctor->certificates[i] = tls_inspect(config->certificates[i].certificate.text, NULL);
        if (doctor->certificates[i] == NULL) {
            check_fail(check); /* it could be read a moment ago */
        } else {
            say_certificate(check, config->certificates[i].certificate.text,
                            doctor->certificates[i]);
        }
    }
    if (!doctor_certified(doctor, config->hostname.text)) {
        check_say(
            check, LEVEL_WARNING,
            "none is for `hostname` (%s); servers that verify will not deliver to it: get one that "
            "names it",
            config->hostname.text);
    }
    return false;
}

void doctor_certificates(struct doctor *doctor)
{
    struct check *check = plain_new(doctor, certificate_step);
    doctor->certificates =
        calloc(doctor_config(doctor)->certificate_count + 1, sizeof(struct tls_inspection *));
    if (check == NULL || doctor->certificates == NULL) {
        doctor->broken = true;
        free(check);
        return;
    }
    check_add(doctor, check, "certificate");
}

/* ---- postmaster ---- */

static bool postmaster_step(struct check *check)
{
    const struct prepared *prepared = check->doctor->prepared;
    struct address address = {0};
    struct decision decision;
    route_decide(prepared->config, prepared->relays, prepared->table, SPAN("postmaster"), &address,
                 &decision);
    switch (decision.kind) {
    case DECISION_RELAY:
        check_say(check, LEVEL_OK, "its mail goes to %s", decision.relay->name);
        break;
    case DECISION_DISCARD:
        check_say(check, LEVEL_WARNING,
                  "its mail is discarded, and RFC 5321 (4.5.1) wants a "
                  "person to read it; route postmaster@%s to a mailbox",
                  prepared->config->hostname.text);
        break;
    case DECISION_REPLY:
        check_say(check, LEVEL_WARNING,
                  "is answered with %u %s %s, and RFC 5321 (4.5.1) wants a person to read its "
                  "mail; add a route for postmaster@%s",
                  decision.code, decision.enhanced, decision.text, prepared->config->hostname.text);
        break;
    }
    return false;
}

void doctor_postmaster(struct doctor *doctor)
{
    struct check *check = plain_new(doctor, postmaster_step);
    if (check != NULL) {
        check_add(doctor, check, "postmaster");
    }
}
