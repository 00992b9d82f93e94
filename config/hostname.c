#include "config/hostname.h"

#include <unistd.h>

#include "config/net_address.h"
#include "config/text.h"

#define HOSTS_LINE 4096

static struct span next_word(struct span *rest)
{
    size_t start = 0, end;
    while (start < rest->len && strchr(" \t\r\n", rest->ptr[start])) {
        start++;
    }
    end = start;
    while (end < rest->len && !strchr(" \t\r\n#", rest->ptr[end])) {
        end++;
    }
    struct span word = span_make(rest->ptr + start, end - start);
    *rest = span_skip(*rest, end);
    return word;
}

static bool is_dotted_name(struct span name)
{
    return span_find(name, '.') < name.len && host_name_valid(name) &&
           !span_starts_fold(name, SPAN("localhost."));
}

/* The best dotted name of one line that mentions the bare name; empty when there is none. */
static struct span line_name(struct span line, struct span bare)
{
    struct span found = SPAN("");
    bool mentioned = false, first = true;
    next_word(&line); /* the address */
    for (struct span name = next_word(&line); name.len > 0; name = next_word(&line)) {
        bool begins =
            name.len > bare.len && span_starts_fold(name, bare) && name.ptr[bare.len] == '.';
        mentioned = mentioned || begins || span_equal_fold(name, bare);
        if ((first || begins) && found.len == 0 && is_dotted_name(name)) {
            found = name;
        }
        first = false;
    }
    return mentioned ? found : SPAN("");
}

bool hostname_canonical(FILE *hosts, struct span bare, char *out, size_t cap)
{
    char line[HOSTS_LINE];
    while (fgets(line, sizeof(line), hosts)) {
        struct span name = line_name(span_of(line), bare);
        struct text text = text_over(out, cap);
        text_put(&text, name);
        if (name.len > 0 && !text.full) {
            return true;
        }
    }
    return false;
}

bool hostname_of_machine(char *out, size_t cap)
{
    char name[HOSTNAME_MAX + 1] = "";
    struct text text = text_over(out, cap);
    if (gethostname(name, sizeof(name) - 1) != 0 || !host_name_valid(span_of(name))) {
        return false;
    }
    text_puts(&text, name);
    if (text.full) {
        return false;
    }
    if (strchr(name, '.')) {
        return true;
    }
    FILE *hosts = fopen("/etc/hosts", "re");
    if (hosts) {
        if (!hostname_canonical(hosts, span_of(name), out, cap)) {
            text = text_over(out, cap);
            text_puts(&text, name);
        }
        fclose(hosts);
    }
    return true;
}
