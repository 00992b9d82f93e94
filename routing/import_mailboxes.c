#include "routing/import_mailboxes.h"

#include <stdlib.h>

#include "config/text.h"
#include "routing/address.h"
#include "routing/import_lines.h"
#include "routing/intern.h"

/* An alias's target: what is told of it once all domains are known. */
struct target {
    struct target *next;
    uint32_t domain;
    struct diag_place place;
    char *alias, *address; /* owned */
};

struct mailboxes {
    struct span to;
    struct intern *domains; /* folded; those with routes are `local` */
    bool *local;            /* by number of the domain */
    size_t room;
    struct target *targets, **last;
    size_t left_out;
    bool no_memory;
};

/* One file of them. */
struct mailbox_file {
    struct import_reader import;
    struct mailboxes *all;
};

struct mailboxes *mailboxes_new(const char *to)
{
    struct mailboxes *all = calloc(1, sizeof(*all));
    if (all) {
        all->to = span_of(to);
        all->last = &all->targets;
        all->domains = intern_new();
        all->no_memory = !all->domains;
    }
    return all;
}

void mailboxes_free(struct mailboxes *all)
{
    struct target *next;
    if (!all) {
        return;
    }
    for (struct target *target = all->targets; target; target = next) {
        next = target->next;
        free(target->alias);
        free(target->address);
        free(target);
    }
    intern_free(all->domains);
    free(all->local);
    free(all);
}

size_t mailboxes_left_out(const struct mailboxes *all)
{
    return all ? all->left_out : 0;
}

bool mailboxes_no_memory(const struct mailboxes *all)
{
    return !all || all->no_memory;
}

/* The number of a domain; false when memory is short. */
static bool domain_number(struct mailboxes *all, struct span domain, uint32_t *number)
{
    char folded[ADDRESS_MAX + 1];
    domain = address_fold(span_first(domain, ADDRESS_MAX), folded);
    if (all->no_memory || intern_add(all->domains, domain, number) == INTERN_NO_MEMORY) {
        all->no_memory = true;
        return false;
    }
    if (*number >= all->room) {
        const size_t room = all->room ? all->room * 2 : 64;
        bool *grown = reallocarray(all->local, room, sizeof(*grown));
        if (!grown) {
            all->no_memory = true;
            return false;
        }
        memset(grown + all->room, 0, (room - all->room) * sizeof(*grown));
        all->local = grown;
        all->room = room;
    }
    return true;
}

/* `why` repeats nothing of the line. */
static bool leave_out(struct mailbox_file *file, struct diag_place place, const char *why)
{
    file->all->left_out++;
    diag_warning(file->import.diags, place, "not carried over: %s", why);
    return true;
}

static bool give(struct mailbox_file *file, const struct line_reader *lines, struct span key,
                 struct span domain)
{
    uint32_t number;
    if (!domain_number(file->all, domain, &number)) {
        return false;
    }
    file->all->local[number] = true;
    return import_give(&file->import, (struct import_route){
                                          .key = key,
                                          .to = file->all->to,
                                          .fallback = SPAN(""),
                                          .unknown_recipient = SPAN(""),
                                          .dialect = TRANSPORT_YAML,
                                          .place = import_line_place(lines, 0),
                                          .to_place = import_line_place(lines, 0),
                                      });
}

/* An address that mail can be routed by; "*@domain" is none of a mailbox. */
static bool is_mailbox(struct span text, struct address *address)
{
    return text.len > 0 && text.ptr[0] != '@' && text.ptr[0] != '*' &&
           span_find(text, '@') < text.len &&
           address_parse(text, false, true, address) == ADDRESS_OK;
}

/* Whether the word is rather a password, plain or not, in an address's place. */
static bool is_like_a_password(struct span word)
{
    return word.ptr[0] == '{' || span_find(word, '$') < word.len;
}

/* "user@domain|password" and more behind another bar. Nothing but the address is used. */
static bool take_account(void *context, const struct line_reader *lines, struct span line)
{
    struct mailbox_file *file = context;
    const struct diag_place place = import_line_place(lines, 0);
    const size_t bar = span_find(line, '|');
    struct address address;
    if (bar == line.len) {
        return leave_out(file, place, "no `|` is behind an address: expected user@domain|password");
    }
    const struct span user = span_trim(span_first(line, bar));
    if (!is_mailbox(user, &address) || is_like_a_password(user)) {
        return leave_out(file, place,
                         "no address is in front of `|`: expected user@domain|password");
    }
    return give(file, lines, user, address.domain);
}

static void keep_target(struct mailbox_file *file, struct diag_place place, struct span alias,
                        struct span target, struct span domain)
{
    struct mailboxes *all = file->all;
    struct target *kept = calloc(1, sizeof(*kept));
    if (kept && domain_number(all, domain, &kept->domain)) {
        kept->place = place;
        kept->alias = span_dup(alias);
        kept->address = span_dup(target);
    }
    if (!kept || !kept->alias || !kept->address) {
        all->no_memory = true;
        if (kept) {
            free(kept->alias);
            free(kept->address);
        }
        free(kept);
        return;
    }
    *all->last = kept;
    all->last = &kept->next;
}

static bool is_between(char c)
{
    return c == ',' || import_is_blank(c);
}

/* The targets behind an alias, from `at` on; false when there is none. */
static bool take_targets(struct mailbox_file *file, const struct line_reader *lines,
                         struct span line, struct span alias)
{
    bool any = false;
    size_t at = alias.len;
    while (at < line.len) {
        const size_t begin = at;
        while (at < line.len && !is_between(line.ptr[at])) {
            at++;
        }
        const struct span target = span_make(line.ptr + begin, at - begin);
        struct address address;
        any |= target.len > 0;
        if (is_mailbox(target, &address)) {
            keep_target(file, import_line_place(lines, begin), alias, target, address.domain);
        }
        at++;
    }
    return any;
}

/* "@domain": everyone there. The address's spans do not outlive the call, but for the domain, which
 * is the caller's. */
static bool is_domain(struct span text, struct address *address)
{
    char buffer[ADDRESS_MAX + 1];
    struct text out = TEXT(buffer);
    text_puts(&out, "x");
    text_put(&out, text);
    const bool fine =
        !out.full && address_parse(text_span(&out), false, true, address) == ADDRESS_OK;
    address->domain = span_skip(text, 1);
    return fine;
}

static const char *why_no_mailbox(struct span alias)
{
    if (span_find(alias, '@') < alias.len) {
        return "no address that a route can have: expected alias@domain, or @domain for everyone "
               "there";
    }
    return span_find(alias, '.') < alias.len
               ? "a domain by itself, which gives no address a mailbox (@domain: everyone there)"
               : "a name without a domain: write a route for name@domain";
}

/* "alias target[,target]": the local server goes on from there, so the alias is all that counts. */
static bool take_alias(void *context, const struct line_reader *lines, struct span line)
{
    struct mailbox_file *file = context;
    const struct diag_place place = import_line_place(lines, 0);
    const struct span alias = span_first(line, import_key_length(line));
    struct address address;
    if (import_is_account(line)) {
        return leave_out(file, place,
                         "an address and its password, and no alias; `--accounts` is for those");
    }
    if (alias.ptr[0] == '/' || alias.ptr[0] == '!') {
        return leave_out(file, place,
                         "a regular expression; routes are addresses and domains: write those that "
                         "it stands for");
    }
    const bool domain_only = alias.ptr[0] == '@';
    if (domain_only ? !is_domain(alias, &address) : !is_mailbox(alias, &address)) {
        return leave_out(file, place, why_no_mailbox(alias));
    }
    if (!take_targets(file, lines, line, alias)) {
        return leave_out(file, place, "no target is behind the alias");
    }
    return give(file, lines, domain_only ? span_skip(alias, 1) : alias, address.domain);
}

void mailboxes_read(struct mailboxes *all, const char *path, bool accounts, import_sink *sink,
                    void *context, struct diag_list *diags)
{
    struct mailbox_file file = {.import = {.path = path,
                                           .sink = sink,
                                           .context = context,
                                           .diags = diags,
                                           .fine = recent_new(IMPORT_FINE_SLOTS),
                                           .left_out = &all->left_out},
                                .all = all};
    import_read_lines(&file.import, accounts ? take_account : take_alias, &file);
    recent_free(file.import.fine);
}

size_t mailboxes_tell_elsewhere(const struct mailboxes *all, struct diag_list *diags)
{
    size_t count = 0;
    for (const struct target *target = all->targets; target; target = target->next) {
        if (!all->local[target->domain]) {
            diag_warning(diags, target->place,
                         "`%s` is elsewhere: mail for `%s` goes to `%.*s`, and is sent on from "
                         "there, not by splitmx, which rewrites no address",
                         target->address, target->alias, SPAN_ARGS(all->to));
            count++;
        }
    }
    return count;
}
